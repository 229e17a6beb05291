//! Stories of a replica's life: begun under the lease, proven before it is ready, adopted after a
//! crash of the agent, gone only with proof.

use wharfage_agent_core::input::Probe;
use wharfage_agent_core::{Agent, Effect, Input};
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::order::{Order, RunOrder, StopCause};
use wharfage_shared::replica::{Ended, HookKind, ReportedPhase};
use wharfage_shared::time::{Boottime, Millis};

use crate::host::{Habits, Host, acme, order, tells, version};

fn start(effect: &Effect) -> bool {
    matches!(effect, Effect::Start(_))
}

fn phase(agent: &Agent, index: usize) -> ReportedPhase {
    agent.status().replicas[index].phase
}

#[test]
fn a_replica_is_ready_only_when_a_generation_answered() {
    let mut host = Host::new(Habits::default());
    let t0 = host.now;
    host.want(|desired| {
        desired.held_for = Some(acme());
        desired.orders = vec![Order::Run(Box::new(order(1)))];
    });
    host.run_for(5_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node the scheduler named this start epoch 1
            0.0 node desired state 1/1 is carried out
            0.0 r-1 the fetch of its model begins
            0.5 r-1 guard and engine are asked for
            0.6 r-1 its guard is up, its engine loads
            2.6 r-1 its engine answers; the one-token proof is under way
            2.6 r-1 ready: a one-token generation answered
        ",
    );
}

#[test]
fn nothing_new_starts_once_the_control_lease_is_over() {
    let mut host = Host::new(Habits { fetch: 40_000, ..Habits::default() });
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(5_000);
    host.reachable = false;
    host.run_for(60_000);
    assert_eq!(host.first(0, start), None, "fetched, and the lease had ended before");
    let waits = host.agent.status().replicas[0].because.clone().expect("it says why");
    assert!(waits.starts_with("waits: the control lease is over, no answer since"), "{waits}");
    host.reachable = true;
    host.run_for(10_000);
    assert!(host.alive(1), "the next answer lets it start");
}

#[test]
fn a_crashed_engine_is_reported_gone_and_never_started_again() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.drops_gone = false;
    let t0 = host.now;
    host.end_engine(ReplicaId(1), Ended::Exited { code: 139 });
    host.run_for(30_000);
    tells(
        &host.journal(t0),
        r"
            0.0 r-1 its engine ended by itself: exit 139
            0.0 r-1 gone: no process is left, memory is back (GPUs measured: 1)
        ",
    );
    let gone = host.agent.report(Boottime(host.now)).gone;
    assert_eq!(gone.len(), 1, "repeated for as long as the order is there");
    assert_eq!(gone[0].ended, Ended::Exited { code: 139 });
    assert_eq!(host.ever_started, [ReplicaId(1)]);
    host.drops_gone = true;
    host.run_for(20_000);
    assert!(host.agent.report(Boottime(host.now)).gone.is_empty());
    assert!(host.forgotten.contains(&ReplicaId(1)));
    // A confused order for the same id starts nothing.
    host.drops_gone = false;
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(20_000);
    assert_eq!(host.ever_started, [ReplicaId(1)]);
    assert_eq!(host.agent.report(Boottime(host.now)).gone.len(), 1);
}

#[test]
fn a_replica_that_is_not_ready_in_time_has_failed_to_start() {
    let mut host = Host::new(Habits { load: 3_600_000, ..Habits::default() });
    let slow = RunOrder { start_deadline: Millis::from_seconds(60), ..order(1) };
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(slow))]);
    host.drops_gone = false;
    host.run_for(90_000);
    let gone = host.agent.report(Boottime(host.now)).gone;
    let because = "not ready within 60s: its engine was still loading".to_owned();
    assert_eq!(gone[0].ended, Ended::NeverStarted { because });
    assert!(!host.alive(1));
}

#[test]
fn a_start_that_cannot_be_and_a_fetch_that_fails_are_gone_with_their_reason() {
    let mut host = Host::new(Habits { fetch: 60_000, ..Habits::default() });
    let orders = [order(1), order(2)].map(|run| Order::Run(Box::new(run)));
    host.want(|desired| desired.orders = orders.into());
    host.drops_gone = false;
    host.run_for(1_000);
    let (one, two) = (ReplicaId(1), ReplicaId(2));
    let because = "bucket `models` has no folder `chat`".to_owned();
    host.tell(Input::FetchFailed { replica: one, because: because.clone() });
    host.tell(Input::Fetched { replica: two });
    let refused = Err("engine `vllm` is not defined on this host".to_owned());
    host.tell(Input::Started { replica: two, outcome: refused });
    host.run_for(5_000);
    let gone = host.agent.report(Boottime(host.now)).gone;
    assert_eq!(gone[0].ended, Ended::NeverStarted { because });
    let because = "engine `vllm` is not defined on this host".to_owned();
    assert_eq!(gone[1].ended, Ended::NeverStarted { because });
}

