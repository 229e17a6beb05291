//! What must be looked at: entities that facts touched, and entities at stated times.
//!
//! Derived, never logged. A spurious entry costs a look and changes nothing; a missing one would
//! break L2, which a property holds.

use std::collections::BTreeSet;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{ClaimId, ContractId, DeploymentId, DrillId, NodeId, PoolId, ReplicaId};
use wharfage_shared::time::Timestamp;

use super::drills::alarms;
use crate::capacity::claims::decreases_at;
use crate::capacity::standing::held_until;
use crate::fleet::Fleet;
use crate::fleet::rows::claim::ClaimRow;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::fleet::table::Table;
use crate::policies::relief::degraded_since;
use crate::policies::repair::turn_ends;
use crate::words::event::{Event, claim, deployment, drill, gateway, money, node, replica};
use crate::words::node::{Doubt, Reach};
use crate::words::policy::Policy;
use crate::words::replica::Phase;

/// Something that must be looked at at a stated time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A notice's drain or end, the end of a repair's turn.
    Node(NodeId),
    /// A back-off, a single copy's lease, the end of a degraded one's time.
    Deployment(DeploymentId),
    /// The start or the end of a contract period.
    Contract(ContractId),
    /// A decrease that waits.
    Claim(ClaimId),
}

/// What must be looked at.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    due: Due,
    alarms: Table<(Timestamp, Alarm), ()>,
    /// Start deadlines. There is one for each placement, so that each is small, and ids ascend: a
    /// new one stands beside the one before it.
    starts: Table<(Timestamp, ReplicaId), ()>,
}

/// What must be looked at now.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// Nodes that changed.
    pub nodes: BTreeSet<NodeId>,
    /// Deployments that changed, or whose replicas or their nodes did.
    pub deployments: BTreeSet<DeploymentId>,
    /// Types of which room was freed: what is blocked is tried again.
    pub freed: BTreeSet<Sku>,
    /// Types of which room went: claims look for other instances. What waits goes on waiting.
    pub shrunk: BTreeSet<Sku>,
    /// The share of nodes that a health rule hits may have changed.
    pub brakes: bool,
    /// Contracts whose period may have begun or ended.
    pub contracts: BTreeSet<ContractId>,
    /// Claims that changed.
    pub claims: BTreeSet<ClaimId>,
    /// Pools whose nodes may be more or fewer.
    pub pools: BTreeSet<PoolId>,
    /// It is time to look for moves that make room.
    pub moves: bool,
}

impl Due {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.deployments.is_empty()
            && self.freed.is_empty()
            && self.shrunk.is_empty()
            && self.contracts.is_empty()
            && self.claims.is_empty()
            && self.pools.is_empty()
            && !self.brakes
            && !self.moves
    }
}

impl Agenda {
    /// What is to be looked at now; the agenda has none of it afterwards.
    pub fn take(&mut self) -> Due {
        std::mem::take(&mut self.due)
    }

    /// The deployments that are to be looked at; the agenda has none of them afterwards.
    pub fn take_deployments(&mut self) -> BTreeSet<DeploymentId> {
        std::mem::take(&mut self.due.deployments)
    }

    /// Everything, and every alarm anew: after a start, or to see that nothing was missed.
    pub fn everything(fleet: &Fleet, policy: &Policy) -> Self {
        let mut agenda = Self::default();
        agenda.due.brakes = true;
        for node in fleet.nodes() {
            agenda.due.nodes.insert(node.id.clone());
            agenda.due.freed.insert(node.sku.clone());
            agenda.arm_node(policy, node);
        }
        for deployment in fleet.deployments() {
            agenda.due.deployments.insert(deployment.id.clone());
            agenda.due.freed.insert(deployment.spec.sku.clone());
            agenda.arm_deployment(deployment);
        }
        for replica in fleet.replicas() {
            let of = fleet.deployment(&replica.deployment);
            agenda.arm_replica(fleet, policy, of, replica);
        }
        for contract in fleet.contracts() {
            agenda.due.contracts.insert(contract.contract.id.clone());
            agenda.arm_contract(fleet, &contract.contract.id);
        }
        agenda.due.pools.extend(fleet.pool_sizes.keys().cloned());
        for claim in fleet.claims() {
            agenda.due.claims.insert(claim.id.clone());
            agenda.arm_claim(policy, claim);
        }
        for drill in fleet.active_drills() {
            agenda.note_drill(fleet, &drill.drill.id, None);
        }
        agenda
    }

