//! Processes die; replicas, writes and requests do not.

use rustix::process::Signal;
use serde_json::json;
use wharfage_tests::{Dev, Folder, signal, start_time, until};

fn engines(dev: &Dev) -> Vec<(i32, Option<u64>)> {
    let mut found: Vec<(i32, Option<u64>)> = dev
        .processes()
        .into_iter()
        .filter(|pid| {
            let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&raw).contains("engine-stub")
        })
        .map(|pid| (pid, start_time(pid)))
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_finds_its_replica_running_and_adopts_it() {
    let folder = Folder::new("adopt");
    let dev = Dev::start_with(&["--state-dir", &folder.path().display().to_string()]).await;
    let id = dev.deploy("chat", 1, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    let before = dev.ready(&id, 1).await.remove(0);
    let node = before["node"].as_str().unwrap().to_owned();
    let running = engines(&dev);
    assert_eq!(running.len(), 1);
    let agent = dev.daemon(&node);
    let config = format!("{}/etc/{node}.toml", dev.text("state_dir"));
    let start = || {
        let mut command = tokio::process::Command::new(wharfage_tests::program("wharfage-agent"));
        command.args(["--config", &config]);
        command
    };
    let second = start().output().await.unwrap();
    assert_eq!(second.status.code(), Some(75), "{}", String::from_utf8_lossy(&second.stderr));

    signal(agent, Signal::KILL);
    until("the agent is gone", async || start_time(agent).is_none().then_some(())).await;
    let (status, answer) = dev.chat("chat-model").await;
    assert_eq!(status, 200, "the replica serves without its agent: {answer}");
    let mut again = start().kill_on_drop(true).spawn().unwrap();
    until("the new agent reports the replica as ready", async || {
        let status = dev.status_now(&node).await?;
        let replica = status["replicas"].as_array()?.first()?.clone();
        (replica["replica"] == before["id"] && replica["phase"] == "ready").then_some(())
    })
    .await;
    assert_eq!(engines(&dev), running, "the same engine process");
    assert_eq!(dev.ready(&id, 1).await[0]["id"], before["id"], "and no other replica");
    again.kill().await.unwrap();
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_printed_can_be_read_after_it_has_crashed() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 1, &["CAPACITY_CLASS_ON_DEMAND"], json!({})).await;
    let crashed = dev.ready(&id, 1).await.remove(0)["id"].as_str().unwrap().to_owned();
    let logs = async |of: &str| {
        let mut command = tokio::process::Command::new(wharfage_tests::program("wharfage"));
        command.args(["logs", of]);
        command.env("WHARFAGE_URL", dev.text("scheduler_url"));
        let output = command.env("WHARFAGE_TOKEN", dev.text("token")).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    until("the engine's words", async || logs(&crashed).await.contains("loading").then_some(()))
        .await;
    signal(engines(&dev)[0].0, Signal::KILL);
    until("another replica's words beside those of the crashed one", async || {
        let said = logs("chat").await;
        let of = |line: &str| line.split_once(" | ").map(|(replica, _)| replica.to_owned());
        let mut replicas: Vec<_> = said.lines().filter_map(of).collect();
        replicas.dedup();
        (replicas.len() == 2 && replicas.contains(&crashed)).then_some(())
    })
    .await;
    dev.stop().await;
}
