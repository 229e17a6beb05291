//! Indexes: derived from the rows, never logged, never part of a snapshot.
//!
//! They change only through `change_node` and `change_replica` (and the few tables that nothing
//! else refers to), so that a row and its index entries cannot part.

use std::sync::Arc;

use wharfage_shared::capacity::{ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{DeploymentId, JoinId, NodeId, OrganizationId, ReplicaId, TokenId};
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::fleet::table::Table;
use crate::words::node::Reach;
use crate::words::replica::Phase;

/// Everything derived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Nodes that may take something, in the order in which placement looks at them.
    pub seats: Table<SeatKey, ()>,
    /// Nodes by type and zone.
    pub zones: Table<(Sku, Zone), ZoneCounts>,
    /// Instances by region and type.
    pub capacity: Table<(Region, Sku), Arc<Capacity>>,
    /// Replicas that are nowhere yet.
    pub pending: Table<(Sku, DeploymentId, ReplicaId), ()>,
    /// Replicas that leave and are not quiet yet.
    pub leaving: Table<ReplicaId, ()>,
    /// Replicas that have ended, in the order of their ends.
    pub stopped: Table<(Timestamp, ReplicaId), ()>,
    /// Tokens by their secrets' hashes.
    pub tokens: Table<String, TokenId>,
    /// Joins by their secrets' hashes.
    pub joins: Table<String, JoinId>,
}

/// An index is a function of the rows: two equal fleets have equal ones.
impl PartialEq for Index {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// Where a node stands in placement's order: best fit is the first of a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatKey {
    pub sku: Sku,
    pub zone: Zone,
    pub class: ComputeClass,
    /// Whom it serves now.
    pub serves: Option<OrganizationId>,
    /// None of its GPUs is taken.
    pub whole: bool,
    pub free: u8,
    pub node: NodeId,
}

/// Nodes of one type in one zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneCounts {
    /// All.
    pub nodes: u32,
    /// Standard ones that may take something or are full.
    pub standard: u32,
    /// Spot ones likewise.
    pub spot: u32,
}

/// Instances of one type in one region: the ledger's terms, kept as they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Standard instances that count as usable.
    pub usable: u32,
    /// The sum of committed.
    pub committed: u32,
    /// By organization.
    pub organizations: Table<OrganizationId, Shares>,
}

/// One organization's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    /// By contracts in force.
    pub guaranteed: u32,
    /// Standard ones that serve it.
    pub used: u32,
    /// Spot ones that serve it.
    pub spot: u32,
}

impl Shares {
    /// The larger of what is guaranteed and what is used.
    pub fn committed(self) -> u32 {
        self.guaranteed.max(self.used)
    }
}

/// Whom a provider's instance serves; what is lost or has left serves nobody.
fn serves(node: &NodeRow) -> Option<&OrganizationId> {
    let there = node.reach != Reach::Lost && node.departed_at.is_none() && node.owner.is_none();
    node.held_for.as_ref().filter(|_| there).map(|held| &held.organization)
}

/// Whether a standard instance counts as usable: it serves somebody now, or could.
fn is_usable(node: &NodeRow) -> bool {
    let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
    standard && (serves(node).is_some() || node.may_place().is_ok())
}

fn seat_key(node: &NodeRow) -> Option<SeatKey> {
    let free = node.free();
    (free > 0 && node.owner.is_none() && node.may_place().is_ok()).then(|| SeatKey {
        sku: node.sku.clone(),
        zone: node.zone.clone(),
        class: node.compute_class,
        serves: node.held_for.as_ref().map(|held| held.organization.clone()),
        whole: usize::from(free) == node.slots.len(),
        free,
        node: node.id.clone(),
    })
}

impl Index {
    /// Moves a node's entries from what it was to what it is.
    fn node_changed(&mut self, before: Option<&NodeRow>, after: Option<&NodeRow>) {
        let (old, new) = (before.and_then(seat_key), after.and_then(seat_key));
        if old != new {
            if let Some(key) = old {
                self.seats.remove(&key);
            }
            if let Some(key) = new {
                self.seats.insert(key, ());
            }
        }
        let counts = |node: &NodeRow| {
            let usable = node.may_place().is_ok() && node.owner.is_none();
            let of = |class| u32::from(usable && node.compute_class == class);
            (of(ComputeClass::Standard), of(ComputeClass::Spot))
        };
        let shares = |node: &NodeRow| (is_usable(node), serves(node).cloned());
        if before.map(counts) != after.map(counts) || before.is_none() {
            for (node, sign) in [(before, false), (after, true)] {
                let Some(node) = node else { continue };
                let (standard, spot) = counts(node);
                let zone = self.zone(node);
                for (count, by) in
                    [(&mut zone.nodes, 1), (&mut zone.standard, standard), (&mut zone.spot, spot)]
                {
                    *count = if sign { *count + by } else { *count - by };
                }
            }
        }
        if before.map(shares) != after.map(shares) {
            for (node, sign) in [(before, false), (after, true)] {
                if let Some(node) = node {
                    self.count_capacity(node, sign);
                }
            }
        }
    }

    fn zone(&mut self, node: &NodeRow) -> &mut ZoneCounts {
        let key = (node.sku.clone(), node.zone.clone());
        if !self.zones.contains(&key) {
            self.zones.insert(key.clone(), ZoneCounts::default());
        }
        self.zones.get_mut(&key).expect("it was put in above")
    }

