//! A node as the fleet holds it: its four axes, its slots, whom it serves.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Region, Sku, Tenancy, Zone};
use wharfage_shared::health::Asked;
use wharfage_shared::ids::{BootId, GpuUuid, NodeId, NoticeId, OrganizationId, PoolId, ReplicaId};
use wharfage_shared::notice::{Leaves, NoticeSource};
use wharfage_shared::order::HeldFor;
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::{Epoch, Generation};

use super::rarely::{Rare, Rarely};
use super::slots::Slots;
use crate::words::because::placement::Rejection;
use crate::words::claim::Claimed;
use crate::words::node::{AskFact, Called, Departure, Doubts, Health, Intent, NoticeFact, Reach};

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The name it enrolled with.
    pub id: NodeId,
    /// Its pool.
    pub pool: PoolId,
    /// Its zone.
    pub zone: Zone,
    /// Its instance type.
    pub sku: Sku,
    /// How it is sold.
    pub compute_class: ComputeClass,
    /// Whom it serves at a time.
    pub tenancy: Tenancy,
    /// The tenant that owns it; absent = the provider.
    pub owner: Option<OrganizationId>,
    /// SHA-256 of its public key.
    pub key: Arc<str>,
    /// Since when.
    pub enrolled_at: Timestamp,
    /// An operator's word that the name may enrol anew.
    pub rejoin_allowed: bool,
    /// Whether it is heard.
    pub reach: Reach,
    /// Since when.
    pub reach_since: Timestamp,
    /// Whether its hardware may be used.
    pub health: Health,
    /// What an operator wants of it.
    pub intent: Intent,
    /// It asks for something, is doubted, noticed, claimed, called back: what few have of that.
    #[serde(flatten)]
    pub rare: Rarely<RareNode>,
    /// The newest start of its agent.
    pub epoch: Epoch,
    /// What names that start; absent = the next heartbeat begins a new one.
    pub start: Option<AgentStart>,
    /// The inventory's hash.
    pub inventory_hash: Arc<str>,
    /// GPUs, engines, hooks.
    pub inventory: Arc<Inventory>,
    /// Its GPUs in NVML's order, with their holders.
    pub slots: Slots,
    /// For whom its active time counts.
    pub held_for: Option<HeldFor>,
    /// Since when it has served that organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    /// Its desired state's number.
    pub generation: Generation,
    /// Replicas that are ordered to run or to stop here, in the order of their ids.
    pub replicas: Vec<ReplicaId>,
}

/// What few nodes have; read as if it were the row's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RareNode {
    /// What its agent asks for because of its hardware.
    #[serde(default)]
    pub asks: Vec<AskFact>,
    /// The rules that stop something here, and since when.
    #[serde(default)]
    pub rules: BTreeMap<String, Timestamp>,
    /// What the scheduler itself holds against it.
    #[serde(default)]
    pub doubts: Doubts,
    /// Notices in force, by id.
    pub notices: BTreeMap<NoticeId, NoticeFact>,
    /// Notices whose deadline has passed and that its agent may still report.
    pub past_notices: BTreeMap<NoticeId, Timestamp>,
    /// The deadline of a notice that took the whole node has passed.
    pub departed_at: Option<Timestamp>,
    /// Replicas that it runs and the log does not know there, with what they hold.
    pub orphans: BTreeMap<ReplicaId, Vec<GpuUuid>>,
    /// The claim that it is set aside for, from before it is empty for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Claimed>,
    /// It was lent as spot and is called back, or was lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<Called>,
}

impl Rare for RareNode {
    const NONE: &'static Self = &Self {
        asks: Vec::new(),
        rules: BTreeMap::new(),
        doubts: Doubts::NONE,
        notices: BTreeMap::new(),
        past_notices: BTreeMap::new(),
        departed_at: None,
        orphans: BTreeMap::new(),
        claimed: None,
        called: None,
    };
}

impl Deref for NodeRow {
    type Target = RareNode;

    fn deref(&self) -> &RareNode {
        &self.rare
    }
}

impl DerefMut for NodeRow {
    fn deref_mut(&mut self) -> &mut RareNode {
        &mut self.rare
    }
}

