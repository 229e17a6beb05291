//! Why a replica is where it is, or nowhere.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Zone};
use wharfage_shared::ids::{GpuUuid, NodeId};
use wharfage_shared::time::Timestamp;

use super::sentence::{Ranked, Sentence};

/// Why a node is not an option: the first rule that fails. Shown to people by `explain`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Rejection {
    /// Another instance type.
    #[error("its type is {node}, {wanted} is asked for")]
    OtherSku {
        /// What it is.
        node: Sku,
        /// What is asked for.
        wanted: Sku,
    },
    /// Outside the zones of the deployment's gateways, or of its own limit.
    #[error("zone {zone} is not among the deployment's zones")]
    OtherZone {
        /// Where it is.
        zone: Zone,
    },
    /// Not heard yet.
    #[error("it has not been heard yet")]
    Joining,
    /// Not heard for a while.
    #[error("it has been silent since its last heartbeat")]
    Silent,
    /// Its lease has ended.
    #[error("it is lost")]
    Lost,
    /// Its gates have not passed yet.
    #[error("it is qualifying: its gates have not passed yet")]
    Qualifying,
    /// A gate fails.
    #[error("it is unfit: {because}")]
    Unfit {
        /// Which gate and why.
        because: String,
    },
    /// An operator's word.
    #[error("it is cordoned: {reason}")]
    Cordoned {
        /// The operator's words.
        reason: String,
    },
    /// An operator empties it.
    #[error("it is being drained: {reason}")]
    Draining {
        /// The operator's words.
        reason: String,
    },
    /// It will not come back.
    #[error("it is retired")]
    Retired,
    /// Somebody will take it away.
    #[error("it is under a notice")]
    Noticed {
        /// The deadline.
        gone_at: Timestamp,
    },
    /// Replicas that were closed when it was given up may still run there.
    #[error("what ran there before it was given up is not proven gone yet")]
    Unproven,
    /// Its owner's CUSTOMER claims are all it serves.
    #[error("it serves only its owner's claims")]
    Owned,
    /// The deployment's classes do not allow how the node is sold.
    #[error("it is sold as {sold}, which the deployment's capacity classes do not allow")]
    ClassNotAllowed {
        /// How it is sold.
        sold: ComputeClass,
    },
    /// It is idle, and yet not lent as spot.
    #[error("it is idle and not lent as spot: {because}")]
    NotLent {
        /// Why.
        because: NotLent,
    },
    /// A claim of the organization holds it.
    #[error("a claim holds it, which the deployment's capacity classes do not allow")]
    ClaimNotAllowed,
    /// A claim will have it once what stands there has left.
    #[error("it is kept for a claim until what stands there has left")]
    KeptForClaim,
    /// Dedicated: one organization at a time.
    #[error("it serves another organization at this moment")]
    ServesAnother,
    /// The node's owner has not defined the engine.
    #[error("it does not offer the engine {engine}")]
    NoEngine {
        /// Which.
        engine: String,
    },
    /// The node's owner has not defined the version.
    #[error("it offers {engine}, but not version {version}")]
    NoVersion {
        /// Which engine.
        engine: String,
        /// Which version.
        version: String,
    },
    /// The engine cannot run over several nodes there.
    #[error("it offers {engine}, but not over several nodes")]
    NotOverNodes {
        /// Which engine.
        engine: String,
    },
    /// It does not say where other nodes reach it.
    #[error("it does not say where other nodes of one replica would reach it")]
    NoAddress,
    /// Parts of GPUs do not reach those of other nodes.
    #[error("its GPUs are split into parts, which cannot run one replica over several nodes")]
    SplitGpus,
    /// It is free, and too few others with it.
    #[error("{needed} such nodes of one {place} are needed for one replica, {found} are free")]
    TooFewTogether {
        /// Nodes of one replica.
        needed: u8,
        /// Nodes that are an option there.
        found: u32,
        /// What they must share.
        place: Together,
    },
    /// The node's owner has not defined a hook.
    #[error("it does not have the hook {hook}")]
    NoHook {
        /// Which.
        hook: String,
    },
    /// Not enough room.
    #[error("needs {needed} GPUs, {free} free")]
    NotEnoughGpus {
        /// What one replica takes.
        needed: u8,
        /// What is free.
        free: u8,
    },
    /// There would be room, but some of it is unfit.
    #[error("needs {needed} GPUs, {free} are free and fit; {gpu}: {because}")]
    GpusUnfit {
        /// What one replica takes.
        needed: u8,
        /// What is free and fit.
        free: u8,
        /// A GPU that is free and unfit.
        gpu: GpuUuid,
        /// Why.
        because: String,
    },
    /// Idle, but guaranteed to others by contract.
    #[error(
        "it is idle, but guaranteed to others: {usable} instances of its type are usable in the \
         region and {committed} are committed"
    )]
    Guaranteed {
        /// Usable in the region.
        usable: u32,
        /// Committed in the region.
        committed: u32,
    },
}

