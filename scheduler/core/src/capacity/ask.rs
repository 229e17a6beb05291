//! What one replica asks for: the shape by which pending replicas are alike.

use std::collections::BTreeSet;

use wharfage_shared::capacity::{CapacityClass, ComputeClass, Sku, Zone};
use wharfage_shared::ids::{HookId, OrganizationId};

use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::catalogue::instance_type;
use crate::words::deployment::Spec;

/// Everything that decides where a replica may stand; equal asks have equal answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// For whom.
    pub organization: OrganizationId,
    /// The instance type.
    pub sku: Sku,
    /// GPUs of one replica on one node.
    pub gpus: u8,
    /// Nodes of one replica: more than one where no node of the type has enough GPUs.
    pub members: u8,
    /// Where it may be; absent = anywhere.
    pub zones: Option<BTreeSet<Zone>>,
    /// On what ground, in the order of preference.
    pub classes: Vec<CapacityClass>,
    /// The engine.
    pub engine: String,
    /// Its version; empty = the newest that a node offers.
    pub version: String,
    /// Hooks that the node must have.
    pub hooks: BTreeSet<HookId>,
}

/// Where replicas may run when nothing is said: claims, then on-demand.
const UNSET: [CapacityClass; 2] = [CapacityClass::Reserved, CapacityClass::OnDemand];

/// The classes of a spec, in the order of preference.
pub fn classes(spec: &Spec) -> Vec<CapacityClass> {
    if spec.classes.is_empty() { UNSET.to_vec() } else { spec.classes.clone() }
}

/// The one class that may stand on a node as it is held and sold now. RESERVED means claims.
pub fn ground(node: &NodeRow) -> CapacityClass {
    match node.sold() {
        ComputeClass::Standard if node.is_allocated() => CapacityClass::Reserved,
        ComputeClass::Standard => CapacityClass::OnDemand,
        ComputeClass::Spot => CapacityClass::Spot,
    }
}

/// The zones that a spec's gateways and its own limit leave; absent = anywhere.
pub fn zones(fleet: &Fleet, spec: &Spec) -> Option<BTreeSet<Zone>> {
    let of_gateways: Option<BTreeSet<Zone>> = (!spec.gateways.is_empty()).then(|| {
        let gateways = spec.gateways.iter().filter_map(|id| fleet.gateway(id));
        gateways.flat_map(|gateway| gateway.spec.zones.iter().cloned()).collect()
    });
    match (&spec.zone, of_gateways) {
        (None, of_gateways) => of_gateways,
        (Some(zone), None) => Some(BTreeSet::from([zone.clone()])),
        (Some(zone), Some(zones)) => {
            Some(zones.into_iter().filter(|candidate| candidate == zone).collect())
        }
    }
}

/// GPUs of one replica on one node, and its nodes: what is larger than a node of the type takes
/// several whole ones.
fn shape(fleet: &Fleet, spec: &Spec) -> (u8, u8) {
    let gpus = spec.gpus.get();
    let listed = instance_type(&spec.sku).map(|listed| listed.gpus);
    let seen = || fleet.types.get(&spec.sku).map(|seen| seen.slots);
    match listed.or_else(seen) {
        Some(each) if each > 0 && each < gpus && gpus.is_multiple_of(each) => (each, gpus / each),
        Some(_) | None => (gpus, 1),
    }
}

impl Ask {
    /// Whether one replica stands on several nodes.
    pub fn is_gang(&self) -> bool {
        self.members > 1
    }

    /// What a deployment's next replica asks for.
    pub fn of(fleet: &Fleet, deployment: &DeploymentRow) -> Self {
        let spec = &deployment.spec;
        let (gpus, members) = shape(fleet, spec);
        Self {
            organization: deployment.organization.clone(),
            sku: spec.sku.clone(),
            gpus,
            members,
            zones: zones(fleet, spec),
            classes: classes(spec),
            engine: spec.runtime.engine.clone(),
            version: spec.runtime.version.clone(),
            hooks: spec.extension.hooks.values().cloned().collect(),
        }
    }

    /// Whether it may be in this zone.
    pub fn admits_zone(&self, zone: &Zone) -> bool {
        self.zones.as_ref().is_none_or(|zones| zones.contains(zone))
    }

    /// The place of this ground in the order of preference, if it may stand there at all.
    pub fn place_of(&self, ground: CapacityClass) -> Option<u8> {
        (0u8..).zip(&self.classes).find(|(_, class)| **class == ground).map(|(at, _)| at)
    }
}
