//! Facts against the rules: a fleet of its own that facts are applied to, and what each fact must
//! not do. Shares no code with the decisions: it reads rows and counts.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_scheduler_core::fleet::rows::deployment::DeploymentRow;
use wharfage_scheduler_core::fleet::rows::node::NodeRow;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::deployment::Spec;
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::words::node::{Intent, Reach};
use wharfage_scheduler_core::words::replica::{Move, Phase, Seat};
use wharfage_scheduler_core::{Event, Fleet, invariants};
use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::health::{Ask, Asked};
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::{Millis, Timestamp};

use super::ends::nobody_may_place;
use crate::stage::Stage;
use crate::story;

/// With at most so many rows the whole fleet is checked after each record.
const SMALL: usize = 512;

/// A larger one is checked after so many more records that checking costs a like share of the time;
/// each fact is judged by itself always.
const ROWS_PER_RECORD: usize = 8;

/// The fleet that the facts make, and what is remembered of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub fleet: Fleet,
    /// Nodes that the last record was about.
    pub touched: BTreeSet<NodeId>,
    /// Changes of the desired count, by deployment.
    pub scaled: BTreeMap<DeploymentId, Vec<Millis>>,
    unchecked: usize,
    rows: usize,
}

impl Facts {
    /// Applies one record's facts, each judged when it has become true.
    pub fn take(&mut self, stage: &mut Stage, events: &[Event]) {
        self.touched.clear();
        for event in events {
            self.before(stage, event);
            let committed = self.committed_before(event);
            self.fleet.apply(event);
            self.after(stage, event, committed);
            if stage.trace.keeps_lines()
                && let Some((node, text)) = story::line(&self.fleet, event)
            {
                stage.trace.line(stage.now, node, text);
            }
        }
        self.unchecked += 1;
        if self.unchecked > self.seldom() {
            self.unchecked = 0;
            let fleet = &self.fleet;
            self.rows =
                fleet.nodes().count() + fleet.replicas().count() + fleet.meter().closed.len();
            self.whole(stage);
        }
    }

    /// After how many changes a look at everything is due.
    pub fn seldom(&self) -> usize {
        if self.rows <= SMALL { 0 } else { self.rows / ROWS_PER_RECORD }
    }

    /// The core's own statement of its rules, on the fleet that facts made.
    pub fn whole(&self, stage: &mut Stage) {
        for violation in invariants::check(&self.fleet) {
            stage.broken(&violation.rule, violation.found);
        }
        self.one_holder(stage);
    }

    /// S1 as rows say it: no two replicas that are not proven gone share a slot.
    fn one_holder(&self, stage: &mut Stage) {
        let mut holders: BTreeMap<(&NodeId, &GpuUuid), ReplicaId> = BTreeMap::new();
        for replica in self.fleet.replicas() {
            let Some(seat) = replica.phase.holds() else { continue };
            let closed = matches!(replica.phase, Phase::Stopped { .. });
            // What a gang's member held that is gone is free once the whole was closed.
            let held = seat.members().filter(|(node, _)| !closed || !replica.is_gone_from(node));
            for (node, gpu) in held.flat_map(|(node, gpus)| gpus.iter().map(move |gpu| (node, gpu)))
            {
                if let Some(other) = holders.insert((node, gpu), replica.id) {
                    let found = format!("{other} and {} both hold {gpu} of {node}", replica.id);
                    stage.broken("S1", found);
                }
            }
        }
    }

    fn before(&mut self, stage: &mut Stage, event: &Event) {
        if let Event::Node(event::node::Event::EpochIssued { node, epoch, .. }) = event
            && let Some(known) = self.fleet.node(node)
            && *epoch <= known.epoch
        {
            stage.broken("S9", format!("{node} is given epoch {} again", epoch.0));
        }
        let nodes = self.nodes_of(event);
        self.touched.extend(nodes);
    }

    fn nodes_of(&self, event: &Event) -> Vec<NodeId> {
        match event {
            Event::Node(event) => event.node().cloned().into_iter().collect(),
            Event::Replica(event::replica::Event::Placed { seat, .. })
            | Event::Replica(event::replica::Event::Promised { seat, .. })
            | Event::Replica(event::replica::Event::RoomMade { seat, .. }) => {
                seat.nodes().cloned().collect()
            }
            Event::Replica(event) => {
                let row = self.fleet.replica(event.replica());
                row.into_iter().flat_map(|row| row.nodes().cloned()).collect()
            }
            Event::Claim(event::claim::Event::Bound { node, .. })
            | Event::Claim(event::claim::Event::Released { node, .. }) => vec![node.clone()],
            Event::Drill(event) => event.node().cloned().into_iter().collect(),
            Event::Term { .. }
            | Event::Deployment(_)
            | Event::Gateway(_)
            | Event::Claim(_)
            | Event::Money(_)
            | Event::Access(_)
            | Event::Meter(_)
            | Event::Request(_) => Vec::new(),
        }
    }