/// What the nodes of one replica must share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Together {
    /// The zone: they declare no fabric.
    Zone,
    /// The zone and the fabric that they declare.
    Fabric,
}

impl std::fmt::Display for Together {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Together::Zone => "zone",
            Together::Fabric => "fabric",
        })
    }
}

impl Rejection {
    /// An operator's own words are the provider's; others learn that somebody decided.
    pub fn keep_to_the_provider(&mut self) {
        if let Rejection::Cordoned { reason } | Rejection::Draining { reason } = self {
            "the provider's decision".clone_into(reason);
        }
    }

    /// The rule without what differs from node to node, for counting nodes.
    pub fn in_general(&self) -> Cow<'static, str> {
        match self {
            Rejection::OtherSku { .. } => "another instance type".into(),
            Rejection::OtherZone { .. } => "outside the deployment's zones".into(),
            Rejection::Joining => "not heard yet".into(),
            Rejection::Silent => "silent".into(),
            Rejection::Lost => "lost".into(),
            Rejection::Qualifying => "qualifying: gates have not passed yet".into(),
            // What closed it says so itself: `cordoned by XID 79`, `the disk is full`.
            Rejection::Unfit { because } => because.clone().into(),
            Rejection::Cordoned { reason } => format!("cordoned: {reason}").into(),
            Rejection::Draining { reason } => format!("being drained: {reason}").into(),
            Rejection::Retired => "retired".into(),
            Rejection::Noticed { .. } => "under a notice".into(),
            Rejection::Unproven => "what ran there is not proven gone yet".into(),
            Rejection::Owned => "serving only their owners' claims".into(),
            Rejection::ClassNotAllowed { sold } => {
                format!("sold as {sold}, which the capacity classes do not allow").into()
            }
            Rejection::NotLent { because } => format!("not lent as spot: {because}").into(),
            Rejection::ServesAnother => "serving another organization".into(),
            Rejection::ClaimNotAllowed => {
                "held by claims, which the capacity classes do not allow".into()
            }
            Rejection::KeptForClaim => "kept for claims".into(),
            Rejection::NoEngine { engine } => format!("without the engine {engine}").into(),
            Rejection::NoVersion { engine, version } => {
                format!("without {engine} {version}").into()
            }
            Rejection::NotOverNodes { engine } => {
                format!("offering {engine}, but not over several nodes").into()
            }
            Rejection::NoAddress => "not saying where other nodes would reach them".into(),
            Rejection::SplitGpus => "with GPUs that are split into parts".into(),
            Rejection::TooFewTogether { needed, place, .. } => {
                format!("free, but fewer than {needed} of one {place}").into()
            }
            Rejection::NoHook { hook } => format!("without the hook {hook}").into(),
            Rejection::NotEnoughGpus { .. } => "not enough free GPUs".into(),
            Rejection::GpusUnfit { because, .. } => {
                format!("not enough GPUs that are free and fit, others {because}").into()
            }
            Rejection::Guaranteed { .. } => "idle, but guaranteed to others".into(),
        }
    }
}

/// Why an idle standard node is not lent as spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotLent {
    /// By the operator's configuration.
    SwitchedOff,
    /// Superchips are never spot.
    Superchip,
    /// Nodes are lent whole, and not all of this one can be used.
    NotWhole,
    /// It was called back lately.
    CalledBack,
}

