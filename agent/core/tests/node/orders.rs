//! Stories of orders: what is newer, what is absent, what nobody knows here.

use wharfage_agent_core::{Effect, Input};
use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Desired, Order, StopCause};
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{Epoch, Term};

use crate::host::{Habits, Host, WALL, hooked, order, version};

fn answer(host: &Host, desired: Desired) -> Input {
    Input::Answer {
        sent_at: Boottime(host.now),
        answer: Box::new(HeartbeatAnswer {
            term: desired.version.term,
            epoch: Epoch(1),
            lease: Millis::from_seconds(30),
            next_in: Millis::from_seconds(5),
            now: Timestamp(WALL + host.now as i64),
            held: Millis(0),
            segments: None,
            desired: Some(desired),
            send_inventory: false,
            send_health: false,
        }),
    }
}

fn ends(effect: &Effect) -> bool {
    matches!(effect, Effect::Terminate { .. } | Effect::Kill { .. })
}

#[test]
fn an_older_desired_state_never_undoes_a_newer_one() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let old = host.desired.clone();
    host.stop(1, StopCause::ScaledDown, 30_000, true);
    let stop = host.desired.clone();
    host.tell(answer(&host, Desired { version: version(2, 1), ..stop }));
    // A leader that was replaced answers late, with a higher generation of its lower term.
    host.tell(answer(&host, Desired { version: version(1, 99), ..old.clone() }));
    host.tell(answer(&host, Desired { version: version(2, 0), ..old }));
    assert_eq!(host.agent.report(Boottime(host.now)).applied, version(2, 1));
    let persisted = host.persisted.as_ref().map(|desired| desired.version);
    assert_eq!(persisted, Some(version(2, 1)));
    assert_eq!(host.agent.status().term, Term(2));
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Stopping);
}

#[test]
fn what_the_desired_state_does_not_name_is_not_touched() {
    let mut host = Host::ready(Habits::default(), vec![order(1), order(2)]);
    let t0 = host.now;
    host.want(|desired| desired.orders.clear());
    host.run_for(3_600_000);
    assert_eq!(host.first(t0, ends), None);
    let status = host.agent.status();
    assert!(status.replicas.iter().all(|r| !r.ordered && r.phase == ReportedPhase::Ready));
    assert_eq!(host.agent.report(Boottime(host.now)).replicas.len(), 2, "reported as they are");
}

#[test]
fn a_replica_that_only_its_guard_knows_is_kept_until_an_order_stops_it() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.persisted = None;
    host.desired = Desired { version: version(1, 50), ..Desired::default() };
    host.crash_agent(1_000);
    host.run_for(60_000);
    assert!(host.alive(1));
    assert!(!host.agent.status().replicas[0].ordered);
    host.stop(1, StopCause::Orphan, 30_000, true);
    host.run_for(10_000);
    assert!(!host.alive(1));
}

#[test]
fn an_intent_that_was_taken_back_leaves_nothing() {
    let mut host = Host::new(Habits::default());
    host.tell(Input::NoticeHeard(host.notice("n", 600_000)));
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(10_000);
    assert_eq!(host.agent.report(Boottime(host.now)).replicas.len(), 1, "it waits, and says why");
    host.want(|desired| desired.orders.clear());
    host.run_for(10_000);
    assert!(host.agent.report(Boottime(host.now)).replicas.is_empty());
    assert!(host.ever_started.is_empty());
}

#[test]
fn a_stop_of_what_never_stood_here_is_answered_with_gone() {
    let mut host = Host::new(Habits::default());
    host.drops_gone = false;
    host.stop(9, StopCause::Deleted, 30_000, true);
    host.run_for(10_000);
    let gone = host.agent.report(Boottime(host.now)).gone;
    assert_eq!(gone[0].replica, ReplicaId(9));
    let because = "it never stood on this host".to_owned();
    assert_eq!(gone[0].ended, Ended::NeverStarted { because });
    host.drops_gone = true;
    host.run_for(10_000);
    assert!(host.agent.report(Boottime(host.now)).gone.is_empty());
}

#[test]
fn a_stop_while_the_model_is_fetched_ends_it_before_it_began() {
    let mut host = Host::new(Habits { fetch: 60_000, ..Habits::default() });
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(10_000);
    host.stop(1, StopCause::ScaledDown, 30_000, false);
    host.run_for(70_000);
    assert!(host.ever_started.is_empty());
    assert!(host.forgotten.contains(&ReplicaId(1)));
}