    fn after(&mut self, stage: &mut Stage, event: &Event, committed: Option<u32>) {
        match event {
            Event::Replica(event::replica::Event::RoomMade { replica, moves, .. }) => {
                self.makes_room(stage, *replica, moves);
            }
            Event::Replica(event::replica::Event::Placed { replica, .. }) => {
                self.started(stage, *replica);
            }
            Event::Replica(event::replica::Event::Promised { replica, victims, .. }) => {
                self.promised(stage, *replica, victims);
            }
            Event::Node(event::node::Event::Held { node, held_for: Some(_), .. })
            | Event::Claim(event::claim::Event::Bound { node, .. }) => {
                self.opened(stage, node, committed);
            }
            Event::Money(event::money::Event::Signed { contract, .. }) => {
                let (region, sku) = (contract.region.clone(), contract.sku.clone());
                self.signed(stage, &region, &sku, contract.start, contract.end);
            }
            Event::Deployment(event::deployment::Event::Scaled { deployment, .. }) => {
                self.scaled.entry(deployment.clone()).or_default().push(stage.now);
            }
            Event::Term { .. } => {
                self.touched = self.fleet.nodes().map(|node| node.id.clone()).collect();
            }
            Event::Node(_)
            | Event::Replica(_)
            | Event::Deployment(_)
            | Event::Gateway(_)
            | Event::Claim(_)
            | Event::Drill(_)
            | Event::Money(_)
            | Event::Access(_)
            | Event::Meter(_)
            | Event::Request(_) => {}
        }
    }

    /// A replica was given a seat: S2, S3, S6.
    fn started(&self, stage: &mut Stage, id: ReplicaId) {
        let Some(replica) = self.fleet.replica(id) else {
            return stage.broken("S7", format!("{id} was placed and has no row"));
        };
        let Some(deployment) = self.fleet.deployment(&replica.deployment) else {
            return stage
                .broken("S2", format!("{id} was placed for a deployment that is not there"));
        };
        self.within_max(stage, deployment, id);
        let spec = deployment.revisions.get(&replica.revision).unwrap_or(&deployment.spec);
        for node in replica.nodes() {
            match self.fleet.node(node) {
                Some(node) => self.started_on(stage, replica, spec, node),
                None => {
                    let found = format!("{id} was placed on a node that is not there");
                    stage.broken("S6", found);
                }
            }
        }
        self.same_gpus(stage, replica, spec);
    }

    /// The same of one of its nodes.
    fn started_on(&self, stage: &mut Stage, replica: &ReplicaRow, spec: &Spec, node: &NodeRow) {
        let id = replica.id;
        if let Some(why) = nobody_may_place(node) {
            stage.broken("S6", format!("{id} is placed on {}, which {why}", node.id));
        }
        if !class_allows(spec, node) {
            let sold = node.compute_class;
            stage.broken("S3", format!("{id} is placed on {}, sold as {sold}", node.id));
        }
        if node.sku != spec.sku || spec.zone.as_ref().is_some_and(|zone| *zone != node.zone) {
            stage.broken("S3", format!("{id} is placed on {}: another type or zone", node.id));
        }
        let served = node.held_for.as_ref().map(|held| &held.organization);
        if served.is_some_and(|served| *served != replica.organization) {
            let found = format!("{id} is placed on {}, which serves another", node.id);
            stage.broken("S1", found);
        }
    }

    fn same_gpus(&self, stage: &mut Stage, replica: &ReplicaRow, spec: &Spec) {
        let Some(seat) = replica.phase.seat() else { return };
        let gpus = seat.members().flat_map(|(_, gpus)| gpus);
        let distinct: BTreeSet<_> = gpus.collect();
        if distinct.len() != usize::from(spec.gpus.get()) {
            let found =
                format!("{} asks for {} GPUs and has {distinct:?}", replica.id, spec.gpus.get());
            stage.broken("S1", found);
        }
    }

