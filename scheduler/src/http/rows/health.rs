//! What rows show of a node's health: gates with their evidence, incidents, what it asks for; and
//! the brakes of health rules.

use serde::Serialize;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::policies::repair::waits_because;
use wharfage_scheduler_core::words::node::{Intent, Reach};
use wharfage_shared::health::{Action, Asked, Gate, GateId, GateState, Incident, Repair};
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
    /// Why its turn has not come; null = it is its turn, or it needs none.
    pub waits: Option<String>,
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
            waits: match fact.ask.what {
                Asked::Reset | Asked::Reboot => waits_because(self.fleet, node, fact.ask.incident),
                Asked::RestartReplica | Asked::Drain | Asked::Replace => None,
            },
        });
        let asks = asks.collect();
        let mut gates = vec![enrolment(node), operator(node, self.now)];
        let Some((told, health)) = told.and_then(|told| Some((told, told.health.as_ref()?))) else {
            return Report { gates, asks, ..Report::default() };
        };
        let at = |at: Boottime| instant(wall(told, at));
        gates.extend(health.gates.iter().map(|gate| gate_row(gate, at(gate.since))));
        Report {
            gates,
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

/// G1, which the scheduler looks at: enrolled, heard under its newest start, its clock right.
fn enrolment(node: &NodeRow) -> GateRow {
    let (state, since, evidence) = match (&node.doubts.clock, node.reach) {
        (_, Reach::Joining) => {
            ("unknown", node.enrolled_at, "it was not heard since it enrolled".to_owned())
        }
        (_, Reach::Silent | Reach::Lost) => {
            ("unknown", node.reach_since, "it is not heard".to_owned())
        }
        (_, Reach::Connected) if node.start.is_none() => {
            ("unknown", node.reach_since, "the start of its agent has no number yet".to_owned())
        }
        (Some(off), Reach::Connected) => {
            ("fail", off.at, node.doubts.of_clock().unwrap_or_default())
        }
        (None, Reach::Connected) => {
            let said = format!("start {} of its agent is heard, its clock is right", node.epoch.0);
            ("pass", node.reach_since, said)
        }
    };
    own_gate(GateId::ENROLMENT, state, since, evidence)
}

/// G22, which the scheduler looks at: an operator's word, and faults that come again and again.
fn operator(node: &NodeRow, now: Timestamp) -> GateRow {
    let repeated = node.doubts.repeated.map(|repeated| repeated.at);
    let (state, since, evidence) = match (&node.intent, node.doubts.of_repeats(), repeated) {
        (_, Some(because), Some(since)) => ("fail", since, because),
        (Intent::Cordoned { reason }, ..) => {
            ("fail", node.enrolled_at, format!("cordoned: {reason}"))
        }
        (Intent::Draining { reason }, ..) => {
            ("fail", node.enrolled_at, format!("being drained: {reason}"))
        }
        (Intent::Retired, ..) => ("fail", node.enrolled_at, "retired".to_owned()),
        (Intent::Open, ..) => {
            let incidents = node.doubts.lately(SHOWN_DAYS, now);
            let said = format!("open; {incidents} incidents within {SHOWN_DAYS} days");
            ("pass", node.doubts.forgiven_at.unwrap_or(node.enrolled_at), said)
        }
    };
    own_gate(GateId::OPERATOR, state, since, evidence)
}

/// Incidents of a node that is open are shown for so long.
const SHOWN_DAYS: u32 = 28;

fn own_gate(id: GateId, state: &'static str, since: Timestamp, evidence: String) -> GateRow {
    let (about, since) = (id.about(), instant(since));
    GateRow { id: id.to_string(), about, gpu: None, state, since, evidence }
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
