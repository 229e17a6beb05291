//! `wharfage-agent doctor`: what works on a host, and the fix for what does not.

use std::process::Command;

use crate::common::node::Node;
use crate::common::wait_for;
use crate::journeys::fleet;

/// The exit code and the page, as JSON.
pub fn examined(node: &Node) -> (Option<i32>, serde_json::Value) {
    let done = doctor(node).args(["-o", "json"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let page = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    (done.status.code(), page)
}

fn doctor(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"));
    command.arg("doctor").arg("--config").arg(node.config(&node.settings));
    command
}

/// GPUs with whole UUIDs: CUDA knows no others.
const GPUS: [&str; 2] =
    ["GPU-00000000-0000-0000-0000-00000000000a", "GPU-00000000-0000-0000-0000-00000000000b"];

fn two_gpus(node: &Node) {
    node.gpus(&serde_json::json!([{"uuid": GPUS[0]}, {"uuid": GPUS[1]}]));
}

/// The rows of one subject, with how they stand.
pub fn rows(page: &serde_json::Value, subject: &str) -> Vec<(String, String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    let all = page["findings"].as_array().expect("a list").iter();
    let of = all.filter(|row| row["subject"] == subject);
    of.map(|row| (text(row, "state"), text(row, "detail"), text(row, "fix"))).collect()
}

#[test]
fn a_host_on_which_all_that_is_needed_works_ends_with_0() {
    let mut fleet = fleet("doctor-good");
    two_gpus(&fleet.node);
    fleet.node.install_cuda();
    let state = fleet.node.root().join("state");
    let (code, page) = examined(&fleet.node);
    assert_eq!(code, Some(0), "{page}");
    let subjects = [
        "driver",
        "gpus",
        "cuda",
        "checkpoint",
        "kernel log",
        "agent",
        "scheduler",
        "systemd",
        "cgroups",
        "notices",
        "clock",
        "disk",
        "buckets",
        "hooks",
        "engines",
    ];
    for subject in subjects {
        let rows = rows(&page, subject);
        assert!(!rows.is_empty(), "{subject} is missing: {page}");
        for (state, _, fix) in rows {
            assert!(state == "works" || !fix.is_empty(), "{subject} has no fix: {page}");
        }
    }
    assert_eq!(rows(&page, "gpus").len(), 2);
    assert!(rows(&page, "cuda")[0].1.contains("starts and shows 2 GPUs"), "{page}");
    assert!(rows(&page, "scheduler")[0].1.ends_with("the node has not joined yet"), "{page}");
    assert!(rows(&page, "agent")[0].1.contains("none is heard"), "{page}");
    assert_eq!(std::fs::read_dir(&state).expect("there").count(), 0, "it changes nothing");

    fleet.node.start();
    wait_for("the page", || fleet.node.status());
    let (code, page) = examined(&fleet.node);
    assert_eq!(code, Some(0), "{page}");
    assert!(rows(&page, "scheduler")[0].1.ends_with("answers, the node has joined"), "{page}");
    assert!(rows(&page, "agent")[0].1.contains("one runs with this state folder"), "{page}");
}

#[test]
fn what_is_broken_is_named_with_its_fix_and_the_end_is_1() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    node.driver(&serde_json::json!({"gpus": [], "faults": {"nvmlInit_v2": 9}}));
    node.engine_also("stub", "colour = 1");
    node.hook("open", "true", 5, 0o666);
    std::fs::remove_dir(node.root().join("notices")).expect("removed");
    std::fs::remove_dir(node.root().join("state")).expect("removed");
    std::fs::write(node.root().join("state"), "no folder").expect("written");
    let (code, page) = examined(&node);
    assert_eq!(code, Some(1), "{page}");
    for (subject, said) in [
        ("driver", "kernel module is not loaded"),
        ("scheduler", "127.0.0.1:1 is not reached"),
        ("engines", "unknown field `colour`"),
        ("hooks", "everybody may write it"),
        ("notices", "cannot be read"),
        ("disk", "state"),
    ] {
        let rows = rows(&page, subject);
        let broken =
            rows.iter().find(|(state, detail, _)| state == "broken" && detail.contains(said));
        let (_, _, fix) = broken.unwrap_or_else(|| panic!("{subject}: {page}"));
        assert!(!fix.is_empty(), "{subject}: {page}");
    }
    let (state, detail, fix) = rows(&page, "cuda").remove(0);
    assert!(state == "limited" && fix.starts_with("install the NVIDIA driver"), "{page}");
    let library = node.cuda_library.display().to_string();
    assert!(detail.contains(&library), "the library that the gate asks as well: {page}");
}

#[test]
fn criu_is_asked_where_it_is_installed() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    let bin = node.root().join("bin");
    std::fs::create_dir(&bin).expect("made");
    let said = |script: Option<&str>| {
        if let Some(script) = script {
            std::fs::write(bin.join("check"), script).expect("written");
            // `criu check` is then a shell that reads the file `check`.
            drop(std::os::unix::fs::symlink("/bin/sh", bin.join("criu")));
        }
        let mut command = doctor(&node);
        command.args(["-o", "json"]).env("PATH", &bin).current_dir(&bin);
        let done = command.output().expect("it runs");
        let page = serde_json::from_slice(&done.stdout).expect("a page");
        let mut rows = rows(&page, "checkpoint");
        rows.retain(|(_, detail, _)| detail.contains("criu check"));
        rows.pop().map(|(state, detail, _)| (state, detail))
    };
    assert_eq!(said(None), None, "where it is not installed nobody misses it");
    let works = said(Some("echo Looks good."));
    assert_eq!(works, Some(("works".to_owned(), "`criu check`: Looks good.".to_owned())));
    let fails = "echo 'Error: vdso: Unexpected rt vDSO area bounds' >&2; exit 1";
    let (state, detail) = said(Some(fails)).expect("it is installed");
    assert_eq!(state, "limited");
    assert!(detail.contains("vdso: Unexpected rt vDSO area bounds"), "{detail}");
}