#[test]
fn three_failed_proofs_degrade_and_one_good_one_heals() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.habits.load = 3_600_000;
    let hangs = || Probe::Failed("no answer within 5s".to_owned());
    for _ in 0..2 {
        host.tell(Input::Probed { replica: ReplicaId(1), saw: hangs() });
    }
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Ready, "two may be bad luck");
    host.tell(Input::Probed { replica: ReplicaId(1), saw: hangs() });
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Degraded);
    let why = host.agent.status().replicas[0].because.clone();
    assert_eq!(why.as_deref(), Some("no answer within 5s"));
    host.habits.load = 0;
    host.run_for(10_000);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Ready);
}

#[test]
fn an_agent_that_was_killed_adopts_what_lives_and_starts_nothing_twice() {
    let mut host = Host::ready(Habits::default(), vec![order(1), order(2)]);
    let t0 = host.now;
    // Its guard records the end of one engine while no agent is there.
    let two = host.engines.get_mut(&ReplicaId(2)).expect("it was started");
    two.end = Some((t0, Ended::Signaled { signal: 11 }));
    host.crash_agent(4_000);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Ready, "its routes must not change");
    host.run_for(10_000);
    assert_eq!(host.ever_started, [ReplicaId(1), ReplicaId(2)]);
    assert!(host.alive(1));
    assert!(host.forgotten.contains(&ReplicaId(2)));
    tells(
        &host.journal(t0),
        r"
            4.0 r-1 adopted from an earlier agent, not started again
            4.0 r-2 found ended: its guard recorded the end while no agent was there
            4.0 node the scheduler named this start epoch 2
            4.0 r-2 gone: no process is left, memory is back (GPUs measured: 1)
            4.0 node desired state 1/2 is carried out
        ",
    );
}

#[test]
fn a_slot_that_is_held_is_quarantined_and_nothing_starts_on_it() {
    let habits = Habits { held_looks: 3, ..Habits::default() };
    let mut host = Host::ready(habits, vec![order(1)]);
    host.run_for(1);
    host.end_engine(ReplicaId(1), Ended::Exited { code: 1 });
    let same_gpu = RunOrder { gpus: order(1).gpus, ..order(2) };
    host.want(|desired| desired.orders.push(Order::Run(Box::new(same_gpu))));
    host.run_for(1_200);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Quarantined);
    let report = host.agent.report(Boottime(host.now));
    let held = report.replicas[0].because.as_deref();
    assert_eq!(held, Some("GPU-0: 1,024 MiB are held by pid 77"));
    let waits = report.replicas[1].because.as_deref();
    assert_eq!(waits, Some("waits: GPU-1 is held by r-1 until its release is proven"));
    host.run_for(20_000);
    assert!(host.alive(2), "released at the fourth look");
}

#[test]
fn the_last_load_of_a_model_tells_when_the_next_is_ready() {
    let mut host = Host::ready(Habits { load: 20_000, ..Habits::default() }, Vec::new());
    let run = |id| Order::Run(Box::new(order(id)));
    host.want(|desired| desired.orders = vec![run(1)]);
    host.run_for(12_000);
    let unknown = host.agent.report(Boottime(host.now)).replicas[0].expected_ready_in;
    assert_eq!(unknown, None, "no history and no progress yet");
    host.tell(Input::LoadProgress { replica: ReplicaId(1), done: 1, total: 1_000 });
    let first = host.agent.report(Boottime(host.now)).replicas[0].expected_ready_in;
    assert_eq!(first, None, "the first bytes tell of the start, not of the speed");
    host.tell(Input::LoadProgress { replica: ReplicaId(1), done: 250, total: 1_000 });
    let loading = host.agent.report(Boottime(host.now)).replicas[0].clone();
    assert_eq!(loading.progress_permille, Some(250));
    assert!(loading.expected_ready_in > Some(Millis(10_000)), "three quarters are left");
    host.run_for(30_000);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Ready);
    host.want(|desired| desired.orders.push(run(2)));
    host.run_for(6_000);
    let known = host.agent.report(Boottime(host.now)).replicas[1].expected_ready_in;
    assert!(known > Some(Millis(15_000)) && known < Some(Millis(21_000)), "{known:?}");
}

