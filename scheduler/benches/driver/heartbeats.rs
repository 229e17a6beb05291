//! P3: the whole path of a steady heartbeat, TLS to answer, in CPU of the scheduler's process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharfage_link::{IdentityDir, MachineClient};
use wharfage_scheduler::metrics::cpu_seconds;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};

use crate::machine::{PATIENCE, Scheduler, boottime};
use crate::{node, percentile};

/// Names the file with what the child is to send.
const CHILD: &str = "WHARFAGE_BENCH_HEARTBEATS";

/// Nodes, each with a connection of its own.
const NODES: usize = 16;

/// How long is measured.
const MEASURED: Duration = Duration::from_secs(4);

/// What one connection sends.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sender {
    address: String,
    identity: std::path::PathBuf,
    beat: Heartbeat,
}

/// Whether this process is the one that sends.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Eight GPUs and eight ready replicas each; the agents are another process.
pub async fn steady() {
    let scheduler = Scheduler::start("bench-heartbeats").await;
    node::tenant(&scheduler).await;
    let mut senders = Vec::new();
    for number in 0..NODES {
        let machine = scheduler.node(&format!("node-{number}")).await;
        let mut beat = node::introduce(&machine).await;
        scheduler.provider(node::deployment(&format!("d-{number}"), 8)).await;
        node::settle(&machine, &mut beat).await;
        let (address, identity) = (scheduler.address.clone(), machine.identity.path().to_owned());
        senders.push(Sender { address, identity, beat });
    }
    let bytes = serde_json::to_vec(&senders[0].beat).expect("JSON").len();
    let path = scheduler.folder.0.join("senders.json");
    std::fs::write(&path, serde_json::to_vec(&senders).expect("JSON")).expect("written");
    let position = scheduler.handle().view().position();
    let cpu = cpu_seconds();
    let exe = std::env::current_exe().expect("this program");
    let mut child = Command::new(exe);
    child.env(CHILD, &path).stdout(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || child.output()).await;
    let output = output.expect("no panic").expect("runs");
    let cpu = cpu_seconds() - cpu;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let [count, p50, p99] = numbers[..] else { panic!("the child said {said:?}") };
    let facts = scheduler.handle().view().position() - position;
    let replicas = senders[0].beat.replicas.len();
    println!(
        "steady heartbeat (8 GPUs, {replicas} replicas, {bytes} bytes, mTLS): {:.0}/s, {:.1} us of \
         the scheduler's CPU each, p50 {p50:.2} ms, p99 {p99:.2} ms over {NODES} connections; \
         {facts} records meanwhile",
        count / MEASURED.as_secs_f64(),
        cpu * 1e6 / count,
    );
    scheduler.stop().await;
}

/// Sends as fast as answers come, and prints count, p50 and p99.
pub async fn child() {
    let path = std::env::var(CHILD).expect("asked for");
    let text = std::fs::read(path).expect("readable");
    let senders: Vec<Sender> = serde_json::from_slice(&text).expect("JSON");
    let end = Instant::now() + MEASURED;
    let tasks: Vec<_> = senders.into_iter().map(|sender| tokio::spawn(send(sender, end))).collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("no panic"));
    }
    took.sort_by(f64::total_cmp);
    println!("{} {} {}", took.len(), percentile(&took, 50), percentile(&took, 99));
}

async fn send(sender: Sender, end: Instant) -> Vec<f64> {
    let identity = IdentityDir::new(sender.identity);
    let client = MachineClient::new(identity, sender.address).expect("an identity");
    let (mut beat, mut took) = (sender.beat, Vec::new());
    while Instant::now() < end {
        beat.number += 1;
        beat.sent_at = boottime();
        let began = Instant::now();
        let answer = client.post_json("/agent/v1/heartbeat", &beat, PATIENCE).await;
        let _: HeartbeatAnswer = answer.expect("answered");
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took
}