#[test]
fn somebody_else_behind_the_schedulers_address_is_not_taken_for_it() {
    let fleet = fleet("doctor-other");
    let other = fleet.scheduler.address();
    let node = Node::new(format!("wharfage-join:v1:{other}:{}:x", "0".repeat(64)));
    let (code, page) = examined(&node);
    assert_eq!(code, Some(1), "{page}");
    let (state, detail, _) = rows(&page, "scheduler").remove(0);
    assert_eq!(state, "broken", "{page}");
    assert!(detail.contains("is not the scheduler that the join string"), "{detail}");
}

#[test]
fn a_gpu_that_cannot_be_trusted_is_broken_and_the_others_are_not() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    let unread = serde_json::json!({"nvmlDeviceGetMemoryInfo": 3, "nvmlDeviceGetMemoryInfo_v2": 3});
    let lost = serde_json::json!({"*": 15});
    node.gpus(&serde_json::json!([
        {"uuid": GPUS[0]}, {"uuid": GPUS[1], "faults": unread}, {"uuid": "GPU-c", "faults": lost},
    ]));
    let (code, page) = examined(&node);
    assert_eq!(code, Some(1), "{page}");
    let rows = rows(&page, "gpus");
    for (at, state, said) in [
        (0, "works", "in use: 4 MiB"),
        (1, "broken", "its memory in use cannot be read: nothing is started on it"),
        (2, "broken", "GPU 2 cannot be identified: the GPU is lost"),
    ] {
        assert!(rows[at].0 == state && rows[at].1.contains(said), "{at}: {page}");
    }
}

#[test]
fn the_page_for_people_says_the_same_in_lines() {
    let fleet = fleet("doctor-page");
    two_gpus(&fleet.node);
    let done = doctor(&fleet.node).output().expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(text.starts_with("wharfage-agent ") && text.contains("on `node-1`, seen by"), "{text}");
    assert!(text.contains("engines      works    stub 1 ("), "{text}");
}
