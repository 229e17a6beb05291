//! `cargo bench -p wharfage-agent --bench notices`: from the moment at which a notice can be seen to
//! the execution of the first hook, and from a hook's cut-off to the end of everything of it. The
//! real agent, guard and hooks; the clouds' metadata is the emulator's.

#![expect(clippy::expect_used, reason = "a bench stops at the first thing unseen")]

#[path = "../tests/node/common/mod.rs"]
#[expect(dead_code, reason = "the journeys' host can do more than this bench asks")]
mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use wharfage_agent::hooks::Definition;
use wharfage_agent::hooks::run::{self, Run};
use wharfage_agent_sys::{clock, process};
use wharfage_fake_notices::{Cloud, Emulator, Script};
use wharfage_shared::replica::{HookKind, HookOutcome, ReportedPhase};
use wharfage_shared::time::Millis;

use common::node::{Node, run_order, run_with};
use common::scheduler::{SECRET, Scheduler};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);
const ROUNDS: u64 = 40;

/// How often a metadata service is asked, as the agent does where nothing is said.
const POLL: Duration = Duration::from_millis(1000);

fn main() {
    polled();
    pushed();
    cut_off();
}

/// Amazon's metadata, which is asked again and again.
fn polled() {
    let mut stage = Stage::new("polled");
    let clouds = [Cloud::Aws];
    let script = Script::parse("", "bench", &clouds).expect("nothing");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let emulator = stage.scheduler.block_on(Emulator::start(address, &clouds, script, false));
    let emulator = emulator.expect("a port");
    stage.node.notices = format!(
        "cloud = \"aws\"\nmetadata_url = \"{}\"\npoll_milliseconds = {}",
        emulator.url(),
        POLL.as_millis()
    );
    stage.with_replica();
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let begun = stage.off_beat(round);
        emulator.tell("aws.spot in 600s").expect("understood");
        took.push(stage.first_hook(begun));
        emulator.tell("cancel").expect("understood");
        stage.until_withdrawn();
    }
    println!("a notice in the metadata, asked for every {} ms:", POLL.as_millis());
    report("notice visible -> first hook executed", &mut took);
    let most = took[took.len() * 99 / 100].as_secs_f64();
    let limit = (POLL + Duration::from_millis(100)).as_secs_f64();
    println!("that p99 is {:.2} x (polling interval + 0.1 s)", most / limit);
}

/// A program of the host, over the notice socket.
fn pushed() {
    let mut stage = Stage::new("pushed");
    let path = stage.node.root().join("notices/notices.sock");
    stage.node.notices =
        format!("cloud = \"none\"\n[notices.socket]\npath = \"{}\"", path.display());
    stage.with_replica();
    let socket = until("the socket", || UnixStream::connect(&path).ok());
    let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
    let mut say = |text: &str| {
        writeln!(&socket, "{text}").expect("sent");
        answers.read_line(&mut String::new()).expect("answered");
    };
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let begun = stage.off_beat(round);
        say(r#"{"id":"x","kind":"preempt","in_seconds":600}"#);
        took.push(stage.first_hook(begun));
        say(r#"{"withdraw":"x"}"#);
        stage.until_withdrawn();
    }
    println!("a notice over the socket:");
    report("notice said -> first hook executed", &mut took);
}

/// A hook that has forked by every way out of a process group, at its limit.
fn cut_off() {
    let folder = Temporary::new("cut-off");
    let script = "trap '' TERM\n\
        sleep 300 & echo $! > $AT/child\n\
        setsid sh -c 'echo $$ > $AT/session; exec sleep 300' &\n\
        (AT=$AT setsid sh -c 'echo $$ > $AT/orphan; exec env -i sleep 300' &)\n\
        wait; sleep 300";
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (mut took, mut left) = (Vec::new(), 0);
    for _ in 0..20 {
        let limit = Duration::from_secs(1);
        let asked = Run {
            definition: Definition {
                command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                timeout_seconds: 100,
                expected_seconds: None,
                user: None,
                gpu_checkpoint: false,
            },
            keeper: PathBuf::from(env!("CARGO_BIN_EXE_wharfage-agent")),
            name: "bench-cut-off".to_owned(),
            user: None,
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("AT".to_owned(), folder.0.display().to_string()),
            ]),
            log: folder.0.join("hook.log"),
            deadline: clock::boottime() + Millis(1000),
        };
        let begun = Instant::now();
        let ending = runtime.block_on(run::run(&asked, &CancellationToken::new(), &mut |_| {}));
        took.push(begun.elapsed().saturating_sub(limit));
        assert_eq!(ending.outcome, HookOutcome::CutOff, "{ending:?}");
        left += ["child", "session", "orphan"]
            .into_iter()
            .filter(|name| lives(&folder.0.join(name)))
            .count();
    }
    println!("a hook that forked three ways, at its limit:");
    report("limit -> it is told as cut off", &mut took);
    println!("processes of it that live then: {left} of {}", took.len() * 3);
}

fn lives(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).expect("it was written");
    let pid = text.trim().parse().expect("a pid");
    process::find(pid).is_some_and(|process| !process.is_zombie)
}

/// One node with one replica and its checkpoint hook.
struct Stage {
    // Dropped first: the agent ends before its scheduler does.
    node: Node,
    scheduler: Scheduler,
    ran: PathBuf,
    _folder: Temporary,
}

struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("wharfage-bench-notices-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays in the temporary folder harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Stage {
    fn new(name: &str) -> Self {
        let folder = Temporary::new(name);
        let scheduler = Scheduler::start(&folder.0);
        let node = Node::new(scheduler.join(SECRET));
        node.gpus(&json!([{"uuid": "GPU-a"}]));
        let ran = node.root().join("ran");
        Self { node, scheduler, ran, _folder: folder }
    }

    fn with_replica(&mut self) {
        self.node.hook("save", &format!("date +%s%N > {}", self.ran.display()), 5, 0o644);
        self.node.start();
        let order = run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")]);
        self.scheduler.order(vec![order]);
        until("a ready replica", || {
            let ready = self.scheduler.replica()?.phase == ReportedPhase::Ready;
            ready.then_some(())
        });
    }

    /// At no fixed distance from the agent's own steps.
    fn off_beat(&self, round: u64) -> SystemTime {
        drop(std::fs::remove_file(&self.ran));
        std::thread::sleep(Duration::from_millis(round * 373 % 1000));
        SystemTime::now()
    }

    /// How long after `begun` the hook's own clock says that it ran; the scheduler has heard of the
    /// notice by then.
    fn first_hook(&self, begun: SystemTime) -> Duration {
        let nanos = until("the hook", || {
            std::fs::read_to_string(&self.ran).ok()?.trim().parse::<u64>().ok()
        });
        until("its report", || (!self.scheduler.last()?.notices.is_empty()).then_some(()));
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        at.duration_since(begun).unwrap_or_default()
    }

    fn until_withdrawn(&self) {
        until("its withdrawal", || self.scheduler.last()?.notices.is_empty().then_some(()));
    }
}

fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "not seen in time: {what}");
        std::thread::sleep(LOOK);
    }
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64();
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, largest of {} {:.1} ms",
        at(50) * 1000.0,
        at(99) * 1000.0,
        took.len(),
        at(100) * 1000.0
    );
}
