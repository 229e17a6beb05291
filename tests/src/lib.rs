//! What the journeys share: a whole installation of real processes that a test starts and ends.

#![expect(clippy::expect_used, clippy::panic, reason = "a journey stops at the first thing unseen")]

pub mod machine;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// The longest that a journey waits for one thing.
pub const SOON: Duration = Duration::from_secs(60);

/// The path of one of our programs, built by `make build`.
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test knows its own path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace`", path.display());
    path
}

/// An empty folder of a test's own, which goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one; `name` tells those of one process apart.
    pub fn new(name: &str) -> Self {
        let name = format!("wharfage-journey-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it with this text.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a temporary file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays after a failed test is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `wharfage dev`.
pub struct Dev {
    /// The JSON line.
    pub up: Value,
    /// `wharfage dev` itself.
    pub child: Child,
    /// Its end ends the installation.
    lifeline: Option<ChildStdin>,
    http: reqwest::Client,
}

impl Dev {
    /// Starts the default fleet.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with more arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        wharfage_link::tls::install();
        let mut child = Command::new(program("wharfage"))
            .args(["dev", "--json", "--until-eof"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("wharfage starts");
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take().expect("its output is a pipe");
        let line = tokio::time::timeout(SOON * 2, BufReader::new(stdout).lines().next_line()).await;
        let line = line.expect("dev is up in time").expect("a line").expect("dev came up");
        let up = serde_json::from_str(&line).expect("one JSON line");
        Self { up, child, lifeline, http: reqwest::Client::new() }
    }

    /// A text of the JSON line.
    pub fn text(&self, key: &str) -> &str {
        self.up[key].as_str().unwrap_or_else(|| panic!("`{key}` is a text in {}", self.up))
    }

    /// A node of the JSON line.
    pub fn node(&self, id: &str) -> &Value {
        let nodes = self.up["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no node {id}"))
    }

    /// The tenant's call: status and body.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.call_as(self.text("token"), method, path, body).await
    }

    /// The provider's call.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.call_as(self.text("admin_token"), method, path, body).await
    }

    /// A call with this token.
    pub async fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let url = format!("{}{path}", self.text("scheduler_url"));
        let mut request = self.http.request(method, url).bearer_auth(token).timeout(SOON);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("the scheduler answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a whole answer");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Rows of a list of ours.
    pub async fn rows(&self, path: &str, plural: &str) -> Vec<Value> {
        let (status, answer) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer[plural].as_array().cloned().unwrap_or_default()
    }

    /// Creates a deployment through the CoreWeave API and returns its id.
    pub async fn deploy(&self, name: &str, gpus: u32, classes: &[&str], more: Value) -> String {
        let mut body = json!({
            "name": name, "gatewayIds": [self.text("gateway_id")],
            "runtime": { "engine": "vllm" },
            "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": gpus },
            "model": { "name": format!("{name}-model"), "bucket": "models", "path": name },
            "autoscaling": { "min": 1, "max": 1, "capacityClasses": classes },
            "traffic": { "weight": 100 },
        });
        for (key, value) in more.as_object().expect("more is an object") {
            body[key] = value.clone();
        }
        let path = "/v1alpha1/inference/deployments";
        let (status, made) = self.call("POST", path, Some(&body)).await;
        assert_eq!(status, 200, "{made}");
        made["deployment"]["spec"]["id"].as_str().expect("an id").to_owned()
    }

    /// The replicas of a deployment that are not stopped.
    pub async fn replicas(&self, deployment: &str) -> Vec<Value> {
        let mut rows = self.rows("/api/v1/replicas", "replicas").await;
        rows.retain(|row| row["deployment"] == deployment && row["phase"] != "stopped");
        rows
    }

    /// Waits until the deployment has this many ready replicas and returns them.
    pub async fn ready(&self, deployment: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} ready replicas of {deployment}"), async || {
            let mut rows = self.replicas(deployment).await;
            rows.retain(|row| row["phase"] == "ready");
            (rows.len() == count).then_some(rows)
        })
        .await
    }

    /// One chat completion through the gateway: status and body.
    pub async fn chat(&self, model: &str) -> (u16, Value) {
        let body = json!({
            "model": model, "max_tokens": 4,
            "messages": [{ "role": "user", "content": "hello" }],
        });
        let url = format!("{}/v1/chat/completions", self.text("gateway_url"));
        let request = self.http.post(url).bearer_auth(self.text("token")).json(&body);
        let answer = request.timeout(SOON).send().await.expect("the gateway answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Writes the notice file of a node, by rename, `seconds` from now.
    pub fn notice(&self, node: &str, seconds: u64, leaves: &str) {
        let file = PathBuf::from(self.node(node)["notice_file"].as_str().expect("a path"));
        let at = Command::new("date")
            .into_std()
            .args(["-u", "-d", &format!("+{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"])
            .output()
            .expect("date runs");
        let at = String::from_utf8(at.stdout).expect("a date");
        let notice = json!({ "kind": "preempt", "gone_at": at.trim(), "leaves": leaves });
        let part = file.with_extension("part");
        std::fs::write(&part, notice.to_string()).expect("the notice's folder exists");
        std::fs::rename(&part, &file).expect("the notice appears");
    }

    /// The agent's own page.
    pub async fn status(&self, node: &str) -> Value {
        let url = format!("{}/status", self.node(node)["status_url"].as_str().expect("a url"));
        let answer = self.http.get(url).timeout(SOON).send().await.expect("the agent answers");
        answer.json().await.expect("JSON")
    }

    /// The agent's own page, if the agent is up.
    pub async fn status_now(&self, node: &str) -> Option<Value> {
        let url = format!("{}/status", self.node(node)["status_url"].as_str()?);
        self.http.get(url).timeout(SOON).send().await.ok()?.json().await.ok()
    }

    /// Processes (pid) whose arguments name the installation's folder, `dev` itself left out.
    pub fn processes(&self) -> Vec<i32> {
        processes_naming(self.text("state_dir"))
    }

    /// The pid of a daemon, by its configuration's name.
    pub fn daemon(&self, name: &str) -> i32 {
        let config = format!("{}/etc/{name}.toml", self.text("state_dir"));
        let found = processes_naming(&config);
        *found.first().unwrap_or_else(|| panic!("no process runs with {config}"))
    }

    /// Ends the installation by the end of its input and waits until it has.
    pub async fn stop(mut self) {
        drop(self.lifeline.take());
        let ended = tokio::time::timeout(SOON, self.child.wait()).await;
        let status = ended.expect("dev ends in time").expect("dev can be awaited");
        assert!(status.success(), "dev ended with {status}");
    }
}

/// Processes whose arguments name this path, `wharfage dev` and its keeper left out.
pub fn processes_naming(path: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let raw = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&raw).replace('\0', " ");
        if line.contains(path) && !line.contains(" dev ") && !line.contains("dev-keeper") {
            found.push(pid);
        }
    }
    found
}

/// Looks until `seen` gives something; fails naming what did not come.
pub async fn until<T>(what: &str, mut seen: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = seen().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not seen within {} s", SOON.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("the process lives");
}

/// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for ever.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()
}
