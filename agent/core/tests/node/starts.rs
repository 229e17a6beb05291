//! Stories of starts: how far, how long, and why one failed.

use wharfage_agent_core::input::Probe;
use wharfage_agent_core::{Effect, History, Input};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Order, RunOrder};
use wharfage_shared::replica::{Ended, ReplicaReport, ReportedPhase};
use wharfage_shared::telemetry::FalseReady;
use wharfage_shared::time::{Boottime, Millis};

use crate::host::{Habits, Host, order, tells};

const ONE: ReplicaId = ReplicaId(1);

/// A host whose replica 1 has just been started and loads for an hour.
fn loading() -> Host {
    let mut host = Host::new(Habits { load: 3_600_000, ..Habits::default() });
    host.drops_gone = false;
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(order(1)))]);
    host.run_for(1_000);
    host
}

fn seen(host: &Host) -> ReplicaReport {
    host.agent.report(Boottime(host.now)).replicas[0].clone()
}

fn ended(host: &Host) -> Ended {
    host.agent.report(Boottime(host.now)).gone[0].ended.clone()
}

#[test]
fn a_load_that_the_engine_does_not_tell_of_is_measured_and_is_never_quite_there() {
    let mut host = loading();
    host.tell(Input::LoadMeasured { replica: ONE, done: 400, total: 1_000 });
    assert_eq!(seen(&host).progress_permille, Some(400));
    host.tell(Input::LoadMeasured { replica: ONE, done: 300, total: 1_000 });
    assert_eq!(seen(&host).progress_permille, Some(400), "memory given back is no step back");
    host.tell(Input::LoadMeasured { replica: ONE, done: u64::MAX, total: 1_000 });
    assert_eq!(seen(&host).progress_permille, Some(990), "all was read, and it is not up");
    host.tell(Input::LoadProgress { replica: ONE, done: 100, total: 1_000 });
    host.tell(Input::LoadMeasured { replica: ONE, done: 900, total: 1_000 });
    assert_eq!(seen(&host).progress_permille, Some(100), "the engine's own word is better");
    host.run_for(60_000);
    assert!(host.alive(1), "a load that goes on is not disturbed");
}

#[test]
fn each_tenth_of_a_start_is_told_before_the_next_interval() {
    let mut host = loading();
    let told = |host: &Host| {
        host.effects.iter().filter(|(_, effect)| matches!(effect, Effect::ReportNow)).count()
    };
    let heard = |host: &mut Host| {
        host.run_for(10);
        host.heard.as_ref().and_then(|report| report.replicas[0].progress_permille)
    };
    let before = told(&host);
    host.tell(Input::LoadMeasured { replica: ONE, done: 340, total: 1_000 });
    assert_eq!(heard(&mut host), Some(340));
    host.tell(Input::LoadMeasured { replica: ONE, done: 430, total: 1_000 });
    assert_eq!(heard(&mut host), Some(340), "less than a tenth can wait");
    for done in 431..=1_000 {
        host.tell(Input::LoadProgress { replica: ONE, done, total: 1_000 });
    }
    assert_eq!(told(&host) - before, 7, "at 340, and at 440, 540, 640, 740, 840, 940");
    assert_eq!(heard(&mut host), Some(1_000), "a report says how far it is now");
}

#[test]
fn the_sentence_of_a_start_that_was_too_slow_says_how_far_it_came() {
    let mut host = Host::new(Habits { load: 3_600_000, ..Habits::default() });
    let slow = RunOrder { start_deadline: Millis::from_seconds(60), ..order(1) };
    host.want(|desired| desired.orders = vec![Order::Run(Box::new(slow))]);
    host.drops_gone = false;
    host.run_for(10_000);
    host.tell(Input::LoadMeasured { replica: ONE, done: 425, total: 1_000 });
    host.run_for(49_000);
    assert!(host.alive(1), "never before its deadline");
    host.run_for(20_000);
    let because = "not ready within 60s: its engine was still loading, at 42.5 %".to_owned();
    assert_eq!(ended(&host), Ended::NeverStarted { because });
}