#[test]
fn a_single_copy_serves_only_as_long_as_the_control_lease() {
    let single = RunOrder { single_copy: true, ..order(2) };
    let mut host = Host::ready(Habits::default(), vec![order(1), single]);
    let t0 = host.now;
    host.run_for(60_000);
    let told = |id: u32| {
        let ends = host.effects.iter().filter(move |(at, _)| *at >= t0);
        ends.filter_map(move |(at, effect)| match effect {
            Effect::ServeUntil { replica, until } if replica.0 == id => Some((*at, *until)),
            _ => None,
        })
    };
    assert_eq!(told(1).count(), 0, "a day is not told anew each five seconds");
    assert_eq!(told(2).count(), 12);
    assert!(told(2).all(|(at, until)| until <= Some(Boottime(at + 30_000))));
}

#[test]
fn a_newer_start_of_the_node_makes_this_one_end_without_touching_anything() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    let t0 = host.now;
    let mut answer = wharfage_shared::heartbeat::HeartbeatAnswer {
        term: wharfage_shared::version::Term(1),
        epoch: wharfage_shared::version::Epoch(2),
        lease: Millis::from_seconds(30),
        next_in: Millis::from_seconds(5),
        now: wharfage_shared::time::Timestamp(0),
        held: Millis(0),
        segments: None,
        desired: None,
        send_inventory: false,
        send_health: false,
    };
    host.stop(1, StopCause::Deleted, 0, true);
    answer.desired = Some(host.desired.clone());
    host.tell(Input::Answer { sent_at: Boottime(t0), answer: Box::new(answer) });
    assert!(host.first(t0, |effect| matches!(effect, Effect::Abdicate)).is_some());
    host.run_for(60_000);
    assert!(host.alive(1));
    assert_eq!(host.agent.next_wake(), None);
}

#[test]
fn a_restore_hook_runs_before_the_start_and_a_post_hook_after_the_end() {
    let hooks = [(HookKind::Restore, "load-state"), (HookKind::Post, "sweep")];
    let hooks = hooks.into_iter().map(|(kind, id)| (kind, HookId::from(id))).collect();
    let mut host = Host::new(Habits::default());
    let t0 = host.now;
    host.want(|desired| {
        desired.orders = vec![Order::Run(Box::new(RunOrder { hooks, ..order(1) }))];
    });
    host.run_for(5_000);
    host.stop(1, StopCause::Terminated, 30_000, true);
    host.run_for(5_000);
    tells(
        &host.journal(t0),
        r"
            0.0 node the scheduler named this start epoch 1
            0.0 node desired state 1/1 is carried out
            0.0 r-1 the fetch of its model begins
            0.5 r-1 restore hook `load-state` started
            0.7 r-1 restore hook `load-state` done after 0.200s
            0.7 r-1 guard and engine are asked for
            0.8 r-1 its guard is up, its engine loads
            2.8 r-1 its engine answers; the one-token proof is under way
            2.8 r-1 ready: a one-token generation answered
            7.8 node desired state 1/2 is carried out
            7.8 r-1 traffic goes off: an operator ended it
            7.8 r-1 quiet: no gateway sends to it, nothing is in flight
            7.8 r-1 SIGTERM
            8.1 r-1 its engine ended: signal 15
            8.1 r-1 post hook `sweep` started
            8.1 r-1 gone: no process is left, memory is back (GPUs measured: 1)
            8.1 node desired state 1/3 is carried out
            8.3 r-1 post hook ended
        ",
    );
    let posted =
        host.first(t0, |effect| matches!(effect, Effect::RunHook { kind: HookKind::Post, .. }));
    let forgotten = host.first(t0, |effect| matches!(effect, Effect::Forget { .. }));
    assert_eq!(forgotten, posted.map(|at| at + 200), "once its post hook had ended");
}

#[test]
fn an_engine_whose_health_answers_is_not_ready_without_a_generation() {
    let mut host = Host::new(Habits { proves: false, ..Habits::default() });
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(60_000);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Warming);
    host.habits.proves = true;
    host.run_for(1_000);
    assert_eq!(phase(&host.agent, 0), ReportedPhase::Ready);
}

#[test]
fn a_guard_that_never_answers_is_killed_before_the_deadline() {
    let mut host = Host::new(Habits { guard: 3_600_000, ..Habits::default() });
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(10_000);
    assert!(host.alive(1));
    host.tell(Input::NoticeHeard(host.notice("n", 30_000)));
    host.run_for(29_000);
    assert!(!host.alive(1));
}

#[test]
fn an_answer_to_a_heartbeat_without_an_epoch_starts_nothing() {
    let mut host = Host::new(Habits::default());
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.reachable = false;
    // Two were sent before the first was answered: neither was looked at.
    for answered_at in [10_050, 10_100] {
        host.now = answered_at;
        let answer = host.answer_to(version(0, 0));
        host.tell(Input::Answer { sent_at: Boottime(10_000), answer: Box::new(answer) });
    }
    host.run_for(20_000);
    assert!(!host.agent.status().control_lease.live);
    assert!(host.ever_started.is_empty());
}
