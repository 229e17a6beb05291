//! P10: from a create that is asked for until the agent holds the command, durable in between.

use std::sync::Arc;
use std::time::Instant;

use wharfage_scheduler_core::words::command::{Action, deployments};
use wharfage_shared::order::Order;
use wharfage_shared::replica::{Ended, Gone};

use crate::machine::{Machine, Scheduler, boottime};
use crate::{disk, node, percentile};

/// Commands that are timed.
const TIMED: usize = 200;

/// Creates, waits for the run order in the agent's held heartbeat, deletes, proves the end.
pub async fn commands() {
    let scheduler = Scheduler::start("bench-held").await;
    node::tenant(&scheduler).await;
    let machine = scheduler.node("node-1").await;
    let mut beat = node::introduce(&machine).await;
    // An agent's connections stay open from one heartbeat to the next.
    let waiter =
        Arc::new(Machine::new(&scheduler, machine.name.as_str(), machine.identity.clone()));
    let before = disk::raw_syncs("right before the creates");
    let mut took = Vec::new();
    for number in 0..TIMED {
        let id = format!("d-{number}");
        beat.answer_at_once = false;
        beat.number += 1;
        beat.sent_at = boottime();
        let (waiting, sent) = (Arc::clone(&waiter), beat.clone());
        let waiting = tokio::spawn(async move { waiting.beat(&sent).await.expect("answered") });
        // The heartbeat is on its way or held; either is what a create meets.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let began = Instant::now();
        scheduler.provider(node::deployment(&id, 1)).await;
        let desired = waiting.await.expect("no panic").desired.expect("a run order");
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        beat.answer_at_once = true;
        node::adopt(&mut beat, &desired);
        node::settle(&machine, &mut beat).await;
        let replicas: Vec<_> = beat.replicas.iter().map(|report| report.replica).collect();
        let delete = deployments::Action::Delete { id: id.as_str().into() };
        scheduler.provider(Action::Deployment(delete)).await;
        let gone = |replica| Gone {
            replica,
            ended: Ended::Exited { code: 0 },
            processes_gone_at: boottime(),
            memory_back_at: boottime(),
            memory: Vec::new(),
        };
        beat.gone = replicas.into_iter().map(gone).collect();
        beat.replicas.clear();
        while let Some(desired) = machine.next(&mut beat).await.desired {
            let still = |order: &Order| matches!(order, Order::Run(_));
            assert!(!desired.orders.iter().any(still), "nothing is to run any more");
            (beat.persisted, beat.applied) = (desired.version, desired.version);
        }
        beat.gone.clear();
    }
    let sync = f64::midpoint(before, disk::raw_syncs("right after the creates"));
    took.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
    println!(
        "create asked for -> agent holds the command (durable): p50 {p50:.2} ms, p99 {p99:.2} ms"
    );
    println!(
        "that p50 is {:.2} x (1 ms + 1.5 syncs), that p99 is {:.2} x (5 ms + 3 syncs)",
        p50 / (1.0 + 1.5 * sync),
        p99 / (5.0 + 3.0 * sync)
    );
    scheduler.stop().await;
}
