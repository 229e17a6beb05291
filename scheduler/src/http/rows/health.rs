//! What rows show of a node's health: gates with their evidence, incidents, what it asks for; and
//! the brakes of health rules.

use serde::Serialize;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_shared::health::{Action, Asked, Gate, GateState, Incident, Repair};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::time::{Boottime, Timestamp};

use super::{Shown, instant};
use crate::telemetry::NodeTelemetry;

/// What the provider sees of a node's health; a tenant sees none of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every gate, those of the node first.
    pub gates: Vec<GateRow>,
    /// Open incidents and the last closed ones.
    pub incidents: Vec<IncidentRow>,
    /// What the node asks for.
    pub asks: Vec<AskRow>,
}

/// One gate.
#[derive(Clone, Debug, Serialize)]
pub struct GateRow {
    /// `G1` to `G22`.
    pub id: String,
    /// What it looks at.
    pub about: &'static str,
    /// Of which GPU; null = the whole node.
    pub gpu: Option<GpuUuid>,
    /// pass, fail, unknown, not_applicable, off.
    pub state: &'static str,
    /// Since when.
    pub since: String,
    /// What was seen; for a gate that is off, its owner's reason.
    pub evidence: String,
}

/// One incident.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentRow {
    /// Its number on this node.
    pub number: u64,
    /// On which GPU.
    pub gpu: Option<GpuUuid>,
    /// The XIDs.
    pub xids: Vec<u32>,
    /// What becomes of it.
    pub action: Action,
    /// When it began.
    pub first_at: String,
    /// When it was heard of last.
    pub last_at: String,
    /// What it means.
    pub because: String,
    /// A drill.
    pub injected: bool,
    /// What closed it; null = it is open.
    pub closed: Option<Repair>,
}

/// One ask.
#[derive(Clone, Debug, Serialize)]
pub struct AskRow {
    /// What.
    pub what: Asked,
    /// For which GPU; null = the whole node.
    pub gpu: Option<GpuUuid>,
    /// Why.
    pub because: String,
    /// Since when.
    pub since: String,
    /// A drill.
    pub injected: bool,
    /// A brake keeps it from being followed by itself.
    pub braked: bool,
}

/// A health rule that hit so many nodes that nothing is drained or reset by itself any more.
#[derive(Clone, Debug, Serialize)]
pub struct BrakeRow {
    /// The rule.
    pub rule: String,
    /// Since when.
    pub since: String,
    /// The nodes that it had hit.
    pub nodes: u32,
    /// Of so many.
    pub of: u32,
}

impl Shown<'_> {
    /// The brakes that are on.
    pub fn brakes(&self) -> Vec<BrakeRow> {
        let row =
            |(rule, pulled): (&str, &wharfage_scheduler_core::words::node::Pulled)| BrakeRow {
                rule: rule.to_owned(),
                since: instant(pulled.at),
                nodes: pulled.nodes,
                of: pulled.of,
            };
        self.fleet.brakes().map(row).collect()
    }

    /// A node's health report, for the provider.
    pub(super) fn health(&self, node: &NodeRow, told: Option<&NodeTelemetry>) -> Report {
        if !self.caller.is_provider() {
            return Report::default();
        }
        let braked = self.fleet.brakes().next().is_some();
        let asks = node.asks.iter().map(|fact| AskRow {
            what: fact.ask.what,
            gpu: fact.ask.gpu.clone(),
            because: fact.ask.because.clone(),
            since: instant(fact.at),
            injected: fact.ask.injected,
            braked: braked && fact.ask.what != Asked::RestartReplica,
        });
        let asks = asks.collect();
        let Some((told, health)) = told.and_then(|told| Some((told, told.health.as_ref()?))) else {
            return Report { asks, ..Report::default() };
        };
        let at = |at: Boottime| instant(wall(told, at));
        Report {
            gates: health.gates.iter().map(|gate| gate_row(gate, at(gate.since))).collect(),
            incidents: health
                .incidents
                .iter()
                .map(|incident| incident_row(incident, at(incident.first_at), at(incident.last_at)))
                .collect(),
            asks,
        }
    }
}

/// An instant of the host on the scheduler's clock.
fn wall(told: &NodeTelemetry, at: Boottime) -> Timestamp {
    told.heard_at.minus(told.sent_at.since(at))
}

fn gate_row(gate: &Gate, since: String) -> GateRow {
    let (state, evidence) = match &gate.state {
        GateState::Pass => ("pass", &gate.evidence),
        GateState::Fail => ("fail", &gate.evidence),
        GateState::Unknown => ("unknown", &gate.evidence),
        GateState::NotApplicable => ("not_applicable", &gate.evidence),
        GateState::Off { reason } => ("off", reason),
    };
    GateRow {
        id: gate.id.to_string(),
        about: gate.id.about(),
        gpu: gate.gpu.clone(),
        state,
        since,
        evidence: evidence.clone(),
    }
}

fn incident_row(incident: &Incident, first_at: String, last_at: String) -> IncidentRow {
    IncidentRow {
        number: incident.number,
        gpu: incident.gpu.clone(),
        xids: incident.xids.clone(),
        action: incident.action,
        first_at,
        last_at,
        because: incident.because.clone(),
        injected: incident.injected,
        closed: incident.closed,
    }
}