    fn count_capacity(&mut self, node: &NodeRow, sign: bool) {
        let add = |count: u32, by: u32| if sign { count + by } else { count - by };
        let usable = u32::from(is_usable(node));
        let holder = serves(node).cloned();
        self.change_capacity(node.region(), &node.sku, |capacity| {
            capacity.usable = add(capacity.usable, usable);
        });
        let Some(organization) = holder else { return };
        self.change_shares(node.region(), &node.sku, &organization, |shares| {
            match node.compute_class {
                ComputeClass::Standard => shares.used = add(shares.used, 1),
                ComputeClass::Spot => shares.spot = add(shares.spot, 1),
            }
        });
    }

    fn change_capacity(&mut self, region: Region, sku: &Sku, change: impl FnOnce(&mut Capacity)) {
        let key = (region, sku.clone());
        if !self.capacity.contains(&key) {
            self.capacity.insert(key.clone(), Arc::default());
        }
        change(Arc::make_mut(self.capacity.get_mut(&key).expect("it was put in above")));
    }

    /// Changes one organization's instances and keeps the sum of committed.
    pub fn change_shares(
        &mut self,
        region: Region,
        sku: &Sku,
        organization: &OrganizationId,
        change: impl FnOnce(&mut Shares),
    ) {
        self.change_capacity(region, sku, |capacity| {
            let mut shares = capacity.organizations.get(organization).copied().unwrap_or_default();
            capacity.committed -= shares.committed();
            change(&mut shares);
            capacity.committed += shares.committed();
            if shares == Shares::default() {
                capacity.organizations.remove(organization);
            } else {
                capacity.organizations.insert(organization.clone(), shares);
            }
        });
    }

    fn replica_changed(
        &mut self,
        sku: &Sku,
        before: Option<&ReplicaRow>,
        after: Option<&ReplicaRow>,
    ) {
        for (row, is_in) in [(before, false), (after, true)] {
            let Some(row) = row else { continue };
            match &row.phase {
                Phase::Pending { .. } => {
                    let key = (sku.clone(), row.deployment.clone(), row.id);
                    put(&mut self.pending, key, is_in);
                }
                Phase::Leaving { leaving, .. } if !leaving.quiet => {
                    put(&mut self.leaving, row.id, is_in);
                }
                Phase::Stopped { at, .. } if row.phase.is_over() => {
                    put(&mut self.stopped, (*at, row.id), is_in);
                }
                Phase::Promised { .. }
                | Phase::Placed { .. }
                | Phase::Leaving { .. }
                | Phase::Stopped { .. } => {}
            }
        }
    }
}

fn put<K: Ord + Clone>(table: &mut Table<K, ()>, key: K, is_in: bool) {
    if is_in {
        table.insert(key, ());
    } else {
        table.remove(&key);
    }
}

impl Fleet {
    /// The only way to change a node's row.
    pub(in crate::fleet) fn change_node(&mut self, id: &NodeId, change: impl FnOnce(&mut NodeRow)) {
        let Some(row) = self.nodes.get_mut(id) else { return };
        let before = Arc::clone(row);
        change(Arc::make_mut(row));
        let after = Arc::clone(row);
        self.index.node_changed(Some(&before), Some(&after));
    }

    /// The only way to put a node's row in, in place of what was there.
    pub(in crate::fleet) fn put_node(&mut self, row: NodeRow) {
        let row = Arc::new(row);
        let before = self.nodes.insert(row.id.clone(), Arc::clone(&row));
        self.index.node_changed(before.as_deref(), Some(&row));
    }

    /// The only way to change a replica's row.
    pub(in crate::fleet) fn change_replica(
        &mut self,
        id: ReplicaId,
        change: impl FnOnce(&mut ReplicaRow),
    ) {
        let Some(row) = self.replicas.get_mut(&id) else { return };
        let before = Arc::clone(row);
        change(Arc::make_mut(row));
        let after = Arc::clone(row);
        let sku = self.sku_of(&after);
        self.index.replica_changed(&sku, Some(&before), Some(&after));
    }

    /// The only way to put a replica's row in or to take it out.
    pub(in crate::fleet) fn put_replica(&mut self, id: ReplicaId, row: Option<ReplicaRow>) {
        let row = row.map(Arc::new);
        let before = match &row {
            Some(row) => self.replicas.insert(id, Arc::clone(row)),
            None => self.replicas.remove(&id),
        };
        let Some(any) = row.as_deref().or(before.as_deref()) else { return };
        let sku = self.sku_of(any);
        self.index.replica_changed(&sku, before.as_deref(), row.as_deref());
    }

    /// The type that a replica's own spec asks for.
    fn sku_of(&self, row: &ReplicaRow) -> Sku {
        let spec = self.spec_of(row);
        spec.map_or_else(|| Sku::new(""), |spec| spec.sku.clone())
    }

    /// The indexes of the rows as they are: after a snapshot was read.
    pub(in crate::fleet) fn index_anew(&mut self) {
        self.index = Index::default();
        for row in self.nodes.values() {
            self.index.node_changed(None, Some(row));
        }
        let rows: Vec<Arc<ReplicaRow>> = self.replicas.values().cloned().collect();
        for row in rows {
            let sku = self.sku_of(&row);
            self.index.replica_changed(&sku, None, Some(&row));
        }
        for row in self.tokens.values() {
            self.index.tokens.insert(row.sha256.clone(), row.id.clone());
        }
        for row in self.joins.values() {
            self.index.joins.insert(row.sha256.clone(), row.id.clone());
        }
        for row in self.contracts.values().filter(|row| row.in_force) {
            let contract = &row.contract;
            let (sku, organization) = (&contract.sku, &contract.organization);
            self.index.change_shares(contract.region.clone(), sku, organization, |shares| {
                shares.guaranteed += contract.instances;
            });
        }
    }
}