    /// A drill's node, or each of them, is looked at now and when its deadlines pass.
    fn note_drill(&mut self, fleet: &Fleet, id: &DrillId, node: Option<&NodeId>) {
        let Some(row) = fleet.drill(id).filter(|row| row.finished_at.is_none()) else { return };
        for (of, run) in row.runs.iter().filter(|(of, _)| node.is_none_or(|node| node == *of)) {
            self.due.nodes.insert(of.clone());
            for at in alarms(row, run) {
                self.arm(at, Alarm::Node(of.clone()));
            }
        }
    }

    /// When the next alarm rings.
    pub fn next(&self) -> Option<Timestamp> {
        let alarm = self.alarms.first().map(|((at, _), ())| *at);
        let start = self.starts.first().map(|((at, _), ())| *at);
        [alarm, start].into_iter().flatten().min()
    }

    /// Puts what is due by now on the list of what must be looked at.
    pub fn ring(&mut self, fleet: &Fleet, now: Timestamp) {
        while let Some(key) = self.starts.first().map(|(key, ())| *key).filter(|key| key.0 <= now) {
            self.starts.remove(&key);
            let of = fleet.replica(key.1).map(|row| row.deployment.clone());
            self.due.deployments.extend(of);
        }
        while let Some(key) = self.alarms.first().map(|(key, ())| key.clone()) {
            if key.0 > now {
                return;
            }
            self.alarms.remove(&key);
            match key.1 {
                Alarm::Node(node) => {
                    self.due.nodes.extend([node]);
                    // It may be the end of a repair's turn.
                    self.due.brakes = true;
                }
                Alarm::Deployment(deployment) => self.due.deployments.extend([deployment]),
                Alarm::Contract(contract) => self.due.contracts.extend([contract]),
                Alarm::Claim(claim) => self.due.claims.extend([claim]),
            }
        }
    }

    /// A node is looked at: it may not be kept or called back for anybody any more, and what is
    /// called back may have room for others.
    pub fn let_go(&mut self, fleet: &Fleet, node: NodeId) {
        if let Some(row) = fleet.node(&node).filter(|row| row.is_lent()) {
            self.due.freed.insert(row.sku.clone());
        }
        self.due.nodes.insert(node);
    }

    /// A deployment's count is to change.
    pub fn scale(&mut self, deployment: DeploymentId) {
        self.due.deployments.insert(deployment);
    }

    /// Moves that make room are looked for.
    pub fn look_for_moves(&mut self) {
        self.due.moves = true;
    }

    /// What could not be decided at this very instant is looked at again.
    pub fn look_again(&mut self, at: Timestamp, what: Alarm) {
        self.arm(at, what);
    }

    fn arm(&mut self, at: Timestamp, alarm: Alarm) {
        self.alarms.insert((at, alarm), ());
    }

    /// Notes what a fact, just applied, may have consequences for.
    pub fn note(&mut self, fleet: &Fleet, policy: &Policy, event: &Event) {
        match event {
            Event::Node(event) => self.note_node(fleet, policy, event),
            Event::Replica(event) => self.note_replica(fleet, policy, event),
            Event::Deployment(event) => self.note_deployment(fleet, policy, event),
            Event::Gateway(event) => self.note_gateway(fleet, event),
            Event::Claim(event) => self.note_claim(fleet, policy, event),
            // It is measured once nothing else follows, and nothing follows from it.
            Event::Drill(drill::Event::Holds { .. }) => {}
            Event::Drill(event) => self.note_drill(fleet, event.drill(), event.node()),
            Event::Money(event) => match event {
                money::Event::Signed { contract, .. } => {
                    self.due.contracts.insert(contract.id.clone());
                    self.arm_contract(fleet, &contract.id);
                }
                money::Event::Amended { contract, by, .. } => {
                    for id in [contract, &by.id] {
                        self.due.contracts.insert(id.clone());
                        self.arm_contract(fleet, id);
                    }
                }
                money::Event::ContractStarted { contract, .. }
                | money::Event::ContractEnded { contract, .. } => {
                    let sku = fleet.contract(contract).map(|row| row.contract.sku.clone());
                    self.due.freed.extend(sku);
                }
                money::Event::PriceSet { .. } | money::Event::InvoiceDrafted { .. } => {}
            },
            Event::Term { .. } | Event::Access(_) | Event::Meter(_) | Event::Request(_) => {}
        }
    }

