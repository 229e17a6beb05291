//! The verdict: which GPUs and whether the node may be used, why not, and what is asked for.

use wharfage_shared::health::{Gate, GateId, GateState, GpuHealth, Health, NodeHealth, Unfit};
use wharfage_shared::ids::GpuUuid;

use super::Judge;
use super::gates::Record;

pub(super) fn of(judge: &Judge) -> Health {
    let gates: Vec<Gate> = judge
        .gates
        .iter()
        .map(|((gpu, id), record)| gate(judge, gpu.clone(), *id, record))
        .collect();
    let no_spot = gates.iter().find(|gate| gate.id == GateId::INHIBITOR).and_then(stops);
    Health {
        node: node(judge, &gates),
        no_spot,
        gpus: judge.gpus.iter().map(|gpu| of_gpu(judge, &gates, gpu)).collect(),
        gates,
        incidents: judge.incidents.shown(),
        asks: judge.incidents.all().iter().flat_map(super::Kept::asks).collect(),
    }
}

fn gate(judge: &Judge, gpu: Option<GpuUuid>, id: GateId, record: &Record) -> Gate {
    let state = match judge.off.get(&id) {
        Some(reason) => GateState::Off { reason: reason.clone() },
        None => record.state(),
    };
    let evidence = record.evidence().to_owned();
    Gate { id, gpu, state, since: record.since(), evidence }
}

/// Why a gate stops what is new, if it does.
fn stops(gate: &Gate) -> Option<Unfit> {
    let (id, evidence) = (gate.id, &gate.evidence);
    let because = match gate.state {
        // The incident's own sentence says it all.
        GateState::Fail if id == GateId::INCIDENTS => evidence.clone(),
        GateState::Fail => format!("gate {id} ({}) fails: {evidence}", id.about()),
        GateState::Unknown => format!("gate {id} ({}) is unknown: {evidence}", id.about()),
        GateState::Pass | GateState::NotApplicable | GateState::Off { .. } => return None,
    };
    Some(Unfit { rule: id.to_string(), because })
}

/// The first thing that stops the whole node: an incident that is about all of it, then its gates.
fn node(judge: &Judge, gates: &[Gate]) -> NodeHealth {
    let mut open = judge.incidents.all().iter().filter(|kept| kept.closes() && kept.on_node);
    if let Some(kept) = open.next() {
        let because = kept.incident.because.clone();
        return NodeHealth::Unfit(Unfit { rule: kept.rule(), because });
    }
    let looked = |(key, record): (&(Option<GpuUuid>, GateId), &Record)| {
        record.was_looked_at() || judge.off.contains_key(&key.1)
    };
    if !judge.gates.iter().all(looked) {
        return NodeHealth::Qualifying;
    }
    let own = gates.iter().filter(|gate| gate.gpu.is_none() && gate.id != GateId::INHIBITOR);
    let of_node = own.filter_map(stops).next();
    of_node.map_or(NodeHealth::Fit, NodeHealth::Unfit)
}

fn of_gpu(judge: &Judge, gates: &[Gate], gpu: &GpuUuid) -> GpuHealth {
    let incidents = judge.incidents.all().iter();
    let mut open = incidents.filter(|kept| kept.closes() && kept.is_on(gpu) && !kept.on_node);
    let cordoned = open.next().map(|kept| {
        let because = kept.incident.because.clone();
        Unfit { rule: kept.rule(), because }
    });
    let failing = || {
        let own = gates.iter().filter(|gate| gate.gpu.as_ref() == Some(gpu));
        own.filter_map(stops).next()
    };
    GpuHealth { gpu: gpu.clone(), unfit: cordoned.or_else(failing) }
}
