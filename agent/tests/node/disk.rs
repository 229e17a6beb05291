//! A state folder that is full, read-only or damaged: it is told, replicas go on, and nothing that
//! must be kept is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use wharfage_agent_sys::process;
use wharfage_shared::replica::{Ended, HookKind, ReportedPhase};
use wharfage_shared::segment::SegmentReplica;

use crate::common::node::{Node, run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

/// What a full disk answers to whatever is written from now on, until it is lifted.
fn full(node: &Node, is_full: bool) {
    let most = is_full.then_some(0);
    let pid = Pid::from_raw(i32::try_from(node.agent_pid()).expect("a pid")).expect("not 0");
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: most, maximum: None }).expect("limited");
}

fn alarms(node: &Node) -> Option<Vec<String>> {
    let status = node.status()?;
    let all = status["alarms"].as_array()?.iter();
    Some(all.filter_map(|alarm| alarm.as_str().map(str::to_owned)).collect())
}

fn until_alarm(node: &Node, text: &str) {
    wait_for(text, || alarms(node)?.iter().any(|alarm| alarm.contains(text)).then_some(()));
}

fn until_well(node: &Node) {
    let of_disk = |alarm: &String| alarm.starts_with("cannot ");
    wait_for("no alarm of the disk", || (!alarms(node)?.iter().any(of_disk)).then_some(()));
}

