//! Stories of leaving: stop orders and notices, with windows long and short.

use wharfage_agent_core::{Effect, Input};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource, Reclaim};
use wharfage_shared::order::StopCause;
use wharfage_shared::replica::{HookKind, HookOutcome, ReportedPhase};
use wharfage_shared::time::{Boottime, Millis, Timestamp};

use crate::host::{Habits, Host, WALL, hooked, order, tells};

#[test]
fn under_a_notice_it_drains_when_its_replacement_is_ready() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(30_000);
    host.stop(1, StopCause::NodeNoticed, 90_000, false);
    host.run_for(10_000);
    host.stop(1, StopCause::NodeNoticed, 80_000, true);
    host.run_for(20_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-7`: gone in 120s
            0.0 r-1 checkpoint hook `save` started
            4.0 r-1 checkpoint hook `save` done after 4s
            34.0 node desired state 1/2 is carried out
            34.0 r-1 traffic goes off: its node is under a notice
            44.0 node desired state 1/3 is carried out
            44.0 r-1 quiet: no gateway sends to it, nothing is in flight
            44.0 r-1 drain hook `flush` started
            45.0 r-1 drain hook `flush` done after 1s
            45.0 r-1 SIGTERM
            45.3 r-1 its engine ended: signal 15
            45.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            45.3 node the node is empty: 38.1 % of the window was used
            45.4 node desired state 1/4 is carried out
        ",
    );
    assert!(host.first(t0, |e| matches!(e, Effect::AcknowledgeNotice(_))).is_some());
}

#[test]
fn without_any_scheduler_the_node_evacuates_alone_and_uses_the_window() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(120_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-7`: gone in 120s
            0.0 r-1 checkpoint hook `save` started
            4.0 r-1 checkpoint hook `save` done after 4s
            27.6 node the control lease is over: nothing new starts, serving goes on
            98.0 r-1 traffic goes off: its node is under a notice
            108.0 r-1 drain hook `flush` started
            109.0 r-1 drain hook `flush` done after 1s
            109.0 r-1 SIGTERM
            109.3 r-1 its engine ended: signal 15
            109.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            109.3 node the node is empty: 92.3 % of the window was used
        ",
    );
    assert!(!host.alive(1));
}

#[test]
fn a_short_window_cuts_the_drain_first() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 11_500)));
    host.run_for(11_500);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-7`: gone in 11.500s
            0.0 r-1 will not fit: the checkpoint (30s needed, 4.500s left), requests in flight (10s needed, 0s left), the drain hook (5s needed, 0s left)
            0.0 r-1 checkpoint hook `save` started
            4.0 r-1 checkpoint hook `save` done after 4s
            4.0 r-1 traffic goes off: its node is under a notice
            4.0 r-1 drain hook `flush` started
            4.5 r-1 drain hook `flush` was cut off after 0.500s
            4.5 r-1 SIGTERM
            4.8 r-1 its engine ended: signal 15
            4.8 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            4.8 node the node is empty: 42.1 % of the window was used
            4.8 node desired state 1/2 is carried out
        ",
    );
}

#[test]
fn a_shorter_window_cuts_the_checkpoint_and_never_the_stop() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 9_000)));
    host.run_for(9_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-7`: gone in 9s
            0.0 r-1 will not fit: the checkpoint (30s needed, 2s left), requests in flight (10s needed, 0s left), the drain hook (5s needed, 0s left)
            0.0 r-1 checkpoint hook `save` started
            2.0 r-1 checkpoint hook `save` was cut off after 2s
            2.0 r-1 traffic goes off: its node is under a notice
            2.0 r-1 drain hook `flush` skipped: no time for it
            2.0 r-1 SIGTERM
            2.3 r-1 its engine ended: signal 15
            2.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            2.3 node the node is empty: 28.5 % of the window was used
            2.3 node desired state 1/2 is carried out
        ",
    );
}