    fn note_node(&mut self, fleet: &Fleet, policy: &Policy, event: &node::Event) {
        if let node::Event::BrakePulled { .. } | node::Event::BrakeReleased { .. } = event {
            // What was to be emptied is not any more, or is again; repairs may begin.
            self.due.brakes = true;
            for node in fleet.nodes().filter(|node| !node.asks.is_empty()) {
                self.due.nodes.insert(node.id.clone());
                self.due.freed.insert(node.sku.clone());
                let on_it = fleet.replicas_on(&node.id);
                self.due.deployments.extend(on_it.map(|replica| replica.deployment.clone()));
            }
            return;
        }
        if let node::Event::PoolSized { pool, .. } = event {
            self.due.pools.insert(pool.clone());
        }
        let Some(node) = event.node().and_then(|id| fleet.node(id)) else { return };
        if changes_pools(event) && fleet.pool_sizes.contains(&node.pool) {
            self.due.pools.insert(node.pool.clone());
        }
        self.due.brakes |= changes_shares(event);
        if let node::Event::Held { held_for: Some(_), .. } = event {
            // Placement takes it into use: what is placed there follows in the same step.
            return;
        }
        self.due.nodes.insert(node.id.clone());
        let rooms = if shrinks(event) { &mut self.due.shrunk } else { &mut self.due.freed };
        rooms.insert(node.sku.clone());
        self.arm_node(policy, node);
        match event {
            node::Event::ReachChanged { .. }
            | node::Event::IntentChanged { .. }
            | node::Event::HardwareJudged { .. }
            | node::Event::Noticed { .. }
            | node::Event::NoticeEnded { .. }
            | node::Event::Doubted { doubt: Doubt::LeavesEarly | Doubt::HintOver, .. }
            | node::Event::Departed { .. } => {
                for replica in fleet.replicas_on(&node.id) {
                    self.due.deployments.insert(replica.deployment.clone());
                    let of = fleet.deployment(&replica.deployment);
                    self.arm_replica(fleet, policy, of, replica);
                }
            }
            node::Event::PoolCreated { .. }
            | node::Event::PoolSized { .. }
            | node::Event::PoolCounted { .. }
            | node::Event::BrakePulled { .. }
            | node::Event::BrakeReleased { .. }
            | node::Event::Enrolled { .. }
            | node::Event::RejoinAllowed { .. }
            | node::Event::EpochIssued { .. }
            | node::Event::InventoryReported { .. }
            | node::Event::HealthChanged { .. }
            | node::Event::Doubted { .. }
            | node::Event::Held { .. }
            | node::Event::Called { .. }
            | node::Event::CallEnded { .. }
            | node::Event::Lendable { .. }
            | node::Event::OrphanFound { .. }
            | node::Event::OrphanGone { .. } => {}
        }
    }

