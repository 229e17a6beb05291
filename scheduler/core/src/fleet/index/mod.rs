//! Indexes: derived from the rows, never logged, never part of a snapshot.
//!
//! They change only through `change_node` and `change_replica` (and the few tables that nothing
//! else refers to), so that a row and its index entries cannot part.

mod offers;
mod replicas;
mod spare;

use std::sync::Arc;

use self::offers::Offers;
use self::replicas::ReplicaEntries;
pub(crate) use self::spare::{Dearness, Spare, Spares};

use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{
    DeploymentId, DeploymentName, JoinId, NodeId, OrganizationId, ReplicaId, TokenId,
};
use wharfage_shared::telemetry::CachedModel;
use wharfage_shared::time::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::table::Table;
use crate::words::deployment::{ModelKey, Priority};
use crate::words::node::{Intent, Reach};

/// Everything derived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Nodes that may take something, by what they have in common, then in the order in which
    /// placement looks at them: free GPUs, then the node.
    pub seats: Table<SeatGroup, Table<(u8, NodeId), ()>>,
    /// Deployments by organization and name.
    pub names: Table<(OrganizationId, DeploymentName), DeploymentId>,
    /// How many deployments of an organization and type have which priority.
    pub priorities: Table<(OrganizationId, Sku, Priority), u32>,
    /// Nodes by type and zone.
    pub zones: Table<(Sku, Zone), ZoneCounts>,
    /// Instances by region and type.
    pub capacity: Table<(Region, Sku), Arc<Capacity>>,
    /// Standard nodes that are lent as spot.
    pub lent: Table<(Sku, Zone, NodeId), ()>,
    /// Nodes on which a health rule stops something.
    pub ruled: Table<NodeId, ()>,
    /// Nodes that may be taken away soon.
    pub hinted: Table<NodeId, ()>,
    /// Nodes by what lies in their caches.
    pub caches: Table<(ModelKey, NodeId), ()>,
    /// What nodes offer to run.
    pub offers: Offers,
    /// Nodes that have joined and are to stay.
    pub standing: u32,
    /// Replicas that are nowhere yet.
    pub pending: Table<(Sku, DeploymentId, ReplicaId), ()>,
    /// Replicas for which a seat is kept.
    pub promised: Table<(Sku, DeploymentId, ReplicaId), ()>,
    /// Replicas whose places may become free.
    pub spares: Spares,
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

/// What nodes have in common for placement: one ordered set each, in which best fit is the first of
/// a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatGroup {
    pub sku: Sku,
    pub zone: Zone,
    pub class: ComputeClass,
    /// Whom they serve now.
    pub serves: Option<OrganizationId>,
    /// A claim holds them.
    pub claimed: bool,
    /// None of their GPUs is taken.
    pub whole: bool,
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
    /// Ones that claims hold likewise.
    pub claimed: u32,
}

impl ZoneCounts {
    fn of(&mut self, takes: Takes) -> &mut u32 {
        match takes {
            Takes::Standard => &mut self.standard,
            Takes::Spot => &mut self.spot,
            Takes::Claimed => &mut self.claimed,
        }
    }
}

/// Instances of one type in one region: the ledger's terms, kept as they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Standard instances that count as usable: what is idle and lacks a GPU cannot be promised.
    pub usable: u32,
    /// The sum of committed.
    pub committed: u32,
    /// The same once everything that is called back from spot has come.
    pub coming: u32,
    /// By organization.
    pub organizations: Table<OrganizationId, Shares>,
}

/// One organization's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    /// By contracts in force.
    pub guaranteed: u32,
    /// Standard ones that serve it, those of CUSTOMER claims included.
    pub used: u32,
    /// Set aside by its SERVERLESS claims: beside its contracts.
    pub serverless: u32,
    /// Spot ones that serve it.
    pub spot: u32,
    /// Lent ones that are called back for it on demand or under a contract.
    pub called: u32,
}

impl Shares {
    /// The count of one ground.
    pub fn of(&mut self, ground: Ground) -> &mut u32 {
        match ground {
            Ground::Used => &mut self.used,
            Ground::Serverless => &mut self.serverless,
            Ground::Spot => &mut self.spot,
        }
    }

    /// The larger of what is guaranteed and what is used; SERVERLESS claims add to both.
    pub fn committed(self) -> u32 {
        self.guaranteed.max(self.used) + self.serverless
    }

    /// The same once what is called back for it has come.
    pub fn coming(self) -> u32 {
        Self { used: self.used + self.called, ..self }.committed()
    }
}

/// On whose account a provider's instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub organization: OrganizationId,
    pub ground: Ground,
}

/// As what it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Used on demand, under a contract or by a CUSTOMER claim.
    Used,
    /// Set aside by a SERVERLESS claim.
    Serverless,
    /// Sold as spot.
    Spot,
}

