//! The desired state of a node: run or stop, for each replica that the log knows there.

use wharfage_shared::ids::NodeId;
use wharfage_shared::notice::Reclaim;
use wharfage_shared::order::{Desired, Order, RunOrder, StopOrder};
use wharfage_shared::time::Millis;
use wharfage_shared::version::{DesiredVersion, Term};

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::node::Intent;
use crate::words::replica::{Phase, Seat};

impl Fleet {
    /// What a node should run and stop. A stop stays listed until the end is proven.
    pub fn desired(&self, term: Term, node: &NodeId) -> Option<Desired> {
        let row = self.node(node)?;
        Some(Desired {
            version: DesiredVersion { term, generation: row.generation },
            held_for: row.held_for.clone(),
            orders: self.replicas_on(node).filter_map(|replica| self.order(replica)).collect(),
            reclaim: reclaim(row),
            cordoned: row.intent != Intent::Open || row.notice().is_some(),
        })
    }

    fn order(&self, replica: &ReplicaRow) -> Option<Order> {
        match &replica.phase {
            Phase::Pending { .. } | Phase::Promised { .. } => None,
            Phase::Placed { seat, .. } => {
                self.run_order(replica, seat).map(|run| Order::Run(Box::new(run)))
            }
            Phase::Leaving { leaving, .. } => Some(Order::Stop(StopOrder {
                replica: replica.id,
                because: leaving.because,
                deadline: leaving.deadline,
                quiet: leaving.quiet,
            })),
            Phase::Stopped { proven: true, .. } => None,
            Phase::Stopped { because, at, proven: false, .. } => Some(Order::Stop(StopOrder {
                replica: replica.id,
                because: *because,
                deadline: *at,
                quiet: true,
            })),
        }
    }

    fn run_order(&self, replica: &ReplicaRow, seat: &Seat) -> Option<RunOrder> {
        let spec = self.spec_of(replica)?;
        Some(RunOrder {
            replica: replica.id,
            deployment: replica.deployment.clone(),
            deployment_name: spec.name.clone(),
            organization: replica.organization.clone(),
            engine: spec.runtime.engine.clone(),
            engine_version: replica.engine_version.to_string(),
            engine_flags: spec.runtime.config.clone(),
            engine_env: spec.runtime.env.clone(),
            model_name: spec.model.name.clone(),
            model_bucket: spec.model.bucket.clone(),
            // The bucket's root, never the host's.
            model_path: spec.model.path.trim_start_matches('/').to_owned(),
            gpus: seat.gpus.clone(),
            hooks: spec.extension.hooks.clone(),
            single_copy: spec.extension.single_copy,
            grace: Millis::from_seconds(spec.extension.grace_seconds.into()),
            start_deadline: replica.start_deadline,
        })
    }
}

/// The reclaim in force that ends first.
fn reclaim(row: &NodeRow) -> Option<Reclaim> {
    row.reclaim().map(|notice| Reclaim {
        id: notice.id.clone(),
        leaves: notice.leaves,
        warned_at: notice.heard_at,
        drain_at: notice.drain_at,
        gone_at: notice.gone_at,
    })
}
