//! What facts about nodes do to the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::health::Ask;
use wharfage_shared::ids::{DeploymentId, GpuUuid, NodeId, NoticeId, PoolId, ReplicaId};
use wharfage_shared::notice::NoticeSource;
use wharfage_shared::order::HeldFor;
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::{Epoch, Generation};

use crate::fleet::rows::interruptions::Taken;
use crate::fleet::rows::node::{AgentStart, NodeRow, RareNode, Slot};
use crate::fleet::rows::rarely::Rarely;
use crate::fleet::rows::slots::Slots;
use crate::fleet::{Fleet, PoolCount, TypeSeen};
use crate::words::deployment::ModelKey;
use crate::words::event::node::Event;
use crate::words::node::{
    AskFact, Brake, Called, ClockOff, Doubt, Doubts, Hardware, Health, IncidentFact, Intent,
    Pulled, Reach, Repair, Repeated,
};

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::PoolCreated { pool } => {
            fleet.pools.insert(pool.id.clone(), Arc::new(pool.clone()));
        }
        Event::PoolSized { pool, size, at } => {
            let known = fleet.pool_sizes.get(pool).copied();
            let (current, queued) = known.map_or((0, 0), |known| (known.current, known.queued));
            let count = PoolCount { size: *size, current, queued, since: *at };
            fleet.pool_sizes.insert(pool.clone(), count);
        }
        Event::PoolCounted { pool, current, queued, at } => {
            if let Some(count) = fleet.pool_sizes.get_mut(pool) {
                *count = PoolCount { current: *current, queued: *queued, since: *at, ..*count };
            }
        }
        Event::Enrolled { node, pool, key, at, join: _ } => enrol(fleet, node, pool, key, *at),
        Event::RejoinAllowed { node, .. } => {
            fleet.change_node(node, |row| row.rejoin_allowed = true);
        }
        Event::EpochIssued { node, boot, nonce, epoch, .. } => fleet.change_node(node, |row| {
            row.epoch = *epoch;
            row.start = Some(AgentStart { nonce: nonce.as_str().into(), boot: boot.clone() });
        }),
        Event::ReachChanged { node, reach, at } => {
            fleet.change_node(node, |row| {
                row.reach = *reach;
                row.reach_since = *at;
            });
            if fleet.replicas_on(node).any(|replica| replica.phase.is_ready()) {
                fleet.routes_number += 1;
            }
        }
        Event::InventoryReported { node, hash, inventory } => {
            take_inventory(fleet, node, hash, inventory);
        }
        Event::HealthChanged { node, health, .. } => {
            fleet.change_node(node, |row| row.health = health.clone());
        }
        Event::HardwareJudged { node, hardware, at } => {
            fleet.change_node(node, |row| judge(row, hardware, *at));
        }
        Event::Doubted { node, doubt, at } => {
            fleet.change_node(node, |row| doubted(&mut row.doubts, doubt, *at));
        }
        Event::BrakePulled { rule, nodes, of, at } => {
            let pulled = Some(Pulled { at: *at, nodes: *nodes, of: *of });
            let known = fleet.brakes.get(rule);
            let released_at = known.and_then(|brake| brake.released_at);
            fleet.brakes.insert(rule.clone(), Brake { pulled, released_at });
        }
        Event::BrakeReleased { rule, at, because: _ } => {
            let released = Brake { pulled: None, released_at: Some(*at) };
            fleet.brakes.insert(rule.clone(), released);
        }
        Event::IntentChanged { node, intent, .. } => fleet.change_node(node, |row| {
            row.intent = intent.clone();
            row.generation = next(row.generation);
        }),
        Event::Noticed { node, notice } => fleet.change_node(node, |row| {
            if notice.source == NoticeSource::Scheduler && row.is_lent() {
                row.called = Some(Called { organization: None, at: notice.heard_at });
            }
            row.notices.insert(notice.id.clone(), notice.clone());
            row.generation = next(row.generation);
        }),
        Event::Called { node, organization, at } => {
            wait_no_more(fleet, node);
            fleet.change_node(node, |row| {
                row.called = Some(Called { organization: Some(organization.clone()), at: *at });
            });
        }
        Event::CallEnded { node, .. } => fleet.change_node(node, |row| {
            if let Some(called) = &mut row.called {
                called.organization = None;
            }
        }),
        Event::Lendable { node, .. } => fleet.change_node(node, |row| row.called = None),
        Event::NoticeEnded { node, notice, at } => end_notice(fleet, node, notice, *at),
        Event::Departed { node, at, .. } => {
            interrupted(fleet, node, *at);
            fleet.change_node(node, |row| {
                row.departed_at = Some(*at);
                row.generation = next(row.generation);
            });
        }
        Event::Held { node, held_for, at } => {
            fleet.change_node(node, |row| hold(row, held_for, *at));
        }
        Event::OrphanFound { node, replica, gpus, .. } => fleet.change_node(node, |row| {
            row.orphans.insert(*replica, gpus.clone());
            mark_orphan(row, *replica, gpus);
        }),
        Event::OrphanGone { node, replica, .. } => {
            fleet.change_node(node, |row| clear_orphan(row, *replica));
        }
    }
}