    fn within_max(&self, stage: &mut Stage, deployment: &DeploymentRow, id: ReplicaId) {
        let rows: Vec<&ReplicaRow> = self.fleet.replicas_of(&deployment.id).collect();
        let counted: Vec<&&ReplicaRow> = rows.iter().filter(|row| self.counts(row)).collect();
        let outdated = |row: &&&ReplicaRow| {
            let mut nodes = row.nodes().filter_map(|node| self.fleet.node(node));
            let forbidden = nodes.any(|node| !class_allows(&deployment.spec, node));
            row.revision != deployment.revision || forbidden
        };
        let mixed = counted.iter().any(outdated);
        let surge = if mixed { deployment.spec.extension.rollout.max_surge } else { 0 };
        let most = deployment.spec.scaling.bounds.max() + surge;
        if counted.len() > most as usize {
            let found = format!(
                "{id} is started as number {} of {}, whose max is {most}",
                counted.len(),
                deployment.spec.name
            );
            stage.broken("S2", found);
        }
        if deployment.deleting.is_some() || deployment.spec.disabled {
            let found = format!("{id} is started for {}, which is off", deployment.spec.name);
            stage.broken("S2", found);
        }
    }

    /// Whether a replica counts against `max`: it stands, does not leave, and its node neither.
    fn counts(&self, replica: &ReplicaRow) -> bool {
        let seat = replica.phase.seat().filter(|_| matches!(replica.phase, Phase::Placed { .. }));
        seat.is_some_and(|seat| seat.nodes().all(|node| self.stays_on(replica, seat, node)))
    }

    fn stays_on(&self, replica: &ReplicaRow, seat: &Seat, node: &NodeId) -> bool {
        let Some(node) = self.fleet.node(node) else { return false };
        let seen = replica.seen_on(&node.id);
        let has_ended = matches!(seen, Some(ReportedPhase::Stopping | ReportedPhase::Quarantined));
        // What a node's agent asks to be moved for a repair stands in nobody's way either.
        let drains = node.asks.iter().map(|fact| &fact.ask).filter(|a| a.what == Asked::Drain);
        let gpus = seat.gpus_on(&node.id);
        let here = |ask: &Ask| ask.gpu.as_ref().is_none_or(|gpu| gpus.contains(gpu));
        let braked = self.fleet.brakes().count() > 0;
        let meant = |ask: &&Ask| here(ask) && (seat.size() > 1 || !ask.only_multi_gpu);
        let moves = !braked && drains.filter(meant).count() > 0;
        !has_ended
            && !moves
            && replica.moving.is_none()
            && node.reach != Reach::Lost
            && node.notices.is_empty()
            && node.departed_at.is_none()
            && !matches!(node.intent, Intent::Draining { .. } | Intent::Retired)
    }

    /// A seat is kept: S4 for whoever leaves for it, S6 for the node.
    fn promised(&self, stage: &mut Stage, id: ReplicaId, victims: &[ReplicaId]) {
        let Some(winner) = self.fleet.replica(id) else { return };
        let priority =
            |row: &ReplicaRow| self.fleet.deployment(&row.deployment).map(|d| d.spec.priority);
        for victim in victims.iter().filter_map(|id| self.fleet.replica(*id)) {
            if victim.organization != winner.organization {
                stage
                    .broken("S4", format!("{} of another organization leaves for {id}", victim.id));
            }
            if priority(victim) >= priority(winner) {
                stage.broken("S4", format!("{} leaves for {id} of no higher priority", victim.id));
            }
        }
        for node in winner.nodes().filter_map(|node| self.fleet.node(node)) {
            let Some(why) = nobody_may_place(node) else { continue };
            stage.broken("S6", format!("a seat on {} is kept for {id}, which {why}", node.id));
        }
    }

    /// Others make room: S4, none of another organization or of a higher priority does; S6 for the
    /// node.
    fn makes_room(&self, stage: &mut Stage, id: ReplicaId, moves: &[Move]) {
        let Some(winner) = self.fleet.replica(id) else { return };
        let priority =
            |row: &ReplicaRow| self.fleet.deployment(&row.deployment).map(|d| d.spec.priority);
        for mover in moves.iter().filter_map(|of| self.fleet.replica(of.replica)) {
            if mover.organization != winner.organization || priority(mover) > priority(winner) {
                stage.broken("S4", format!("{} moves for {id}, which may not ask it", mover.id));
            }
        }
        let node = winner.node().and_then(|node| self.fleet.node(node));
        if let Some(why) = node.and_then(nobody_may_place) {
            stage.broken("S6", format!("room is made for {id} on a node which {why}"));
        }
    }

    fn committed_before(&self, event: &Event) -> Option<u32> {
        match event {
            Event::Node(event::node::Event::Held { node, held_for: Some(_), .. })
            | Event::Claim(event::claim::Event::Bound { node, .. }) => {
                let node = self.fleet.node(node)?;
                Some(self.committed(&node.region(), &node.sku).1)
            }
            _ => None,
        }
    }