impl std::fmt::Display for NotLent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            NotLent::SwitchedOff => "idle nodes of its pool are not lent",
            NotLent::Superchip => "superchips are never spot",
            NotLent::NotWhole => "nodes are lent whole, and some of its GPUs are held or unfit",
            NotLent::CalledBack => "it was called back lately",
        })
    }
}

/// Smaller is better. Fields are compared top to bottom; the node's name makes the order total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// It is standard, idle, and would be lent as spot: only where nothing fits as it is sold.
    #[serde(default)]
    pub lends: bool,
    /// Which of the deployment's classes, in its order of preference.
    pub class: u8,
    /// It would break up a node that is wholly free.
    pub breaks_whole_node: bool,
    /// Where replicas are spread: the fewer GPUs stay free there, the larger.
    #[serde(default)]
    pub crowding: u8,
    /// GPUs that stay free there.
    pub gpus_left: u8,
    /// The node would begin to serve the organization.
    pub opens_node: bool,
    /// When it would be ready, from history.
    pub seconds_to_ready: u32,
    /// Replicas of the same deployment there.
    pub siblings: u32,
    /// The node.
    pub node: NodeId,
}

/// Why a replica stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Placement {
    /// On what ground it may stand there.
    pub class: CapacityClass,
    /// The rank of the seat.
    pub score: Score,
    /// Why, as one sentence.
    pub sentence: Sentence,
}

impl Placement {
    /// Why, in words.
    pub fn said(&self) -> String {
        self.sentence.of(&self.score)
    }
}

/// The same in the log, where the sentence can be read too.
#[derive(Deserialize)]
struct Written {
    class: CapacityClass,
    score: Score,
    sentence: String,
    /// What the sentence follows from; logs of before have only the sentence.
    #[serde(default)]
    ranked: Option<Ranked>,
}

impl From<Written> for Placement {
    fn from(Written { class, score, sentence, ranked }: Written) -> Self {
        let sentence = ranked.map_or_else(|| sentence.into(), Sentence::Ranked);
        Self { class, score, sentence }
    }
}

impl Serialize for Placement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ranked = match &self.sentence {
            Sentence::Ranked(ranked) => Some(ranked),
            Sentence::Told(_) => None,
        };
        let fields = 3 + usize::from(ranked.is_some());
        let mut written = serializer.serialize_struct("Placement", fields)?;
        written.serialize_field("class", &self.class)?;
        written.serialize_field("score", &self.score)?;
        written.serialize_field("sentence", &self.said())?;
        if let Some(ranked) = ranked {
            written.serialize_field("ranked", ranked)?;
        }
        written.end()
    }
}

/// Why a replica is nowhere, coarsely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// It was not tried yet.
    NotTried,
    /// The fleet has no node of the type in the zones.
    NoSuchNodes,
    /// One replica takes more GPUs than a node of the type has.
    TooLarge,
    /// Such nodes exist; none may be used now (lost, unfit, cordoned, noticed).
    NodesNotUsable,
    /// Such nodes exist; none offers the engine, version or hook.
    NotOffered,
    /// Such nodes exist; the capacity classes forbid them.
    ClassesForbid,
    /// Such nodes are full or serve others.
    NoRoom,
    /// Such nodes are free, but not enough of them together for one replica.
    NotTogether,
    /// What is free is guaranteed to others.
    Guaranteed,
    /// Only spot stands in its way, and is called back.
    Reclaims,
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Blocked::NotTried => "it was not tried yet",
            Blocked::NoSuchNodes => "the fleet has no node of the type in these zones",
            Blocked::TooLarge => "one replica takes more GPUs than a node of the type has",
            Blocked::NodesNotUsable => "no node of the type may be used now",
            Blocked::NotOffered => "no node of the type offers the engine, version or hooks",
            Blocked::ClassesForbid => "the capacity classes forbid every node of the type",
            Blocked::NoRoom => "every node of the type is full or serves others",
            Blocked::NotTogether => {
                "no zone and fabric has enough free nodes of the type for one replica"
            }
            Blocked::Guaranteed => "what is free is guaranteed to others",
            Blocked::Reclaims => "only spot stands in its way, and is called back",
        })
    }
}