#[test]
fn no_step_of_the_schedulers_clock_moves_a_deadline_that_was_heard() {
    let mut host = Host::ready(Habits { stop: None, ..Habits::default() }, vec![order(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 60_000, false);
    host.run_for(5_000);
    let planned = host.agent.status().replicas[0].timetable.expect("it must leave");
    host.tell(Input::Answer {
        sent_at: Boottime(host.now),
        answer: Box::new(HeartbeatAnswer {
            term: Term(1),
            epoch: Epoch(1),
            lease: Millis::from_seconds(30),
            next_in: Millis::from_seconds(5),
            now: Timestamp(WALL + host.now as i64 + 3_600_000),
            held: Millis(0),
            segments: None,
            desired: None,
            send_inventory: false,
            send_health: false,
        }),
    });
    assert_eq!(host.agent.status().replicas[0].timetable, Some(planned));
    host.run_for(60_000);
    let killed = host.first(t0, |effect| matches!(effect, Effect::Kill { .. })).expect("killed");
    assert!(killed.abs_diff(t0 + 58_000) <= 10, "at the deadline less the margin: {killed}");
}

#[test]
fn an_agent_that_does_not_know_the_schedulers_clock_waits_for_an_answer() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    host.stop(1, StopCause::ScaledDown, 60_000, false);
    host.run_for(5_000);
    let t0 = host.now;
    host.reachable = false;
    host.crash_agent(1_000);
    host.run_for(600_000);
    assert_eq!(host.first(t0, ends), None, "its deadline is an instant of a clock not known here");
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Draining);
    host.reachable = true;
    host.run_for(10_000);
    assert!(!host.alive(1), "now the deadline is known, and has passed");
}

#[test]
fn an_answer_that_was_held_tells_the_schedulers_clock_as_well_as_a_quick_one() {
    let mut host = Host::ready(Habits { stop: None, ..Habits::default() }, vec![order(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 60_000, false);
    host.run_for(100);
    host.reachable = false;
    host.crash_agent(1_000);
    host.run_for(10_000);
    // Three milliseconds up, one down, and in between it lay there for news that did not come.
    let sent_at = Boottime(host.now - 5_004);
    let mut said = answer(&host, host.desired.clone());
    let Input::Answer { sent_at: at, answer } = &mut said else { unreachable!() };
    *at = sent_at;
    answer.held = Millis::from_seconds(5);
    answer.now = Timestamp(WALL + host.now as i64 - 1);
    host.tell(said);
    host.run_for(60_000);
    let killed = host.first(t0, |effect| matches!(effect, Effect::Kill { .. })).expect("killed");
    assert!(killed.abs_diff(t0 + 58_000) <= 10, "at the deadline less the margin: {killed}");
}

#[test]
fn the_same_answer_twice_changes_nothing_more() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1), order(2)]);
    host.stop(1, StopCause::Preempted, 30_000, false);
    let twice = answer(&host, host.desired.clone());
    host.tell(twice.clone());
    let (status, effects) = (host.agent.status(), host.effects.len());
    host.tell(twice);
    assert_eq!(host.agent.status(), status);
    assert_eq!(host.effects.len(), effects);
}

#[test]
fn a_leader_that_was_replaced_renews_no_lease() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let newest = Desired { version: version(2, 1), ..host.desired.clone() };
    host.tell(answer(&host, newest));
    let until = host.agent.status().control_lease.until;
    host.desired.version = version(1, 50);
    host.run_for(20_000);
    assert!(host.heard.is_some());
    assert_eq!(host.agent.status().control_lease.until, until);
}

#[test]
fn the_end_of_what_nobody_names_is_repeated_until_it_was_heard() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.want(|desired| desired.orders.clear());
    host.run_for(10_000);
    host.reachable = false;
    host.end_engine(ReplicaId(1), Ended::Exited { code: 1 });
    host.run_for(60_000);
    assert_eq!(host.agent.report(Boottime(host.now)).gone.len(), 1);
    host.reachable = true;
    host.run_for(10_000);
    assert!(host.heard.as_ref().is_some_and(|report| report.replicas.is_empty()));
    assert!(host.forgotten.contains(&ReplicaId(1)));
}