    fn note_replica(&mut self, fleet: &Fleet, policy: &Policy, event: &replica::Event) {
        if is_seen_to(event) {
            return;
        }
        let Some(row) = fleet.replica(event.replica()) else { return };
        match event {
            replica::Event::Placed { .. } => {
                let of = fleet.deployment(&row.deployment);
                self.wake_for(of);
                return self.arm_replica(fleet, policy, of, row);
            }
            // Those that move count no more, or count again.
            replica::Event::RoomMade { .. }
            | replica::Event::PromiseWithdrawn { .. }
            | replica::Event::Dropped { .. } => {
                let movers = row.took_from.iter().filter_map(|mover| fleet.replica(*mover));
                self.due.deployments.extend(movers.map(|mover| mover.deployment.clone()));
            }
            replica::Event::Blocked { .. }
            | replica::Event::Awaits { .. }
            | replica::Event::Created { .. }
            | replica::Event::Promised { .. }
            | replica::Event::GoesBack { .. }
            | replica::Event::Stays { .. }
            | replica::Event::Seen { .. }
            | replica::Event::MemberSeen { .. }
            | replica::Event::MemberGone { .. }
            | replica::Event::Leaving { .. }
            | replica::Event::Hastened { .. }
            | replica::Event::Quiet { .. }
            | replica::Event::Gone { .. }
            | replica::Event::Closed { .. } => {}
        }
        self.due.deployments.insert(row.deployment.clone());
        let node = row.node().and_then(|id| fleet.node(id));
        self.due.nodes.extend(row.nodes().cloned());
        let of = fleet.deployment(&row.deployment);
        self.arm_replica(fleet, policy, of, row);
        self.wake_for(of);
        let frees = match event {
            replica::Event::Gone { .. }
            | replica::Event::MemberGone { .. }
            | replica::Event::PromiseWithdrawn { .. }
            | replica::Event::Leaving { .. } => true,
            // What was kept for it is not any more.
            replica::Event::Dropped { .. } => true,
            replica::Event::Blocked { .. }
            | replica::Event::Awaits { .. }
            | replica::Event::Created { .. }
            | replica::Event::Promised { .. }
            | replica::Event::RoomMade { .. }
            | replica::Event::GoesBack { .. }
            | replica::Event::Stays { .. }
            | replica::Event::Placed { .. }
            | replica::Event::Seen { .. }
            | replica::Event::MemberSeen { .. }
            | replica::Event::Hastened { .. }
            | replica::Event::Quiet { .. }
            | replica::Event::Closed { .. } => false,
        };
        if frees {
            // What has ended may outlive its deployment.
            let of_node = node.map(|node| node.sku.clone());
            let sku = of_node.or_else(|| fleet.spec_of(row).map(|spec| spec.sku.clone()));
            self.due.freed.extend(sku);
        }
    }

    /// What a deployment holds above its `min` may make room for what waits.
    fn wake_for(&mut self, of: Option<&DeploymentRow>) {
        if let Some(of) = of.filter(|of| of.is_above_min()) {
            self.due.freed.insert(of.spec.sku.clone());
        }
    }

    /// An instance that is bound, taken into use or given back is new or less room for others.
    fn note_claim(&mut self, fleet: &Fleet, policy: &Policy, event: &claim::Event) {
        let Some(row) = event.claim().and_then(|id| fleet.claim(id)) else { return };
        match event {
            claim::Event::Bound { node, .. } | claim::Event::Released { node, .. } => {
                self.due.nodes.insert(node.clone());
                self.due.freed.insert(row.spec.sku.clone());
                let on_it = fleet.replicas_on(node);
                self.due.deployments.extend(on_it.map(|replica| replica.deployment.clone()));
            }
            claim::Event::Created { .. }
            | claim::Event::Resized { .. }
            | claim::Event::Deleted { .. } => {
                self.due.claims.insert(row.id.clone());
            }
            claim::Event::Granted { .. }
            | claim::Event::Filled { .. }
            | claim::Event::QuotaSet { .. } => {}
        }
        self.arm_claim(policy, row);
    }

    fn note_deployment(&mut self, fleet: &Fleet, policy: &Policy, event: &deployment::Event) {
        let id = event.deployment();
        if let deployment::Event::Scaled { .. } = event {
            // The level step follows at once.
            return;
        }
        self.due.deployments.insert(id.clone());
        if let Some(row) = fleet.deployment(id) {
            self.arm_deployment(row);
        }
        match event {
            // Another `min` or priority: its replicas may have to make room.
            deployment::Event::Replaced { .. } | deployment::Event::SettingsChanged { .. } => {
                let sku = fleet.deployment(id).map(|row| row.spec.sku.clone());
                self.due.freed.extend(sku);
            }
            deployment::Event::Created { .. }
            | deployment::Event::Scaled { .. }
            | deployment::Event::BackedOff { .. }
            | deployment::Event::Deleted { .. }
            | deployment::Event::Removed { .. } => {}
        }
        if let deployment::Event::Replaced { .. } = event {
            for replica in fleet.replicas_of(id) {
                self.arm_replica(fleet, policy, fleet.deployment(id), replica);
            }
        }
    }

