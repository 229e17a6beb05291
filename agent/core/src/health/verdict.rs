//! The verdict: which GPUs and whether the node may be used, why not, and what is asked for.

use wharfage_shared::health::{
    Ask, Asked, Gate, GateId, GateState, GpuHealth, Health, NodeHealth, Unfit,
};
use wharfage_shared::ids::GpuUuid;

use super::gates::Record;
use super::{Judge, Kept, Slot};

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
        gpus: judge.slots.iter().map(|slot| of_slot(judge, &gates, slot)).collect(),
        gates,
        incidents: judge.incidents.shown(),
        asks: judge.incidents.all().iter().flat_map(|kept| asks(judge, kept)).collect(),
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

/// What an incident asks for. A GPU is reset and replaced whole; what runs there runs on its slots.
fn asks(judge: &Judge, kept: &Kept) -> Vec<Ask> {
    let by_slot = |ask: Ask| match (ask.what, &ask.gpu) {
        (Asked::RestartReplica | Asked::Drain, Some(gpu)) => {
            let is_meant = |slot: &GpuUuid| {
                let only = Some(&kept.ends_on).filter(|on| !on.is_empty());
                ask.what != Asked::RestartReplica || only.is_none_or(|on| on.contains(slot))
            };
            let slots = judge.slots_of(gpu).into_iter().filter(is_meant);
            slots.map(|slot| Ask { gpu: Some(slot), ..ask.clone() }).collect()
        }
        (Asked::RestartReplica | Asked::Drain, None)
        | (Asked::Reset | Asked::Reboot | Asked::Replace, _) => vec![ask],
    };
    kept.asks().into_iter().flat_map(by_slot).collect()
}

fn of_slot(judge: &Judge, gates: &[Gate], slot: &Slot) -> GpuHealth {
    let gpu = &slot.uuid;
    let incidents = judge.incidents.all().iter();
    let on_it = |kept: &&Kept| kept.closes() && kept.is_on(&slot.board) && !kept.on_node;
    let mut open = incidents.filter(on_it);
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
