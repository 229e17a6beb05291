//! The agent is killed in the middle of every step that is its own: fetch, restore, checkpoint,
//! drain, drain hook, proof of release. The next one carries exactly that step on or begins it
//! again, and never touches the engine for it. Starts and stops of guards are in the drivers' suite.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use wharfage_agent_sys::process::{self, ProcessId};
use wharfage_shared::order::Order;
use wharfage_shared::replica::{Ended, HookKind, ReplicaReport, ReportedPhase};

use crate::common::node::{run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

/// A hook that notes each run and goes on until it may end.
struct SlowHook {
    runs: PathBuf,
    go: PathBuf,
}

impl SlowHook {
    fn on(fleet: &Fleet) -> Self {
        let at = |name: &str| fleet.node.root().join(name);
        let hook = Self { runs: at("hook-runs"), go: at("hook-go") };
        let (runs, go) = (hook.runs.display(), hook.go.display());
        let script = format!("echo run >> {runs}; while [ ! -e {go} ]; do sleep 0.02; done");
        fleet.node.hook("slow", &script, 60, 0o644);
        hook
    }

    fn until_run(&self, count: usize) {
        wait_for(&format!("run {count} of the hook"), || {
            let runs = std::fs::read_to_string(&self.runs).ok()?;
            (runs.lines().count() == count).then_some(())
        });
    }

    fn lets_go(&self) {
        std::fs::write(&self.go, "").expect("written");
    }
}

impl Fleet {
    fn report(&self, number: u32) -> Option<ReplicaReport> {
        self.scheduler.last()?.replicas.into_iter().find(|one| one.replica.0 == number)
    }

    fn until_phase(&self, number: u32, phase: ReportedPhase) {
        wait_for(&format!("r-{number} {phase:?}"), || {
            (self.report(number)?.phase == phase).then_some(())
        });
    }

    fn engine(&self, number: u32) -> ProcessId {
        self.node.record(number).and_then(|record| record.engine).expect("a record")
    }

    /// SIGKILL, and the next agent is there and knows what it is to do.
    fn next_agent(&mut self) {
        self.node.kill_agent();
        let before = self.scheduler.last().expect("reports").epoch;
        self.node.start();
        wait_for("a report of the next agent", || {
            let last = self.scheduler.last()?;
            (last.epoch > before && last.applied.generation.0 > 0).then_some(())
        });
    }
}

fn slow_stop(seconds: u64) -> Order {
    let Order::Stop(mut stop) = stop_order(1, seconds) else { unreachable!("it is a stop") };
    stop.quiet = false;
    Order::Stop(stop)
}

/// The model's folder with a pipe inside: whoever fetches it waits until somebody writes.
fn blocking_model(bucket: &Path) -> PathBuf {
    let (model, pipe) = (bucket.join("small/2"), bucket.join("small/2/a-pipe"));
    let copied = Command::new("cp").arg("-r").arg(bucket.join("small/1")).arg(&model).status();
    assert!(copied.expect("it runs").success());
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    pipe
}

#[test]
fn a_fetch_is_begun_again_and_leaves_no_half_model() {
    let mut fleet = fleet("kill-fetch");
    fleet.node.start();
    let first = run_with(run_order(1, "GPU-a"), &[]);
    fleet.scheduler.order(vec![first.clone()]);
    fleet.until_phase(1, ReportedPhase::Ready);
    let engine = fleet.engine(1);
    let pipe = blocking_model(&fleet.node.root().join("bucket"));
    let mut second = run_order(2, "GPU-b");
    second.model_path = "small/2".into();
    fleet.scheduler.order(vec![first, run_with(second, &[])]);
    let models = fleet.node.root().join("cache/models/small");
    let partial = models.join(".partial-2");
    wait_for("half a model", || partial.exists().then_some(()));
    fleet.node.kill_agent();
    assert!(partial.exists() && !models.join("2").exists(), "killed in the middle");
    std::fs::remove_file(&pipe).expect("removed");
    std::fs::write(&pipe, "").expect("a plain file now");
    fleet.node.start();
    fleet.until_phase(2, ReportedPhase::Ready);
    fleet.until_phase(1, ReportedPhase::Ready);
    assert!(!partial.exists() && models.join("2/a-pipe").exists());
    assert_eq!(fleet.engine(1), engine, "the other replica was not touched");
}

#[test]
fn a_restore_hook_is_run_again_before_the_only_start() {
    let mut fleet = fleet("kill-restore");
    // A replica before it left its state on the host.
    let save = "printf state > $WHARFAGE_CHECKPOINT_DIR/state.bin\n\
                sum=$(sha256sum $WHARFAGE_CHECKPOINT_DIR/state.bin | cut -d' ' -f1)\n\
                printf '{\"files\":[{\"path\":\"state.bin\",\"bytes\":5,\"sha256\":\"%s\"}]}' $sum \
                > $WHARFAGE_CHECKPOINT_DIR/manifest.json";
    fleet.node.hook("save", save, 20, 0o644);
    let hook = SlowHook::on(&fleet);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")])]);
    fleet.until_phase(1, ReportedPhase::Ready);
    fleet.scheduler.order(vec![stop_order(1, 30)]);
    fleet.until_gone();
    fleet.scheduler.order(vec![run_with(run_order(2, "GPU-a"), &[(HookKind::Restore, "slow")])]);
    hook.until_run(1);
    fleet.next_agent();
    hook.until_run(2);
    assert_eq!(fleet.node.record(2), None, "nothing is started before its state is back");
    hook.lets_go();
    fleet.until_phase(2, ReportedPhase::Ready);
    assert_eq!(std::fs::read_to_string(&hook.runs).expect("runs").lines().count(), 2);
}

#[test]
fn a_drain_goes_on_beside_the_same_engine_until_it_is_quiet() {
    let mut fleet = fleet("kill-drain");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_phase(1, ReportedPhase::Ready);
    let engine = fleet.engine(1);
    fleet.scheduler.order(vec![slow_stop(50)]);
    fleet.until_phase(1, ReportedPhase::Draining);
    fleet.next_agent();
    fleet.until_phase(1, ReportedPhase::Draining);
    assert!(process::is_alive(engine), "traffic may still be in flight");
    assert_eq!(fleet.engine(1), engine);
    fleet.scheduler.order(vec![stop_order(1, 50)]);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 });
}

