//! However it ends, nothing is left: no process, no port, no file.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};
use wharfage_tests::{Dev, Folder, processes_naming, program, signal, until};

async fn nothing_is_left(state_dir: &str, url: &str) {
    until("no process names the installation", async || {
        let left = processes_naming(state_dir).len() + processes_for(state_dir).len();
        (left == 0).then_some(())
    })
    .await;
    until("its files are gone", async || (!std::path::Path::new(state_dir).exists()).then_some(()))
        .await;
    let address = url.trim_start_matches("http://");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{address} still listens");
}

/// Processes whose fake GPUs are those of the installation: helpers name it nowhere else.
fn processes_for(state_dir: &str) -> Vec<String> {
    let wanted = format!("WHARFAGE_FAKE_GPUS={state_dir}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|process| {
            let raw = std::fs::read(process.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&raw).contains(&wanted)
        })
        .map(|process| {
            let raw = std::fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&raw).replace('\0', " ")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_leaves_nothing_behind_after_sigterm_and_after_sigkill() {
    for end in [Signal::TERM, Signal::KILL] {
        let mut dev = Dev::start().await;
        let id = dev.deploy("chat", 1, &[], json!({})).await;
        dev.ready(&id, 1).await;
        let (dir, url) = (dev.text("state_dir").to_owned(), dev.text("scheduler_url").to_owned());
        signal(dev.child.id().unwrap() as i32, end);
        dev.child.wait().await.unwrap();
        if end == Signal::TERM {
            let left = processes_for(&dir);
            assert!(left.is_empty(), "it ends as the last of them: {left:?}");
        }
        nothing_is_left(&dir, &url).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_to_the_end_and_stays_when_it_is_asked_to() {
    let folder = Folder::new("told");
    let mut demo = Demo::start(&folder, &["--stay"]);
    demo.says("Ctrl-C ends it all.").await;
    let (dir, url) = (demo.installation(), demo.address_of("dashboard"));
    for told in ["UNCHANGED", "share of the window used", "0 failed", "the same bytes"] {
        assert!(demo.said.contains(told), "`{told}` is told: {}", demo.said);
    }
    let moves = |line: &str| line.contains(": loading ") && line.ends_with(" %");
    assert!(demo.said.lines().any(moves), "a load is seen to move: {}", demo.said);
    // Somebody tries what the others make of a gateway that died.
    signal(daemon(&dir, "gateway"), Signal::KILL);
    let complaint = demo.complains("gateway ended by itself").await;
    assert!(complaint.contains("the rest runs on"), "{complaint}");
    let answer = reqwest::get(format!("{url}/healthz")).await.expect("the scheduler answers");
    assert!(answer.status().is_success());
    signal(demo.pid(), Signal::INT);
    assert!(demo.child.wait().await.unwrap().success(), "the story was told");
    nothing_is_left(&dir, &url).await;
    is_empty(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_that_ends_in_the_middle_leaves_nothing_behind() {
    // Ctrl-C before the story, Ctrl-C within it, and a daemon that dies within it.
    let middle = "chat is STATUS_CREATING";
    for (seen, what) in [("1. ", "interrupted"), (middle, "interrupted"), (middle, "failing")] {
        let folder = Folder::new("middle");
        let mut demo = Demo::start(&folder, &[]);
        demo.says(seen).await;
        let dir = until("an installation with a gateway", async || {
            let dir = std::fs::read_dir(folder.path()).unwrap().flatten().next()?.path();
            dir.join("etc/gateway.toml").exists().then(|| dir.display().to_string())
        })
        .await;
        match what {
            "failing" => {
                signal(daemon(&dir, "gateway"), Signal::KILL);
                let complaint = demo.complains("wharfage: ").await;
                assert!(complaint.contains("gateway"), "{complaint}");
            }
            _ => signal(demo.pid(), Signal::INT),
        }
        let status = demo.child.wait().await.unwrap();
        assert!(!status.success(), "{what} after `{seen}`: the story was not told");
        nothing_is_left(&dir, "http://127.0.0.1:1").await;
        is_empty(&folder);
    }
}

fn is_empty(folder: &Folder) {
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "files stay: {left:?}");
}

/// The process of an installation that runs with this configuration.
fn daemon(dir: &str, name: &str) -> i32 {
    *processes_naming(&format!("{dir}/etc/{name}.toml")).first().expect("the daemon runs")
}

/// A running `wharfage demo` in a temporary folder of its own: installations of others come and go
/// in the common one.
struct Demo {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Demo {
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut child = tokio::process::Command::new(program("wharfage"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, output, errors, said: String::new() }
    }

    fn pid(&self) -> i32 {
        self.child.id().unwrap() as i32
    }

    /// Reads what it tells until this is part of it.
    async fn says(&mut self, part: &str) {
        while !self.said.contains(part) {
            let line = tokio::time::timeout(Duration::from_secs(120), self.output.next_line());
            let Some(line) = line.await.expect("it goes on in time").unwrap() else {
                panic!("it ended before `{part}`: {}", self.said);
            };
            self.said.push_str(&line);
            self.said.push('\n');
        }
    }

    /// The line on its standard error that has this.
    async fn complains(&mut self, part: &str) -> String {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(120), self.errors.next_line());
            let line = line.await.expect("it complains in time").unwrap().expect("it complains");
            if line.contains(part) {
                return line;
            }
        }
    }

    /// What stands behind this word of the description.
    fn address_of(&self, word: &str) -> String {
        let line = self.said.lines().find(|line| line.starts_with(word)).expect("it is described");
        line[word.len()..].trim().trim_end_matches('/').to_owned()
    }

    fn installation(&self) -> String {
        self.address_of("state ")
    }
}