#[test]
fn one_that_serves_and_whose_mark_was_lost_is_asked_before_its_start_is_judged() {
    for serves in [true, false] {
        let slow = RunOrder { start_deadline: Millis::from_seconds(60), ..order(1) };
        let mut host = Host::ready(Habits::default(), vec![slow]);
        host.drops_gone = false;
        host.run_for(600_000);
        host.habits.proves = serves;
        host.engines.get_mut(&ONE).expect("it runs").was_ready = false;
        host.crash_agent(1_000);
        host.run_for(50_000);
        assert!(host.alive(1), "serves: {serves}");
        host.run_for(60_000);
        assert_eq!(host.alive(1), serves, "what never answers has failed to start");
        if serves {
            assert_eq!(seen(&host).phase, ReportedPhase::Ready);
        }
    }
}

#[test]
fn an_engine_that_ends_before_it_was_ready_is_gone_with_what_it_said_last() {
    let mut host = loading();
    let because = "GPU memory: the model does not fit (exit 1): CUDA out of memory".to_owned();
    let t0 = host.now;
    host.tell(Input::LastWords { replica: ONE, because: because.clone() });
    host.end_engine(ONE, Ended::Exited { code: 1 });
    assert_eq!(seen(&host).because.as_ref(), Some(&because));
    host.run_for(1_000);
    tells(
        &host.journal(t0),
        &format!(
            "0.0 r-1 its engine ended by itself: exit 1, {because}
             0.0 r-1 gone: no process is left, memory is back (GPUs measured: 1)"
        ),
    );
    assert_eq!(ended(&host), Ended::NeverStarted { because });
}

#[test]
fn what_served_and_then_ended_keeps_its_exit() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.drops_gone = false;
    host.tell(Input::LastWords { replica: ONE, because: "CUDA: illegal access".to_owned() });
    host.end_engine(ONE, Ended::Exited { code: 1 });
    host.run_for(1_000);
    assert_eq!(ended(&host), Ended::Exited { code: 1 });
}

#[test]
fn an_engine_that_says_three_times_that_it_is_dead_has_failed_to_start() {
    let mut host = loading();
    let dead = || Input::Probed { replica: ONE, saw: Probe::Dead("its core died".to_owned()) };
    host.tell(dead());
    host.tell(dead());
    host.tell(Input::Probed { replica: ONE, saw: Probe::Loading });
    host.tell(dead());
    host.tell(dead());
    assert_eq!(seen(&host).phase, ReportedPhase::Loading, "only a row of them counts");
    host.tell(dead());
    assert_eq!(seen(&host).phase, ReportedPhase::Stopping);
    host.run_for(5_000);
    assert_eq!(ended(&host), Ended::NeverStarted { because: "its core died".to_owned() });
}

#[test]
fn a_ready_engine_that_says_that_it_is_dead_is_degraded_at_once_and_never_stopped_for_it() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    host.habits.load = 3_600_000;
    for _ in 0..9 {
        host.tell(Input::Probed { replica: ONE, saw: Probe::Dead("its core died".to_owned()) });
        assert_eq!(seen(&host).phase, ReportedPhase::Degraded);
    }
    assert_eq!(seen(&host).because.as_deref(), Some("its core died"));
    assert!(host.first(0, |effect| matches!(effect, Effect::Terminate { .. })).is_none());
}

#[test]
fn an_engine_that_is_full_is_neither_degraded_nor_healed_by_that() {
    let mut host = Host::ready(Habits::default(), vec![order(1)]);
    for _ in 0..9 {
        host.tell(Input::Probed { replica: ONE, saw: Probe::Busy });
    }
    assert_eq!(seen(&host).phase, ReportedPhase::Ready);
    for _ in 0..3 {
        host.tell(Input::Probed { replica: ONE, saw: Probe::Failed("no answer".to_owned()) });
    }
    host.tell(Input::Probed { replica: ONE, saw: Probe::Busy });
    assert_eq!(seen(&host).phase, ReportedPhase::Degraded);
}

