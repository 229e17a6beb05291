//! Stories of several replicas that leave one node together, and of the disk that they share.

use wharfage_agent_core::{Config, Input};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Order, StopCause};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use crate::host::{Habits, Host, acme, hooked, tells};

/// Three replicas with a checkpoint each on a host whose disk carries one at a time, as far as
/// anybody knows.
fn sharing(habits: Habits) -> Host {
    let config = Config { checkpoints_carry: Some(100 * 1024 * 1024), ..Config::default() };
    let mut host = Host::with(habits, config);
    host.want(|desired| {
        desired.held_for = Some(acme());
        desired.orders = [1, 2, 3].map(|id| Order::Run(Box::new(hooked(id)))).into();
    });
    host.run_for(10_000);
    host.reachable = false;
    host
}

/// The journal of hooks alone.
fn hooks(host: &Host, from: u64) -> String {
    let journal = host.journal(from);
    let lines = journal.lines().filter(|line| {
        line.contains("checkpoint") && !line.contains("desired") || line.contains("SIGTERM")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn checkpoints_that_share_a_disk_follow_one_another_and_each_begins_as_soon_as_it_can() {
    let mut host = sharing(Habits::default());
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(120_000);
    tells(
        &hooks(&host, t0),
        r"
            0.0 r-2 checkpoint hook `save` waits 30s for others
            0.0 r-3 checkpoint hook `save` waits 60s for others
            0.0 r-1 checkpoint hook `save` started
            4.0 r-1 checkpoint hook `save` done after 4s
            4.0 r-3 checkpoint hook `save` waits 5s for others
            4.0 r-2 checkpoint hook `save` started
            8.0 r-2 checkpoint hook `save` done after 4s
            8.0 r-3 checkpoint hook `save` started
            12.0 r-3 checkpoint hook `save` done after 4s
            109.0 r-1 SIGTERM
            109.0 r-2 SIGTERM
            109.0 r-3 SIGTERM
        ",
    );
}

#[test]
fn what_has_no_room_beside_the_others_is_said_at_once_and_begun_when_they_are_early() {
    let mut host = sharing(Habits { checkpoint: Some(20_000), ..Habits::default() });
    let t0 = host.now;
    // 78 s less the stop and its margin are 71 s: two of 30 s, as far as anybody knows, and no
    // third one. It has room when the first was done after 20 s.
    host.tell(Input::NoticeHeard(host.notice("spot-7", 78_000)));
    host.run_for(78_000);
    tells(
        &hooks(&host, t0),
        r"
            0.0 r-2 checkpoint hook `save` waits 30s for others
            0.0 r-3 will not fit: the checkpoint (30s needed, 71s left)
            0.0 r-1 checkpoint hook `save` started
            20.0 r-1 checkpoint hook `save` done after 20s
            20.0 r-3 checkpoint hook `save` waits 25s for others
            20.0 r-2 checkpoint hook `save` started
            40.0 r-2 checkpoint hook `save` done after 20s
            40.0 r-3 checkpoint hook `save` started
            60.0 r-3 checkpoint hook `save` done after 20s
            67.0 r-1 SIGTERM
            67.0 r-2 SIGTERM
            67.0 r-3 SIGTERM
        ",
    );
}

#[test]
fn one_that_runs_longer_than_expected_holds_nobody_up() {
    let mut host = sharing(Habits { checkpoint: None, ..Habits::default() });
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(70_000);
    let begun = hooks(&host, t0).lines().filter(|line| line.contains("started")).count();
    assert_eq!(begun, 3, "{}", hooks(&host, t0));
}

#[test]
fn what_a_hook_says_of_its_progress_moves_those_that_wait_for_it() {
    let mut host = sharing(Habits { checkpoint: None, ..Habits::default() });
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(5_000);
    // Half in 5 s: the whole takes 10 s and not 30 s.
    let half =
        Input::HookProgress { replica: ReplicaId(1), kind: HookKind::Checkpoint, permille: 500 };
    host.tell(half);
    host.run_for(6_000);
    tells(
        &hooks(&host, t0),
        r"
            0.0 r-2 checkpoint hook `save` waits 30s for others
            0.0 r-3 checkpoint hook `save` waits 60s for others
            0.0 r-1 checkpoint hook `save` started
            5.0 r-2 checkpoint hook `save` waits 5s for others
            5.0 r-3 checkpoint hook `save` waits 35s for others
            10.0 r-2 checkpoint hook `save` started
        ",
    );
}

#[test]
fn checkpoints_of_which_the_disk_carries_two_run_in_twos_once_they_were_measured() {
    let mut host = sharing(Habits::default());
    host.tell(Input::NoticeHeard(host.notice("first", 600_000)));
    for id in [1, 2, 3] {
        host.run_for(3_900);
        let (replica, kind) = (ReplicaId(id), HookKind::Checkpoint);
        // 240 MiB in 4 s, 5 s with the reserve: the disk carries two of them.
        host.tell(Input::HookWrote { replica, kind, bytes: 240 * 1024 * 1024 });
        host.run_for(100);
    }
    host.tell(Input::NoticeWithdrawn("first".into()));
    host.run_for(1_000);
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("second", 60_000)));
    host.run_for(12_000);
    tells(
        &hooks(&host, t0),
        r"
            0.0 r-3 checkpoint hook `save` waits 5s for others
            0.0 r-1 checkpoint hook `save` started
            0.0 r-2 checkpoint hook `save` started
            4.0 r-1 checkpoint hook `save` done after 4s
            4.0 r-3 checkpoint hook `save` started
            4.0 r-2 checkpoint hook `save` done after 4s
            8.0 r-3 checkpoint hook `save` done after 4s
        ",
    );
}

#[test]
fn without_a_word_on_the_disk_all_begin_at_once() {
    let mut host = Host::ready(Habits::default(), [1, 2, 3].map(hooked).into());
    let t0 = host.now;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    host.run_for(1_000);
    tells(
        &hooks(&host, t0),
        r"
            0.0 r-1 checkpoint hook `save` started
            0.0 r-2 checkpoint hook `save` started
            0.0 r-3 checkpoint hook `save` started
        ",
    );
    let shown = host.agent.status().replicas.into_iter().filter_map(|row| row.checkpoint);
    assert_eq!(shown.count(), 3);
    assert_eq!(host.agent.status().replicas[0].does_not_fit, vec![]);
}

#[test]
fn what_still_stands_at_the_deadline_is_told_and_the_margin_learns_from_it() {
    let mut host =
        Host::ready(Habits { stop: None, kills_lost: 4, ..Habits::default() }, vec![hooked(1)]);
    let t0 = host.now;
    host.reachable = false;
    host.tell(Input::NoticeHeard(host.notice("spot-7", 60_000)));
    host.run_for(70_000);
    let journal = host.journal(t0);
    let told = "60.0 r-1 still stands at the deadline: its processes do not end after SIGKILL";
    assert_eq!(journal.lines().filter(|line| line.trim() == told).count(), 1, "{journal}");
    // The engine lived on for four seconds: five, with the reserve, are kept free the next time.
    host.reachable = true;
    host.run_for(10_000);
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(hooked(2)))]);
    host.tell(Input::NoticeWithdrawn("spot-7".into()));
    host.run_for(20_000);
    host.tell(Input::NoticeHeard(host.notice("spot-8", 60_000)));
    let table = host.agent.status().replicas[0].timetable.expect("it must leave");
    assert_eq!(table.gone_at.since(table.kill_at), Millis(5_013));
}

