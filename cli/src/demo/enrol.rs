//! Step 1: hosts join, GPUs are read.

use serde_json::Value;

use super::{Stage, text};
use crate::dev::fleet::{self, DevNode};
use crate::exit::Failure;

/// The default fleet, with engines that take two seconds to load: long enough to watch.
pub fn fleet() -> Vec<DevNode> {
    let mut nodes = fleet::default_fleet();
    for node in &mut nodes {
        node.load_ms = 2000;
    }
    nodes
}

/// Shows what the scheduler knows of the hosts now.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    for node in stage.up().nodes.clone() {
        let row = stage.node(&node.id).await?;
        let none = Vec::new();
        let gpus = row.get("gpus").and_then(Value::as_array).unwrap_or(&none);
        let sum = |key: &str| gpus.iter().filter_map(|gpu| gpu.get(key)?.as_u64()).sum::<u64>();
        if gpus.len() != 8 || sum("memory_mib") == 0 {
            return Err(Failure::check(format!("{}: 8 GPUs with memory were expected", node.id)));
        }
        stage.say.seen(format!(
            "{} is {}, {}: {} {}, {} GPUs, {} of {} MiB in use, utilization {} %",
            node.id,
            text(&row, "reach"),
            text(&row, "health"),
            text(&row, "compute_class"),
            text(&row, "sku"),
            gpus.len(),
            sum("memory_used_mib"),
            sum("memory_mib"),
            sum("utilization") / gpus.len() as u64,
        ));
    }
    let certificate = stage.up().state_dir.join("nodes/node-1/state");
    let kept = find(&certificate, "cert.pem").ok_or_else(|| {
        Failure::check(format!("no certificate of node-1 below {}", certificate.display()))
    })?;
    stage.say.seen(format!("each speaks with a certificate of its own, as {}", kept.display()));
    Ok(())
}

fn find(below: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(below).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}
