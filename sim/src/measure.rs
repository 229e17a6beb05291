//! Worlds of a chosen size, for measuring how fast the simulator runs.

use std::collections::BTreeMap;

use wharfage_scheduler_core::Policy;
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::ids::DeploymentId;
use wharfage_shared::time::Millis;

use crate::Violation;
use crate::sheet::{furnish, statement::Deploy};
use crate::world::{ACME, Plan, PlannedHost, World};

/// Replicas of one deployment.
const REPLICAS: u32 = 16;

/// What was simulated.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Nodes times virtual seconds.
    pub node_seconds: u64,
    /// Replicas that served at the end.
    pub ready: usize,
    /// Rules that were broken.
    pub violations: Vec<Violation>,
}

/// A fleet of `nodes` standard nodes of which seven in eight serve one replica each, for `length`,
/// with an agent that dies every ten seconds somewhere. All checks are on.
pub fn steady(nodes: u32, length: Millis) -> Measured {
    let host = PlannedHost {
        sku: Sku::new("gd-8xh100ib-i128"),
        zone: Zone::new("US-EAST-04A"),
        compute_class: ComputeClass::Standard,
        joins_after: Millis(0),
        drift_ppm: 0,
        shared_disk: false,
    };
    let mut world = World::make(Plan {
        seed: 1,
        hosts: vec![host; nodes as usize],
        organizations: vec![ACME.into()],
        gateways: 1,
        hooks: BTreeMap::new(),
        keeps_lines: false,
        policy: Policy::default(),
    });
    let mut left = (nodes * 7 / 8).max(1);
    for number in 0..nodes.div_ceil(REPLICAS) {
        let replicas = left.min(REPLICAS);
        left -= replicas;
        if replicas > 0 {
            furnish(&mut world, &whole_nodes(number, replicas), &[]);
        }
    }
    let until = world.stage.now + length;
    while world.stage.now < until && world.violations().is_empty() {
        world.run_until((world.stage.now + Millis::from_seconds(10)).min(until));
        let index = world.stage.rng.between(0, u64::from(nodes) - 1) as usize;
        let (stage, hosts) = (&mut world.stage, &mut world.hosts);
        let pause = stage.habits.agent_restart;
        hosts[index].agent_dies(stage, pause);
    }
    Measured {
        node_seconds: u64::from(nodes) * world.stage.now.0 / 1000,
        ready: world.fleet().replicas().filter(|row| row.phase.is_ready()).count(),
        violations: world.violations().to_vec(),
    }
}

/// One deployment of so many whole nodes, with everything else as a sheet has it.
fn whole_nodes(number: u32, replicas: u32) -> Deploy {
    Deploy {
        name: DeploymentId::new(format!("steady-{number}")),
        gpus: 8,
        min: replicas,
        max: None,
        priority: 0,
        concurrency: 8,
        classes: Vec::new(),
        load: Millis::from_seconds(1),
        checkpoint: Millis(0),
        drain: Millis(0),
        sku: None,
        zone: None,
        organization: ACME.into(),
        single_copy: false,
    }
}
