//! Replicas whose records cannot be read: nothing is decided for them until they can be.

use wharfage_agent_core::{Effect, Input};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Order, StopCause};
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::Boottime;

use crate::host::{Habits, Host, order};

const LOST: ReplicaId = ReplicaId(1);

/// An agent that begins beside a ready replica whose records it cannot read.
fn beside_it() -> (Host, u64) {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.unreadable.insert(LOST);
    let since = host.now;
    host.crash_agent(1_000);
    (host, since)
}

fn touches_it(effect: &Effect) -> bool {
    match effect {
        Effect::Terminate { replica }
        | Effect::Kill { replica }
        | Effect::Forget { replica }
        | Effect::CheckRelease { replica } => *replica == LOST,
        Effect::Fetch(order) | Effect::Start(order) => order.replica == LOST,
        _ => false,
    }
}

fn is_called_gone(host: &Host) -> bool {
    let report = host.agent.report(Boottime(host.now));
    report.gone.iter().any(|gone| gone.replica == LOST)
}

#[test]
fn a_replica_that_nobody_can_read_is_neither_begun_nor_stopped_nor_called_gone() {
    let (mut host, since) = beside_it();
    host.run_for(60_000);
    assert!(host.alive(1) && !is_called_gone(&host), "an order to run begins nothing");
    host.stop(1, StopCause::ScaledDown, 5_000, true);
    host.run_for(60_000);
    assert!(host.alive(1) && !is_called_gone(&host), "an order to stop finds nobody");
    assert_eq!(host.first(since, touches_it), None);
    let record = host.record(LOST);
    host.unreadable.clear();
    host.tell(Input::Adopted(Box::new(record)));
    host.run_for(60_000);
    assert!(!host.alive(1), "now it is known whom the order means");
}

#[test]
fn one_that_can_be_read_again_goes_on_as_it_was() {
    let (mut host, since) = beside_it();
    host.run_for(30_000);
    let record = host.record(LOST);
    host.tell(Input::Adopted(Box::new(record.clone())));
    let report = host.agent.report(Boottime(host.now));
    let said: Vec<_> = report.replicas.iter().map(|one| (one.replica, one.phase)).collect();
    assert_eq!(said, [(LOST, ReportedPhase::Ready)]);
    // What is tended is not taken over a second time.
    host.end_engine(LOST, Ended::Exited { code: 1 });
    host.tell(Input::Adopted(Box::new(record)));
    assert_ne!(host.agent.status().replicas[0].phase, ReportedPhase::Ready);
    assert_eq!(host.first(since, |effect| matches!(effect, Effect::Start(_))), None);
}

#[test]
fn nothing_is_started_on_its_gpus_before_nothing_is_left_of_it() {
    let (mut host, since) = beside_it();
    let mut other = order(2);
    other.gpus.clone_from(&order(1).gpus);
    host.want(|desired| desired.orders.push(Order::Run(Box::new(other))));
    host.run_for(60_000);
    let starts = |effect: &Effect| matches!(effect, Effect::Start(order) if order.replica != LOST);
    assert_eq!(host.first(since, starts), None);
    host.unreadable.clear();
    host.end_engine(LOST, Ended::Unknown);
    host.tell(Input::NothingLeft(LOST));
    assert!(is_called_gone(&host), "an id is used once");
    host.run_for(10_000);
    assert!(host.first(since, starts).is_some() && host.alive(2));
}
