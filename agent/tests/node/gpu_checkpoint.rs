//! An engine's GPU memory in the host's memory and back, by the stand-in for CUDA: each failure on
//! the way is undone, and an engine goes on where it was.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use wharfage_shared::order::Order;
use wharfage_shared::replica::{HookKind, ReportedPhase};

use crate::common::node::{beside_tests, run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

/// CUDA sees UUIDs of this form only.
const GPU: &str = "GPU-aaaaaaaa-0000-0000-0000-000000000001";

/// A driver with processes that hold memory of its GPU.
struct Driver {
    folder: PathBuf,
    users: Vec<Child>,
}

impl Driver {
    fn new(name: &str) -> Self {
        let name = format!("wharfage-cuda-checkpoint-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(folder.join("claims").join(GPU)).expect("made");
        let mut driver = Self { folder, users: Vec::new() };
        driver.breaks(&json!({}));
        for _ in 0..2 {
            let user = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
            driver.users.push(user.expect("sleep runs"));
            let claim = driver.claim(driver.users.len() - 1);
            std::fs::write(claim, "1048576\n").expect("written");
        }
        driver
    }

    fn pid(&self, user: usize) -> u32 {
        self.users[user].id()
    }

    fn claim(&self, user: usize) -> PathBuf {
        self.folder.join("claims").join(GPU).join(self.pid(user).to_string())
    }

    fn breaks(&self, faults: &Value) {
        let text = json!({"gpus": [{"uuid": GPU}], "faults": faults}).to_string();
        let next = self.folder.join("next");
        std::fs::write(&next, text).expect("written");
        std::fs::rename(next, self.folder.join("gpus.json")).expect("renamed");
    }

    fn file(&self, user: usize) -> PathBuf {
        self.folder.join("checkpoints").join(self.pid(user).to_string())
    }

    /// `running`, or the driver's number for another state, of each process.
    fn states(&self) -> [String; 2] {
        [0, 1].map(|user| {
            let text = std::fs::read_to_string(self.file(user)).ok();
            let state = text.as_deref().and_then(|text| text.lines().next()).unwrap_or("running");
            let claimed = if self.claim(user).exists() { "holds" } else { "given back" };
            format!("{state}, {claimed}")
        })
    }

    /// What the agent's process of its own answers.
    fn ask(&self, act: &str, within_ms: &str, library: &Path) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"));
        command.args(["cuda-checkpoint", act, "--within-ms", within_ms, "--library"]).arg(library);
        // The test's own process uses no CUDA and is passed over.
        let pids = [std::process::id(), self.pid(0), self.pid(1)].map(|pid| pid.to_string());
        let done = command.args(pids).env("WHARFAGE_FAKE_GPUS", &self.folder).output();
        String::from_utf8_lossy(&done.expect("it runs").stdout).trim_end().to_owned()
    }

    fn save(&self) -> String {
        self.ask("save", "30000", &beside_tests("libwharfage_fake_cuda.so"))
    }

    fn bring_back(&self) -> String {
        self.ask("bring-back", "30000", &beside_tests("libwharfage_fake_cuda.so"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for user in &mut self.users {
            drop(user.kill());
            drop(user.wait());
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

const RUN: [&str; 2] = ["running, holds", "running, holds"];

#[test]
fn all_processes_of_an_engine_are_saved_and_brought_back_and_their_states_read_back() {
    let driver = Driver::new("round");
    let both = format!("{{\"done\":[{},{}]}}", driver.pid(0), driver.pid(1));
    assert_eq!(driver.save(), both);
    assert_eq!(driver.states(), ["2, given back", "2, given back"]);
    let again = driver.save();
    assert!(again.contains("reads as checkpointed, not as running: somebody else"), "{again}");
    assert_eq!(driver.states(), ["2, given back", "2, given back"], "it is left as it was");
    assert_eq!(driver.bring_back(), both);
    assert_eq!(driver.states(), RUN);
    assert_eq!(driver.bring_back(), both, "what runs is left alone");
}

#[test]
fn whatever_fails_on_the_way_is_said_and_undone() {
    let driver = Driver::new("failures");
    for (faults, said) in [
        (
            json!({"cuCheckpointProcessGetState": 801}),
            "the driver knows none of its processes as CUDA's: cuCheckpointProcessGetState failed: \
             CUDA_ERROR_NOT_SUPPORTED (801)",
        ),
        (
            json!({"cuCheckpointProcessLock": 600}),
            "cuCheckpointProcessLock failed: CUDA_ERROR_NOT_READY (600); it goes on as before",
        ),
        (
            json!({"cuCheckpointProcessCheckpoint": 304}),
            "cuCheckpointProcessCheckpoint failed: CUDA_ERROR_OPERATING_SYSTEM (304); it goes on as \
             before",
        ),
        (
            json!({"cuCheckpointProcessCheckpoint": 304, "cuCheckpointProcessUnlock": 999}),
            "is not back",
        ),
    ] {
        driver.breaks(&faults);
        let answer = driver.save();
        assert!(answer.starts_with("{\"failed\":") && answer.contains(said), "{faults}: {answer}");
        driver.breaks(&json!({}));
        assert!(driver.bring_back().starts_with("{\"done\":"));
        assert_eq!(driver.states(), RUN, "{faults}");
    }
    // Locked by somebody else: nothing of it is touched.
    std::fs::create_dir_all(driver.folder.join("checkpoints")).expect("made");
    std::fs::write(driver.file(1), "1\n").expect("written");
    let answer = driver.save();
    assert!(answer.contains("reads as locked, not as running: somebody else holds it"), "{answer}");
    assert_eq!(driver.states(), ["running, holds", "1, holds"]);
    std::fs::remove_file(driver.file(1)).expect("removed");

    let library = beside_tests("libwharfage_fake_cuda.so");
    let answer = driver.ask("save", "0", &library);
    assert!(answer.contains("its time was up; it goes on as before"), "{answer}");
    for (library, said) in [
        (Path::new("/nowhere/libcuda.so.1"), "cannot be loaded"),
        (Path::new("libc.so.6"), "is no CUDA driver library"),
    ] {
        let answer = driver.ask("save", "30000", library);
        assert!(answer.contains(said), "{answer}");
    }
    assert_eq!(driver.states(), RUN);
}

#[test]
fn one_process_that_cannot_be_brought_back_keeps_no_other_from_it() {
    let driver = Driver::new("back");
    driver.save();
    driver.breaks(&json!({"cuCheckpointProcessRestore": 304}));
    let answer = driver.bring_back();
    assert!(answer.contains("cuCheckpointProcessRestore failed"), "{answer}");
    assert_eq!(driver.states(), ["2, given back", "2, given back"]);
    driver.breaks(&json!({}));
    // Beyond help by the driver's own word.
    std::fs::write(driver.file(0), "3\n").expect("written");
    let answer = driver.bring_back();
    assert!(answer.contains("reads as failed, not as running"), "{answer}");
    assert_eq!(driver.states()[1], "running, holds");
}

/// A host whose CUDA can checkpoint, with so much memory left.
fn host(name: &str, left_mib: u64, gpu: Value) -> Fleet {
    let mut fleet = fleet(name);
    fleet.node.gpus(&json!([gpu]));
    fleet.node.install_cuda();
    let proc = fleet.node.root().join("proc");
    std::fs::create_dir(&proc).expect("made");
    let total = left_mib.saturating_mul(2048);
    let text = format!("MemTotal: {total} kB\nMemAvailable: {} kB\n", left_mib * 1024);
    std::fs::write(proc.join("meminfo"), text).expect("written");
    let table = format!("[health]\nproc = \"{}\"\n", proc.display());
    fleet.node.settings = fleet.node.settings.replace("[health]\n", &table);
    fleet
}

fn order(hooks: &[(HookKind, &str)]) -> Order {
    run_with(run_order(1, GPU), hooks)
}

fn notes(fleet: &Fleet) -> String {
    fleet.node.status().map(|status| status["notes"].to_string()).unwrap_or_default()
}

/// Whether the engine holds memory of its GPU, as the driver shows it.
fn holds(fleet: &Fleet) -> bool {
    let claims = fleet.node.root().join("gpus/claims").join(GPU);
    std::fs::read_dir(claims).is_ok_and(|mut claims| claims.next().is_some())
}

/// The engine is ready, and the agent has read what it holds.
fn until_seen(fleet: &Fleet, mib: u64) {
    fleet.until_ready();
    wait_for("a reading", || {
        let status = fleet.node.status()?;
        let slot = status["gpus"].as_array()?.iter().find(|slot| slot["uuid"] == GPU)?;
        (slot["memory_used_mib"].as_u64()? >= mib).then_some(())
    });
}

/// A file of the host, once it is there.
fn file(fleet: &Fleet, name: &str) -> String {
    let path = fleet.node.root().join(name);
    wait_for(name, || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')))
}

/// A checkpoint hook that looks at the GPUs before it saves.
fn looks_and_saves(fleet: &Fleet, then: &str) {
    let root = fleet.node.root().display();
    let script = format!(
        "echo $(ls {root}/gpus/claims/{GPU} | grep -c '^[0-9]*$') claims, pids \
         $WHARFAGE_ENGINE_PIDS > {root}/looked\n{then}\ncd $WHARFAGE_CHECKPOINT_DIR\n\
         printf '{{\"files\":[]}}' > manifest.json"
    );
    fleet.node.hook("save", &script, 60, 0o644);
    let path = fleet.node.root().join("hooks.d/save.toml");
    let text = std::fs::read_to_string(&path).expect("written");
    std::fs::write(path, format!("{text}gpu_checkpoint = true\n")).expect("written");
}

#[test]
fn gpu_memory_lies_in_the_hosts_while_a_checkpoint_is_written_and_is_back_afterwards() {
    let mut fleet = host("gpu-around", 100_000, json!({"uuid": GPU}));
    looks_and_saves(&fleet, "true");
    fleet.node.start();
    fleet.scheduler.order(vec![order(&[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    fleet.node.notice(600);
    let looked = file(&fleet, "looked");
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("it runs");
    assert!(looked.starts_with("0 claims, pids "), "{looked}");
    let pid = engine.pid.to_string();
    assert!(looked.split_whitespace().any(|word| word == pid), "{looked}: {pid}");
    wait_for("the checkpoint", || notes(&fleet).contains("bytes is complete").then_some(()));
    wait_for("its memory", || holds(&fleet).then_some(()));
    std::fs::remove_file(fleet.node.root().join("notices/notice.json")).expect("removed");
    wait_for("the withdrawal", || notes(&fleet).contains("withdrawn").then_some(()));
    assert!(fleet.scheduler.gone().is_none());
    fleet.until_ready();
}

#[test]
fn another_agent_brings_back_what_one_that_was_killed_had_saved() {
    let mut fleet = host("gpu-killed", 100_000, json!({"uuid": GPU}));
    looks_and_saves(&fleet, "sleep 300");
    fleet.node.start();
    fleet.scheduler.order(vec![order(&[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    fleet.node.notice(600);
    file(&fleet, "looked");
    let mark = fleet.node.replica_folder(1).join("gpu-saved");
    assert!(mark.exists() && !holds(&fleet));
    fleet.node.kill_agent();
    std::fs::remove_file(fleet.node.root().join("notices/notice.json")).expect("removed");
    fleet.node.start();
    wait_for("its memory", || (holds(&fleet) && !mark.exists()).then_some(()));
    assert!(fleet.scheduler.gone().is_none());
}

#[test]
fn an_engine_whose_drain_is_taken_back_goes_on_where_it_was() {
    let mut fleet = host("gpu-drain", 100_000, json!({"uuid": GPU}));
    fleet.node.start();
    let drains = [(HookKind::Drain, "builtin-gpu-checkpoint")];
    fleet.scheduler.order(vec![order(&drains)]);
    until_seen(&fleet, 20_000);
    let driver = |blocks: &[&str]| {
        fleet.node.driver(&json!({"gpus": [{"uuid": GPU}], "blocks": blocks}));
    };
    driver(&["cuCheckpointProcessCheckpoint"]);
    fleet.scheduler.order(vec![stop_order(1, 300)]);
    let mark = fleet.node.replica_folder(1).join("gpu-saved");
    wait_for("the step", || mark.exists().then_some(()));
    let saved = fleet.node.root().join("gpus/checkpoints");
    wait_for("the lock", || {
        std::fs::read_dir(&saved).ok()?.flatten().find(|file| file.path().extension().is_none())
    });
    fleet.scheduler.order(vec![order(&drains)]);
    wait_for("the word of it", || notes(&fleet).contains("it need not leave").then_some(()));
    driver(&[]);
    wait_for("the drain's end", || notes(&fleet).contains("traffic resumes").then_some(()));
    wait_for("its memory", || (holds(&fleet) && !mark.exists()).then_some(()));
    wait_for("a ready replica", || {
        (fleet.scheduler.replica()?.phase == ReportedPhase::Ready).then_some(())
    });
    assert!(fleet.scheduler.gone().is_none());
    // A drain that stays ends it; its GPU is free.
    fleet.scheduler.order(vec![stop_order(1, 60)]);
    fleet.until_gone();
    let said = notes(&fleet);
    assert!(said.contains("processes lie in the host's memory, read back"), "{said}");
}

#[test]
fn what_does_not_fit_into_the_hosts_memory_or_the_window_is_not_begun() {
    let large = json!({"uuid": GPU, "memory_mib": 4_000_000, "leak_mib": 3_000_000});
    for (name, left_mib, gpu, said) in [
        ("gpu-memory", 5000, json!({"uuid": GPU}), "the host has 5000 MiB of memory left: "),
        ("gpu-window", 8_000_000, large, "the window is too short: 30"),
    ] {
        let mut fleet = host(name, left_mib, gpu);
        fleet.node.start();
        fleet.scheduler.order(vec![order(&[(HookKind::Drain, "builtin-gpu-checkpoint")])]);
        until_seen(&fleet, 20_000);
        fleet.scheduler.order(vec![stop_order(1, 20)]);
        fleet.until_gone();
        let notes = notes(&fleet);
        assert!(
            notes.contains("builtin-gpu-checkpoint` failed") && notes.contains(said),
            "{notes}"
        );
        assert!(!fleet.node.root().join("gpus/checkpoints").exists(), "nothing was touched");
    }
}

#[test]
fn an_engine_is_asked_to_end_and_given_its_hooks_time() {
    let mut fleet = fleet("sigterm");
    fleet.node.start();
    fleet
        .scheduler
        .order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Drain, "builtin-sigterm")])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 60)]);
    let gone = fleet.until_gone();
    assert!(format!("{:?}", gone.ended).contains("Exited"), "{gone:?}");
    let said = notes(&fleet);
    assert!(said.contains("builtin-sigterm` done") && !said.contains("SIGKILL"), "{said}");
}