#[test]
fn an_engine_that_ends_soon_serves_for_what_its_stop_does_not_need() {
    let mut host = Host::ready(Habits::default(), [1, 2].map(hooked).into());
    host.stop(1, StopCause::ScaledDown, 30_000, true);
    host.stop(2, StopCause::ScaledDown, 30_000, true);
    host.run_for(10_000);
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(hooked(3)))]);
    host.run_for(10_000);
    host.tell(Input::NoticeHeard(host.notice("spot-7", 60_000)));
    let table = host.agent.status().replicas[0].timetable.expect("it must leave");
    // 0.3 s twice: a second, and not the five that are configured.
    assert_eq!(table.kill_at.since(table.stop_at), Millis::from_seconds(1));
}

/// What requests are given under a deadline, after two replicas left that had so many in flight when
/// their traffic went off, and were quiet after so long.
fn given_to_requests(in_flight: u32, quiet_after_ms: u64) -> Millis {
    let mut host = Host::ready(Habits::default(), [1, 2].map(hooked).into());
    for id in [1, 2] {
        let requests = in_flight;
        host.tell(Input::InFlight { replica: ReplicaId(id), requests });
        host.stop(id, StopCause::ScaledDown, 60_000, false);
    }
    host.run_for(quiet_after_ms);
    for id in [1, 2] {
        host.stop(id, StopCause::ScaledDown, 60_000, true);
    }
    host.run_for(60_000);
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(hooked(3)))]);
    host.run_for(10_000);
    host.tell(Input::NoticeHeard(host.notice("spot-7", 120_000)));
    let table = host.agent.status().replicas[0].timetable.expect("it must leave");
    table.drain_hook_at.since(table.drain_at)
}

#[test]
fn requests_are_given_what_those_before_them_needed() {
    let seconds = |ms: Millis| ms.0 / 1000;
    assert_eq!(seconds(given_to_requests(3, 5_000)), 6, "a quarter more than 5 s");
    assert_eq!(seconds(given_to_requests(3, 30_000)), 37, "a quarter more than 30 s");
    assert_eq!(seconds(given_to_requests(0, 5_000)), 10, "nothing was in flight: nothing is known");
}
