//! What could make room: replicas that leave, and those that their deployments hold above `min`.
//!
//! Kept in the order in which a preemption takes them, so that the cheapest set is found by walking
//! from the front.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{DeploymentId, OrganizationId, ReplicaId};
use wharfage_shared::time::{Millis, Timestamp};

use super::put;
use super::replicas::is_placed;
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

/// The spare replicas in the order in which they are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spares {
    order: Table<Spare, ()>,
}

impl Spares {
    pub(super) fn put(&mut self, spare: Option<Spare>, is_in: bool) {
        if let Some(spare) = spare {
            put(&mut self.order, spare, is_in);
        }
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

impl Spare {
    /// A replica's entry, if it has one: what leaves always, what is placed while its deployment
    /// holds more than its `min`.
    pub(super) fn of(deployment: &DeploymentRow, row: &ReplicaRow) -> Option<Self> {
        let dearness = match &row.phase {
            Phase::Leaving { .. } => Dearness::Leaving,
            Phase::Placed { since, ready_since, .. } => {
                if !deployment.is_above_min() {
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
        Some(Self {
            sku: deployment.revisions.get(&row.revision)?.sku.clone(),
            organization: row.organization.clone(),
            dearness,
            replica: row.id,
        })
    }
}

impl Fleet {
    fn spare_of(&self, row: &ReplicaRow) -> Option<Spare> {
        Spare::of(self.deployment(&row.deployment)?, row)
    }

    /// Keeps the count of what is placed; where the deployment comes above its `min` or back, all
    /// its replicas get entries or lose them.
    pub(super) fn count_placed(&mut self, of: &DeploymentId, was: bool, is: bool) {
        if was == is {
            return;
        }
        let Some(row) = self.deployment(of) else { return };
        let was_above = row.is_above_min();
        let placed = row.placed_after(is);
        let is_above = row.would_be_above_min(placed);
        if was_above && !is_above {
            self.put_spares(of, false, is_placed);
        }
        self.change_deployment(of, |row| row.placed = placed);
        if is_above && !was_above {
            self.put_spares(of, true, is_placed);
        }
    }

    /// The same counts from the rows alone.
    pub(super) fn count_placed_anew(&mut self) {
        let mut counts: BTreeMap<DeploymentId, u32> = BTreeMap::new();
        for row in self.replicas().filter(|row| is_placed(row)) {
            *counts.entry(row.deployment.clone()).or_default() += 1;
        }
        let of = |row: &DeploymentRow| counts.get(&row.id).copied().unwrap_or_default();
        let wrong = self.deployments().filter(|row| row.placed != of(row));
        let wrong: Vec<_> = wrong.map(|row| (row.id.clone(), of(row))).collect();
        for (of, placed) in wrong {
            self.change_deployment(&of, |row| row.placed = placed);
        }
    }

    /// The entries of those of a deployment's replicas that are meant, as their rows are at this
    /// moment.
    pub(in crate::fleet) fn put_spares(
        &mut self,
        of: &DeploymentId,
        is_in: bool,
        is_meant: impl Fn(&ReplicaRow) -> bool,
    ) {
        let meant = self.replicas_of(of).filter(|row| is_meant(row));
        let spares: Vec<Spare> = meant.filter_map(|row| self.spare_of(row)).collect();
        for spare in spares {
            self.index.spares.put(Some(spare), is_in);
        }
    }
}