    /// (usable, committed) of standard instances, counted from rows.
    fn committed(&self, region: &Region, sku: &Sku) -> (u32, u32) {
        let mut usable = 0;
        let mut by_organization: BTreeMap<&OrganizationId, Shares> = BTreeMap::new();
        for node in self.fleet.nodes() {
            let is_of = node.sku == *sku && node.region() == *region;
            let standard = node.compute_class == ComputeClass::Standard && node.owner.is_none();
            // What serves somebody stays theirs until it is lost, whatever else is said of it.
            let is_there = node.reach != Reach::Lost && node.departed_at.is_none();
            let serves = (node.held_for.is_some() || node.claimed.is_some()) && is_there;
            // What is idle and not whole is promised to nobody.
            let whole = node.slots.iter().all(|slot| {
                let taken = slot.holder.or(slot.promised).or(slot.orphan);
                taken.is_none() && slot.unfit.is_none()
            });
            if !is_of || !standard || !(serves || (whole && nobody_may_place(node).is_none())) {
                continue;
            }
            usable += 1;
            match (&node.claimed, &node.held_for) {
                (Some(claimed), _) => {
                    let shares = by_organization.entry(&claimed.organization).or_default();
                    match claimed.capacity_type {
                        CapacityType::Serverless => shares.serverless += 1,
                        CapacityType::Customer => shares.used += 1,
                    }
                }
                (None, Some(held)) if held.compute_class == ComputeClass::Standard => {
                    by_organization.entry(&held.organization).or_default().used += 1;
                }
                (None, _) => {}
            }
        }
        for row in self.fleet.contracts().filter(|row| row.in_force) {
            if row.contract.region == *region && row.contract.sku == *sku {
                let shares = by_organization.entry(&row.contract.organization).or_default();
                shares.contracts += row.contract.instances;
            }
        }
        let each = by_organization.values();
        let committed = each.map(|shares| shares.contracts.max(shares.used) + shares.serverless);
        (usable, committed.sum())
    }

    /// A node began to serve somebody: S10, an oversold guarantee is not made worse.
    fn opened(&self, stage: &mut Stage, id: &NodeId, before: Option<u32>) {
        let Some(node) = self.fleet.node(id) else { return };
        if node.compute_class == ComputeClass::Spot {
            return;
        }
        let (usable, after) = self.committed(&node.region(), &node.sku);
        if after > usable && before.is_some_and(|before| after > before) {
            let found = format!("opening {id} commits {after} of {usable} usable instances");
            stage.broken("S10", found);
        }
    }

    /// A contract was signed: at no instant of its period are more promised than there are.
    fn signed(
        &self,
        stage: &mut Stage,
        region: &Region,
        sku: &Sku,
        from: Timestamp,
        to: Timestamp,
    ) {
        let (usable, _) = self.committed(region, sku);
        let of = |row: &&wharfage_scheduler_core::fleet::ContractRow| {
            row.contract.region == *region && row.contract.sku == *sku
        };
        let contracts: Vec<_> =
            self.fleet.contracts().filter(of).map(|row| (&row.contract, row.end())).collect();
        let starts = contracts.iter().map(|(contract, _)| contract.start.max(from));
        for at in starts.filter(|at| *at < to) {
            let now = contracts.iter().filter(|(c, end)| c.start <= at && at < *end);
            let promised: u32 = now.map(|(contract, _)| contract.instances).sum();
            if promised > usable {
                let found = format!("{promised} instances are promised and {usable} are usable");
                stage.broken("S10", found);
            }
        }
    }
}

/// One organization's standard instances of a type in a region.
#[derive(Default)]
struct Shares {
    contracts: u32,
    used: u32,
    serverless: u32,
}

/// S3: whether the classes that a spec names allow how a node is held and sold. Unset is claims,
/// then on-demand; spot only by name.
pub(crate) fn class_allows(spec: &Spec, node: &NodeRow) -> bool {
    let held = node.held_for.as_ref();
    let lent = held.is_some_and(|held| held.compute_class == ComputeClass::Spot);
    let claimed = held.is_some_and(|held| held.claim.is_some());
    let class = match (node.compute_class == ComputeClass::Spot || lent, claimed) {
        (true, _) => return spec.classes.contains(&CapacityClass::Spot),
        (false, true) => CapacityClass::Reserved,
        (false, false) => CapacityClass::OnDemand,
    };
    spec.classes.is_empty() || spec.classes.contains(&class)
}
