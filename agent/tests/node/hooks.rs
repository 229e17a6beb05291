//! One run of a hook as real processes: what it sees, how it ends, and that nothing of it lives on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharfage_agent::hooks::Definition;
use wharfage_agent::hooks::run::{self, Ending, Run};
use wharfage_agent_sys::{clock, process};
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::Millis;

use crate::common::node::{Node, run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::fleet;

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("wharfage-hooks-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// The pid that a hook's process has written there.
    fn pid(&self, name: &str) -> u32 {
        wait_for("a pid", || std::fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn hook(folder: &Path, script: &str, timeout_seconds: u32) -> Run {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    Run {
        definition: Definition {
            command,
            timeout_seconds,
            expected_seconds: None,
            user: None,
            gpu_checkpoint: false,
        },
        keeper: PathBuf::from(env!("CARGO_BIN_EXE_wharfage-agent")),
        name,
        user: None,
        env: BTreeMap::from([
            ("WHARFAGE_HOOK".to_owned(), "drain".to_owned()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("AT".to_owned(), folder.display().to_string()),
        ]),
        log: folder.join("hook.log"),
        deadline: clock::boottime() + Millis::from_seconds(120),
    }
}

async fn ended(run: &Run) -> (Ending, Vec<u16>) {
    let mut heard = Vec::new();
    let ending = run::run(run, &CancellationToken::new(), &mut |far| heard.push(far)).await;
    (ending, heard)
}

fn lives(pid: u32) -> bool {
    process::find(pid).is_some_and(|process| !process.is_zombie)
}

/// The files that `FORKS` writes pids to.
const NAMES: [&str; 3] = ["child", "session", "orphan"];

/// What forks, by every way out of a process group: a child, a child of its own session, and one
/// of its own session whose parent is gone and whose environment is empty.
const FORKS: &str = "sleep 300 & echo $! > $AT/child\n\
     setsid sh -c 'echo $$ > $AT/session; exec sleep 300' &\n\
     (AT=$AT setsid sh -c 'echo $$ > $AT/orphan; exec env -i sleep 300' &)\n\
     while ! test -s $AT/session || ! test -s $AT/orphan; do sleep 0.01; done\n";

#[tokio::test]
async fn a_hook_sees_only_its_own_environment_and_its_progress_is_heard() {
    let folder = Folder::new("environment");
    let script = "echo progress 0.4; env | grep -v WHARFAGE | grep -v -e PWD -e SHLVL -e _= -e AT -e PATH; \
                  echo progress 2; echo saved $WHARFAGE_HOOK for $WHARFAGE_SECONDS_LEFT s";
    let (ending, heard) = ended(&hook(&folder.0, script, 9)).await;
    assert_eq!(ending.outcome, HookOutcome::Done, "{ending:?}");
    assert_eq!(heard, [400]);
    let last = ending.detail.expect("it said something");
    assert!(last.starts_with("saved drain for "), "{last}");
    let kept = std::fs::read_to_string(folder.0.join("hook.log")).expect("kept");
    assert_eq!(kept.lines().count(), 3, "{kept}");
}

#[tokio::test]
async fn exit_75_is_tried_again_and_other_ends_are_failures() {
    let folder = Folder::new("again");
    let script = "test -e $AT/tried && exit 0; touch $AT/tried; exit 75";
    assert_eq!(ended(&hook(&folder.0, script, 30)).await.0.outcome, HookOutcome::Done);
    for (script, said) in [
        ("echo no space >&2; exit 3", "it exited with 3: no space"),
        ("exit 137", "it exited with 137"),
        ("kill -9 $$", "a signal ended it"),
        ("kill -15 $$", "a signal ended it"),
    ] {
        let (failed, _) = ended(&hook(&folder.0, script, 30)).await;
        assert_eq!(failed.outcome, HookOutcome::Failed, "{script}");
        assert_eq!(failed.detail.as_deref(), Some(said), "{script}");
    }
    let mut missing = hook(&folder.0, "", 30);
    missing.definition.command = vec!["/no/such/program".to_owned()];
    let (failed, _) = ended(&missing).await;
    let said = failed.detail.expect("said");
    assert!(said.contains("cannot start `/no/such/program`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hook_lives_after_its_cut_off_whatever_it_forked() {
    let folder = Folder::new("cut");
    let run = hook(&folder.0, &format!("trap '' TERM\n{FORKS}\nwait; sleep 300"), 100);
    let cut = CancellationToken::new();
    let asked = cut.clone();
    let task = tokio::spawn(async move { run::run(&run, &asked, &mut |_| {}).await });
    let pids = tokio::task::block_in_place(|| NAMES.map(|name| folder.pid(name)));
    assert!(pids.iter().all(|pid| lives(*pid)));
    cut.cancel();
    let ending = task.await.expect("it ended");
    assert_eq!(ending.outcome, HookOutcome::CutOff, "{ending:?}");
    for (name, pid) in NAMES.iter().zip(pids) {
        assert!(!lives(pid), "its {name} lives");
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_cut_off_at_its_limit() {
    let folder = Folder::new("hang");
    let (ending, _) = ended(&hook(&folder.0, "echo $$ > $AT/pid; echo loads; sleep 300", 1)).await;
    assert_eq!(ending.outcome, HookOutcome::CutOff);
    let said = ending.detail.expect("said");
    assert!(said.starts_with("it was cut off at its limit"), "{said}");
    let written = std::fs::read_to_string(folder.0.join("pid")).ok();
    let pid = written.and_then(|text| text.trim().parse().ok());
    assert!(!pid.is_some_and(lives));
}

#[tokio::test]
async fn what_a_hook_left_running_ends_with_it_and_does_not_keep_it_from_ending() {
    let folder = Folder::new("left");
    let (ending, _) = ended(&hook(&folder.0, &format!("{FORKS}\necho saved"), 60)).await;
    assert_eq!(ending.outcome, HookOutcome::Done, "{ending:?}");
    for name in NAMES {
        assert!(!lives(folder.pid(name)), "its {name} lives");
    }
}

#[tokio::test]
async fn a_hook_that_floods_is_cut_off_and_little_of_it_is_kept() {
    let folder = Folder::new("flood");
    let (ending, _) = ended(&hook(&folder.0, "echo $$ > $AT/pid; exec yes", 100)).await;
    assert_eq!(ending.outcome, HookOutcome::Failed);
    assert_eq!(ending.detail.as_deref(), Some("it printed more than 16 MiB"));
    assert!(!lives(folder.pid("pid")));
    let kept = std::fs::metadata(folder.0.join("hook.log")).expect("kept").len();
    assert!(kept <= 64 * 1024, "{kept}");
}

#[test]
fn a_hook_ends_with_the_agent_that_asked_for_it() {
    let folder = Folder::new("agent");
    let run = hook(&folder.0, &format!("{FORKS}\nsleep 300"), 100);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    // An agent that is gone has closed its end of every pipe; what it waited for is forgotten.
    let task = runtime.spawn(async move { ended(&run).await });
    let pids = NAMES.map(|name| folder.pid(name));
    task.abort();
    runtime.shutdown_timeout(Duration::from_secs(10));
    wait_for("nothing of it to live", || (!pids.iter().any(|pid| lives(*pid))).then_some(()));
}

/// A checkpoint hook that saves this text, completely.
pub fn saves(text: &str) -> String {
    format!(
        "cd $WHARFAGE_CHECKPOINT_DIR\nprintf '{text}' > state.bin\n\
         sum=$(sha256sum state.bin | cut -d' ' -f1)\n\
         printf '{{\"files\":[{{\"path\":\"state.bin\",\"bytes\":{},\"sha256\":\"%s\"}}]}}' $sum \
         > manifest.json",
        text.len()
    )
}

#[test]
fn a_replacement_on_another_host_restores_from_the_folder_that_both_share() {
    let shared = Folder::new("shared");
    let (mut first, mut second) = (fleet("shares"), fleet("restores"));
    for fleet in [&mut first, &mut second] {
        let dir = shared.0.join("checkpoints");
        fleet.node.settings.push_str(&format!("[checkpoints]\ndir = \"{}\"\n", dir.display()));
    }
    first.node.hook("save", &saves("what it knew"), 20, 0o644);
    first.node.start();
    let hooks = [(HookKind::Checkpoint, "save")];
    first.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &hooks)]);
    first.until_ready();
    first.scheduler.order(vec![stop_order(1, 20)]);
    first.until_gone();
    // A later attempt that is not whole is no checkpoint, however new.
    let half = shared.0.join("checkpoints/chat/r-9-1");
    std::fs::create_dir_all(&half).expect("made");
    std::fs::write(half.join("manifest.json"), "{\"files\":[{").expect("written");

    let restored = second.node.root().join("restored");
    let restore = format!("cat $WHARFAGE_PREVIOUS_CHECKPOINT/state.bin > {}", restored.display());
    second.node.hook("load", &restore, 20, 0o644);
    second.node.start();
    let hooks = [(HookKind::Restore, "load")];
    second.scheduler.order(vec![run_with(run_order(2, "GPU-a"), &hooks)]);
    second.until_ready();
    assert_eq!(std::fs::read_to_string(restored).expect("restored"), "what it knew");
    let status = first.node.status().expect("a status");
    assert_eq!(status["measured"]["hooks"][0]["ran"][0]["bytes"], 12, "{status}");
}

/// One way to spoil a hook, and what is said of it.
type Spoilt = (fn(&Node), &'static str);

#[test]
fn a_hook_that_is_spoilt_fails_under_a_notice_and_what_was_complete_stays() {
    let mut fleet = fleet("spoilt");
    fleet.node.hook("save", &saves("whole"), 20, 0o644);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    let file = |node: &Node| node.root().join("hooks.d/save.toml");
    let noticed = |seconds, said: &str| {
        fleet.node.notice(seconds);
        wait_for(said, || fleet.node.status()?["notes"].to_string().contains(said).then_some(()));
        std::fs::remove_file(fleet.node.root().join("notices/notice.json")).expect("removed");
        wait_for("its withdrawal", || fleet.scheduler.last()?.notices.is_empty().then_some(()));
    };
    noticed(600, "checkpoint of 5 bytes is complete");
    let kept = fleet.node.root().join("state/checkpoints/chat/r-1-1/state.bin");
    let spoil: [Spoilt; 4] = [
        (
            |node| {
                std::fs::rename(node.root().join("hooks.d/save.toml"), node.root().join("kept"))
                    .expect("renamed")
            },
            "No such file or directory",
        ),
        (
            |node| {
                let link = node.root().join("hooks.d/save.toml");
                std::os::unix::fs::symlink(node.root().join("kept"), link).expect("linked");
            },
            "links are not followed",
        ),
        (|node| node.hook("save", &saves("open"), 20, 0o664), "its group may write it"),
        (
            |node| {
                node.hook(
                    "save",
                    "cd $WHARFAGE_CHECKPOINT_DIR; echo half > state.bin; cat $0 > /dev/full",
                    20,
                    0o644,
                )
            },
            "No space left on device",
        ),
    ];
    for (number, (spoil, said)) in (1..).zip(spoil) {
        if said.contains("group") {
            std::fs::remove_file(file(&fleet.node)).expect("removed");
        }
        spoil(&fleet.node);
        noticed(600 + 60 * number, said);
        assert_eq!(std::fs::read_to_string(&kept).expect("it stays"), "whole", "{said}");
        assert!(fleet.scheduler.gone().is_none(), "{said}: the replica serves on");
    }
    let attempts = std::fs::read_dir(kept.ancestors().nth(2).expect("a folder")).expect("there");
    assert_eq!(attempts.count(), 1, "what came to nothing takes no room");
}

#[test]
fn figures_of_hooks_outlive_the_agent() {
    let mut fleet = fleet("figures");
    fleet.node.hook("save", &saves("state"), 20, 0o644);
    fleet.node.start();
    let hooks = [(HookKind::Checkpoint, "save")];
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &hooks)]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    fleet.until_gone();
    let figures = |status: serde_json::Value| status["measured"]["hooks"].as_array().cloned();
    let before =
        wait_for("figures", || figures(fleet.node.status()?).filter(|all| !all.is_empty()));
    fleet.node.kill_agent();
    fleet.node.start();
    let after = wait_for("the next agent's figures", || figures(fleet.node.status()?));
    assert_eq!(after, before);
    assert_eq!(before[0]["kind"], "checkpoint");
}

#[test]
fn a_step_that_needs_no_file_drains_the_engine() {
    let mut fleet = fleet("builtin");
    fleet.node.start();
    let step = "builtin-engine-drain";
    let inventory = wait_for("the inventory", || fleet.scheduler.inventory());
    assert!(inventory.hooks.iter().any(|id| id.as_str() == step), "{:?}", inventory.hooks);
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Drain, step)])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 30)]);
    fleet.until_gone();
    let status = fleet.node.status().expect("a status");
    let notes = status["notes"].to_string();
    assert!(notes.contains("builtin-engine-drain` done"), "{notes}");
}
