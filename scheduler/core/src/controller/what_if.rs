//! What a command would do: the same plan on a copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_billing::money::MicroRate;
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Timestamp;

use super::{Controller, Decided};
use crate::fleet::Fleet;
use crate::words::command::{Answer, Command};
use crate::words::event::{Event, node, replica};
use crate::words::refusal::Refusal;

/// What a command would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// What it would answer.
    pub answer: Answer,
    /// Where new replicas would go, or why nowhere.
    pub placements: Vec<Predicted>,
    /// Which replicas would have to leave.
    pub leaving: Vec<(ReplicaId, StopCause)>,
    /// Which lent nodes would be called back, and until when at the latest.
    pub reclaims: Vec<(NodeId, Timestamp)>,
    /// What the instances that would newly serve somebody cost per hour, as a decimal text; absent
    /// where a price is not known.
    pub cost_per_hour: Option<String>,
    /// The facts.
    pub events: Vec<Event>,
}

/// A replica that a command would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Where; absent = it would be pending.
    pub node: Option<NodeId>,
    /// Why there, or why nowhere.
    pub because: String,
}

impl Controller {
    /// What a command would do, decided on a copy.
    pub fn what_if(&self, now: Timestamp, command: Command) -> Result<WhatIf, Refusal> {
        let mut copy = self.clone();
        let Decided { answer, events } = copy.submit(now, command)?;
        let mut placements = BTreeMap::new();
        let mut leaving = Vec::new();
        let mut opened = Vec::new();
        let mut reclaims = Vec::new();
        for event in &events {
            match event {
                Event::Replica(replica::Event::Created { replica, .. }) => {
                    placements.extend(predicted(&copy.fleet, *replica));
                }
                Event::Replica(replica::Event::Leaving { replica, because, .. }) => {
                    leaving.push((*replica, *because));
                }
                Event::Node(node::Event::Noticed { node, notice }) => {
                    reclaims.push((node.clone(), notice.gone_at));
                }
                Event::Node(node::Event::Held { node, held_for: Some(_), .. }) => {
                    opened.push(node.clone());
                }
                _ => {}
            }
        }
        let cost_per_hour = cost(&copy.fleet, &opened, now);
        let placements = placements.into_values().collect();
        Ok(WhatIf { answer, placements, leaving, reclaims, cost_per_hour, events })
    }
}

/// Where a new replica would be, in the order of ids.
fn predicted(fleet: &Fleet, id: ReplicaId) -> Option<(ReplicaId, Predicted)> {
    let row = fleet.replica(id)?;
    let because = row.because().unwrap_or_default();
    let predicted = Predicted {
        deployment: row.deployment.clone(),
        node: row.phase.seat().map(|seat| seat.node.clone()),
        because,
    };
    Some((id, predicted))
}

/// The list price of these nodes per hour.
fn cost(fleet: &Fleet, nodes: &[NodeId], now: Timestamp) -> Option<String> {
    let mut micros = 0u64;
    for node in nodes {
        let row = fleet.node(node)?;
        let region = row.region();
        let prices = fleet
            .prices()
            .iter()
            .filter(|price| price.sku == row.sku && price.region == region && price.from <= now);
        let price = prices.max_by_key(|price| price.from)?;
        let rate = match row.sold() {
            ComputeClass::Standard => Some(&price.on_demand),
            ComputeClass::Spot => price.spot.as_ref(),
        };
        let rate: MicroRate = rate?.parse().ok()?;
        micros = micros.checked_add(rate.micros())?;
    }
    MicroRate::from_micros(micros).map(|rate| rate.to_string())
}
