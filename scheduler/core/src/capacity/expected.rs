//! How long a start is expected to take on a node: from the last one of the same model on the same
//! type, and whether the model lies in the node's cache.

use wharfage_shared::time::Millis;

use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::words::because::sentence::Start;
use crate::words::deployment::{Model, StartKey};

/// What history says of a deployment's next start.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    model: &'a Model,
    cached: Option<Millis>,
    fresh: Option<Millis>,
}

impl<'a> Expected<'a> {
    /// Of the deployment's model on its type. A kind of start that was not seen yet takes as long as
    /// the other kind, else as long as the deployment's last one; a cache never makes it longer.
    pub fn of(fleet: &Fleet, deployment: &'a DeploymentRow) -> Self {
        let spec = &deployment.spec;
        let seen = |cached| {
            if fleet.starts.is_empty() {
                return None;
            }
            let key = StartKey { model: spec.model.key(), sku: spec.sku.clone(), cached };
            fleet.starts.get(&key).copied()
        };
        let (cached, fresh) = (seen(true), seen(false));
        let fresh = fresh.or(cached).or(deployment.last_start);
        let cached = cached.or(fresh).min(fresh);
        Self { model: &spec.model, cached, fresh }
    }

    /// Whether it matters if the model lies in a node's cache.
    pub fn differs(&self) -> bool {
        self.cached != self.fresh
    }

    /// Whether the model lies in the node's cache.
    pub fn is_cached_on(&self, node: &NodeRow) -> bool {
        node.inventory.models.iter().any(|known| self.model.is(known))
    }

    /// Seconds from a placement on the node until it is ready; zero where nothing is known.
    pub fn seconds_on(&self, node: &NodeRow) -> u32 {
        let cached = self.differs() && self.is_cached_on(node);
        let took = if cached { self.cached } else { self.fresh };
        took.map_or(0, |took| u32::try_from(took.0 / 1000).unwrap_or(u32::MAX))
    }

    /// What these seconds rest on; absent where nothing is known.
    pub fn start_on(&self, node: &NodeRow) -> Option<Start> {
        self.fresh?;
        Some(match (self.differs(), self.differs() && self.is_cached_on(node)) {
            (true, true) => Start::Cached,
            (true, false) => Start::Fetched,
            (false, _) => Start::History,
        })
    }
}