/// On whose account a provider's instance stands: of the claim that it is set aside for, else of
/// whom it serves; what is lost or has left serves nobody.
pub(crate) fn account(node: &NodeRow) -> Option<Account> {
    let there = node.reach != Reach::Lost && node.departed_at.is_none() && node.owner.is_none();
    if !there {
        return None;
    }
    if let Some(claimed) = &node.claimed {
        let ground = match claimed.capacity_type {
            CapacityType::Serverless => Ground::Serverless,
            CapacityType::Customer => Ground::Used,
        };
        return Some(Account { organization: claimed.organization.clone(), ground });
    }
    let held = node.held_for.as_ref()?;
    let ground = match held.compute_class {
        ComputeClass::Standard => Ground::Used,
        ComputeClass::Spot => Ground::Spot,
    };
    Some(Account { organization: held.organization.clone(), ground })
}

/// For whom an instance that no claim waits for is called back from spot.
fn called(node: &NodeRow) -> Option<&OrganizationId> {
    let of = node.called.as_ref()?.organization.as_ref()?;
    (node.is_lent() && node.claimed.is_none() && node.is_coming()).then_some(of)
}

/// Whether a standard instance counts as usable: it serves somebody now, or is whole and could.
fn is_usable(node: &NodeRow) -> bool {
    let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
    standard && (account(node).is_some() || (node.is_whole() && node.may_place().is_ok()))
}

/// What the index holds of a node.
#[derive(PartialEq, Eq)]
struct NodeEntries {
    seat: Option<(SeatGroup, u8)>,
    takes: Option<Takes>,
    usable: bool,
    account: Option<Account>,
    called: Option<OrganizationId>,
    ruled: bool,
    hinted: bool,
    lent: bool,
    stands: bool,
}

/// As what a node may take something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Standard,
    Spot,
    Claimed,
}

impl Takes {
    fn of(node: &NodeRow) -> Option<Self> {
        let allocated = node.is_allocated();
        let open = (node.owner.is_none() || allocated) && node.may_place().is_ok();
        open.then_some(match node.compute_class {
            ComputeClass::Standard if allocated => Takes::Claimed,
            ComputeClass::Standard => Takes::Standard,
            ComputeClass::Spot => Takes::Spot,
        })
    }
}

impl NodeEntries {
    fn of(node: &NodeRow) -> Self {
        let free = node.free();
        let takes = Takes::of(node);
        let group = || SeatGroup {
            sku: node.sku.clone(),
            zone: node.zone.clone(),
            class: node.sold(),
            serves: node.held_for.as_ref().map(|held| held.organization.clone()),
            claimed: node.is_allocated(),
            whole: node.is_whole(),
        };
        Self {
            seat: (takes.is_some() && free > 0).then(|| (group(), free)),
            takes,
            usable: is_usable(node),
            account: account(node),
            called: called(node).cloned(),
            ruled: !node.rules.is_empty() || node.doubts.repair.is_some(),
            hinted: node.doubts.hint.is_some(),
            lent: node.is_lent(),
            stands: node.reach != Reach::Joining && node.intent != Intent::Retired,
        }
    }
}

impl Index {
    /// Moves a node's entries from what it was to what it is.
    fn node_changed(&mut self, before: Option<NodeEntries>, node: &NodeRow) {
        let after = NodeEntries::of(node);
        if before.as_ref() == Some(&after) {
            return;
        }
        if before.as_ref().is_some_and(|before| before.ruled) != after.ruled {
            put(&mut self.ruled, node.id.clone(), after.ruled);
        }
        if before.as_ref().is_some_and(|before| before.hinted) != after.hinted {
            put(&mut self.hinted, node.id.clone(), after.hinted);
        }
        if after.lent || before.as_ref().is_some_and(|before| before.lent) {
            put(&mut self.lent, (node.sku.clone(), node.zone.clone(), node.id.clone()), after.lent);
        }
        self.standing -= u32::from(before.as_ref().is_some_and(|before| before.stands));
        self.standing += u32::from(after.stands);
        let seats = |entries: &NodeEntries| entries.seat.clone();
        let old = before.as_ref().and_then(seats);
        if old != after.seat {
            if let Some((group, free)) = old {
                self.change_seats(group, |nodes| put(nodes, (free, node.id.clone()), false));
            }
            if let Some((group, free)) = after.seat.clone() {
                self.change_seats(group, |nodes| put(nodes, (free, node.id.clone()), true));
            }
        }
        if before.as_ref().is_none_or(|before| before.takes != after.takes) {
            self.count_zone(node, before.as_ref(), &after);
        }
        let shares = |entries: &NodeEntries| {
            (entries.usable, entries.account.clone(), entries.called.clone())
        };
        if before.as_ref().map(shares) != Some(shares(&after)) {
            if let Some(before) = &before {
                self.count_capacity(node, before, false);
            }
            self.count_capacity(node, &after, true);
        }
    }

