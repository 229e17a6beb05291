//! A drill that the scheduler orders: heard, followed and withdrawn like a notice of a source.

use wharfage_agent_core::Effect;
use wharfage_shared::drill::Drill;
use wharfage_shared::notice::{Leaves, NoticeSource};
use wharfage_shared::replica::{HookKind, HookOutcome, ReportedPhase};
use wharfage_shared::time::{Boottime, Timestamp};

use crate::host::{Habits, Host, WALL, hooked, order};

fn ordered(host: &Host, in_ms: u64) -> Option<Drill> {
    let gone_at = Timestamp(WALL + (host.now + in_ms) as i64);
    Some(Drill { id: "drill-d-1".into(), leaves: Leaves::Replicas, gone_at })
}

#[test]
fn an_ordered_drill_is_reported_as_a_notice_and_its_story_is_told() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    let drill = ordered(&host, 60_000);
    host.want(|desired| desired.drill = drill);
    host.run_for(6_000);
    let report = host.agent.report(Boottime(host.now));
    let notice = report.notices.first().expect("it is reported");
    assert_eq!(notice.source, NoticeSource::Drill);
    assert_eq!((notice.leaves, notice.gone_at), (Leaves::Replicas, Boottime(t0 + 60_000)));
    let heard_at = notice.heard_at;
    host.run_for(54_000);
    assert!(!host.alive(1), "everything has left by the deadline");
    let story = host.agent.report(Boottime(host.now)).evacuated.expect("it was evacuated");
    assert_eq!((story.notice.as_str(), story.heard_at), ("drill-d-1", heard_at));
    assert_eq!(story.first_action_at, Some(heard_at), "the checkpoint begins at once");
    let hooks: Vec<_> = story.hooks.iter().map(|past| (past.run.kind, past.run.outcome)).collect();
    let done = [HookKind::Checkpoint, HookKind::Drain].map(|kind| (kind, HookOutcome::Done));
    assert_eq!(hooks, done, "the hooks of what is gone are told still");
    assert!(story.ended_at.is_some() && story.share_permille.is_some_and(|share| share > 800));
    host.want(|desired| desired.drill = None);
    host.run_for(6_000);
    assert!(host.agent.status().notices.is_empty(), "it ends with the order");
}

#[test]
fn an_ordered_drill_that_is_given_up_leaves_the_replica_serving() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    let drill = ordered(&host, 60_000);
    host.want(|desired| desired.drill = drill);
    host.run_for(10_000);
    assert_eq!(host.agent.report(Boottime(host.now)).notices.len(), 1, "it is heard");
    host.want(|desired| desired.drill = None);
    host.run_for(90_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Ready);
    assert!(host.first(t0, |e| matches!(e, Effect::Terminate { .. })).is_none());
    assert!(host.agent.report(Boottime(host.now)).notices.is_empty());
}