/// One start of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStart {
    /// What names it.
    pub nonce: Arc<str>,
    /// The boot that it runs in.
    pub boot: BootId,
}

/// One GPU of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenSlot", into = "WrittenSlot")]
pub struct Slot {
    /// Which.
    pub gpu: GpuUuid,
    /// Who holds it: a replica from its placement until its end is proven.
    pub holder: Option<ReplicaId>,
    /// It is kept, orphaned, unfit: what few have of that.
    pub rare: Rarely<RareSlot>,
}

/// What few GPUs have; read as if it were the slot's own.
#[derive(Clone, Debug, PartialEq)]
pub struct RareSlot {
    /// For whom it is kept once its holder is gone.
    pub promised: Option<ReplicaId>,
    /// A replica that the log does not know and that the host reports here.
    pub orphan: Option<ReplicaId>,
    /// Why nothing new may use it.
    pub unfit: Option<Arc<str>>,
}

impl Rare for RareSlot {
    const NONE: &'static Self = &Self { promised: None, orphan: None, unfit: None };
}

impl Deref for Slot {
    type Target = RareSlot;

    fn deref(&self) -> &RareSlot {
        &self.rare
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut RareSlot {
        &mut self.rare
    }
}

/// A slot in a snapshot: all of it side by side.
#[derive(Serialize, Deserialize)]
struct WrittenSlot {
    gpu: GpuUuid,
    holder: Option<ReplicaId>,
    promised: Option<ReplicaId>,
    orphan: Option<ReplicaId>,
    #[serde(default)]
    unfit: Option<Arc<str>>,
}

impl From<WrittenSlot> for Slot {
    fn from(written: WrittenSlot) -> Self {
        let WrittenSlot { gpu, holder, promised, orphan, unfit } = written;
        Self { gpu, holder, rare: RareSlot { promised, orphan, unfit }.into() }
    }
}

impl From<Slot> for WrittenSlot {
    fn from(slot: Slot) -> Self {
        let RareSlot { promised, orphan, unfit } = (*slot.rare).clone();
        Self { gpu: slot.gpu, holder: slot.holder, promised, orphan, unfit }
    }
}

impl Slot {
    /// Neither held nor kept for somebody.
    pub fn is_free(&self) -> bool {
        self.holder.is_none() && self.promised.is_none() && self.orphan.is_none()
    }

    /// Free, and fit to be used.
    pub fn is_usable(&self) -> bool {
        self.is_free() && self.unfit.is_none()
    }
}

impl NodeRow {
    /// Its region.
    pub fn region(&self) -> Region {
        self.zone.region()
    }

    /// GPUs that nobody holds and that may be used.
    pub fn free(&self) -> u8 {
        self.slots.usable()
    }

    /// Whether none of its GPUs is taken, kept for somebody or unfit.
    pub fn is_whole(&self) -> bool {
        self.slots.are_whole()
    }

    /// A GPU that would be free if it were fit, and why it is not.
    pub fn unfit_gpu(&self) -> Option<(&GpuUuid, &str)> {
        let mut unfit = self.slots.iter().filter(|slot| slot.is_free() && slot.unfit.is_some());
        unfit.find_map(|slot| slot.unfit.as_deref().map(|because| (&slot.gpu, because)))
    }

    /// The incidents for which it asks to be reset or booted anew, with since when; the oldest
    /// first.
    pub fn repairs(&self) -> Vec<(Timestamp, u64)> {
        let is_repair = |what: Asked| matches!(what, Asked::Reset | Asked::Reboot);
        let asks = self.asks.iter().filter(|fact| is_repair(fact.ask.what));
        let mut repairs: Vec<(Timestamp, u64)> =
            asks.map(|fact| (fact.at, fact.ask.incident)).collect();
        repairs.sort_unstable();
        repairs
    }

    /// Whether the repair that this incident asks for has not had its turn yet.
    pub fn waits_for_repair(&self, incident: u64) -> bool {
        let is_on = self.doubts.repair.is_some_and(|repair| repair.incident == incident);
        !is_on && self.repairs().iter().any(|(_, waiting)| *waiting == incident)
    }

