//! A replica's life on the node: its start, crashes around it, notices, and proof of its release.

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::replica::{Ended, HookKind, ReportedPhase};
use wharfage_shared::segment::Activity;
use wharfage_shared::time::Millis;

use crate::common::node::{Node, now, run_order, run_with, stop_order};
use crate::common::scheduler::{SECRET, Scheduler};
use crate::common::wait_for;

/// A host with its scheduler.
pub struct Fleet {
    // Dropped first: the agent ends before its scheduler does.
    pub node: Node,
    pub scheduler: Scheduler,
    _folder: TempFolder,
}

pub struct TempFolder(std::path::PathBuf);

impl Drop for TempFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A scheduler and a host whose agent is not started yet.
pub fn fleet(name: &str) -> Fleet {
    let folder = std::env::temp_dir()
        .join(format!("wharfage-journey-scheduler-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let scheduler = Scheduler::start(&folder);
    let node = Node::new(scheduler.join(SECRET));
    Fleet { node, scheduler, _folder: TempFolder(folder) }
}

impl Fleet {
    pub fn until_ready(&self) -> String {
        wait_for("a ready replica", || {
            let replica = self.scheduler.replica()?;
            (replica.phase == ReportedPhase::Ready).then_some(replica.address?)
        })
    }

    pub fn until_gone(&self) -> wharfage_shared::replica::Gone {
        wait_for("a proof of release", || self.scheduler.gone())
    }
}

/// One completion through the guard's mTLS port, as a gateway asks for it.
pub fn ask_through_guard(fleet: &Fleet, address: &str) -> String {
    let folder = fleet.node.root().join("gateway");
    let identity = fleet.scheduler.gateway_identity(&folder);
    fleet.scheduler.block_on(async {
        let connector = wharfage_link::tls::guard_connector(identity).expect("TLS");
        let stream = TcpStream::connect(address).await.expect("the guard listens");
        let stream = connector.connect(&"node-1".into(), stream).await.expect("it is the node");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let body = r#"{"model":"small","prompt":"Hello","max_tokens":4}"#;
        let request = hyper::Request::post("/v1/completions")
            .header("host", "replica")
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body)))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    })
}

#[test]
fn a_replica_is_started_served_adopted_after_a_crash_and_released_with_proof() {
    let mut fleet = fleet("life");
    fleet.node.start();
    let inventory = wait_for("the inventory", || fleet.scheduler.inventory());
    assert_eq!(inventory.gpus.len(), 2);
    assert_eq!(inventory.engines[0].name, "stub");
    let idle = wait_for("readings", || fleet.scheduler.last()).readings;
    assert!(idle.iter().all(|gpu| gpu.memory_used_mib < Some(300)), "{idle:?}");

    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-b"), &[])]);
    let address = fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    wait_for("memory in the readings", || {
        let gpus = fleet.scheduler.last()?.readings;
        gpus.iter()
            .any(|g| g.uuid.text() == "GPU-b" && g.memory_used_mib > Some(20_000))
            .then_some(())
    });
    let answer = ask_through_guard(&fleet, &address);
    assert!(answer.contains("\"choices\""), "{answer}");

    fleet.node.kill_agent();
    assert!(process::is_alive(engine), "the engine outlives its agent");
    assert!(ask_through_guard(&fleet, &address).contains("\"choices\""));
    let before = fleet.scheduler.last().expect("reports").epoch;
    fleet.node.start();
    wait_for("a report of the new agent", || {
        let last = fleet.scheduler.last()?;
        (last.epoch > before && last.replicas.len() == 1).then_some(())
    });
    assert_eq!(fleet.until_ready(), address);
    let adopted = fleet.node.record(1).and_then(|record| record.engine);
    assert_eq!(adopted, Some(engine), "the same process, not another one");

    fleet.scheduler.order(vec![stop_order(1, 20)]);
    let gone = fleet.until_gone();
    assert_eq!(gone.ended, Ended::Exited { code: 0 });
    assert_eq!(gone.memory.len(), 1);
    assert!(gone.memory[0].used_mib <= gone.memory[0].baseline_mib + 300);
    assert!(!process::is_alive(engine));
    assert!(fleet.node.replica_folder(1).exists(), "records stay until the scheduler knows");
    fleet.scheduler.order(Vec::new());
    wait_for("the records to be removed", || {
        (!fleet.node.replica_folder(1).exists()).then_some(())
    });

    let segments = wait_for("segments", || {
        let segments = fleet.scheduler.segments();
        segments.iter().any(|s| s.activity == Activity::Serving).then_some(segments)
    });
    for pair in segments.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{pair:?}");
        assert_eq!(pair[0].key.number + 1, pair[1].key.number, "{pair:?}");
    }
    assert_eq!(fleet.scheduler.enrolments(), 1, "an identity is kept");
}

