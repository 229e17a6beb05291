//! Step 2: two deployments, from the API call to the first answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SEEN_WITHIN, Stage, requests, text};
use crate::dev::ready;
use crate::exit::Failure;

/// How long a replica may take from the call to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Creates both deployments and watches their replicas become ready.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    stage.say.step(2, "Two deployments through the CoreWeave Inference API");
    let gateway = stage.up().gateway_id.clone();
    let chat = json!({
        "name": "chat", "gatewayIds": [gateway],
        "runtime": { "engine": "vllm" },
        "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": 2 },
        "model": { "name": "chat-model", "bucket": "models", "path": "chat/v1" },
        "autoscaling": {
            "min": 1, "max": 2, "priority": 500, "concurrency": 8,
            "capacityClasses": ["CAPACITY_CLASS_ON_DEMAND"],
        },
        "traffic": { "weight": 100 },
    });
    let batch = json!({
        "name": "batch", "gatewayIds": [gateway],
        "runtime": { "engine": "vllm" },
        "resources": { "instanceType": "gd-8xh100ib-i128", "gpuCount": 4 },
        "model": { "name": "batch-model", "bucket": "models", "path": "batch/v1" },
        "autoscaling": {
            "min": 1, "max": 1,
            "capacityClasses": ["CAPACITY_CLASS_SPOT", "CAPACITY_CLASS_ON_DEMAND"],
        },
        "traffic": { "weight": 100 },
        "wharfage": { "hooks": { "checkpoint": "checkpoint", "drain": "drain" } },
    });
    for (name, body) in [("chat", &chat), ("batch", &batch)] {
        let made = stage.tenant.post("/v1alpha1/inference/deployments", body).await?;
        let status = made.pointer("/deployment/status/status").and_then(Value::as_str);
        stage.say.seen(format!("POST deployments: {name} is {}", status.unwrap_or("created")));
    }
    let mut shown = BTreeMap::new();
    loop_until_ready(stage, &mut shown).await?;
    reasons(stage).await?;
    memory(stage).await?;
    let answer = requests::ask(stage, "chat-model", "Where is my ship?", 12).await?;
    stage.say.seen(format!("a request through the gateway: \"{answer}\""));
    if !answer.contains("replica r-") {
        return Err(Failure::check("the answer does not name the replica that gave it"));
    }
    Ok(())
}

async fn loop_until_ready(
    stage: &Stage,
    shown: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let deadline = std::time::Instant::now() + READY_WITHIN;
    loop {
        let rows = stage.rows("/api/v1/replicas", "replicas").await?;
        for row in &rows {
            show_change(stage, row, shown);
        }
        let ready = rows.iter().filter(|row| text(row, "phase") == "ready").count();
        if ready == 2 {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(Failure::check(format!(
                "{ready} of 2 replicas were ready within {} s",
                READY_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Prints a replica's phase when it is another than the last one printed.
pub fn show_change(stage: &Stage, row: &Value, shown: &mut BTreeMap<String, String>) {
    let (id, phase) = (text(row, "id").to_owned(), text(row, "phase").to_owned());
    let progress = row.get("progress").and_then(Value::as_f64);
    // Two looks at a loading replica are enough to see it move.
    let stage_of = progress.map_or(0, |share| (share * 2.0) as u32);
    let key = format!("{phase} {stage_of}");
    if shown.get(&id) == Some(&key) {
        return;
    }
    let percent = match progress {
        Some(share) if phase == "loading" || phase == "fetching" => {
            format!(" {:.0} %", share * 100.0)
        }
        _ => String::new(),
    };
    let node = match text(row, "node") {
        "" => String::new(),
        node => format!(" on {node}"),
    };
    let name = text(row, "deployment_name");
    stage.say.seen(format!("{name} {id}{node}: {phase}{percent}"));
    shown.insert(id, key);
}

/// Why each replica is where it is.
async fn reasons(stage: &Stage) -> Result<(), Failure> {
    for row in stage.rows("/api/v1/replicas", "replicas").await? {
        let id = text(&row, "id");
        let why = stage.tenant.get(&format!("/api/v1/replicas/{id}/explain")).await?;
        let sentence = [text(&why, "summary"), text(&why, "because"), text(&row, "because")]
            .into_iter()
            .find(|sentence| !sentence.is_empty())
            .unwrap_or_default()
            .to_owned();
        if sentence.is_empty() {
            return Err(Failure::check(format!("{id} stands somewhere without a reason")));
        }
        stage.say.seen(format!("why {} is on {}: {sentence}", id, text(&row, "node")));
    }
    Ok(())
}

/// The memory that the engines took in the GPUs, as the scheduler sees it.
async fn memory(stage: &Stage) -> Result<(), Failure> {
    let used = ready::until("engines' memory in the GPU readings", SEEN_WITHIN, || async {
        let mut lines = Vec::new();
        for node in &stage.up().nodes {
            let row = stage.node(&node.id).await?;
            let none = Vec::new();
            let gpus = row.get("gpus").and_then(Value::as_array).unwrap_or(&none);
            let busy = gpus
                .iter()
                .filter(|gpu| gpu.get("memory_used_mib").and_then(Value::as_u64) > Some(10_000));
            let mib: u64 =
                busy.clone().filter_map(|gpu| gpu.get("memory_used_mib")?.as_u64()).sum();
            if mib > 0 {
                lines.push(format!("{}: {mib} MiB on {} GPUs", node.id, busy.count()));
            }
        }
        let total: usize = lines.len();
        Ok((total >= 2).then_some(lines))
    })
    .await?;
    stage.say.seen(format!("GPU memory in use now: {}", used.join("; ")));
    Ok(())
}