    /// How it is sold at this moment.
    pub fn sold(&self) -> ComputeClass {
        self.held_for.as_ref().map_or(self.compute_class, |held| held.compute_class)
    }

    /// Whether it is standard and serves somebody as spot.
    pub fn is_lent(&self) -> bool {
        self.compute_class == ComputeClass::Standard && self.sold() == ComputeClass::Spot
    }

    /// The scheduler's own notice in force: a reclaim.
    pub fn reclaim(&self) -> Option<&NoticeFact> {
        let ours = self.notices.values().filter(|of| of.source == NoticeSource::Scheduler);
        ours.min_by_key(|notice| (notice.gone_at, &notice.id))
    }

    /// The notice in force that ends first of those that the node hears from the scheduler.
    pub fn told(&self) -> Option<&NoticeFact> {
        let told = self.notices.values().filter(|of| of.source.is_told_by_scheduler());
        told.min_by_key(|notice| (notice.gone_at, &notice.id))
    }

    /// Whether it is under a reclaim and will be free for new use afterwards: heard, fit, open, and
    /// here to stay.
    pub fn is_coming(&self) -> bool {
        let stays = self.notices.values().all(|notice| notice.leaves == Leaves::Replicas);
        stays && self.reclaim().is_some() && self.is_sound()
    }

    /// Heard, fit, open, and not gone for good.
    pub fn is_sound(&self) -> bool {
        let heard = matches!(self.reach, Reach::Connected | Reach::Silent);
        let open = self.health == Health::Fit && self.intent == Intent::Open;
        heard && open && self.departed_at.is_none()
    }

    /// The notice in force that ends first.
    pub fn notice(&self) -> Option<&NoticeFact> {
        self.notices.values().min_by_key(|notice| (notice.gone_at, &notice.id))
    }

    /// Whether it serves the claim that it is set aside for, and nobody else any more.
    pub fn is_allocated(&self) -> bool {
        let held = self.held_for.as_ref().and_then(|held| held.claim.as_ref());
        self.claimed.as_ref().is_some_and(|claimed| held == Some(&claimed.claim))
    }

    /// Whether something new may be placed here, and if not, why: the one question on all axes.
    pub fn may_place(&self) -> Result<(), Rejection> {
        match self.reach {
            Reach::Joining => return Err(Rejection::Joining),
            Reach::Silent => return Err(Rejection::Silent),
            Reach::Lost => return Err(Rejection::Lost),
            Reach::Connected => {}
        }
        self.may_keep()
    }

    /// Whether a seat here may be kept for somebody until the node is heard again: every axis but
    /// that of its reach.
    pub fn may_keep(&self) -> Result<(), Rejection> {
        if self.reach == Reach::Lost {
            return Err(Rejection::Lost);
        }
        match &self.health {
            Health::Qualifying => return Err(Rejection::Qualifying),
            Health::Unfit { because } => {
                return Err(Rejection::Unfit { because: because.clone() });
            }
            Health::Fit => {}
        }
        match &self.intent {
            Intent::Cordoned { reason } => {
                return Err(Rejection::Cordoned { reason: reason.clone() });
            }
            Intent::Draining { reason } => {
                return Err(Rejection::Draining { reason: reason.clone() });
            }
            Intent::Retired => return Err(Rejection::Retired),
            Intent::Open => {}
        }
        if let Some(reason) = self.doubts.of_hint() {
            return Err(Rejection::Cordoned { reason });
        }
        if self.claimed.is_some() && !self.is_allocated() {
            return Err(Rejection::KeptForClaim);
        }
        match self.notice() {
            Some(notice) => Err(Rejection::Noticed { gone_at: notice.gone_at }),
            // What was closed without proof may still run, for whomever it was.
            None if self.held_for.is_none() && !self.replicas.is_empty() => {
                Err(Rejection::Unproven)
            }
            None => Ok(()),
        }
    }

    /// Whether it is about to leave.
    pub fn departure(&self) -> Departure {
        self.notice().map_or(Departure::None, |notice| notice.clone().into())
    }
}