#[test]
fn an_engine_that_ignores_sigterm_is_ended_before_its_deadline() {
    let mut fleet = fleet("stubborn");
    fleet.node.engine("stub", &["--ignore-sigterm"]);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let ordered = now();
    fleet.scheduler.order(vec![stop_order(1, 7)]);
    let gone = fleet.until_gone();
    assert_eq!(gone.ended, Ended::Signaled { signal: 9 });
    let last = fleet.scheduler.last().expect("reports");
    let ended_at =
        last.wall.0 - i64::try_from(last.sent_at.since(gone.processes_gone_at).0).expect("small");
    let taken = ended_at - ordered.0;
    assert!(taken <= 7_000, "its processes were gone {taken} ms after the order to stop in 7 s");
}

#[test]
fn an_engine_that_dies_is_reported_with_how_it_ended_and_never_run_again() {
    let mut fleet = fleet("crash");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    process::signal(engine, rustix::process::Signal::KILL).expect("sent");
    let gone = fleet.until_gone();
    assert_eq!(gone.ended, Ended::Signaled { signal: 9 });
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let applied = wait_for("the new order", || {
        let last = fleet.scheduler.last()?;
        (last.applied.generation.0 == 2).then_some(last)
    });
    assert!(applied.replicas.is_empty());
    assert_eq!(applied.gone.len(), 1);
}

#[test]
fn the_last_words_of_a_replica_that_fails_at_once_reach_the_scheduler() {
    let mut fleet = fleet("last-words");
    fleet.node.engine_that_first("echo no weights here >&2; printf 'and no end'; exit 3");
    fleet.node.start();
    // The order is gone from the next heartbeat's answer on: the records go within a moment.
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let gone = fleet.until_gone();
    assert_eq!(gone.ended, Ended::Exited { code: 3 });
    fleet.scheduler.order(Vec::new());
    let lines = wait_for("the last words", || {
        Some(fleet.scheduler.lines(1)).filter(|lines| lines.len() >= 2)
    });
    assert_eq!(lines, ["and no end", "no weights here"]);
}

#[test]
fn a_dead_guard_takes_its_engine_with_it() {
    let mut fleet = fleet("guard");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let record = fleet.node.record(1).expect("a record");
    process::signal(record.guard, rustix::process::Signal::KILL).expect("sent");
    let gone = fleet.until_gone();
    assert_eq!(gone.ended, Ended::Unknown);
    assert!(!process::is_alive(record.engine.expect("started")));
}

#[test]
fn under_a_notice_the_node_checkpoints_drains_and_leaves_alone() {
    let mut fleet = fleet("notice");
    let save = "echo progress 0.5\nprintf state > $WHARFAGE_CHECKPOINT_DIR/state.bin\n\
                sum=$(sha256sum $WHARFAGE_CHECKPOINT_DIR/state.bin | cut -d' ' -f1)\n\
                printf '{\"files\":[{\"path\":\"state.bin\",\"bytes\":5,\"sha256\":\"%s\"}]}' $sum \
                > $WHARFAGE_CHECKPOINT_DIR/manifest.json";
    fleet.node.hook("save", save, 20, 0o644);
    fleet.node.hook("drain", "echo drained $WHARFAGE_REPLICA because: $WHARFAGE_REASON", 5, 0o644);
    fleet.node.start();
    let hooks = [(HookKind::Checkpoint, "save"), (HookKind::Drain, "drain")];
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &hooks)]);
    fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    fleet.scheduler.answer(false);
    fleet.node.notice(16);
    let status = wait_for("the end of the evacuation", || {
        let status = fleet.node.status()?;
        let is_over = status["replicas"].as_array().is_some_and(Vec::is_empty);
        is_over.then_some(status)
    });
    assert!(!process::is_alive(engine));
    let timeline = status["evacuation"].to_string();
    for step in ["checkpoint", "drain", "gone"] {
        assert!(timeline.contains(step), "{step} is missing: {timeline}");
    }
    let saved = fleet.node.root().join("state/checkpoints/chat/r-1-1/state.bin");
    assert_eq!(std::fs::read_to_string(saved).expect("a checkpoint"), "state");
    fleet.scheduler.answer(true);
    let gone = fleet.until_gone();
    let notice =
        wait_for("the notice in a report", || fleet.scheduler.last()?.notices.into_iter().next());
    assert!(gone.processes_gone_at <= notice.gone_at);
}

