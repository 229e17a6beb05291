//! A node's row: its four axes and its GPUs.

use serde::Serialize;
use wharfage_scheduler_core::capacity::bands;
use wharfage_scheduler_core::fleet::rows::node::{NodeRow, Slot};
use wharfage_scheduler_core::words::claim::Claimed;
use wharfage_scheduler_core::words::node::{Health, Intent, NoticeFact, Reach};
use wharfage_shared::capacity::{ComputeClass, Region, Sku, Tenancy, Zone};
use wharfage_shared::ids::{
    ClaimId, ContractId, GpuUuid, NodeId, OrganizationId, PoolId, ReplicaId,
};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::telemetry::EngineOffer;

use super::health::Report;
use super::hearing::Hearing;
use super::{Shown, instant};
use crate::telemetry::NodeTelemetry;

/// The row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name it enrolled with.
    pub id: NodeId,
    /// Its pool.
    pub pool: PoolId,
    /// Its zone.
    pub zone: Zone,
    /// Its region.
    pub region: Region,
    /// Its instance type.
    pub sku: Sku,
    /// How it is sold at this moment.
    pub compute_class: ComputeClass,
    /// Whom it serves at a time.
    pub tenancy: Tenancy,
    /// The tenant that owns it; null = the provider.
    pub owner: Option<OrganizationId>,
    /// joining, connected, silent, lost.
    pub reach: Reach,
    /// Since when.
    pub reach_since: String,
    /// qualifying, fit, unfit.
    pub health: &'static str,
    /// Why it is unfit.
    pub health_because: Option<String>,
    /// Gates, incidents and what it asks for; for the provider.
    pub health_report: Report,
    /// open, cordoned, draining, retired.
    pub intent: &'static str,
    /// The operator's words; for the provider.
    pub intent_reason: Option<String>,
    /// none, noticed.
    pub departure: &'static str,
    /// The notice in force that ends first.
    pub notice: Option<Notice>,
    /// How it hears of its end; for the provider.
    pub hearing: Hearing,
    /// Whom it serves: the caller's own organization, or any for the provider.
    pub held_for: Option<OrganizationId>,
    /// Whether it is a standard node that is lent as spot; told with `held_for`.
    pub lent: bool,
    /// The claim that it is set aside for, if the caller may see it.
    pub claim: Option<ClaimId>,
    /// The contract that it stands under at this moment, if the caller may see it.
    pub contract: Option<ContractId>,
    /// For whom it is called back from spot, if the caller may see that.
    pub called_for: Option<OrganizationId>,
    /// Who holds it and by what right, in words.
    pub held_by: Option<String>,
    /// Its GPUs in NVML's order.
    pub gpus: Vec<Gpu>,
    /// GPUs that nobody holds.
    pub free_gpus: u8,
    /// Replicas on it that the caller may see.
    pub replicas: Vec<ReplicaId>,
    /// Replicas that the log does not know there; for the provider.
    pub orphans: Vec<ReplicaId>,
    /// Engines that it offers.
    pub engines: Vec<EngineOffer>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// Why its GPUs cannot be read.
    pub gpu_trouble: Option<String>,
    /// The agent's version.
    pub agent_version: String,
    /// When it was admitted.
    pub enrolled_at: String,
    /// When it was heard last since this scheduler started.
    pub heard_at: Option<String>,
}

/// A notice.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// Which.
    pub id: String,
    /// Why.
    pub kind: NoticeKind,
    /// Who said so.
    pub source: NoticeSource,
    /// What ends.
    pub leaves: Leaves,
    /// T0.
    pub heard_at: String,
    /// From here on replicas drain even without a replacement.
    pub drain_at: String,
    /// The deadline.
    pub gone_at: String,
    /// Seconds until then.
    pub seconds_left: u64,
}