    /// Puts a deployment's entries in or takes them out.
    pub fn deployment_changed(&mut self, row: &DeploymentRow, is_in: bool) {
        let name = (row.organization.clone(), DeploymentName::new(&row.spec.name));
        let key = (row.organization.clone(), row.spec.sku.clone(), row.spec.priority);
        let count = self.priorities.get(&key).copied().unwrap_or_default();
        let count = if is_in { count + 1 } else { count.saturating_sub(1) };
        if count > 0 {
            self.priorities.insert(key, count);
        } else {
            self.priorities.remove(&key);
        }
        if is_in {
            self.names.insert(name, row.id.clone());
        } else {
            self.names.remove(&name);
        }
    }

    /// Nodes with the model in their cache, by name.
    pub fn holders(&self, model: &ModelKey) -> impl Iterator<Item = &NodeId> {
        let from = self.caches.from(&(model.clone(), NodeId::new("")));
        let keys = from.map(|((of, node), ())| (of, node));
        let model = model.clone();
        keys.take_while(move |(of, _)| **of == model).map(|(_, node)| node)
    }

    /// Moves what lies in a node's cache from what it was to what it is.
    pub fn cache_changed(&mut self, node: &NodeId, before: &[CachedModel], after: &[CachedModel]) {
        for (models, is_in) in [(before, false), (after, true)] {
            for model in models {
                let key = ModelKey { bucket: model.bucket.clone(), path: model.path.clone() };
                put(&mut self.caches, (key, node.clone()), is_in);
            }
        }
    }

    /// Every node that may take something, with what it is offered as and its free GPUs.
    pub fn seated(&self) -> impl Iterator<Item = (&SeatGroup, u8, &NodeId)> {
        self.seats
            .iter()
            .flat_map(|(group, nodes)| nodes.keys().map(move |(free, node)| (group, *free, node)))
    }

    fn change_seats(
        &mut self,
        group: SeatGroup,
        change: impl FnOnce(&mut Table<(u8, NodeId), ()>),
    ) {
        if let Some(nodes) = self.seats.get_mut(&group) {
            change(nodes);
            if nodes.is_empty() {
                self.seats.remove(&group);
            }
            return;
        }
        let mut nodes = Table::default();
        change(&mut nodes);
        self.seats.insert(group, nodes);
    }

    fn count_zone(&mut self, node: &NodeRow, before: Option<&NodeEntries>, after: &NodeEntries) {
        let key = (node.sku.clone(), node.zone.clone());
        let mut zone = self.zones.get(&key).cloned().unwrap_or_default();
        zone.nodes += u32::from(before.is_none());
        let old = before.and_then(|before| before.takes);
        if let Some(takes) = old {
            *zone.of(takes) -= 1;
        }
        if let Some(takes) = after.takes {
            *zone.of(takes) += 1;
        }
        self.zones.insert(key, zone);
    }

    fn count_capacity(&mut self, node: &NodeRow, entries: &NodeEntries, sign: bool) {
        let add = |count: u32, by: u32| if sign { count + by } else { count - by };
        let usable = u32::from(entries.usable);
        self.change_capacity(node.region(), &node.sku, |capacity| {
            capacity.usable = add(capacity.usable, usable);
        });
        if let Some(of) = &entries.called {
            self.change_shares(node.region(), &node.sku, of, |shares| {
                shares.called = add(shares.called, 1);
            });
        }
        let Some(account) = &entries.account else { return };
        self.change_shares(node.region(), &node.sku, &account.organization, |shares| {
            let count = shares.of(account.ground);
            *count = add(*count, 1);
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
            capacity.coming -= shares.coming();
            change(&mut shares);
            capacity.committed += shares.committed();
            capacity.coming += shares.coming();
            if shares == Shares::default() {
                capacity.organizations.remove(organization);
            } else {
                capacity.organizations.insert(organization.clone(), shares);
            }
        });
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
        let before = NodeEntries::of(row);
        let row = Arc::make_mut(row);
        change(row);
        row.rare.tidy();
        self.index.node_changed(Some(before), row);
    }

    /// The only way to put a node's row in, in place of what was there.
    pub(in crate::fleet) fn put_node(&mut self, row: NodeRow) {
        let row = Arc::new(row);
        let before = self.nodes.insert(row.id.clone(), Arc::clone(&row));
        self.index.offers.row_put(before.as_deref(), &row);
        let cached = before.as_ref().map(|before| before.inventory.models.as_slice());
        self.index.cache_changed(&row.id, cached.unwrap_or_default(), &row.inventory.models);
        self.index.node_changed(before.map(|before| NodeEntries::of(&before)), &row);
    }

    /// The indexes of the rows as they are: after a snapshot was read.
    pub(in crate::fleet) fn index_anew(&mut self) {
        self.index = Index::default();
        self.share_offers_anew();
        for row in self.nodes.values() {
            self.index.node_changed(None, row);
            self.index.cache_changed(&row.id, &[], &row.inventory.models);
        }
        self.count_placed_anew();
        let entries: Vec<_> = self.replicas().map(|row| self.entries_of(row)).collect();
        for entries in entries {
            self.index.replica_changed(ReplicaEntries::default(), entries);
        }
        for row in self.deployments.values() {
            self.index.deployment_changed(row, true);
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