    /// The zones of a gateway limit its deployments.
    fn note_gateway(&mut self, fleet: &Fleet, event: &gateway::Event) {
        let gateway::Event::Replaced { gateway, .. } = event else { return };
        let of = fleet.deployments().filter(|row| row.spec.gateways.contains(gateway));
        self.due.deployments.extend(of.map(|row| row.id.clone()));
    }

    fn arm_node(&mut self, policy: &Policy, node: &NodeRow) {
        if let Some(repair) = node.doubts.repair {
            self.arm(turn_ends(policy, repair), Alarm::Node(node.id.clone()));
        }
        if let Some(called) = &node.called {
            self.arm(called.at + policy.lend_again_after(), Alarm::Node(node.id.clone()));
        }
        for notice in node.notices.values() {
            for at in [notice.drain_at, notice.gone_at] {
                self.arm(at, Alarm::Node(node.id.clone()));
            }
        }
    }

    fn arm_deployment(&mut self, deployment: &DeploymentRow) {
        if let Some(until) = deployment.backoff_until {
            self.arm(until, Alarm::Deployment(deployment.id.clone()));
        }
    }

    fn arm_replica(
        &mut self,
        fleet: &Fleet,
        policy: &Policy,
        of: Option<&DeploymentRow>,
        replica: &ReplicaRow,
    ) {
        let alarm = || Alarm::Deployment(replica.deployment.clone());
        match &replica.phase {
            Phase::Placed { since, .. } if !replica.was_ready => {
                self.starts.insert((*since + replica.start_deadline, replica.id), ());
            }
            Phase::Placed { since, .. } => {
                // It has been ready: its start is over.
                self.starts.remove(&(*since + replica.start_deadline, replica.id));
                if let Some(since) = degraded_since(replica) {
                    let patience = policy.give_up_degraded_after();
                    self.arm(since + patience, alarm());
                    self.arm(since + patience + patience, alarm());
                }
            }
            Phase::Leaving { seat, leaving, .. } if seat.is_gang() => {
                self.arm(leaving.deadline, alarm());
            }
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Leaving { .. }
            | Phase::Stopped { .. } => {}
        }
        // What decides is the deployment's word of today, whatever the replica was started with.
        let single = of.is_some_and(|of| of.spec.extension.single_copy);
        if single && let Some(Some(until)) = held_until(fleet, policy, replica) {
            self.arm(until, alarm());
        }
    }

    fn arm_claim(&mut self, policy: &Policy, claim: &ClaimRow) {
        if let Some(at) = decreases_at(policy, claim, Timestamp(0)) {
            self.arm(at, Alarm::Claim(claim.id.clone()));
        }
    }

    fn arm_contract(&mut self, fleet: &Fleet, id: &ContractId) {
        let Some(row) = fleet.contract(id) else { return };
        for at in [row.contract.start, row.end()] {
            self.arm(at, Alarm::Contract(id.clone()));
        }
    }
}

/// Whether the step that decided it has seen to what follows: the deployment is looked at.
fn is_seen_to(event: &replica::Event) -> bool {
    matches!(
        event,
        replica::Event::Blocked { .. }
            | replica::Event::Awaits { .. }
            | replica::Event::Created { .. }
    )
}

/// Whether a fact can only take room away.
fn shrinks(event: &node::Event) -> bool {
    matches!(
        event,
        node::Event::Noticed { .. }
            | node::Event::Departed { .. }
            | node::Event::OrphanFound { .. }
            | node::Event::ReachChanged { reach: Reach::Silent | Reach::Lost, .. }
    )
}

/// Whether a fact may change how many nodes a pool has.
fn changes_pools(event: &node::Event) -> bool {
    matches!(
        event,
        node::Event::Enrolled { .. }
            | node::Event::ReachChanged { .. }
            | node::Event::IntentChanged { .. }
            | node::Event::Departed { .. }
            | node::Event::NoticeEnded { .. }
    )
}

/// Whether a fact may change how large a share of the nodes a health rule hits.
fn changes_shares(event: &node::Event) -> bool {
    matches!(
        event,
        node::Event::HardwareJudged { .. }
            | node::Event::IntentChanged { .. }
            | node::Event::Enrolled { .. }
            | node::Event::ReachChanged { .. }
    )
}
