//! Stories of evidence: one chain of segments, cut where something changes, whole across a crash.

use wharfage_agent_core::Input;
use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::health::GateId;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{HeldFor, Order, StopCause};
use wharfage_shared::replica::Ended;
use wharfage_shared::segment::{Activity, Segment};

use crate::host::{Habits, Host, acme, order, tells};

/// The log and the open segment as a table: seconds since `from`, holder, activity, replicas.
fn table(host: &Host, from: u64) -> String {
    let open = host.agent.report(wharfage_shared::time::Boottime(host.now)).open_segment;
    let open = open.map(|open| Segment {
        key: open.key,
        epoch: wharfage_shared::version::Epoch(0),
        held_for: open.held_for,
        activity: open.activity,
        replicas: open.replicas,
        start: open.start,
        end: open.proven_until,
    });
    let closed = host.log.iter().map(|segment| ("", segment));
    let rows = closed.chain(open.iter().map(|segment| (" open", segment)));
    let line = |(open, segment): (&str, &Segment)| {
        let seconds = |at: u64| at.saturating_sub(from) as f64 / 1000.0;
        let whose = segment.held_for.as_ref().map_or("-", |held| held.organization.as_str());
        let replicas: Vec<String> =
            segment.replicas.iter().map(|replica| replica.replica.to_string()).collect();
        format!(
            "{} {:.1}..{:.1} {whose} {:?} [{}]{open}",
            segment.key.number,
            seconds(segment.start.0),
            seconds(segment.end.0),
            segment.activity,
            replicas.join(" "),
        )
    };
    rows.map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_node_is_active_from_the_first_guard_until_it_is_held_no_more() {
    let mut host = Host::new(Habits::default());
    let t0 = host.now;
    host.want(|desired| {
        desired.held_for = Some(acme());
        desired.orders = vec![Order::Run(Box::new(order(1)))];
    });
    host.run_for(20_000);
    host.stop(1, StopCause::ScaledDown, 30_000, false);
    host.run_for(10_000);
    host.stop(1, StopCause::ScaledDown, 20_000, true);
    host.run_for(30_000);
    host.want(|desired| desired.held_for = None);
    host.run_for(10_000);
    tells(
        &table(&host, t0),
        r"
            1 0.6..2.6 acme Starting [r-1]
            2 2.6..22.6 acme Serving [r-1]
            3 22.6..32.9 acme Draining [r-1]
            4 32.9..63.0 acme IdleHeld []
        ",
    );
    assert!(host.agent.closed_segments().is_empty(), "each was acknowledged");
}

#[test]
fn a_crash_of_the_agent_loses_nothing_where_a_guard_lived_on() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.run_for(3_000);
    host.crash_agent(7_000);
    host.run_for(5_000);
    tells(
        &table(&host, 10_000),
        r"
            1 0.6..2.6 acme Starting [r-1]
            2 2.6..12.6 acme Serving [r-1]
            3 12.6..25.0 acme Serving [r-1] open
        ",
    );
    let gap_free = host.log.windows(2).all(|pair| pair[0].end == pair[1].start);
    assert!(gap_free);
}

#[test]
fn a_crash_without_a_survivor_claims_nothing_for_the_time_between() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let now = host.now;
    let one = host.engines.get_mut(&ReplicaId(1)).expect("it was started");
    one.end = Some((now, Ended::Unknown));
    let noted = host.noted.clone().expect("a segment is open").proven_until;
    host.crash_agent(60_000);
    let started = host.now;
    host.run_for(5_000);
    let before = host.log.iter().find(|segment| segment.end == noted).expect("closed as proven");
    let next = host.log.iter().find(|segment| segment.key.number == before.key.number + 1);
    assert!(next.is_none_or(|segment| segment.start.0 >= started));
}

#[test]
fn a_claimed_node_is_active_before_anything_runs_on_it() {
    let mut host = Host::new(Habits::default());
    let t0 = host.now;
    let claim = HeldFor {
        organization: "acme".into(),
        claim: Some("claim-1".into()),
        compute_class: ComputeClass::Standard,
    };
    host.want(|desired| desired.held_for = Some(claim));
    host.run_for(10_000);
    tells(&table(&host, t0), "1 0.0..5.0 acme IdleHeld [] open");
}

#[test]
fn a_held_slot_is_not_its_users_time() {
    let habits = Habits { held_looks: 4, ..Habits::default() };
    let mut host = Host::ready(habits, vec![order(1)]);
    host.end_engine(ReplicaId(1), Ended::Exited { code: 1 });
    host.run_for(5_000);
    let quarantined = host.log.iter().filter(|segment| segment.activity == Activity::Quarantined);
    assert_eq!(quarantined.count(), 1);
    assert!(host.log.iter().all(|segment| segment.activity != Activity::Orphaned));
}

#[test]
fn what_the_log_does_not_know_is_metered_as_an_orphan() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.want(|desired| {
        desired.orders.clear();
        desired.held_for = None;
    });
    host.run_for(20_000);
    let open = host.agent.status().open_segment.expect("an orphan is metered");
    assert_eq!(open.activity, Activity::Orphaned);
    assert_eq!(open.held_for, None);
}

#[test]
fn a_segment_is_cut_after_a_day() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.run_for(50 * 3_600_000);
    let serving = host.log.iter().filter(|segment| segment.activity == Activity::Serving);
    let lengths: Vec<u64> = serving.map(|s| s.end.since(s.start).0).collect();
    assert_eq!(lengths, [86_400_000, 86_400_000]);
}

