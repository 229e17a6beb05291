//! What a drill would do: the nodes that it would take, what stands there and where that would go.
//!
//! Each group of nodes that may be drilled at once hears its notice on a copy of the fleet as it is
//! now, and what follows is read off: the same decisions as in the drill itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, NodeId, NoticeId, ReplicaId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::time::Timestamp;

use super::Controller;
use super::submit::drills::nodes;
use crate::fleet::Fleet;
use crate::fleet::rows::drill::{DrillRow, Run};
use crate::reconcile::drills::{obstacle, stood};
use crate::reconcile::reconcile;
use crate::words::drill::Drill;
use crate::words::event::{Event, node, replica};
use crate::words::node::NoticeFact;

/// More nodes than anybody reads; what comes after them is not looked at.
const MOST_NODES: usize = 100;

/// A node that a drill would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// Which.
    pub node: NodeId,
    /// Why it could not begin now, one sentence.
    pub waits: Option<String>,
    /// What stands there.
    pub replicas: Vec<Moved>,
}

/// A replica on a node that a drill would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Which.
    pub replica: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Where its successor would stand; absent where none would be placed.
    pub goes_to: Option<NodeId>,
    /// Why there, or why nowhere.
    pub because: String,
}

impl Controller {
    /// The nodes of a drill in the order in which they would begin; none where the scope is empty.
    pub(super) fn drilled(&self, now: Timestamp, drill: &Drill) -> Vec<Drilled> {
        let nodes = nodes(&self.fleet, &drill.scope).unwrap_or_default();
        let row = DrillRow {
            drill: drill.clone(),
            created_at: now,
            runs: nodes.iter().map(|node| (node.clone(), Run::Waiting)).collect(),
            aborted: None,
            finished_at: None,
            worse: None,
        };
        let shown = nodes.into_iter().take(MOST_NODES);
        let judged = shown.map(|node| (obstacle(&self.fleet, &row, &node), node));
        let (fit, kept_back): (Vec<_>, Vec<_>) = judged.partition(|(because, _)| because.is_none());
        let fit: Vec<NodeId> = fit.into_iter().map(|(_, node)| node).collect();
        let at_once = usize::try_from(drill.budget.at_once).unwrap_or(usize::MAX).max(1);
        let groups = fit.chunks(at_once);
        let mut drilled: Vec<Drilled> =
            groups.flat_map(|group| self.leave_together(now, drill, group)).collect();
        drilled.extend(kept_back.into_iter().map(|(waits, node)| {
            let here = stood(&self.fleet, &node).into_iter();
            let because = "the node would not begin as things are now";
            let replicas = here.map(|stood| Moved {
                replica: stood.replica,
                deployment: stood.deployment,
                goes_to: None,
                because: because.to_owned(),
            });
            Drilled { replicas: replicas.collect(), node, waits }
        }));
        drilled
    }

    /// What becomes of the replicas of nodes that hear their notice at once.
    fn leave_together(&self, now: Timestamp, drill: &Drill, group: &[NodeId]) -> Vec<Drilled> {
        let mut copy = self.clone();
        let mut plan = copy.plan(now);
        let gone_at = plan.now + drill.profile.window();
        for node in group {
            let notice = NoticeFact {
                id: NoticeId::new(format!("drill-{}-{node}", drill.id)),
                kind: NoticeKind::Preempt,
                source: NoticeSource::Drill,
                leaves: Leaves::Replicas,
                heard_at: plan.now,
                drain_at: gone_at,
                gone_at,
            };
            plan.record(node::Event::Noticed { node: node.clone(), notice });
        }
        reconcile(&mut plan);
        let mut successors: BTreeMap<DeploymentId, Vec<ReplicaId>> = BTreeMap::new();
        for event in plan.events {
            if let Event::Replica(replica::Event::Created { replica, deployment, .. }) = event {
                successors.entry(deployment).or_default().push(replica);
            }
        }
        let fleet = &copy.fleet;
        let mut moved: BTreeMap<ReplicaId, Moved> = BTreeMap::new();
        let mut drilled = Vec::new();
        for node in group {
            let mut replicas = Vec::new();
            for stood in stood(&self.fleet, node) {
                // One that stands on several of the nodes has one successor.
                let entry = moved.entry(stood.replica).or_insert_with(|| {
                    let made = successors.get_mut(&stood.deployment);
                    let successor = made.filter(|all| !all.is_empty()).map(|all| all.remove(0));
                    goes(fleet, stood.replica, stood.deployment.clone(), successor)
                });
                replicas.push(entry.clone());
            }
            drilled.push(Drilled { node: node.clone(), waits: None, replicas });
        }
        drilled
    }
}

fn goes(
    fleet: &Fleet,
    replica: ReplicaId,
    deployment: DeploymentId,
    successor: Option<ReplicaId>,
) -> Moved {
    let row = successor.and_then(|id| fleet.replica(id));
    let goes_to = row.and_then(|row| row.phase.seat()).map(|seat| seat.node.clone());
    let because = match row {
        Some(row) => row.because().unwrap_or_else(|| "it would be placed at once".to_owned()),
        None => "no successor is made before it has left".to_owned(),
    };
    Moved { replica, deployment, goes_to, because }
}
