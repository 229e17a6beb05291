//! However it ends, nothing is left: no process, no port, no file.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
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
async fn the_demo_tells_its_story_to_the_end() {
    let demo =
        tokio::process::Command::new(program("wharfage")).arg("demo").stdin(Stdio::null()).output();
    let demo = tokio::time::timeout(Duration::from_secs(240), demo).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    for step in ["UNCHANGED", "share of the window used", "0 failed", "the same bytes"] {
        assert!(said.contains(step), "`{step}` is told: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_interrupted_in_the_middle_leaves_nothing_behind() {
    // A temporary folder of its own: installations of others come and go in the common one.
    let folder = Folder::new("interrupted");
    let mut demo = tokio::process::Command::new(program("wharfage"))
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dir = until("an installation with a gateway", async || {
        let dir = std::fs::read_dir(folder.path()).unwrap().flatten().next()?.path();
        dir.join("etc/gateway.toml").exists().then(|| dir.display().to_string())
    })
    .await;
    signal(demo.id().unwrap() as i32, Signal::INT);
    let status = demo.wait().await.unwrap();
    assert!(!status.success(), "an interrupted story was not told");
    nothing_is_left(&dir, "http://127.0.0.1:1").await;
}