#[test]
fn a_node_whose_every_gpu_is_silent_is_unusable_unless_it_serves() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let inventory = wharfage_shared::telemetry::Inventory {
        gpus: vec![wharfage_shared::telemetry::GpuIdentity::whole("GPU-1".into(), "H100", 81_559)],
        ..Default::default()
    };
    host.tell(Input::Inventory(inventory));
    let silent = Some("the driver does not answer".to_owned());
    host.tell(Input::GpuTrouble { gpu: "GPU-1".into(), trouble: silent });
    let activity = |host: &Host| host.agent.status().open_segment.map(|open| open.activity);
    assert_eq!(activity(&host), Some(Activity::Serving), "it answers requests all the same");
    host.end_engine(ReplicaId(1), Ended::Exited { code: 1 });
    assert_eq!(activity(&host), Some(Activity::Unusable));
    host.tell(Input::GpuTrouble { gpu: "GPU-1".into(), trouble: None });
    assert_eq!(activity(&host), Some(Activity::Draining));
}

#[test]
fn a_held_node_that_lacks_a_gpu_is_not_its_users_time_unless_something_starts_or_serves_there() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let gpu =
        |uuid: &str| wharfage_shared::telemetry::GpuIdentity::whole(uuid.into(), "H100", 81_559);
    let gpus = vec![gpu("GPU-1"), gpu("GPU-2")];
    host.tell(Input::Inventory(wharfage_shared::telemetry::Inventory {
        gpus,
        ..Default::default()
    }));
    let look = |host: &mut Host, gpu: &str, saw: Saw| {
        let gate = GateId::new(7).expect("a gate");
        let evidence = "a story".to_owned();
        host.tell(Input::Evidence(vec![Evidence { gate, gpu: Some(gpu.into()), saw, evidence }]));
    };
    let activity = |host: &Host| host.agent.status().open_segment.map(|open| open.activity);
    look(&mut host, "GPU-1", Saw::Fail);
    assert_eq!(activity(&host), Some(Activity::Serving), "what serves is paid for");
    host.stop(1, StopCause::ScaledDown, 1_000, true);
    host.run_for(10_000);
    assert_eq!(activity(&host), Some(Activity::Unusable), "idle and held, and a GPU is missing");
    look(&mut host, "GPU-2", Saw::Unknown);
    for _ in 0..4 {
        host.run_for(30_000);
        look(&mut host, "GPU-1", Saw::Pass);
    }
    assert_eq!(activity(&host), Some(Activity::IdleHeld), "unknown is nobody's fault");
}

#[test]
fn a_note_that_is_older_than_the_last_closed_segment_is_not_counted_twice() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let stale = host.noted.clone().expect("a segment is open");
    host.want(|desired| desired.held_for = None);
    host.run_for(6_000);
    // The log was synced with the segment closed; the note of the next one was not.
    host.noted = Some(stale.clone());
    host.crash_agent(5_000);
    host.run_for(5_000);
    let twice = host.log.iter().filter(|segment| segment.key == stale.key).count();
    assert_eq!(twice, 1);
    let open = host.agent.status().open_segment.expect("r-1 lives");
    let last = host.log.last().expect("it was closed");
    assert_eq!(open.start, last.end, "its guard proves the time since");
}

#[test]
fn a_reboot_closes_the_old_boots_segment_and_starts_anew() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let noted = host.noted.clone().expect("a segment is open");
    let now = host.now;
    host.engines.get_mut(&ReplicaId(1)).expect("it was started").end = Some((now, Ended::Unknown));
    host.boot = "boot-2".into();
    host.crash_agent(60_000);
    let closed = host.log.last().expect("closed as proven");
    assert_eq!((&closed.key, closed.end), (&noted.key, noted.proven_until));
    host.run_for(5_000);
    let open = host.agent.status().open_segment.expect("the node is held");
    assert_eq!(open.key.boot.text(), "boot-2");
    assert!(open.start.0 >= now + 60_000, "the time between is not claimed");
}

#[test]
fn sigkill_is_asked_for_until_it_is_carried_out_and_past_the_deadline_nobody_pays() {
    let habits = Habits { stop: None, kills_lost: 5, ..Habits::default() };
    let mut host = Host::ready(habits, vec![order(1)]);
    let t0 = host.now;
    host.stop(1, StopCause::ScaledDown, 20_000, true);
    host.run_for(30_000);
    assert!(!host.alive(1));
    let rows = table(&host, t0);
    tells(
        rows.split_once("\n3 ").map_or("", |(_, rows)| rows),
        r"
            2.6..20.0 acme Draining [r-1]
            4 20.0..23.0 acme Quarantined [r-1]
            5 23.0..28.1 acme IdleHeld [] open
        ",
    );
}

#[test]
fn what_has_its_model_and_may_not_start_is_held_time_and_no_start() {
    let mut host = Host::ready(Habits { fetch: 5_000, ..Habits::default() }, vec![order(1)]);
    host.stop(1, StopCause::ScaledDown, 30_000, true);
    host.run_for(20_000);
    let t0 = host.now;
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(2)))]);
    // Its model is on its way when the notice is heard, and arrives after it.
    while !table(&host, t0).ends_with("acme Starting [r-2] open") {
        assert!(host.now < t0 + 10_000, "{}", table(&host, t0));
        host.run_for(100);
    }
    host.tell(Input::NoticeHeard(host.notice("spot-7", 60_000)));
    host.run_for(30_000);
    let open = table(&host, t0).lines().last().map(str::to_owned).unwrap_or_default();
    assert!(open.ends_with("acme IdleHeld [] open"), "{}", table(&host, t0));
}