#[test]
fn a_version_that_says_ready_and_fails_the_generation_is_counted_once_a_start() {
    let mut host = loading();
    let t0 = host.now;
    host.tell(Input::Probed { replica: ONE, saw: Probe::Healthy });
    for _ in 0..3 {
        host.tell(Input::Probed { replica: ONE, saw: Probe::Failed("it answers 500".to_owned()) });
    }
    tells(
        &host.journal(t0),
        "0.0 r-1 its engine answers; the one-token proof is under way
         0.0 r-1 `vllm` 0.9 said that it is ready and failed the generation (starts at which this \
         version did so here: 1)",
    );
    let row = FalseReady { engine: "vllm".into(), version: "0.9".into(), count: 1 };
    assert_eq!(host.agent.status().false_ready, [row]);
}

/// How long replica `id` is expected to take at this moment.
fn expected(host: &Host, id: u32) -> Option<Millis> {
    let rows = host.agent.report(Boottime(host.now)).replicas;
    rows.into_iter().find(|row| row.replica == ReplicaId(id))?.expected_ready_in
}

#[test]
fn how_long_a_start_takes_is_known_by_what_lay_in_the_cache_and_outlives_the_agent() {
    let habits = Habits { fetch: 30_000, load: 20_000, ..Habits::default() };
    let mut host = Host::new(habits);
    let run = |host: &mut Host, id: u32| {
        host.want(|desired| desired.orders.push(Order::Run(Box::new(order(id)))));
        // The next heartbeat brings it.
        let begun = |host: &Host| {
            host.agent.status().replicas.iter().any(|row| row.replica == ReplicaId(id))
        };
        while !begun(host) {
            host.run_for(100);
        }
    };
    run(&mut host, 1);
    assert_eq!(expected(&host, 1), None, "nothing is known of this model");
    host.tell(Input::FetchProgress { replica: ONE, done: 10, total: 1_000 });
    host.run_for(60_000);
    let learned = host.agent.history().clone();

    host.habits.fetch = 300;
    run(&mut host, 2);
    host.run_for(1_000);
    let left = expected(&host, 2).expect("it is known");
    assert!(left > Millis(18_000) && left < Millis(20_500), "only the load is left: {left}");
    host.run_for(60_000);

    host.habits.fetch = 30_000;
    run(&mut host, 3);
    host.tell(Input::FetchProgress { replica: ReplicaId(3), done: 10, total: 1_000 });
    let left = expected(&host, 3).expect("it is known");
    assert!(left > Millis(47_000) && left <= Millis(50_500), "fetch and load: {left}");

    let mut next = Host::new(Habits { load: 20_000, ..Habits::default() });
    next.agent.remember(learned);
    run(&mut next, 1);
    assert!(expected(&next, 1) > Some(Millis(18_000)), "another agent knows it too");
}

#[test]
fn the_median_of_the_last_five_counts_and_the_memory_is_bounded() {
    use wharfage_agent_core::history::{Start, Took};
    let start = |path: String| Start {
        engine: "vllm".into(),
        bucket: "models".into(),
        path,
        hardware: "1x H100".into(),
        cached: true,
    };
    let mut history = History::default();
    for seconds in [1, 900, 10, 11, 12, 13, 14] {
        let took = Took { fetch: Millis(0), load: Millis::from_seconds(seconds) };
        history.took(start("chat".into()), took);
    }
    let median = history.expected(&start("chat".into())).map(|took| took.load);
    assert_eq!(median, Some(Millis::from_seconds(12)));
    for count in 0..2_000 {
        history.took(start(format!("m-{count}")), Took { fetch: Millis(0), load: Millis(1) });
        history.was_not_ready("vllm", &format!("0.{count}"));
    }
    assert_eq!(history.expected(&start("chat".into())), None, "the oldest is forgotten");
    assert!(serde_json::to_vec(&history).expect("JSON").len() < 256 * 1024);
}