#[test]
fn a_hook_that_its_group_may_write_is_refused_and_the_stop_goes_on() {
    let mut fleet = fleet("hook");
    fleet.node.hook("open", "echo never", 5, 0o664);
    fleet.node.start();
    let inventory = wait_for("the inventory", || fleet.scheduler.inventory());
    assert!(inventory.hooks.iter().all(|id| id.as_str() != "open"), "{:?}", inventory.hooks);
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Drain, "open")])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    let status = fleet.node.status().expect("a status");
    let refused = status["refused"].to_string();
    assert!(refused.contains("its group may write it (mode 0664)"), "{refused}");
    let notes = status["notes"].to_string();
    assert!(notes.contains("its group may write it"), "{notes}");
}

#[test]
fn a_call_that_hangs_marks_one_gpu_and_the_other_is_still_read() {
    let mut fleet = fleet("hang");
    fleet.node.start();
    wait_for("readings of both", || {
        let gpus = fleet.scheduler.last()?.readings;
        (gpus.len() == 2 && gpus.iter().all(|gpu| gpu.trouble.is_none())).then_some(())
    });
    fleet.node.gpus(&serde_json::json!([
        {"uuid": "GPU-a", "blocks": ["nvmlDeviceGetMemoryInfo_v2"]},
        {"uuid": "GPU-b"},
    ]));
    wait_for("trouble of one", || {
        let gpus = fleet.scheduler.last()?.readings;
        let [a, b] = &gpus[..] else { return None };
        let marked = a.trouble.as_deref() == Some("the driver does not answer");
        (marked && b.trouble.is_none() && b.age_ms < 2_000).then_some(())
    });
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let gone = fleet.until_gone();
    assert!(matches!(gone.ended, Ended::NeverStarted { .. }), "{gone:?}");
    fleet.node.gpus(&serde_json::json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    wait_for("recovery", || {
        let gpus = fleet.scheduler.last()?.readings;
        gpus.iter().all(|gpu| gpu.trouble.is_none()).then_some(())
    });
}

#[test]
fn memory_that_does_not_come_back_keeps_the_slot() {
    let mut fleet = fleet("leak");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.node.gpus(&serde_json::json!([{"uuid": "GPU-a", "leak_mib": 4096}, {"uuid": "GPU-b"}]));
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    let held = wait_for("quarantine", || {
        let replica = fleet.scheduler.replica()?;
        let is_held = replica.phase == ReportedPhase::Quarantined;
        is_held.then_some(replica.because?)
    });
    assert!(held.contains("GPU-a") && held.contains("4294967296 bytes"), "{held}");
    assert_eq!(fleet.scheduler.gone(), None);
    fleet.node.gpus(&serde_json::json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    fleet.until_gone();
}

#[test]
fn the_page_shows_the_node_and_its_numbers() {
    let mut fleet = fleet("page");
    fleet.node.start();
    let metrics = wait_for("metrics", || fleet.node.page("/metrics"));
    assert!(metrics.contains("wharfage_gpu_memory_used_bytes{uuid=\"GPU-a\"}"), "{metrics}");
    wait_for("a live lease", || {
        let metrics = fleet.node.page("/metrics")?;
        metrics.contains("wharfage_agent_control_lease_live 1").then_some(())
    });
    let dcgm = fleet.node.page("/metrics/dcgm").expect("the exporter's names");
    let used = "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\",pci_bus_id=\"";
    assert!(dcgm.contains(used), "{dcgm}");
    let status = fleet.node.status().expect("a status");
    assert_eq!(status["node"], "node-1");
    assert_eq!(status["gpu_names"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_newer_scheduler_is_understood_and_what_is_new_is_counted_and_said_once() {
    let mut fleet = fleet("newer");
    fleet.node.start();
    let counted = || {
        let metrics = fleet.node.page("/metrics")?;
        let name = "wharfage_unknown_fields_total{kind=\"heartbeat_answer\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        Some(line.map_or(0, |count| count.parse::<u64>().expect("a count")))
    };
    assert_eq!(wait_for("metrics", counted), 0);
    fleet.scheduler.speak_newer();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    wait_for("several answers of the newer release", || counted().filter(|count| *count >= 5));
    let log = fleet.node.log();
    for path in ["\"mood\"", "\"desired.orders[].gently\""] {
        assert_eq!(log.matches(path).count(), 1, "{path} is said once: {log}");
    }
}

/// A replica of which two must never run has ended with its lease although this became of its
/// agent.
fn ends_with_its_lease(fleet: &mut Fleet, becomes: impl FnOnce(&mut Node)) {
    fleet.scheduler.lease(Millis::from_seconds(8));
    fleet.node.start();
    let mut order = run_order(1, "GPU-a");
    order.single_copy = true;
    fleet.scheduler.order(vec![run_with(order, &[])]);
    fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    let granted = fleet.scheduler.last().expect("reports");
    // Each report follows the answer to the one before: by now the guard knows what that granted.
    wait_for("later reports", || {
        (fleet.scheduler.last()?.number >= granted.number + 5).then_some(())
    });
    becomes(&mut fleet.node);
    let record = wait_for("the end of the lease", || {
        fleet.node.record(1).filter(|record| record.ended.is_some())
    });
    assert!(!process::is_alive(engine));
    assert_eq!(record.because.as_deref(), Some("its serving lease ended"));
    let until = granted.sent_at + Millis::from_seconds(8);
    assert!(clock::boottime() >= until, "not before its lease ended");
}

#[test]
fn a_replica_of_which_two_must_never_run_ends_with_its_lease_though_its_agent_is_dead() {
    ends_with_its_lease(&mut fleet("single"), Node::kill_agent);
}

#[test]
fn a_replica_of_which_two_must_never_run_ends_with_its_lease_though_its_agent_hangs() {
    let mut fleet = fleet("single-hung");
    ends_with_its_lease(&mut fleet, |node| node.signal(rustix::process::Signal::STOP));
    fleet.node.signal(rustix::process::Signal::CONT);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 }, "told when it goes on");
}

#[test]
fn a_segment_log_that_was_cut_off_goes_on_under_its_name() {
    let mut fleet = fleet("torn");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let open = wait_for("an open segment", || fleet.scheduler.last()?.open_segment);
    let path = fleet.node.root().join("state/segments.log");
    wait_for("a note of it on disk", || {
        let bytes = std::fs::read(&path).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.contains("\"record\":\"open\"").then_some(())
    });
    fleet.node.kill_agent();
    let bytes = std::fs::read(&path).expect("it is there");
    let torn = [bytes.as_slice(), &bytes[..bytes.len().min(50)]].concat();
    std::fs::write(&path, &torn).expect("a record whose writing was cut off");
    let epoch = fleet.scheduler.last().expect("reports").epoch;
    fleet.node.start();
    let again = wait_for("a segment of the new agent", || {
        let last = fleet.scheduler.last()?;
        last.open_segment.filter(|_| last.epoch > epoch)
    });
    assert_eq!(again.key.log, open.key.log);
    assert!(again.key.number >= open.key.number, "{again:?} follows {open:?}");
    assert!(again.start >= open.start, "{again:?} follows {open:?}");
    let notes = fleet.node.status().expect("a status")["notes"].to_string();
    assert!(notes.contains("the segment log's last record was cut off"), "{notes}");
}

#[test]
fn a_child_that_leaves_its_session_does_not_outlive_its_replica() {
    let mut fleet = fleet("daemon");
    let pid_file = fleet.node.root().join("stray");
    fleet.node.engine_that_first(&format!("setsid sleep 600 & echo $! > {}", pid_file.display()));
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let stray = std::fs::read_to_string(&pid_file).expect("it was started");
    let stray = process::identify(stray.trim().parse().expect("a pid")).expect("it lives");
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    assert!(!process::is_alive(stray));
}

#[test]
fn a_frozen_guard_does_not_keep_its_replica_alive() {
    let mut fleet = fleet("frozen");
    fleet.node.engine("stub", &["--ignore-sigterm"]);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let record = fleet.node.record(1).expect("a record");
    process::signal(record.guard, rustix::process::Signal::STOP).expect("sent");
    fleet.scheduler.order(vec![stop_order(1, 6)]);
    fleet.until_gone();
    assert!(!process::is_alive(record.engine.expect("started")));
    assert!(!process::is_alive(record.guard));
}

#[test]
fn where_the_agent_has_a_control_group_each_replica_gets_one_below_it() {
    let mut fleet = fleet("cgroup");
    let Some(group) = OwnGroup::create() else {
        eprintln!("SKIPPED: this host lets nobody make a cgroup v2 group with cgroup.kill");
        return;
    };
    fleet.node.start_in(Some(&group.0));
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let below = || -> Vec<_> {
        let entries = std::fs::read_dir(&group.0).expect("it is there");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.filter(|path| path.is_dir()).collect()
    };
    let record = fleet.node.record(1).expect("a record");
    let inside = std::fs::read_to_string(below()[0].join("cgroup.procs")).expect("members");
    let inside: Vec<u32> = inside.lines().map(|pid| pid.parse().expect("a pid")).collect();
    assert!(inside.contains(&record.guard.pid), "{inside:?}");
    assert!(inside.contains(&record.engine.expect("started").pid), "{inside:?}");
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    wait_for("the group to be removed", || below().is_empty().then_some(()));
    drop(fleet);
}

/// A control group for one agent; removed with everything gone.
struct OwnGroup(std::path::PathBuf);

impl OwnGroup {
    fn create() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = std::path::Path::new(mount.split(' ').nth(4)?)
            .join(format!("wharfage-journey-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let group = Self(path);
        group.0.join("cgroup.kill").exists().then_some(group)
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