fn notes(node: &Node) -> String {
    let status = node.status().expect("the status page");
    let all = status["notes"].as_array().expect("a list").iter();
    all.filter_map(|note| note["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Every segment that the scheduler has taken follows the one before it: no number is missing, no time
/// is told twice.
fn assert_whole(fleet: &Fleet) {
    let mut segments = fleet.scheduler.segments();
    segments.sort_by_key(|segment| segment.key.number);
    segments.dedup_by_key(|segment| segment.key.number);
    for (expected, segment) in (1..).zip(&segments) {
        assert_eq!(segment.key.number, expected, "{segments:#?}");
    }
    for pair in segments.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{segments:#?}");
    }
}

/// Runs the agent where the state folder is something else, in mounts of its own.
fn elsewhere(node: &Node, mount: &str, arguments: &[&str]) -> Command {
    let state = node.root().join("state");
    let mut command = Command::new("unshare");
    // As another user than root the mounts need a user namespace as well.
    let own = if process::effective_user() == 0 { "-m" } else { "-rm" };
    let script = format!("{mount} || exit 99; exec \"$@\"");
    command.args([own, "/bin/sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_wharfage-agent")]);
    command.arg("--config").arg(node.config("")).args(arguments).env("STATE", state);
    command.stdin(Stdio::null());
    command
}

const READ_ONLY: &str = "mount --bind \"$STATE\" \"$STATE\" && \
                         mount -o remount,bind,ro \"$STATE\" \"$STATE\"";

const FULL: &str = "rm -rf \"$STATE.kept\" && cp -a \"$STATE\" \"$STATE.kept\" && mount -t tmpfs -o size=64k none \"$STATE\" && \
                    cp -a \"$STATE.kept\"/. \"$STATE\" && \
                    { dd if=/dev/zero of=\"$STATE/filler\" bs=4096 2>/dev/null; \
                      dd if=/dev/zero of=\"$STATE/rest\" bs=1 2>/dev/null; true; }";

/// Whether this host lets a test mount; says so where it does not.
fn may_mount(node: &Node) -> bool {
    let done = elsewhere(node, READ_ONLY, &["--version"]).output();
    let may = done.as_ref().is_ok_and(|done| done.status.success());
    if !may {
        eprintln!("SKIPPED: nothing can be mounted here: {done:?}");
    }
    may
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_disk_that_fills_up_costs_no_replica_and_no_second() {
    let mut fleet = fleet("disk-full");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let record = fleet.node.record(1).expect("a record");
    full(&fleet.node, true);
    let (first, second) = (run_order(1, "GPU-a"), run_order(2, "GPU-b"));
    fleet.scheduler.order(vec![run_with(first, &[]), run_with(second, &[])]);
    until_alarm(&fleet.node, "cannot store the desired state: File too large");
    let Ended::NeverStarted { because } = fleet.until_gone().ended else {
        panic!("it had no room to start")
    };
    assert!(because.contains("File too large"), "{because}");
    assert!(process::is_alive(record.guard), "the first one runs on");
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    until_alarm(&fleet.node, "cannot append to the segment log: File too large");
    let before = fleet.scheduler.segments().len();
    full(&fleet.node, false);
    until_well(&fleet.node);
    wait_for("the segments that waited", || {
        (fleet.scheduler.segments().len() > before).then_some(())
    });
    assert_whole(&fleet);
    assert!(notes(&fleet.node).contains("it works again to append to the segment log"));
}

#[test]
fn an_agent_on_a_read_only_disk_says_so_and_the_next_one_finds_everything() {
    let mut fleet = fleet("disk-ro");
    if !may_mount(&fleet.node) {
        return;
    }
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let record = fleet.node.record(1).expect("a record");
    fleet.node.kill_agent();
    let done = elsewhere(&fleet.node, READ_ONLY, &[]).output().expect("it runs");
    assert_eq!(done.status.code(), Some(69), "{}", said(&done));
    assert!(said(&done).contains("Read-only file system"), "{}", said(&done));
    assert!(said(&done).contains("replicas go on"), "{}", said(&done));
    let seen = elsewhere(&fleet.node, READ_ONLY, &["doctor"]).output().expect("it runs");
    let page = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert_eq!(seen.status.code(), Some(1), "{page}");
    assert!(page.contains("disk         BROKEN   state_dir"), "{page}");
    assert!(page.contains("fix: mount it writable"), "{page}");
    assert!(process::is_alive(record.guard));
    fleet.node.start();
    wait_for("the replica adopted", || fleet.node.log().contains("adopted").then_some(()));
    assert_eq!(fleet.node.record(1).expect("a record").engine, record.engine);
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    assert_whole(&fleet);
}

#[test]
fn an_agent_that_starts_on_a_full_disk_serves_and_tells_and_writes_when_there_is_room() {
    let mut fleet = fleet("disk-full-start");
    if !may_mount(&fleet.node) {
        return;
    }
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    fleet.scheduler.order(Vec::new());
    let forgotten = || !fleet.node.replica_folder(1).exists();
    wait_for("its records to be removed", || forgotten().then_some(()));
    fleet.node.kill_agent();
    let seen = elsewhere(&fleet.node, FULL, &["doctor"]).output().expect("it runs");
    let page = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert_eq!(seen.status.code(), Some(1), "{page}");
    assert!(page.contains("No space left on") && page.contains("fix: make room"), "{page}");
    fleet.node.start_as(elsewhere(&fleet.node, FULL, &[]));
    wait_for("the status page", || fleet.node.status());
    fleet.scheduler.order(vec![run_with(run_order(2, "GPU-a"), &[])]);
    until_alarm(&fleet.node, "cannot store the desired state: No space left on device");
    assert!(notes(&fleet.node).contains("the segment log cannot be written"));
    let inside = PathBuf::from(format!("/proc/{}/root", fleet.node.agent_pid()));
    let state = fleet.node.root().join("state");
    for name in ["filler", "rest"] {
        let path = inside.join(state.strip_prefix("/").expect("absolute")).join(name);
        fs::remove_file(path).expect("removed");
    }
    until_well(&fleet.node);
    fleet.scheduler.order(vec![run_with(run_order(3, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(3, 20)]);
    wait_for("its end", || fleet.scheduler.gone().filter(|gone| gone.replica.0 == 3));
    assert_whole(&fleet);
}

/// A disk of 2 MiB for the state folder alone.
const SMALL: &str = "mount -t tmpfs -o size=2m none \"$STATE\"";

/// Whoever opens a file below finds it read-only. What is open for writing stays so, as with every
/// remount that the kernel does not force.
const REMOUNT: &str = "mount --bind \"$STATE\" \"$STATE\" && \
                       mount -o remount,bind,ro \"$STATE\" \"$STATE\"";

/// Does something to the mounts in which the agent lives.
fn inside(node: &Node, script: &str) {
    let mut command = Command::new("nsenter");
    command.args(["-m", "-t", &node.agent_pid().to_string(), "/bin/sh", "-c", script]);
    let done = command.env("STATE", node.root().join("state")).output().expect("it runs");
    assert!(done.status.success(), "{script}: {}", said(&done));
}

fn is_ready(fleet: &Fleet, number: u32) -> bool {
    let all = fleet.scheduler.last().map(|last| last.replicas).unwrap_or_default();
    all.iter().any(|one| one.replica.0 == number && one.phase == ReportedPhase::Ready)
}

fn until_gone(fleet: &Fleet, number: u32) -> Ended {
    let gone = || fleet.scheduler.last()?.gone.into_iter().find(|gone| gone.replica.0 == number);
    wait_for(&format!("the proof of r-{number}'s end"), gone).ended
}

#[test]
fn a_small_disk_that_fills_up_and_one_that_is_read_only_for_a_while_cost_no_replica() {
    let mut fleet = fleet("disk-live");
    if process::effective_user() != 0 || !may_mount(&fleet.node) {
        eprintln!("SKIPPED: only root can change the mounts of a running agent");
        return;
    }
    let agent = elsewhere(&fleet.node, SMALL, &[]);
    // One that has any room at all is well: the cache is on the test's own disk.
    fleet.node.config(
        "[health]\nread_kmsg = false\nleast_disk_percent = 1\n[health.off]\nG17 = \"a test\"\n",
    );
    fleet.node.start_as(agent);
    let of_a = |number: u32| run_with(run_order(number, "GPU-a"), &[]);
    let stays = || run_with(run_order(2, "GPU-b"), &[]);
    fleet.scheduler.order(vec![of_a(1), stays()]);
    wait_for("two replicas", || (is_ready(&fleet, 1) && is_ready(&fleet, 2)).then_some(()));

    inside(&fleet.node, "! cat /dev/zero > \"$STATE/filler\"");
    fleet.scheduler.order(vec![stop_order(1, 20), stays()]);
    until_alarm(&fleet.node, "cannot store the desired state: No space left on device");
    until_gone(&fleet, 1);
    wait_for("the gate of the disk", || {
        let health = fleet.node.status()?["health"].clone();
        let gate = health["gates"].as_array()?.iter().find(|gate| gate["id"] == "G16")?.clone();
        (gate["state"] == "fail" && gate["evidence"].as_str()?.contains("state_dir")).then_some(())
    });
    assert!(fleet.node.log().contains("No space left on device"), "the log says it too");
    assert!(is_ready(&fleet, 2), "the other one serves");
    inside(&fleet.node, "rm \"$STATE/filler\"");
    until_well(&fleet.node);
    fleet.scheduler.order(vec![of_a(3), stays()]);
    wait_for("the next one", || is_ready(&fleet, 3).then_some(()));
    fleet.scheduler.order(vec![stop_order(3, 20), stays()]);
    until_gone(&fleet, 3);

    inside(&fleet.node, REMOUNT);
    fleet.scheduler.order(vec![of_a(4), stays()]);
    until_alarm(&fleet.node, "cannot store the desired state: Read-only file system");
    let Ended::NeverStarted { because } = until_gone(&fleet, 4) else {
        panic!("it had nowhere to start")
    };
    assert!(because.contains("Read-only file system"), "{because}");
    assert!(is_ready(&fleet, 2), "the other one serves");
    inside(&fleet.node, "umount \"$STATE\"");
    until_well(&fleet.node);
    fleet.scheduler.order(vec![of_a(5), stays()]);
    wait_for("the one after it", || is_ready(&fleet, 5).then_some(()));
    assert!(is_ready(&fleet, 2), "from the first moment to the last");
    fleet.scheduler.order(vec![stop_order(5, 20), stop_order(2, 20)]);
    until_gone(&fleet, 2);
    until_gone(&fleet, 5);
    wait_for("the segments", || {
        let segments = fleet.scheduler.segments();
        let has_last = |one: &SegmentReplica| one.replica.0 == 5;
        segments.iter().any(|segment| segment.replicas.iter().any(has_last)).then_some(())
    });
    assert_whole(&fleet);
    let log = fleet.node.log();
    assert!(!log.contains("panicked") && !log.contains("are lost"), "{log}");
}

/// A disk of 3 MiB for the checkpoints alone.
const SMALL_CHECKPOINTS: &str = "mkdir -p \"$STATE/checkpoints\" && \
                                 mount -t tmpfs -o size=3m none \"$STATE/checkpoints\"";

#[test]
fn a_full_disk_of_checkpoints_fails_the_next_one_and_keeps_the_last() {
    let mut fleet = fleet("disk-checkpoints");
    if process::effective_user() != 0 || !may_mount(&fleet.node) {
        eprintln!("SKIPPED: only root can look into the mounts of a running agent");
        return;
    }
    let size = fleet.node.root().join("size");
    let script = format!(
        "cd $WHARFAGE_CHECKPOINT_DIR && size=$(cat {}) && head -c $size /dev/zero > state.bin || exit 1\n\
         sum=$(sha256sum state.bin | cut -d' ' -f1)\n\
         printf '{{\"files\":[{{\"path\":\"state.bin\",\"bytes\":%s,\"sha256\":\"%s\"}}]}}' $size $sum \
         > manifest.json",
        size.display()
    );
    fleet.node.hook("save", &script, 20, 0o644);
    let agent = elsewhere(&fleet.node, SMALL_CHECKPOINTS, &[]);
    fleet
        .node
        .config("[health]\nread_kmsg = false\n[health.off]\nG16 = \"a test\"\nG17 = \"a test\"\n");
    fleet.node.start_as(agent);
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    let saves = |seconds, bytes: u32, said: &str| {
        fs::write(&size, bytes.to_string()).expect("written");
        let before = notes(&fleet.node).matches(said).count();
        fleet.node.notice(seconds);
        let again = || notes(&fleet.node).matches(said).count() > before;
        wait_for(said, || again().then_some(()));
        fs::remove_file(fleet.node.root().join("notices/notice.json")).expect("removed");
        wait_for("its withdrawal", || fleet.scheduler.last()?.notices.is_empty().then_some(()));
    };
    saves(600, 1_000_000, "checkpoint of 1000000 bytes is complete");
    saves(700, 4_000_000, "No space left on device");
    inside(&fleet.node, "test $(ls \"$STATE/checkpoints/chat\") = r-1-1");
    inside(&fleet.node, "test $(wc -c < \"$STATE/checkpoints/chat/r-1-1/state.bin\") = 1000000");
    assert!(fleet.scheduler.gone().is_none(), "the replica serves on");
    // What came to nothing has given its room back.
    saves(800, 1_500_000, "checkpoint of 1500000 bytes is complete");
}

#[test]
fn damage_is_told_file_by_file_and_the_agent_goes_on() {
    let mut fleet = fleet("disk-damage");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    fleet.node.kill_agent();
    let state = fleet.node.root().join("state");
    damage(&state);
    let config = fleet.node.config("");
    let config = config.to_str().expect("text");
    let (_, said) = fleet.node.another(&["--config", config, "doctor"]);
    assert_eq!(said, "", "it has nothing to complain of but the page");
    fleet.node.start();
    let expected = [
        "desired.json` is damaged",
        "history.json` cannot be used",
        "health.json` is damaged",
        "the segment log is damaged after 0 of",
    ];
    wait_for("the status page", || fleet.node.status());
    let notes = notes(&fleet.node);
    for sentence in expected {
        assert!(notes.contains(sentence), "{sentence}: {notes}");
    }
    assert!(state.join("segments.damaged-1").exists(), "evidence is kept");
    let of_r9 = "r-9 of an earlier agent is left alone and holds its GPUs: ";
    until_alarm(&fleet.node, of_r9);
    assert!(fleet.node.log().contains("r-9/params.json` is damaged"));
    assert!(state.join("replicas/r-9").exists(), "what is not understood is left alone");
    fs::remove_dir_all(state.join("replicas/r-9")).expect("removed");
    let is_told = || Some(alarms(&fleet.node)?.iter().any(|alarm| alarm.contains("r-9")));
    wait_for("the alarm's end", || (!is_told()?).then_some(()));
    fleet.scheduler.order(vec![run_with(run_order(2, "GPU-b"), &[])]);
    fleet.until_ready();

    fleet.node.kill_agent();
    fs::write(state.join("identity/cert.pem"), "not a certificate").expect("written");
    let (status, said) = fleet.node.another(&["--config", config]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("identity/cert.pem` is unusable"), "{said}");
}

#[test]
fn a_live_replica_whose_parameters_are_damaged_keeps_its_slot_and_stands_in_the_status() {
    let mut fleet = fleet("disk-params");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    fleet.node.kill_agent();
    let params = fleet.node.replica_folder(1).join("params.json");
    let whole = fs::read(&params).expect("parameters");
    fs::write(&params, &whole[..whole.len() / 2]).expect("written");
    fleet.node.start();
    until_alarm(&fleet.node, "r-1 of an earlier agent is left alone and holds its GPUs: ");
    // Nobody knows here what an order to stop it means.
    fleet.scheduler.order(vec![stop_order(1, 1)]);
    wait_for("the order", || {
        let applied = fleet.node.status()?["applied"].clone();
        let ordered = fleet.scheduler.last()?.applied;
        (serde_json::to_value(ordered).ok()? == applied && ordered.generation.0 > 1).then_some(())
    });
    assert_eq!(fleet.scheduler.gone(), None, "what is not understood is not called gone");
    assert!(process::is_alive(engine), "what is not understood is left alone");
    fs::write(&params, &whole).expect("written");
    let gone = fleet.until_gone();
    assert!(!matches!(gone.ended, Ended::NeverStarted { .. }), "{gone:?}");
    assert!(!process::is_alive(engine), "its end is proven, not believed");
}

/// Spoils every file that the agent reads when it starts, but for its identity.
fn damage(state: &Path) {
    for name in ["desired.json", "history.json", "health.json", "segments.log"] {
        let bytes = fs::read(state.join(name)).unwrap_or_default();
        let spoilt: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x55).chain(*b"{").collect();
        fs::write(state.join(name), spoilt).expect("written");
    }
    fs::create_dir_all(state.join("replicas/r-9")).expect("folder");
    fs::write(state.join("replicas/r-9/params.json"), "{\"order\": 7").expect("written");
}
