//! Recorded traffic against real replicas, with a drill in it, and what is told of it afterwards.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use wharfage_tests::{Dev, Folder, SOON, program, signal};

/// `wharfage rehearse` with these words: the provider asks, the tenant's token sends.
fn rehearse(dev: &Dev, words: &[&str]) -> Command {
    let mut command = Command::new(program("wharfage"));
    command
        .arg("rehearse")
        .args(words)
        .args(["-o", "json"])
        .env("WHARFAGE_URL", dev.text("scheduler_url"))
        .env("WHARFAGE_TOKEN", dev.text("admin_token"))
        .env("WHARFAGE_GATEWAY_TOKEN", dev.text("token"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Its exit code, its report, and what it said beside it.
async fn told(dev: &Dev, words: &[&str]) -> (i32, Value, String) {
    let output = rehearse(dev, words).output().await.expect("wharfage runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap_or(-1), report, said)
}

/// So many requests, four a second.
fn recording(requests: u32) -> String {
    let rows = (0..requests).map(|number| format!("{},20,4\n", f64::from(number) / 4.0));
    "t_seconds,prompt_tokens,output_tokens\n".to_owned() + &rows.collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_tells_latency_scaling_interruptions_and_cost() {
    let folder = Folder::new("rehearsal");
    let dev = Dev::start().await;
    let classes = ["CAPACITY_CLASS_SPOT", "CAPACITY_CLASS_ON_DEMAND"];
    let id = dev.deploy("talk", 8, &classes, json!({})).await;
    dev.ready(&id, 1).await;
    let load = folder.file("load.csv", &recording(80)).display().to_string();
    let page = folder.path().join("report.html").display().to_string();

    let drilled = ["talk", "--load", &load, "--drill", "30s@3s", "--html", &page];
    let (code, report, said) = told(&dev, &drilled).await;
    assert_eq!(code, 0, "{said}\n{report}");
    let requests = &report["requests"];
    assert_eq!((&requests["sent"], &requests["completed"]), (&json!(80), &json!(80)), "{report}");
    assert_eq!((&requests["cut"], &requests["failed"]), (&json!(0), &json!(0)), "{report}");
    for of in ["first_byte", "total"] {
        let [half, most] = ["p50", "max"].map(|key| report["latency_ms"][of][key].as_f64());
        assert!(half > Some(0.0) && half <= most, "{report}");
    }
    let drill = &report["interruptions"][0];
    assert_eq!((&drill["verdict"], &drill["window_seconds"]), (&json!("passed"), &json!(30)));
    assert_eq!(drill["nodes"][0]["node"], "node-3", "spot is asked for first: {drill}");
    let scaling = &report["scaling"];
    assert_eq!(scaling["most_nodes"], 2, "the successor stood beside it for a while: {scaling}");
    assert!(scaling["least_ready"].as_u64() >= Some(1), "{scaling}");
    let plans = report["cost"].as_array().expect("plans");
    let words: Vec<&str> = plans.iter().filter_map(|plan| plan["plan"].as_str()).collect();
    assert_eq!(words, ["on_demand", "reserved", "flex", "spot"]);
    for plan in plans {
        let because = plan["because"].as_str().expect("why");
        assert_eq!(plan["amount"].is_null(), because.starts_with("not priced: "), "{plan}");
    }
    assert!(plans[0]["amount"].is_string(), "dev has list prices: {plans:?}");
    let page = std::fs::read_to_string(&page).expect("the page was written");
    assert!(page.contains("<svg") && page.contains("class=\"drill\""), "{page}");

    // Somebody stops it: what was measured until then is told, and no drill goes on.
    let endless = ["talk", "--load", &load, "--speed", "0.1", "--drill", "coreweave-420@1s"];
    let mut child = rehearse(&dev, &endless).spawn().expect("wharfage runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = tokio::time::timeout(SOON, lines.next_line()).await.expect("it says how far it is");
    let first = first.expect("a line").unwrap_or_default();
    assert!(first.contains("sent") && first.contains("replicas ready"), "{first}");
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
    signal(pid, Signal::INT);
    let output = child.wait_with_output().await.expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(output.status.code(), Some(1), "a drill that was given up is no success: {report}");
    assert_eq!(report["interrupted"], true);
    assert!(report["requests"]["completed"].as_u64() >= Some(1), "{report}");
    assert_eq!(report["interruptions"][0]["verdict"], "aborted", "{report}");

    let bad = folder.file("bad.csv", "t_seconds,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n");
    let (code, _, said) = told(&dev, &["talk", "--load", &bad.display().to_string()]).await;
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("bad.csv:3: prompt_tokens: `x`"), "{said}");
    let (code, _, said) = told(&dev, &["none", "--load", &load]).await;
    assert_eq!(code, 1, "{said}");
    let late = ["talk", "--load", &load, "--for", "2s", "--drill", "gcp-30@3s"];
    let (code, _, said) = told(&dev, &late).await;
    assert_eq!(code, 64, "{said}");
    dev.stop().await;
}