fn clear_orphan(row: &mut NodeRow, replica: ReplicaId) {
    row.orphans.remove(&replica);
    row.slots.change(|slot| {
        if slot.orphan == Some(replica) {
            let other = row.rare.orphans.iter().find(|(_, gpus)| gpus.contains(&slot.gpu));
            slot.orphan = other.map(|(id, _)| *id);
        }
    });
}

fn hold(row: &mut NodeRow, held_for: &Option<HeldFor>, at: Timestamp) {
    let whom = |held: &Option<HeldFor>| held.as_ref().map(|held| held.organization.clone());
    if whom(held_for) != whom(&row.held_for) {
        row.held_since = held_for.as_ref().map(|_| at);
    }
    row.held_for.clone_from(held_for);
    row.generation = next(row.generation);
}

fn end_notice(fleet: &mut Fleet, node: &NodeId, notice: &NoticeId, at: Timestamp) {
    let row = fleet.node(node).filter(|row| row.departed_at.is_none());
    let ended = row.and_then(|row| row.notices.get(notice));
    // What was withdrawn in time took nothing away, what has departed is counted.
    if ended.is_some_and(|ended| ended.drain_at <= at) {
        interrupted(fleet, node, at);
    }
    fleet.change_node(node, |row| {
        let ended = row.notices.remove(notice);
        if let Some(ended) = ended {
            row.past_notices.insert(notice.clone(), ended.gone_at);
        }
        row.departed_at = None;
        row.generation = next(row.generation);
    });
}

/// A node was taken away from those who used it.
fn interrupted(fleet: &mut Fleet, node: &NodeId, at: Timestamp) {
    let Some(row) = fleet.node(node) else { return };
    let of = Taken { sku: row.sku.clone(), zone: row.zone.clone(), class: row.sold() };
    let mut history = fleet.interruptions.get(&of).cloned().unwrap_or_default();
    history.add(at);
    fleet.interruptions.insert(of, history);
}

pub(super) fn next(generation: Generation) -> Generation {
    Generation(generation.0 + 1)
}

/// A new row; under a name that was given back, what the log holds of the node stays.
fn enrol(fleet: &mut Fleet, node: &NodeId, pool: &PoolId, key: &str, at: Timestamp) {
    let Some(pool) = fleet.pools.get(pool).cloned() else { return };
    let old = fleet.nodes.get(node).map(|row| NodeRow::clone(row));
    let fresh = NodeRow {
        id: node.clone(),
        pool: pool.id.clone(),
        zone: pool.zone.clone(),
        sku: pool.sku.clone(),
        compute_class: pool.compute_class,
        tenancy: pool.tenancy,
        owner: pool.owner.clone(),
        key: key.into(),
        enrolled_at: at,
        rejoin_allowed: false,
        reach: Reach::Joining,
        reach_since: at,
        health: Health::Qualifying,
        intent: Intent::Open,
        rare: Rarely::default(),
        epoch: Epoch(0),
        start: None,
        inventory_hash: Arc::default(),
        inventory: Arc::default(),
        slots: Slots::default(),
        held_for: None,
        held_since: None,
        generation: Generation(1),
        replicas: Vec::new(),
    };
    let row = match old {
        None => fresh,
        Some(old) => NodeRow {
            intent: old.intent,
            rare: enrolled_again(RareNode::clone(&old.rare)).into(),
            epoch: old.epoch,
            slots: old.slots,
            held_for: old.held_for,
            held_since: old.held_since,
            generation: next(old.generation),
            replicas: old.replicas,
            ..fresh
        },
    };
    fleet.put_node(row);
}

/// What is held against a node is held against its name: that is given anew to the same machine
/// more often than to another one.
fn enrolled_again(old: RareNode) -> RareNode {
    let doubts = Doubts { clock: None, ..old.doubts };
    RareNode { asks: Vec::new(), rules: BTreeMap::new(), doubts, ..old }
}

/// The slots of an inventory, with the holders that are known; a GPU that is held stays listed
/// even when the inventory does not name it any more.
fn slots(mut old: Vec<Slot>, inventory: &Inventory) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(inventory.gpus.len());
    for gpu in &inventory.gpus {
        let known = old.iter().position(|slot| slot.gpu == gpu.uuid);
        slots.push(match known {
            Some(at) => old.remove(at),
            None => Slot { gpu: gpu.uuid.clone(), holder: None, rare: Rarely::default() },
        });
    }
    slots.extend(old.into_iter().filter(|slot| !slot.is_free()));
    slots
}

