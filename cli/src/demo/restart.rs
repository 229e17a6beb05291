//! Step 5: the scheduler is killed and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::requests::Asker;
use super::{SEEN_WITHIN, Stage, settings, text};
use crate::dev::ready;
use crate::exit::Failure;

/// How long the scheduler stays dead: long enough for many requests to come by.
const OUTAGE: Duration = Duration::from_secs(2);

/// Kills, looks, starts again, looks again.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    stage.say.step(5, "The scheduler is killed with SIGKILL and started again");
    let before = engines(stage);
    if before.len() < 2 {
        return Err(Failure::check(format!("two engines were expected, found {before:?}")));
    }
    let traffic = Traffic::start(Asker::of(stage)?);
    let write = settings::patch(stage, "chat-model", r#"{"concurrency_target": 3}"#).await?;
    if text(&write, "status") != "ACCEPTED" {
        return Err(Failure::check(format!("the write before the kill was not accepted: {write}")));
    }
    let pid = stage.running.daemons.end("scheduler", Signal::KILL).unwrap_or_default();
    stage.say.seen(format!("a write was acknowledged, and pid {pid} was killed right after it"));
    let dead_since = Instant::now();
    ready::until("requests are served while the scheduler is dead", SEEN_WITHIN, || async {
        Ok((dead_since.elapsed() >= OUTAGE && traffic.served() >= 10).then_some(()))
    })
    .await?;
    stage.running.restart_scheduler()?;
    let ids: Vec<String> = stage.up().nodes.iter().map(|node| node.id.clone()).collect();
    ready::until("every node is connected again", SEEN_WITHIN * 2, || async {
        let answer = stage.admin.get("/api/v1/nodes").await?;
        let none = Vec::new();
        let rows = answer.get("nodes").and_then(Value::as_array).unwrap_or(&none);
        let connected = rows.iter().filter(|row| text(row, "reach") == "connected").count();
        Ok((connected == ids.len()).then_some(()))
    })
    .await?;
    let (served, failed) = traffic.stop().await;
    stage.say.seen(format!(
        "scheduler back after {:.1} s; the gateway served {served} requests meanwhile, {failed} failed",
        dead_since.elapsed().as_secs_f64()
    ));
    if failed > 0 {
        return Err(Failure::check(format!("{failed} requests failed during the outage")));
    }
    let after = engines(stage);
    if before != after {
        return Err(Failure::check(format!("engines changed: {before:?}, then {after:?}")));
    }
    stage
        .say
        .seen(format!("no replica was touched: the same {} engine processes run", after.len()));
    acknowledged_write_is_there(stage).await
}

async fn acknowledged_write_is_there(stage: &Stage) -> Result<(), Failure> {
    let again = settings::patch(stage, "chat-model", r#"{"concurrency_target": 3}"#).await?;
    if text(&again, "status") != "UNCHANGED" {
        return Err(Failure::check(format!("the acknowledged write was lost: {again}")));
    }
    stage.say.seen("no acknowledged write was lost: the same write again says UNCHANGED");
    Ok(())
}

/// Engine processes by pid with their start times: what claims memory in the fake GPUs.
fn engines(stage: &Stage) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    for node in &stage.up().nodes {
        let Ok(gpus) = std::fs::read_dir(node.fake_dir.join("claims")) else { continue };
        let files = gpus.flatten().filter_map(|gpu| std::fs::read_dir(gpu.path()).ok()).flatten();
        for file in files.flatten() {
            let pid = file.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            if let Some((pid, start)) = pid.and_then(|pid| Some((pid, start_time(pid)?))) {
                found.insert(pid, start);
            }
        }
    }
    found
}

/// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for ever.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Requests that go on in the background.
struct Traffic {
    served: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    end: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Traffic {
    fn start(asker: Asker) -> Self {
        let (served, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let end = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (served, failed, end) = (served.clone(), failed.clone(), end.clone());
            async move {
                while !end.load(Ordering::Relaxed) {
                    let counter = match asker.ask("chat-model", "still there?", 2).await {
                        Ok(_) => &served,
                        Err(_) => &failed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Self { served, failed, end, task }
    }

    fn served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    async fn stop(self) -> (u32, u32) {
        self.end.store(true, Ordering::Relaxed);
        // A reader that panicked would show as a failed count below expectations.
        let _ = self.task.await;
        (self.served.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