#[test]
fn an_engine_that_ignores_sigterm_is_killed_before_the_deadline() {
    let habits = Habits { stop: None, ..Habits::default() };
    let mut host = Host::ready(habits, vec![order(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 30_000, true);
    host.run_for(40_000);
    tells(
        &host.journal(t0),
        r"
            2.6 node desired state 1/2 is carried out
            2.6 r-1 traffic goes off: the deployment wants fewer replicas
            2.6 r-1 quiet: no gateway sends to it, nothing is in flight
            2.6 r-1 SIGTERM
            28.0 r-1 SIGKILL
            28.0 r-1 its engine ended: signal 9
            28.0 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            28.0 node desired state 1/3 is carried out
        ",
    );
}

#[test]
fn what_was_asked_to_end_for_a_notice_that_is_withdrawn_has_its_whole_time_to_stop() {
    let slow = Habits { stop: Some(4_800), ..Habits::default() };
    let mut host = Host::ready(slow, vec![order(1)]);
    let t0 = host.now;
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 4_000)));
    host.run_for(500);
    assert!(host.first(t0, |e| matches!(e, Effect::Terminate { .. })).is_some());
    host.tell(Input::NoticeWithdrawn("spot-7".into()));
    host.run_for(5_000);
    assert!(!host.alive(1), "it was asked to end");
    assert!(host.first(t0, |e| matches!(e, Effect::Kill { .. })).is_none(), "by itself");
}