/// What a host has, in place of what was known of it.
fn take_inventory(fleet: &mut Fleet, node: &NodeId, hash: &str, inventory: &Inventory) {
    let Some(row) = fleet.nodes.get(node) else { return };
    let before = Arc::clone(&row.inventory);
    fleet.index.cache_changed(node, &before.models, &inventory.models);
    let has = Arc::new(fleet.index.offers.exchange(&before, inventory));
    fleet.change_node(node, |row| {
        row.inventory_hash = hash.into();
        let old = std::mem::take(&mut row.slots).into_list();
        row.slots = slots(old, inventory).into();
        row.inventory = has;
    });
    measure(fleet, node, inventory);
}

/// How large models are and how much memory the type's slots have.
fn measure(fleet: &mut Fleet, node: &NodeId, inventory: &Inventory) {
    for model in &inventory.models {
        let key = ModelKey { bucket: model.bucket.clone(), path: model.path.clone() };
        if fleet.weights.get(&key) != Some(&model.bytes) {
            fleet.weights.insert(key, model.bytes);
        }
    }
    let Some(sku) = fleet.node(node).map(|row| row.sku.clone()) else { return };
    let known = fleet.types.get(&sku).copied().unwrap_or_default();
    let largest = inventory.gpus.iter().map(|gpu| gpu.memory_mib).max().unwrap_or(0);
    let slots = u8::try_from(inventory.gpus.len()).unwrap_or(u8::MAX);
    let seen = TypeSeen { slots: known.slots.max(slots), slot_mib: known.slot_mib.max(largest) };
    if seen != known {
        fleet.types.insert(sku, seen);
    }
}

/// What stood before keeps its instant.
fn judge(row: &mut NodeRow, hardware: &Hardware, at: Timestamp) {
    row.slots.change(|slot| {
        let told = hardware.unfit.get(&slot.gpu).map(String::as_str);
        if slot.unfit.as_deref() != told {
            slot.unfit = told.map(Into::into);
        }
    });
    let since = |rule: &String| row.rules.get(rule).copied().unwrap_or(at);
    row.rules = hardware.rules.iter().map(|rule| (rule.clone(), since(rule))).collect();
    let known = std::mem::take(&mut row.asks);
    let is_same = |known: &AskFact, ask: &Ask| {
        known.ask.incident == ask.incident && known.ask.what == ask.what && known.ask.gpu == ask.gpu
    };
    let fact = |ask: &Ask| AskFact {
        at: known.iter().find(|known| is_same(known, ask)).map_or(at, |known| known.at),
        ask: ask.clone(),
    };
    row.asks = hardware.asks.iter().map(fact).collect();
}

/// So many incidents are remembered: more than any count that closes a node.
const INCIDENTS_KEPT: usize = 64;

fn doubted(doubts: &mut Doubts, doubt: &Doubt, at: Timestamp) {
    match doubt {
        Doubt::ClockOff { ahead_ms } => {
            let since = doubts.clock.map_or(at, |off| off.at);
            doubts.clock = Some(ClockOff { ahead_ms: *ahead_ms, at: since });
        }
        Doubt::ClockRight => doubts.clock = None,
        Doubt::Incident { name } => {
            doubts.incidents.push(IncidentFact { name: name.clone(), at });
            let beyond = doubts.incidents.len().saturating_sub(INCIDENTS_KEPT);
            doubts.incidents.drain(..beyond);
        }
        Doubt::Repeated { incidents, days } => {
            doubts.repeated = Some(Repeated { incidents: *incidents, days: *days, at });
        }
        Doubt::RepairBegun { incident } => {
            doubts.repair = Some(Repair { incident: *incident, at });
        }
        Doubt::RepairEnded { incident: _ } => doubts.repair = None,
        Doubt::Hinted { hint } => doubts.hint = Some(hint.clone()),
        Doubt::HintOver => {
            doubts.hint = None;
            doubts.early = None;
        }
        Doubt::LeavesEarly => doubts.early = Some(at),
        Doubt::Forgiven { because: _ } => {
            doubts.repeated = None;
            doubts.forgiven_at = Some(at);
        }
    }
}

fn mark_orphan(row: &mut NodeRow, replica: ReplicaId, gpus: &[GpuUuid]) {
    row.slots.change(|slot| {
        if gpus.contains(&slot.gpu) {
            slot.orphan = Some(replica);
        }
    });
}

/// Whoever waited for an earlier call of the node has no part in a new one.
fn wait_no_more(fleet: &mut Fleet, id: &NodeId) {
    let Some(sku) = fleet.node(id).map(|node| node.sku.clone()) else { return };
    let from = (sku.clone(), DeploymentId::new(""), ReplicaId(0));
    let pending = fleet.index.pending.from(&from).map(|(key, ())| key);
    let pending = pending.take_while(|(of, _, _)| *of == sku).map(|(_, _, replica)| *replica);
    let waits = |replica: &ReplicaId| {
        let row = fleet.replica(*replica);
        row.and_then(|row| row.awaits.as_ref()).is_some_and(|awaits| awaits.node == *id)
    };
    let waiting: Vec<ReplicaId> = pending.filter(waits).collect();
    for replica in waiting {
        fleet.change_replica(replica, |row| row.awaits = None);
    }
}
