//! The windows of the clouds at a tenth, with real processes: each report read back, what hooks came
//! to, and nothing left alive.

use serde_json::{Value, json};
use wharfage_tests::{Dev, Folder, until};

use super::drills::{id_of, wharfage};

/// A drill of a deployment whose replica may stand anywhere: its report.
async fn practise(dev: &Dev, deployment: &str, name: &str, window: u64) -> Value {
    let window = window.to_string();
    let mut words = vec!["drill", "run", "--deployment", deployment, "--name", name, "--go-on"];
    if window == "0" {
        words.extend(["--profile", "no-notice", "--wait"]);
    } else {
        words.extend(["--profile", "custom", "--window", &window, "--wait"]);
    }
    let (code, said) = wharfage(dev, &words).await;
    assert_eq!(code, 0, "{name}: {said}");
    let id = id_of(&said).to_owned();
    let (code, report) = wharfage(dev, &["drill", "show", &id, "-o", "json"]).await;
    assert_eq!(code, 0, "{name}: {report}");
    serde_json::from_str(&report).expect("JSON")
}

/// What is said of the hooks of the one replica that stood on the one node.
fn hooks(report: &Value) -> Vec<(String, String)> {
    let nodes = report["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 1, "{report}");
    assert_eq!(nodes[0]["replicas"].as_array().map(Vec::len), Some(1), "{report}");
    let hooks = nodes[0]["hooks"].as_array().expect("hooks");
    let text = |hook: &Value, key: &str| hook[key].as_str().unwrap_or_default().to_owned();
    hooks.iter().map(|hook| (text(hook, "kind"), text(hook, "outcome"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn six_drills_at_a_tenth_of_the_clouds_windows_leave_nothing_behind() {
    let folder = Folder::new("six-drills");
    let fleet = "[[node]]\nsku = \"gd-8xh100ib-i128\"\nzone = \"US-EAST-04A\"\ncount = 4\n";
    let nodes = folder.file("nodes.toml", fleet);
    let dev = Dev::start_with(&["--nodes", &nodes.display().to_string()]).await;
    let hooked = || {
        let hooks = json!({ "checkpoint": "checkpoint", "drain": "drain" });
        json!({ "wharfage": { "hooks": hooks, "grace_seconds": 5 } })
    };
    // A whole node each: while one leaves, the other has nodes of its own to go to and fro between.
    let classes = ["CAPACITY_CLASS_ON_DEMAND"];
    let long = dev.deploy("long", 8, &classes, hooked()).await;
    let short = dev.deploy("short", 8, &classes, hooked()).await;
    dev.ready(&long, 1).await;
    dev.ready(&short, 1).await;
    let at_rest = dev.processes().len();

    let windows = [("aws-120", 12), ("gcp-30", 3), ("azure-30", 3), ("custom-5", 1), ("none", 0)];
    let (longest, shorter) = tokio::join!(practise(&dev, &long, "coreweave-420", 42), async {
        let mut reports = Vec::new();
        for (name, window) in windows {
            reports.push((window, practise(&dev, &short, name, window).await));
            dev.ready(&short, 1).await;
        }
        reports
    });
    for (window, report) in [(42, longest)].into_iter().chain(shorter) {
        assert_eq!(report["verdict"], "passed", "{report}");
        assert_eq!(report["drill"]["window_seconds"], window, "{report}");
        let node = &report["nodes"][0];
        let timeline = node["timeline"].as_array().expect("a timeline");
        let last = timeline.last().map(|moment| moment["what"].clone());
        assert_eq!(last, Some(json!("the node was empty at its deadline and is open again")));
        assert!(node["capacity_back_seconds"].is_number(), "{node}");
        let hooks = hooks(&report);
        for (kind, outcome) in &hooks {
            let accepted: &[&str] = match window {
                12.. => &["done"],
                _ => &["done", "cut_off", "skipped"],
            };
            assert!(accepted.contains(&outcome.as_str()), "{window} s: {kind} {outcome}: {node}");
        }
        let kinds: Vec<&str> = hooks.iter().map(|(kind, _)| kind.as_str()).collect();
        match window {
            12.. => assert_eq!(kinds, ["checkpoint", "drain"], "{node}"),
            _ => assert!(kinds.iter().all(|kind| ["checkpoint", "drain"].contains(kind)), "{node}"),
        }
    }
    dev.ready(&long, 1).await;
    until("no engine, guard or hook of what was drilled is left", async || {
        (dev.processes().len() == at_rest).then_some(())
    })
    .await;
    let rows = dev.rows("/api/v1/nodes", "nodes").await;
    let is_open = |row: &&Value| row["departure"] == "none" && row["intent"] == "open";
    assert_eq!(rows.iter().filter(is_open).count(), 4, "{rows:?}");
    dev.stop().await;
}
