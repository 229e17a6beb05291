//! S1, S8 and S12 against the truth on the host: who starts on what, and who is stopped when.
//!
//! Shares no code with the decisions: it knows the orders on the disk, the notices of the host and
//! the truth about processes, and asks whether anything of that allows what is done.

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Gang, Order, RunOrder, StopOrder};
use wharfage_shared::time::Millis;

use crate::host::process::Process;
use crate::host::{Host, HostNotice};
use crate::stage::Stage;

/// How far the agent's map of the scheduler's clock may be off: half a round trip and the drift.
const SLACK: Millis = Millis(2_500);

/// Below this window no plan can hold its deadline.
const TOO_SHORT: Millis = Millis::from_seconds(4);

/// An engine is started: its GPUs must be nobody's, and it must be ordered.
pub(crate) fn judge_start(host: &Host, stage: &mut Stage, order: &RunOrder) {
    for (other, process) in &host.processes {
        let shared = process.order.gpus.iter().find(|gpu| order.gpus.contains(gpu));
        if let Some(gpu) = shared
            && *other != order.replica
            && process.holds_memory(stage.now)
        {
            let found = format!(
                "{} starts on {gpu} of {}, which {other} still holds",
                order.replica, host.node
            );
            stage.broken("S1", found);
        }
    }
    if host.processes.contains_key(&order.replica) {
        let found = format!("{} is started twice on {}", order.replica, host.node);
        stage.broken("S1", found);
    }
    let leads = order.gang.as_ref().is_none_or(Gang::leads);
    if leads && stage.engines.contains_key(&order.replica) {
        let found = format!("{} runs already when {} starts it", order.replica, host.node);
        stage.broken("S1", found);
    }
    if let Some(most) = stage.single_copies.get(&order.deployment).copied().filter(|_| leads) {
        let others = stage.engines.iter().filter(|(_, of)| **of == order.deployment);
        let others: Vec<String> = others.map(|(replica, _)| replica.to_string()).collect();
        if others.len() >= most as usize {
            let found = format!(
                "{} starts on {} while {} runs: two copies of {}",
                order.replica,
                host.node,
                others.join(", "),
                order.deployment
            );
            stage.broken("S1", found);
        }
    }
    let orders = host.disk.desired.iter().flat_map(|desired| &desired.orders);
    let is_run = |named: &Order| matches!(named, Order::Run(run) if run.replica == order.replica);
    if !orders.into_iter().any(is_run) {
        let found = format!("{} starts {} without an order on disk", host.node, order.replica);
        stage.broken("S9", found);
    }
}

/// SIGTERM is sent: a reason must be there that allows it at this instant.
pub(crate) fn judge_terminate(host: &Host, stage: &mut Stage, replica: ReplicaId) {
    let Some(process) = host.processes.get(&replica).filter(|process| process.runs()) else {
        return;
    };
    let stop = stop_order(host, replica);
    if stop.is_some_and(|stop| stop.quiet || !process.was_ready) {
        return;
    }
    let ends = ends(host, stage, replica);
    if ends.is_none() && start_failed(host, stage, process) {
        return;
    }
    let found = match ends {
        None => format!("{replica} on {} is stopped and nothing says so", host.node),
        Some(end) => {
            let budget = &host.config.budget;
            let hook = drain_hook(host, stage, process);
            let lead = host.config.stop_margin + budget.stop + hook + SLACK;
            let never_served = !process.was_ready;
            if stage.now + lead >= end || never_served || start_failed(host, stage, process) {
                return;
            }
            let early = (end - stage.now) - lead;
            format!(
                "{replica} on {} is stopped {early} before its drain had to end for the deadline",
                host.node
            )
        }
    };
    let rule = if ends.is_none() { "S12" } else { "S8" };
    stage.broken(rule, found);
}

/// SIGKILL is sent: SIGTERM had its time, or there is none left.
pub(crate) fn judge_kill(host: &Host, stage: &mut Stage, replica: ReplicaId) {
    let Some(process) = host.processes.get(&replica).filter(|process| process.runs()) else {
        return;
    };
    // On the host's clock, whose drift the agent cannot know.
    let since = |at: Millis| host.clock.at(stage.now).since(host.clock.at(at));
    let had_time = process.terminated.is_some_and(|at| since(at) >= host.config.budget.stop);
    let end = ends(host, stage, replica);
    let no_time = end.is_some_and(|end| stage.now + host.config.stop_margin + SLACK >= end);
    if !had_time && !no_time {
        let found = format!("{replica} on {} is killed before its time to stop is over", host.node);
        stage.broken("S8", found);
    }
}

/// A notice's deadline: where an agent was up for the whole window, nothing may run any more.
pub(crate) fn judge_deadline(host: &Host, stage: &mut Stage, notice: &HostNotice) {
    let heard = host.clock.when(notice.heard_at);
    let window = notice.gone_at - heard;
    let watched = host.agent.is_some() && host.agent_since <= heard;
    if !watched || window < TOO_SHORT {
        return;
    }
    let left = host.processes.iter().filter(|(_, process)| process.runs());
    // What started in the last moments was ordered before the notice was heard.
    let left = left.filter(|(_, process)| process.started < heard);
    let left: Vec<String> = left.map(|(replica, _)| replica.to_string()).collect();
    if !left.is_empty() {
        let found = format!("{} still runs on {} at the deadline", left.join(", "), host.node);
        stage.broken("S8", found);
    }
}

fn stop_order(host: &Host, replica: ReplicaId) -> Option<&StopOrder> {
    let orders = host.disk.desired.iter().flat_map(|desired| &desired.orders);
    orders.into_iter().find_map(|order| match order {
        Order::Stop(stop) if stop.replica == replica => Some(stop),
        Order::Stop(_) | Order::Run(_) => None,
    })
}

/// The earliest deadline that anybody has stated for the replica.
fn ends(host: &Host, stage: &Stage, replica: ReplicaId) -> Option<Millis> {
    let order = stop_order(host, replica).map(|stop| stage.when(stop.deadline));
    let notices = host.notices.values().map(|notice| notice.gone_at).min();
    let reclaim = host.disk.desired.as_ref().and_then(|desired| desired.reclaim.as_ref());
    let reclaim = reclaim.map(|reclaim| stage.when(reclaim.gone_at));
    let drill = host.disk.desired.as_ref().and_then(|desired| desired.drill.as_ref());
    let drill = drill.map(|drill| stage.when(drill.gone_at));
    [order, notices, reclaim, drill].into_iter().flatten().min()
}

fn start_failed(host: &Host, stage: &Stage, process: &Process) -> bool {
    let replica = process.order.replica;
    let ordered = host.ordered.get(&replica).copied().unwrap_or(process.started);
    let limit = process.order.start_deadline;
    !process.was_ready && stage.now + SLACK >= ordered + limit
}

fn drain_hook(host: &Host, stage: &Stage, process: &Process) -> Millis {
    let hook = process.order.hooks.get(&wharfage_shared::replica::HookKind::Drain);
    let Some(hook) = hook else { return Millis(0) };
    let known = host.config.hook_estimates.get(hook).copied();
    let takes = stage.hooks.get(hook).copied().unwrap_or_default();
    let most = known.unwrap_or(host.config.budget.drain_hook).max(takes);
    Millis(most.0 + most.0 / 4)
}