/// One GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Its product name.
    pub name: String,
    /// Whether anybody holds it.
    pub in_use: bool,
    /// Who holds it, if the caller may see that.
    pub replica: Option<ReplicaId>,
    /// Its memory in MiB.
    pub memory_mib: Option<u64>,
    /// Of it in use; null for others' GPUs and where it was not read.
    pub memory_used_mib: Option<u64>,
    /// Share of time in which a kernel ran, 0 to 100.
    pub utilization: Option<u8>,
    /// Degrees Celsius.
    pub temperature_c: Option<u16>,
    /// Milliwatts.
    pub power_mw: Option<u64>,
    /// Age of these numbers in milliseconds.
    pub age_ms: Option<u64>,
    /// Why it cannot be read.
    pub trouble: Option<String>,
    /// The first of its values that could not be read; it closes nothing.
    pub unread: Option<String>,
    /// Why nothing new may use it.
    pub unfit: Option<String>,
}

impl Shown<'_> {
    /// Whether a node exists for the caller: its own, the provider's, or any for the provider.
    pub fn sees_node(&self, node: &NodeRow) -> bool {
        node.owner.as_ref().is_none_or(|owner| self.caller.sees(owner))
    }

    /// Every node that the caller may see, in the order of names.
    pub fn nodes(&self) -> Vec<Row> {
        let contracts = bands::contracts(self.fleet);
        let visible = self.fleet.nodes().filter(|node| self.sees_node(node));
        visible.map(|node| self.node_under(node, contracts.get(&node.id))).collect()
    }

    /// One node's row.
    pub fn node(&self, node: &NodeRow) -> Row {
        self.node_under(node, bands::contracts(self.fleet).get(&node.id))
    }

    fn node_under(&self, node: &NodeRow, contract: Option<&ContractId>) -> Row {
        let told = self.telemetry.node(&node.id);
        let provider = self.caller.is_provider();
        let (health, health_because) = match &node.health {
            Health::Qualifying => ("qualifying", None),
            Health::Fit => ("fit", None),
            Health::Unfit { because } => ("unfit", Some(because.clone())),
        };
        let (intent, reason) = match &node.intent {
            Intent::Open => ("open", None),
            Intent::Cordoned { reason } => ("cordoned", Some(reason.clone())),
            Intent::Draining { reason } => ("draining", Some(reason.clone())),
            Intent::Retired => ("retired", None),
        };
        let held_for = node.held_for.as_ref().map(|held| held.organization.clone());
        let held_for = held_for.filter(|organization| self.caller.sees(organization));
        let is_told = held_for.is_some();
        let contract = contract.filter(|_| is_told).cloned();
        let claimed = node.claimed.as_ref().filter(|of| self.caller.sees(&of.organization));
        let called_for = node.called.as_ref().filter(|_| node.reclaim().is_some());
        let called_for = called_for.and_then(|called| called.organization.clone());
        let called_for = called_for.filter(|organization| self.caller.sees(organization));
        let replicas = self.fleet.replicas_on(&node.id);
        let notice = node.notice();
        Row {
            id: node.id.clone(),
            pool: node.pool.clone(),
            zone: node.zone.clone(),
            region: node.region(),
            sku: node.sku.clone(),
            compute_class: if is_told { node.sold() } else { node.compute_class },
            tenancy: node.tenancy,
            owner: node.owner.clone(),
            reach: node.reach,
            reach_since: instant(node.reach_since),
            health,
            health_because,
            health_report: self.health(node, told.as_deref()),
            intent,
            intent_reason: reason.filter(|_| provider),
            departure: if notice.is_some() { "noticed" } else { "none" },
            notice: notice.map(|notice| self.notice(notice)),
            hearing: self.hearing(told.as_deref()),
            lent: is_told && node.is_lent(),
            claim: claimed.map(|claimed| claimed.claim.clone()),
            held_by: held_by(node, held_for.as_ref(), claimed, contract.as_ref(), &called_for),
            contract,
            called_for,
            held_for,
            gpus: node.slots.iter().map(|slot| self.gpu(node, slot, told.as_deref())).collect(),
            free_gpus: node.free(),
            replicas: replicas
                .filter(|replica| self.caller.sees(&replica.organization))
                .map(|replica| replica.id)
                .collect(),
            orphans: if provider { node.orphans.keys().copied().collect() } else { Vec::new() },
            engines: node.inventory.engines.to_vec(),
            driver_version: node.inventory.driver_version.clone(),
            gpu_trouble: node.inventory.gpu_trouble.clone(),
            agent_version: node.inventory.agent_version.clone(),
            enrolled_at: instant(node.enrolled_at),
            heard_at: told.map(|told| instant(told.heard_at)),
        }
    }

    /// A notice with its countdown.
    pub fn notice(&self, notice: &NoticeFact) -> Notice {
        Notice {
            id: notice.id.to_string(),
            kind: notice.kind,
            source: notice.source,
            leaves: notice.leaves,
            heard_at: instant(notice.heard_at),
            drain_at: instant(notice.drain_at),
            gone_at: instant(notice.gone_at),
            seconds_left: notice.gone_at.since(self.now).0 / 1000,
        }
    }

    fn gpu(&self, node: &NodeRow, slot: &Slot, told: Option<&NodeTelemetry>) -> Gpu {
        let identity = node.inventory.gpus.iter().find(|gpu| gpu.uuid == slot.gpu);
        let mine = match slot.holder.map(|holder| self.fleet.replica(holder)) {
            _any if self.caller.is_provider() => true,
            None => slot.orphan.is_none(),
            Some(holder) => holder.is_some_and(|holder| self.caller.sees(&holder.organization)),
        };
        let reading =
            told.and_then(|told| told.readings.iter().find(|reading| reading.uuid == slot.gpu));
        let reading = reading.filter(|_| mine);
        let age = told.zip(reading).map(|(told, reading)| told.age(reading, self.now).0);
        Gpu {
            uuid: slot.gpu.clone(),
            name: identity.map(|gpu| gpu.name.to_string()).unwrap_or_default(),
            in_use: !slot.is_free(),
            replica: slot.holder.filter(|_| mine),
            memory_mib: identity.map(|gpu| gpu.memory_mib),
            memory_used_mib: reading.and_then(|reading| reading.memory_used_mib),
            utilization: reading.and_then(|reading| reading.utilization),
            temperature_c: reading.and_then(|reading| reading.temperature_c),
            power_mw: reading.and_then(|reading| reading.power_mw),
            age_ms: age,
            trouble: reading.and_then(|reading| reading.trouble.clone()),
            unread: reading.and_then(|reading| reading.unread.clone()),
            unfit: slot.unfit.as_deref().map(str::to_owned),
        }
    }
}

/// `acme, under contract c-1`; only what the caller may see is named.
fn held_by(
    node: &NodeRow,
    whom: Option<&OrganizationId>,
    claimed: Option<&Claimed>,
    contract: Option<&ContractId>,
    called_for: &Option<OrganizationId>,
) -> Option<String> {
    let serves = whom.map(|whom| {
        let right = match (&node.held_for, contract) {
            (Some(held), _) if held.claim.is_some() => None,
            _ if node.is_lent() => Some("lent as spot".to_owned()),
            _ if node.sold() == ComputeClass::Spot => Some("spot".to_owned()),
            (_, Some(contract)) => Some(format!("under contract {contract}")),
            (_, None) => Some("on demand".to_owned()),
        };
        right.map_or_else(|| whom.to_string(), |right| format!("{whom}, {right}"))
    });
    let claimed = claimed.map(|claimed| match node.is_allocated() {
        true => format!("by claim {}", claimed.claim),
        false => format!("kept for claim {} of {}", claimed.claim, claimed.organization),
    });
    let called = called_for.as_ref().map(|whom| format!("called back for {whom}"));
    let parts: Vec<String> = serves.into_iter().chain(claimed).chain(called).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
