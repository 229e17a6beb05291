//! What a command would do: the same plan on a copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::notice::NoticeSource;
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Timestamp;

use super::cost::Cost;
use super::{Controller, Decided, Drilled, Priced};
use crate::fleet::Fleet;
use crate::words::command::drills::Action as Drills;
use crate::words::command::{Action, Answer, Command};
use crate::words::event::{Event, node, replica};
use crate::words::principal::Caller;
use crate::words::refusal::Refusal;

/// What a command would do. Of what belongs to others the caller learns the count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// What it would answer.
    pub answer: Answer,
    /// Where replicas would go that are nowhere yet, or why nowhere.
    pub placements: Vec<Predicted>,
    /// Which replicas would have to leave.
    pub leaving: Vec<Parting>,
    /// Replicas of others that would have to leave.
    pub others_leaving: u32,
    /// Which spot nodes would be taken back.
    pub reclaims: Vec<Reclaimed>,
    /// Which nodes a drill would take.
    pub drilled: Vec<Drilled>,
    /// What it would add per hour; absent where a price is not known.
    pub cost: Option<Cost>,
    /// The facts.
    pub events: Vec<Event>,
}

/// A replica that a command would make or find a place for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Where; absent = it would be pending.
    pub node: Option<NodeId>,
    /// Why there, or why nowhere.
    pub because: String,
}

/// A replica that would have to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parting {
    /// Which.
    pub replica: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// From where.
    pub node: Option<NodeId>,
    /// Why.
    pub because: StopCause,
    /// The same as one sentence, with the name of who takes its place.
    pub sentence: String,
    /// Until when it may go on.
    pub until: Timestamp,
}

/// A spot node that would be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaimed {
    /// Which.
    pub node: NodeId,
    /// When what runs there begins to leave.
    pub drain_at: Timestamp,
    /// When it ends at the latest.
    pub gone_at: Timestamp,
}

impl Controller {
    /// What a command would do, decided on a copy.
    pub fn what_if(&self, now: Timestamp, command: Command) -> Result<WhatIf, Refusal> {
        let mut copy = self.clone();
        let caller = command.caller.clone();
        let drilled = match &command.action {
            Action::Drill(Drills::Create(drill) | Drills::Schedule { drill, .. }) => {
                self.drilled(now, drill)
            }
            _ => Vec::new(),
        };
        let Priced { decided: Decided { answer, events }, cost } =
            copy.submit_priced(now, command)?;
        let fleet = &copy.fleet;
        let mut outcome = WhatIf {
            answer,
            placements: Vec::new(),
            leaving: Vec::new(),
            others_leaving: 0,
            reclaims: Vec::new(),
            drilled,
            cost,
            events: Vec::new(),
        };
        let mut placements = BTreeMap::new();
        for event in &events {
            match event {
                Event::Replica(
                    replica::Event::Created { replica, .. }
                    | replica::Event::Placed { replica, .. }
                    | replica::Event::Promised { replica, .. },
                ) => placements.extend(predicted(fleet, &caller, *replica)),
                Event::Replica(replica::Event::Leaving { replica, because, deadline, .. }) => {
                    match parting(fleet, &caller, *replica, *because, *deadline) {
                        Some(parting) => outcome.leaving.push(parting),
                        None => outcome.others_leaving += 1,
                    }
                }
                Event::Node(node::Event::Noticed { node, notice })
                    if notice.source == NoticeSource::Scheduler =>
                {
                    let (drain_at, gone_at) = (notice.drain_at, notice.gone_at);
                    outcome.reclaims.push(Reclaimed { node: node.clone(), drain_at, gone_at });
                }
                _ => {}
            }
        }
        outcome.placements = placements.into_values().collect();
        outcome.events = events;
        Ok(outcome)
    }
}

/// Where a replica of the caller's would be, in the order of ids.
fn predicted(fleet: &Fleet, caller: &Caller, id: ReplicaId) -> Option<(ReplicaId, Predicted)> {
    let row = fleet.replica(id).filter(|row| caller.sees(&row.organization))?;
    let because = row.because().unwrap_or_default();
    let predicted = Predicted {
        deployment: row.deployment.clone(),
        node: row.phase.seat().map(|seat| seat.node.clone()),
        because,
    };
    Some((id, predicted))
}

fn parting(
    fleet: &Fleet,
    caller: &Caller,
    replica: ReplicaId,
    because: StopCause,
    until: Timestamp,
) -> Option<Parting> {
    let row = fleet.replica(replica).filter(|row| caller.sees(&row.organization))?;
    Some(Parting {
        replica,
        deployment: row.deployment.clone(),
        node: row.node().cloned(),
        because,
        sentence: row.because().unwrap_or_else(|| because.to_string()),
        until,
    })
}
