//! The desired state of a node: run or stop, for each replica that the log knows there.

use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::notice::Reclaim;
use wharfage_shared::order::{Desired, Gang, Order, RunOrder, StopOrder};
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
            orders: self
                .replicas_on(node)
                .filter_map(|replica| self.order(replica, node))
                .collect(),
            reclaim: reclaim(row),
            drill: self.drill_order(node),
            cordoned: row.intent != Intent::Open || row.notice().is_some(),
        })
    }

    fn order(&self, replica: &ReplicaRow, node: &NodeId) -> Option<Order> {
        if replica.is_gone_from(node) {
            return None;
        }
        match &replica.phase {
            Phase::Pending { .. } | Phase::Promised { .. } => None,
            Phase::Placed { seat, .. } => {
                self.run_order(replica, seat, node).map(|run| Order::Run(Box::new(run)))
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

    fn run_order(&self, replica: &ReplicaRow, seat: &Seat, node: &NodeId) -> Option<RunOrder> {
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
            gpus: seat.gpus_on(node).to_vec(),
            hooks: spec.extension.hooks.clone(),
            single_copy: spec.extension.single_copy,
            grace: Millis::from_seconds(spec.extension.grace_seconds.into()),
            start_deadline: replica.start_deadline,
            gang: self.gang(replica.id, seat, node),
        })
    }

    /// What the node runs of a gang.
    fn gang(&self, id: ReplicaId, seat: &Seat, node: &NodeId) -> Option<Gang> {
        if !seat.is_gang() {
            return None;
        }
        let rank = seat.nodes().position(|on| on == node)?;
        let leader = self.node(&seat.node)?.inventory.address.clone();
        Some(Gang {
            rank: u32::try_from(rank).ok()?,
            world_size: u32::try_from(seat.others.len() + 1).ok()?,
            gpus: u32::try_from(seat.size()).ok()?,
            leader_host: leader.unwrap_or_default(),
            leader_port: Gang::port(id),
        })
    }
}

/// The scheduler's own notice in force that ends first.
fn reclaim(row: &NodeRow) -> Option<Reclaim> {
    row.told().map(|notice| Reclaim {
        id: notice.id.clone(),
        kind: notice.kind,
        leaves: notice.leaves,
        warned_at: notice.heard_at,
        drain_at: notice.drain_at,
        gone_at: notice.gone_at,
    })
}