#[test]
fn hooks_of_the_way_out_are_run_again_while_the_engine_waits_for_them() {
    for kind in [HookKind::Checkpoint, HookKind::Drain] {
        let mut fleet = fleet(&format!("kill-{kind}"));
        let hook = SlowHook::on(&fleet);
        fleet.node.start();
        fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(kind, "slow")])]);
        fleet.until_phase(1, ReportedPhase::Ready);
        let engine = fleet.engine(1);
        fleet.scheduler.order(vec![stop_order(1, 50)]);
        hook.until_run(1);
        fleet.next_agent();
        hook.until_run(2);
        assert!(process::is_alive(engine), "{kind}: it is not ended before its hook");
        assert_eq!(fleet.engine(1), engine, "{kind}");
        hook.lets_go();
        assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 }, "{kind}");
    }
}

#[test]
fn a_proof_that_is_awaited_is_awaited_by_the_next_agent_too() {
    let mut fleet = fleet("kill-proof");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_phase(1, ReportedPhase::Ready);
    fleet.node.gpus(&json!([{"uuid": "GPU-a", "leak_mib": 4096}, {"uuid": "GPU-b"}]));
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_phase(1, ReportedPhase::Quarantined);
    fleet.next_agent();
    fleet.until_phase(1, ReportedPhase::Quarantined);
    assert_eq!(fleet.scheduler.gone(), None);
    fleet.node.gpus(&json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 }, "as its guard wrote it down");
}
