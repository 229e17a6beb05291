//! Whether a node's hardware may be used, by what its agent reports.

use wharfage_shared::telemetry::{GpuReading, Inventory};

use crate::fleet::rows::node::NodeRow;
use crate::words::catalogue::instance_type;
use crate::words::node::Health;

/// The health that inventory and readings show. A node that is qualifying becomes fit by one report
/// in which everything that its type declares is there and answers.
pub fn decide(node: &NodeRow, inventory: &Inventory, readings: &[GpuReading]) -> Health {
    if let Some(because) = trouble(node, inventory, readings) {
        return Health::Unfit { because };
    }
    let unread =
        inventory.gpus.iter().any(|gpu| !readings.iter().any(|reading| reading.uuid == gpu.uuid));
    match &node.health {
        // A report without readings says nothing about a node that was fit.
        Health::Fit => Health::Fit,
        other if unread => other.clone(),
        Health::Qualifying | Health::Unfit { .. } => Health::Fit,
    }
}

/// The first thing that is wrong, as one sentence.
fn trouble(node: &NodeRow, inventory: &Inventory, readings: &[GpuReading]) -> Option<String> {
    if let Some(trouble) = &inventory.gpu_trouble {
        return Some(trouble.clone());
    }
    let found = inventory.gpus.len();
    let declared = instance_type(&node.sku).map_or(found, |listed| usize::from(listed.gpus));
    if found != declared {
        return Some(format!("{} has {declared} GPUs, {found} were found", node.sku));
    }
    if found == 0 {
        return Some("no GPU was found".to_owned());
    }
    readings
        .iter()
        .find_map(|reading| reading.trouble.as_ref().map(|why| format!("{}: {why}", reading.uuid)))
}
