//! The meter: from proven segments to intervals that are billed, and who pays for which of them.
//!
//! The rows of the table are [`Activity`], its columns [`Tier`]; [`pays`] is the table. A customer
//! never pays for time that they could not use, nor for time without evidence.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{ClaimId, NodeId, OrganizationId};
use wharfage_shared::segment::{Activity, OpenSegment, Segment, SegmentKey};
use wharfage_shared::time::{ClockOffset, Timestamp};

use crate::series::Stream;
use crate::spans::Standing;

/// Whose account time stands on before anything is attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contributes {
    /// The customer's, as far as the table says so.
    Customer,
    /// The provider's: an overlap because we moved the customer, an experiment, a drill.
    Provider,
    /// Nobody's yet: expected, but without evidence.
    Unproven,
}

/// A claim that holds a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// Which.
    pub id: ClaimId,
    /// Where its instances come from: CUSTOMER enters the fill, SERVERLESS is its own line.
    pub capacity_type: CapacityType,
}

/// A half-open stretch of one node's time for one organization, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    /// For whom.
    pub organization: OrganizationId,
    /// Where.
    pub region: Region,
    /// Which instance type.
    pub sku: Sku,
    /// How the node was sold.
    pub compute_class: ComputeClass,
    /// Which node.
    pub node: NodeId,
    /// The claim that held it.
    pub claim: Option<Claim>,
    /// First instant.
    pub start: Timestamp,
    /// End, not part of it.
    pub end: Timestamp,
    /// What the node did.
    pub activity: Activity,
    /// Whose account it stands on.
    pub contributes: Contributes,
    /// The segment that proves it.
    pub evidence: SegmentKey,
}

/// What the scheduler knows of a segment's node beyond the segment: hardware, and wall time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Where the node is.
    pub region: Region,
    /// What it is.
    pub sku: Sku,
    /// The offset of the segment's boot that was in force when the segment came.
    pub offset: ClockOffset,
    /// The type of the claim that the segment names; its absence means no claim.
    pub claimed: Option<CapacityType>,
}

impl Interval {
    /// The interval that a closed segment proves; `None` when it was held for nobody.
    pub fn of_segment(segment: &Segment, site: &Site) -> Option<Self> {
        let held = segment.held_for.as_ref()?;
        let claim = held.claim.clone().zip(site.claimed);
        Some(Self {
            organization: held.organization.clone(),
            region: site.region.clone(),
            sku: site.sku.clone(),
            compute_class: held.compute_class,
            node: segment.key.node.clone(),
            claim: claim.map(|(id, capacity_type)| Claim { id, capacity_type }),
            start: site.offset.wall(segment.start),
            end: site.offset.wall(segment.end),
            activity: segment.activity,
            contributes: Contributes::Customer,
            evidence: segment.key.clone(),
        })
    }

    /// The interval that an open segment proves so far; the closed one of the same key replaces it.
    pub fn of_open_segment(segment: &OpenSegment, site: &Site) -> Option<Self> {
        let closed = Segment {
            key: segment.key.clone(),
            epoch: wharfage_shared::version::Epoch::default(),
            held_for: segment.held_for.clone(),
            activity: segment.activity,
            replicas: Vec::new(),
            start: segment.start,
            end: segment.proven_until,
        };
        Self::of_segment(&closed, site)
    }

    /// What the interval counts as.
    pub(crate) fn standing(&self) -> Standing {
        match self.contributes {
            Contributes::Unproven => Standing::Unproven,
            Contributes::Provider => Standing::Provider,
            // Whether an activity works, fails or is ours is the same in every tier.
            Contributes::Customer => match pays(self.activity, Tier::Reserved) {
                Pays::Customer => Standing::Active,
                Pays::Credit => Standing::Faulty,
                Pays::Provider => Standing::Provider,
            },
        }
    }

    /// Which count it enters.
    pub(crate) fn stream(&self) -> Stream {
        let serverless =
            self.claim.as_ref().filter(|c| c.capacity_type == CapacityType::Serverless);
        match (self.compute_class, serverless) {
            (_, Some(claim)) => Stream::Claim(claim.id.clone()),
            (ComputeClass::Spot, None) => Stream::Spot,
            (ComputeClass::Standard, None) => Stream::Fill,
        }
    }
}

/// The columns of the table: what time would be charged as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Within a Reserved band: the rate is flat, use adds nothing.
    Reserved,
    /// Within a Flex band: holding is flat, use adds the usage rate.
    Flex,
    /// Beyond all bands.
    OnDemand,
    /// On spot nodes.
    Spot,
    /// Held by a SERVERLESS claim.
    Claim,
}

/// Who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pays {
    /// The customer, as the tier says.
    Customer,
    /// The customer gets back what is charged for it anyway; nothing is added for use.
    Credit,
    /// The provider.
    Provider,
}

/// Who pays for a node that does `activity` while its time stands in `tier`.
pub fn pays(activity: Activity, tier: Tier) -> Pays {
    match (activity, tier) {
        (
            Activity::Starting | Activity::Serving | Activity::Draining | Activity::IdleHeld,
            Tier::Reserved | Tier::Flex | Tier::OnDemand | Tier::Spot | Tier::Claim,
        ) => Pays::Customer,
        (Activity::Quarantined | Activity::Unusable, Tier::Reserved | Tier::Flex | Tier::Claim) => {
            Pays::Credit
        }
        (Activity::Quarantined | Activity::Unusable, Tier::OnDemand | Tier::Spot) => Pays::Provider,
        (
            Activity::Orphaned,
            Tier::Reserved | Tier::Flex | Tier::OnDemand | Tier::Spot | Tier::Claim,
        ) => Pays::Provider,
    }
}
