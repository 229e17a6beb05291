//! `cargo bench -p wharfage-agent --bench node`: one node with the real agent, guards and
//! development engines over the fake NVML, under a scheduler in this process.
//!
//! Measured: the bytes of a steady heartbeat, how soon a restarted agent has adopted 64 replicas,
//! and how soon readings are back after the NVML helper died. The scheduler hears a report every
//! 100 ms, so moments told by it are no finer than that.

#![expect(clippy::expect_used, reason = "a bench stops at the first thing unseen")]

#[path = "../tests/node/common/mod.rs"]
#[expect(dead_code, reason = "the journeys' host can do more than this bench asks")]
mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use wharfage_agent_sys::process::{self, ProcessId};
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::replica::ReportedPhase;

use common::node::{Node, run_order, run_with};
use common::scheduler::{SECRET, Scheduler};

/// Everything that is waited for comes within this long.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often the agent's page is asked: moments told by it are no finer.
const LOOK: Duration = Duration::from_millis(5);

const ADOPTED: u32 = 64;

const ROUNDS: usize = 5;

fn main() {
    heartbeat();
    adoption();
    helper();
}

/// A steady report of 8 GPUs and 8 ready replicas, as the scheduler reads it.
fn heartbeat() {
    let stage = Stage::new("heartbeat", 8);
    let stage = stage.with_replicas(8);
    let steady = until("a steady heartbeat", || {
        let report = stage.scheduler.last()?;
        let is_steady = report.inventory.is_none() && report.health.is_none();
        (is_steady && report.readings.len() == 8).then_some(report)
    });
    let bytes = serde_json::to_vec(&steady).expect("plain data").len();
    println!("steady heartbeat of 8 GPUs and 8 replicas: {bytes} bytes");
}

/// The agent is killed and started again while its replicas serve.
fn adoption() {
    let mut stage = Stage::new("adoption", ADOPTED).with_replicas(ADOPTED);
    let engines = stage.engines();
    assert_eq!(engines.len(), ADOPTED as usize);
    let mut took = Vec::new();
    let mut spent = Vec::new();
    for _ in 0..ROUNDS {
        let before = stage.scheduler.last().map(|report| report.nonce);
        stage.node.kill_agent();
        let begun = Instant::now();
        stage.node.start();
        until("all replicas in a report of the new agent", || {
            let report = stage.scheduler.last()?;
            (Some(&report.nonce) != before.as_ref() && ready(&report) == ADOPTED).then_some(())
        });
        took.push(begun.elapsed());
        spent.push(cpu(stage.node.agent_pid()));
    }
    assert_eq!(stage.engines(), engines, "no engine was started anew");
    println!("an agent is killed and started again with {ADOPTED} replicas, none of which ends:");
    report("start of the agent -> all reported ready", &mut took);
    report("the agent's CPU until then", &mut spent);
}

/// The helper dies; the agent starts another one after a pause of 1 s.
fn helper() {
    let mut stage = Stage::new("helper", 8);
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            // The pause grows with each helper that dies young: each round has an agent of its own.
            stage.node.kill_agent();
            stage.node.start();
        }
        until("readings", || stage.oldest_reading().filter(|age| *age < 1000));
        let old = stage.helper().expect("an agent has a helper");
        let begun = Instant::now();
        process::signal(old, Signal::KILL).expect("it is ours");
        until("readings of another helper", || {
            stage.helper().filter(|new| *new != old)?;
            let since = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            stage.oldest_reading().filter(|age| *age < since)
        });
        took.push(begun.elapsed());
    }
    println!("the NVML helper is killed, 8 GPUs:");
    report("SIGKILL of the helper -> every GPU read again", &mut took);
}

/// A node with so many GPUs, and its scheduler.
struct Stage {
    // Dropped first: the agent ends before its scheduler does.
    node: Node,
    scheduler: Scheduler,
    _folder: TemporaryFolder,
}

struct TemporaryFolder(std::path::PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What stays in the temporary folder harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Stage {
    fn new(name: &str, gpus: u32) -> Self {
        let folder = format!("wharfage-bench-{name}-{}", std::process::id());
        let folder = TemporaryFolder(std::env::temp_dir().join(folder));
        std::fs::create_dir_all(&folder.0).expect("a temporary folder");
        let scheduler = Scheduler::start(&folder.0);
        let mut node = Node::new(scheduler.join(SECRET));
        node.gpus(&(0..gpus).map(|number| json!({"uuid": uuid(number)})).collect());
        node.start();
        Self { node, scheduler, _folder: folder }
    }

    /// One replica on each of the first GPUs, all ready.
    fn with_replicas(self, count: u32) -> Self {
        let order = |number| run_with(run_order(number + 1, &uuid(number)), &[]);
        self.scheduler.order((0..count).map(order).collect());
        until("ready replicas", || self.scheduler.last().filter(|report| ready(report) == count));
        self
    }

    /// The engines by replica.
    fn engines(&self) -> BTreeMap<u32, ProcessId> {
        let engine = |number| Some((number, self.node.record(number)?.engine?));
        (1..=ADOPTED).filter_map(engine).collect()
    }

    fn helper(&self) -> Option<ProcessId> {
        let agent = self.node.agent_pid();
        let table = process::table().expect("/proc");
        let is_helper = |pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"nvml-helper")
        };
        let mut children = table.iter().filter(|process| process.parent == agent);
        let found = children.find(|process| !process.is_zombie && is_helper(process.id.pid));
        found.map(|process| process.id)
    }

    /// Milliseconds since the GPU was read that was read least lately.
    fn oldest_reading(&self) -> Option<u64> {
        let status = self.node.status()?;
        let gpus = status["gpus"].as_array()?;
        let age = |gpu: &Value| gpu["age_ms"].as_u64().filter(|_| gpu["memory_used_mib"].is_u64());
        gpus.iter().map(age).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

fn uuid(number: u32) -> String {
    format!("GPU-{number:08x}-7c6e-4b1d-9a51-2f60c1e0d3b7")
}

fn ready(report: &Heartbeat) -> u32 {
    let ready = report.replicas.iter().filter(|replica| replica.phase == ReportedPhase::Ready);
    u32::try_from(ready.count()).unwrap_or(u32::MAX)
}

/// CPU time of a process's threads so far.
fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let spent = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "not seen in time: {what}");
        std::thread::sleep(LOOK);
    }
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.0} ms, largest of {} {:.0} ms", at(50), took.len(), at(100));
}
