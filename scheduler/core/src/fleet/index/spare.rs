//! What could make room: replicas that leave, and those that their deployments hold above `min`.
//!
//! Kept in the order in which a preemption takes them, so that the cheapest set is found by walking
//! from the front.

use std::cmp::Reverse;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};

use super::{is_placed, put};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::fleet::table::Table;
use crate::words::deployment::Priority;
use crate::words::replica::Phase;

/// How dear it is to take a replica's place; less is cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dearness {
    /// It leaves anyway.
    Leaving,
    /// It would have to leave: the lowest priority first, then the least work lost, then what
    /// starts soonest elsewhere.
    Placed { priority: Priority, serves: bool, since: Reverse<Timestamp>, load: Millis },
}

/// One replica whose GPUs may become free.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spare {
    pub sku: Sku,
    pub organization: OrganizationId,
    pub dearness: Dearness,
    pub replica: ReplicaId,
}

/// The spare replicas, and how many of each deployment are placed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spares {
    /// In the order in which they are taken.
    pub order: Table<Spare, ()>,
    placed: Table<DeploymentId, u32>,
}

impl Spares {
    /// Replicas of a deployment that are placed and have not been told to leave.
    pub fn placed(&self, deployment: &DeploymentId) -> u32 {
        self.placed.get(deployment).copied().unwrap_or_default()
    }

    /// Whether a deployment holds more than its `min`.
    pub fn is_above_min(&self, deployment: &DeploymentRow) -> bool {
        self.placed(&deployment.id) > deployment.spec.scaling.bounds.min()
    }

    /// A type's spare replicas of one organization, the cheapest first.
    pub fn of<'a>(
        &'a self,
        sku: &'a Sku,
        organization: &'a OrganizationId,
    ) -> impl Iterator<Item = &'a Spare> {
        let from = Spare {
            sku: sku.clone(),
            organization: organization.clone(),
            dearness: Dearness::Leaving,
            replica: ReplicaId(0),
        };
        let spares = self.order.from(&from).map(|(spare, ())| spare);
        spares.take_while(|spare| spare.sku == *sku && spare.organization == *organization)
    }
}

impl Fleet {
    /// A replica's entry, if it has one: what leaves always, what is placed while its deployment
    /// holds more than its `min`.
    fn spare_of(&self, row: &ReplicaRow) -> Option<Spare> {
        let deployment = self.deployment(&row.deployment)?;
        let dearness = match &row.phase {
            Phase::Leaving { .. } => Dearness::Leaving,
            Phase::Placed { since, ready_since, .. } => {
                if !self.index.spares.is_above_min(deployment) {
                    return None;
                }
                Dearness::Placed {
                    priority: deployment.spec.priority,
                    serves: ready_since.is_some(),
                    since: Reverse(ready_since.unwrap_or(*since)),
                    load: row.start_deadline,
                }
            }
            Phase::Pending { .. } | Phase::Promised { .. } | Phase::Stopped { .. } => return None,
        };
        Some(Spare {
            sku: self.spec_of(row)?.sku.clone(),
            organization: row.organization.clone(),
            dearness,
            replica: row.id,
        })
    }

    /// Takes a replica's entry out, or puts it in, as its row is at this moment.
    pub(super) fn put_spare(&mut self, id: ReplicaId, is_in: bool) {
        let spare = self.replica(id).and_then(|row| self.spare_of(row));
        if let Some(spare) = spare {
            put(&mut self.index.spares.order, spare, is_in);
        }
    }

    /// Keeps the count of what is placed; where the deployment comes above its `min` or back, all
    /// its replicas get entries or lose them.
    pub(super) fn count_placed(&mut self, of: &DeploymentId, was: bool, is: bool) {
        if was == is {
            return;
        }
        let above = |fleet: &Fleet| {
            fleet.deployment(of).is_some_and(|row| fleet.index.spares.is_above_min(row))
        };
        let was_above = above(self);
        let placed = self.index.spares.placed(of);
        let now = if is { placed + 1 } else { placed.saturating_sub(1) };
        let crosses = self.deployment(of).is_some_and(|row| {
            let min = row.spec.scaling.bounds.min();
            (now > min) != was_above
        });
        if crosses && was_above {
            self.put_placed(of, false);
        }
        if now == 0 {
            self.index.spares.placed.remove(of);
        } else {
            self.index.spares.placed.insert(of.clone(), now);
        }
        if crosses && !was_above {
            self.put_placed(of, true);
        }
    }

    /// The entries of a deployment's replicas that are placed.
    fn put_placed(&mut self, of: &DeploymentId, is_in: bool) {
        let placed = self.replicas_of(of).filter(|row| is_placed(row));
        let ids: Vec<ReplicaId> = placed.map(|row| row.id).collect();
        for id in ids {
            self.put_spare(id, is_in);
        }
    }

    /// All of a deployment's entries, before or after its row changes.
    pub(in crate::fleet) fn put_spares(&mut self, of: &DeploymentId, is_in: bool) {
        let ids: Vec<ReplicaId> = self.replicas_of(of).map(|row| row.id).collect();
        for id in ids {
            self.put_spare(id, is_in);
        }
    }
}
