//! The engine as a process, and a client for it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Long enough for a loaded machine; a story that works never waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a claim in these stories.
pub const CLAIMED: u64 = 100 * 1024 * 1024;

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Asks again until the answer is yes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A folder of its own for each story, empty at its start.
pub fn folder(story: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(story);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// A running engine with a model of 200,000 bytes and one GPU.
pub struct Engine {
    pub folder: PathBuf,
    pub port: u16,
    pub pid: u32,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Engine {
    pub async fn start(story: &str, more: &[&str]) -> Self {
        Self::start_with(story, more, |_| ()).await
    }

    /// Starts it after `more_environment` has had its say.
    pub async fn start_with(
        story: &str,
        more: &[&str],
        more_environment: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = folder(story);
        let model = folder.join("model");
        wharfage_fake_engine::generate_model(&model, 200_000).expect("the model can be made");
        let test = std::env::current_exe().expect("a test knows its own path");
        let target = test.ancestors().nth(2).expect("a test lies in deps/ of the target folder");
        let mut command = Command::new(target.join("examples/engine"));
        command
            .args(["--port", "0", "--served-model-name", "chat", "--gpu-memory-mib", "100"])
            .arg("--model-dir")
            .arg(model)
            .args(more)
            .env("WHARFAGE_FAKE_GPUS", folder.join("gpus"))
            .env("CUDA_VISIBLE_DEVICES", "GPU-1")
            .env("WHARFAGE_REPLICA", "chat-1")
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        more_environment(&mut command);
        let mut child =
            command.spawn().expect("cargo builds the example before this crate's tests");
        let pid = child.id().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut engine = Self { folder, port: 0, pid, child, lines };
        let port = engine.stage("starting").await["port"].as_u64().expect("it names its port");
        engine.port = u16::try_from(port).expect("it is a port");
        engine
    }

    pub async fn ready(story: &str, more: &[&str]) -> Self {
        let mut engine = Self::start(story, &[&["--load-seconds", "0"], more].concat()).await;
        engine.stage("ready").await;
        engine
    }

    /// Reads lines up to one of this stage.
    pub async fn stage(&mut self, stage: &str) -> Value {
        soon(stage, async {
            loop {
                let line = self.lines.next_line().await.expect("its output can be read");
                let line = line.unwrap_or_else(|| panic!("it ended before `{stage}`"));
                let line: Value = serde_json::from_str(&line).expect("each line is JSON");
                if line["stage"] == stage {
                    return line;
                }
            }
        })
        .await
    }

    /// Its standard error, if that is piped.
    pub fn errors(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// The next line of progress, or `None` at the end of the process.
    pub async fn line(&mut self) -> Option<Value> {
        let line = soon("a line", self.lines.next_line()).await.expect("its output can be read");
        line.map(|line| serde_json::from_str(&line).expect("each line is JSON"))
    }

    pub fn claim(&self) -> PathBuf {
        self.folder.join("gpus/claims/GPU-1").join(self.pid.to_string())
    }

    /// Bytes and utilization of the claim.
    pub fn claimed(&self) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(self.claim()).ok()?;
        let mut lines = text.lines().map(|line| line.parse().expect("a claim is numbers"));
        Some((lines.next()?, lines.next()?))
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.pid.to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(sent.expect("`kill` can be started").success());
    }

    pub async fn end(&mut self) -> ExitStatus {
        soon("the end", self.child.wait()).await.expect("it can be waited for")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    pub async fn send(&self, path: &str, body: &str) -> Result<Response<Incoming>, String> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("the request is well-formed");
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        soon(path, client.request(request)).await.map_err(|error| format!("{error:?}"))
    }

    /// Status and whole body.
    pub async fn ask(&self, path: &str, body: &str) -> (u16, String) {
        let response = self.send(path, body).await.expect("it answers");
        let status = response.status().as_u16();
        let body = soon(path, response.into_body().collect()).await.expect("the body is whole");
        (status, String::from_utf8(body.to_bytes().to_vec()).expect("the body is UTF-8"))
    }

    pub async fn json(&self, path: &str, body: &str) -> Value {
        let (status, text) = self.ask(path, body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("the body is JSON")
    }

    /// One number of `/metrics`.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.ask("/metrics", "").await;
        let line = page.lines().find(|line| line.starts_with(name));
        let value =
            line.and_then(|line| line.rsplit(' ').next()).and_then(|text| text.parse().ok());
        value.unwrap_or_else(|| panic!("no `{name}` in {page}"))
    }
}

/// The data lines of a stream; `[DONE]` becomes the text.
pub fn events(body: &str) -> Vec<Value> {
    let lines = body.split("\n\n").filter(|event| !event.is_empty());
    lines
        .map(|event| event.strip_prefix("data: ").expect("each event is one data line"))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
        .collect()
}
