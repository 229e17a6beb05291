//! `wharfage-agent doctor`: what works on a host, and the fix for what does not.

use std::process::Command;

use crate::common::node::Node;
use crate::journeys::fleet;

/// The exit code and the page, as JSON.
fn examined(node: &Node) -> (Option<i32>, serde_json::Value) {
    let config = node.config("");
    let done = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"))
        .args(["doctor", "-o", "json", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let page = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    (done.status.code(), page)
}

/// The rows of one subject, with how they stand.
fn rows(page: &serde_json::Value, subject: &str) -> Vec<(String, String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    let all = page["findings"].as_array().expect("a list").iter();
    let of = all.filter(|row| row["subject"] == subject);
    of.map(|row| (text(row, "state"), text(row, "detail"), text(row, "fix"))).collect()
}

#[test]
fn a_host_on_which_all_that_is_needed_works_ends_with_0() {
    let fleet = fleet("doctor-good");
    let (code, page) = examined(&fleet.node);
    assert_eq!(code, Some(0), "{page}");
    let subjects = [
        "driver",
        "gpus",
        "scheduler",
        "systemd",
        "cgroups",
        "notices",
        "checkpoint",
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
    assert!(rows(&page, "scheduler")[0].1.contains("has not joined yet"), "{page}");
    assert!(!fleet.node.root().join("state/identity").exists(), "it changes nothing");
}

#[test]
fn what_is_broken_is_named_with_its_fix_and_the_end_is_1() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    std::fs::remove_file(node.root().join("gpus/gpus.json")).expect("removed");
    node.engine_also("stub", "colour = 1");
    node.hook("open", "true", 5, 0o666);
    std::fs::remove_dir(node.root().join("notices")).expect("removed");
    let (code, page) = examined(&node);
    assert_eq!(code, Some(1), "{page}");
    for (subject, said) in [
        ("driver", ""),
        ("scheduler", "127.0.0.1:1 is not reached"),
        ("engines", "unknown field `colour`"),
        ("hooks", "everybody may write it"),
        ("notices", "cannot be read"),
    ] {
        let rows = rows(&page, subject);
        let (state, detail, fix) = rows.last().expect(subject);
        assert_eq!(state, "broken", "{subject}: {page}");
        assert!(detail.contains(said) && !fix.is_empty(), "{subject}: {page}");
    }
    assert!(page["broken"].as_u64() >= Some(5), "{page}");
}

#[test]
fn the_page_for_people_says_the_same_in_lines() {
    let fleet = fleet("doctor-page");
    let config = fleet.node.config("");
    let done = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"))
        .arg("doctor")
        .arg("--config")
        .arg(config)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(text.starts_with("wharfage-agent ") && text.contains("on `node-1`: "), "{text}");
    assert!(text.contains("engines      works    stub 1 ("), "{text}");
}