#[test]
fn a_withdrawn_notice_lets_traffic_resume() {
    let mut host = Host::ready(Habits { checkpoint: None, ..Habits::default() }, vec![hooked(1)]);
    let t0 = host.now;
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 60_000)));
    // Past the moment at which traffic went off, before anything was ended.
    host.run_for(45_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Draining);
    host.tell(Input::NoticeWithdrawn("spot-7".into()));
    host.run_for(60_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-7`: gone in 60s
            0.0 r-1 checkpoint hook `save` started
            27.6 node the control lease is over: nothing new starts, serving goes on
            38.0 r-1 traffic goes off: its node is under a notice
            45.0 node notice `spot-7` withdrawn
            45.0 r-1 it need not leave any more
            45.0 r-1 traffic resumes
            45.0 node the evacuation ends: no notice is in force any more
            53.0 r-1 checkpoint hook `save` was cut off after 53s
        ",
    );
    assert!(host.alive(1));
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Ready);
}

#[test]
fn the_earliest_deadline_of_several_wins_even_after_sigterm() {
    let habits = Habits { stop: None, ..Habits::default() };
    let mut host = Host::ready(habits, vec![order(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 300_000, true);
    host.run_for(6_000);
    assert!(host.alive(1), "SIGTERM was asked for, and is ignored");
    host.tell(Input::NoticeHeard(host.notice("a", 60_000)));
    host.tell(Input::NoticeHeard(host.notice("b", 20_000)));
    host.run_for(20_000);
    let killed = host.first(t0, |e| matches!(e, Effect::Kill { .. }));
    assert_eq!(killed, Some(t0 + 6_000 + 18_000));
}

#[test]
fn a_reclaim_drains_from_its_stated_moment_without_an_order() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    let at = |ms: u64| Timestamp(WALL + (t0 + ms) as i64);
    host.want(|desired| {
        desired.cordoned = true;
        desired.reclaim = Some(Reclaim {
            id: "reclaim-3".into(),
            kind: NoticeKind::Reclaim,
            leaves: Leaves::Replicas,
            warned_at: at(0),
            drain_at: at(120_000),
            gone_at: at(420_000),
        });
    });
    host.run_for(100_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Ready);
    host.run_for(30_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Draining);
    assert!(host.alive(1), "nobody said that it is quiet");
    assert_eq!(host.agent.report(Boottime(host.now)).notices, Vec::<Notice>::new());
    assert_eq!(host.agent.status().notices.len(), 1);
    host.run_for(290_000);
    assert!(!host.alive(1));
    let stopped = host.first(t0, |e| matches!(e, Effect::Terminate { .. }));
    assert_eq!(stopped, Some(t0 + 413_000), "deadline less margin and stop");
}

#[test]
fn a_preemption_that_the_scheduler_was_told_of_is_left_like_one_that_was_heard_here() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    let at = |ms: u64| Timestamp(WALL + (t0 + ms) as i64);
    host.want(|desired| {
        desired.reclaim = Some(Reclaim {
            id: "oci-1".into(),
            kind: NoticeKind::Preempt,
            leaves: Leaves::Node,
            warned_at: at(0),
            drain_at: at(120_000),
            gone_at: at(120_000),
        });
    });
    host.run_for(10_000);
    let known = &host.agent.status().notices[0];
    assert_eq!((known.kind, known.source), (NoticeKind::Preempt, NoticeSource::Provider));
    host.run_for(85_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Ready, "traffic is kept");
    host.run_for(25_000);
    assert!(!host.alive(1), "it is gone before its node");
}

#[test]
fn a_drill_is_a_notice_that_ends_with_itself() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    host.tell(Input::Drill { window: Millis::from_seconds(30) });
    host.run_for(40_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node drill `drill-20000-1`: everything leaves within 30s
            13.0 r-1 traffic goes off: its node is under a notice
            23.0 r-1 SIGTERM
            23.3 r-1 its engine ended: signal 15
            23.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            23.3 node the node is empty: 82.1 % of the window was used
            23.3 node desired state 1/2 is carried out
            30.0 node drill `drill-20000-1` is over
        ",
    );
    assert!(host.agent.status().notices.is_empty());
}

#[test]
fn a_likely_notice_is_reported_and_changes_nothing_by_itself() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let hint = Notice { certainty: Certainty::Likely, ..host.notice("hint", 60_000) };
    host.tell(Input::NoticeHeard(hint));
    host.want(|desired| {
        desired.orders.push(wharfage_shared::order::Order::Run(Box::new(order(2))));
    });
    host.run_for(90_000);
    assert!(host.alive(1) && host.alive(2));
    let report = host.agent.report(Boottime(host.now));
    assert_eq!(report.notices[0].certainty, Certainty::Likely);
    // The same event, certain now, and heard once more as likely.
    host.tell(Input::NoticeHeard(host.notice("hint", 60_000)));
    let hint = Notice { certainty: Certainty::Likely, ..host.notice("hint", 60_000) };
    host.tell(Input::NoticeHeard(hint));
    let report = host.agent.report(Boottime(host.now));
    assert_eq!(report.notices[0].certainty, Certainty::Certain);
    assert!(host.agent.status().evacuation.is_some());
}

#[test]
fn two_sources_of_one_event_are_one_evacuation_by_the_earlier_deadline() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("metadata", 120_000)));
    host.run_for(5_000);
    host.tell(Input::NoticeHeard(host.notice("shutdown", 55_000)));
    // The metadata states another time with every answer; what only it says comes later.
    host.tell(Input::NoticeHeard(host.notice("metadata", 119_000)));
    host.run_for(5_000);
    let evacuation = host.agent.status().evacuation.expect("under way");
    assert_eq!((evacuation.heard_at.0, evacuation.gone_at.0), (t0, t0 + 60_000));
    // The shutdown is taken back: what the first source said first counts again.
    host.tell(Input::NoticeWithdrawn("shutdown".into()));
    let evacuation = host.agent.status().evacuation.expect("under way");
    assert_eq!((evacuation.heard_at.0, evacuation.gone_at.0), (t0, t0 + 120_000));
    assert_eq!(evacuation.ended_at, None, "still the same one");
    host.run_for(120_000);
    assert!(!host.alive(1));
    let ends = host.journal(t0);
    assert_eq!(ends.matches("the node is empty").count(), 1, "{ends}");
}

#[test]
fn a_deadline_that_has_passed_is_now_and_a_node_that_outlives_it_says_so_once() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    host.reachable = false;
    let past = Notice { gone_at: Boottime(host.now - 5_000), ..host.notice("late", 0) };
    host.tell(Input::NoticeHeard(past));
    host.run_for(2_000);
    assert!(!host.alive(1), "there is no time left");
    assert_eq!(host.agent.status().notices[0].gone_at, Boottime(t0));
    host.run_for(297_000);
    assert!(host.agent.status().notices_expired.is_empty());
    host.run_for(600_000);
    let expired = host.agent.status().notices_expired;
    assert_eq!(expired.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["late"]);
    let journal = host.journal(t0);
    assert_eq!(journal.matches("300.0 node notice_expired_but_alive").count(), 1, "{journal}");
    assert_eq!(journal.matches("notice_expired_but_alive").count(), 1, "{journal}");
    host.tell(Input::NoticeWithdrawn("late".into()));
    assert!(host.agent.status().notices_expired.is_empty());
}

#[test]
fn a_scale_down_waits_for_quiet_or_for_the_last_moment_and_writes_no_checkpoint() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 30_000, false);
    host.run_for(35_000);
    tells(
        &host.journal(t0),
        r"
            2.6 node desired state 1/2 is carried out
            2.6 r-1 traffic goes off: the deployment wants fewer replicas
            18.0 r-1 drain hook `flush` started
            19.0 r-1 drain hook `flush` done after 1s
            19.0 r-1 SIGTERM
            19.3 r-1 its engine ended: signal 15
            19.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            19.3 node desired state 1/3 is carried out
        ",
    );
}

#[test]
fn a_measured_hook_replaces_what_was_configured() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    host.tell(Input::NoticeHeard(host.notice("first", 600_000)));
    host.run_for(10_000);
    let guess = host.agent.status().replicas[0].timetable.expect("it must leave");
    host.tell(Input::NoticeWithdrawn("first".into()));
    // The drain hook was never run: its estimate stays the configured five seconds.
    assert_eq!(guess.stop_at.since(guess.drain_hook_at), Millis::from_seconds(5));
    host.tell(Input::NoticeHeard(host.notice("second", 22_000)));
    // 22 s less margin 2 s and stop 5 s leave 15 s: the measured checkpoint of 4 s (5 s with its
    // reserve) leaves the drain ten; the configured 30 s would have left nothing.
    let table = host.agent.status().replicas[0].timetable.expect("it must leave");
    assert_eq!(table.stop_at.since(table.drain_at), Millis::from_seconds(10));
    let hooks = &host.agent.status().replicas[0].hooks;
    let saves = hooks.iter().filter(|hook| hook.kind == HookKind::Checkpoint);
    let outcomes: Vec<HookOutcome> = saves.map(|hook| hook.outcome).collect();
    assert_eq!(outcomes, [HookOutcome::Done, HookOutcome::Running]);
}

#[test]
fn a_deadline_never_moves_later_and_one_that_is_put_off_is_another_notice() {
    let mut host = Host::ready(Habits::default(), vec![hooked(1)]);
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 60_000)));
    host.run_for(45_000);
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Draining);
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 3_600_000)));
    assert_eq!(host.agent.status().replicas[0].phase, ReportedPhase::Draining, "it stays");
    host.tell(Input::NoticeHeard(host.notice("spot-8", 3_600_000)));
    host.tell(Input::NoticeWithdrawn("spot-7".into()));
    host.run_for(3_600_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node heard notice `spot-8`: gone in 3600s
            0.0 node notice `spot-7` withdrawn
            0.0 r-1 traffic resumes
            3578.0 r-1 traffic goes off: its node is under a notice
            3588.0 r-1 drain hook `flush` started
            3589.0 r-1 drain hook `flush` done after 1s
            3589.0 r-1 SIGTERM
            3589.3 r-1 its engine ended: signal 15
            3589.3 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            3589.3 node the node is empty: 99.7 % of the window was used
        ",
    );
}
