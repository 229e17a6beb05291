//! Whether a node's hardware may be used, by what its agent reports.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::health::{GateId, Health as Report, NodeHealth};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::{GpuIdentity, GpuReading, Inventory};

use crate::fleet::rows::node::NodeRow;
use crate::words::catalogue::instance_type;
use crate::words::node::{Hardware, Health};

/// What the reports show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The node as a whole.
    pub health: Health,
    /// Its GPUs, and what it asks for; absent = as it was.
    pub hardware: Option<Hardware>,
}

/// The health that inventory, readings and the agent's own report show; an agent of the version
/// before makes no report. One GPU in trouble closes that GPU; the node is closed when nothing of
/// it may be used, or when the rule is about all of it.
pub fn decide(
    node: &NodeRow,
    inventory: &Inventory,
    readings: &[GpuReading],
    report: Option<&Report>,
) -> Judged {
    let told = report.map(|report| &report.node);
    if told == Some(&NodeHealth::Qualifying) {
        // A new start of the agent has not looked at everything yet: what is known stays.
        let because = trouble(node, inventory).or_else(|| doubted(node));
        let health = because.map_or(Health::Qualifying, unfit);
        return Judged { health, hardware: None };
    }
    let hardware = hardware(readings, report);
    let all_unfit = inventory.gpus.iter().all(|gpu| hardware.unfit.contains_key(&gpu.uuid));
    let first = hardware.unfit.iter().next().filter(|_| all_unfit);
    let none_left = first.map(|(gpu, because)| format!("{gpu}: {because}"));
    let rule = match told {
        Some(NodeHealth::Unfit(unfit)) => Some(unfit.because.clone()),
        Some(NodeHealth::Fit | NodeHealth::Qualifying) | None => None,
    };
    let spot = node.compute_class == ComputeClass::Spot;
    let no_spot = report.and_then(|report| report.no_spot.as_ref()).filter(|_| spot);
    let no_spot = no_spot.map(|unfit| unfit.because.clone());
    // An agent of the version before says no more than this: any trouble is the whole node's.
    let unjudged = readings.iter().filter(|_| report.is_none()).find_map(|reading| {
        reading.trouble.as_ref().map(|because| format!("{}: {because}", reading.uuid))
    });
    let because = trouble(node, inventory).or_else(|| doubted(node));
    let because = because.or(rule).or(unjudged).or(none_left).or(no_spot);
    let unread =
        inventory.gpus.iter().any(|gpu| !readings.iter().any(|reading| reading.uuid == gpu.uuid));
    let health = match (because, &node.health) {
        (Some(because), _) => unfit(because),
        // A report without readings says nothing about a node that was fit.
        (None, Health::Fit) => Health::Fit,
        (None, other) if unread => other.clone(),
        (None, Health::Qualifying | Health::Unfit { .. }) => Health::Fit,
    };
    Judged { health, hardware: Some(hardware) }
}

fn unfit(because: String) -> Health {
    Health::Unfit { because }
}

/// GPU by GPU: what its agent's rules say, else what its reading says.
fn hardware(readings: &[GpuReading], report: Option<&Report>) -> Hardware {
    let mut unfit: BTreeMap<GpuUuid, String> = BTreeMap::new();
    let mut rules: BTreeSet<String> = BTreeSet::new();
    for reading in readings {
        if let Some(trouble) = &reading.trouble {
            unfit.insert(reading.uuid.clone(), trouble.clone());
        }
    }
    let Some(report) = report else { return Hardware { unfit, rules, asks: Vec::new() } };
    for gpu in &report.gpus {
        if let Some(told) = &gpu.unfit {
            unfit.insert(gpu.gpu.clone(), told.because.clone());
            rules.insert(told.rule.clone());
        }
    }
    if let NodeHealth::Unfit(told) = &report.node {
        rules.insert(told.rule.clone());
    }
    rules.extend(report.asks.iter().map(|ask| ask.rule.clone()));
    Hardware { unfit, rules, asks: report.asks.clone() }
}

/// The gates that the scheduler itself looks at: the clock, and faults that come again and again.
/// What an operator wants of the node is an axis of its own.
fn doubted(node: &NodeRow) -> Option<String> {
    let fails =
        |gate: GateId, because: String| format!("gate {gate} ({}) fails: {because}", gate.about());
    let clock = node.doubts.of_clock().map(|because| fails(GateId::ENROLMENT, because));
    clock.or_else(|| node.doubts.of_repeats().map(|because| fails(GateId::OPERATOR, because)))
}

/// The first thing that is wrong with the whole node, as one sentence.
fn trouble(node: &NodeRow, inventory: &Inventory) -> Option<String> {
    if let Some(trouble) = &inventory.gpu_trouble {
        return Some(trouble.clone());
    }
    // A GPU that is split into instances is one.
    let boards: BTreeSet<&GpuUuid> = inventory.gpus.iter().map(GpuIdentity::board).collect();
    let found = boards.len();
    let declared = instance_type(&node.sku).map_or(found, |listed| usize::from(listed.gpus));
    if found != declared {
        return Some(format!("{} has {declared} GPUs, {found} were found", node.sku));
    }
    (found == 0).then(|| "no GPU was found".to_owned())
}
