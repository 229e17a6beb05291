//! A gateway process: uses the newest routes a second after they were published, and says so.

use std::collections::BTreeMap;

use wharfage_scheduler_core::{Heard, Reply, routes};
use wharfage_shared::gateway::{GatewayReport, RoutesVersion, Served};
use wharfage_shared::ids::{DeploymentId, GatewayName, ReplicaId};

use super::World;

/// One gateway process.
pub struct Gateway {
    /// The name it enrolled with.
    pub name: GatewayName,
    /// Whether it reports.
    pub is_up: bool,
    /// It keeps the table that it has.
    pub is_stuck: bool,
    /// Requests at replicas.
    pub in_flight: BTreeMap<ReplicaId, u32>,
    /// Requests that wait for a first replica.
    pub parked: BTreeMap<DeploymentId, u32>,
    /// Requests that have ended.
    pub finished: BTreeMap<DeploymentId, u64>,
    /// What became of requests at replicas that are out of the routes.
    pub left: BTreeMap<ReplicaId, Served>,
    number: u64,
    routes: RoutesVersion,
}

impl Gateway {
    /// A process that has just enrolled.
    pub fn new(name: &str) -> Self {
        Self {
            name: GatewayName::from(name),
            is_up: true,
            is_stuck: false,
            in_flight: BTreeMap::new(),
            parked: BTreeMap::new(),
            finished: BTreeMap::new(),
            left: BTreeMap::new(),
            number: 0,
            routes: RoutesVersion::default(),
        }
    }

    /// Reports the table in use, then takes the newest one.
    pub fn report(&mut self, world: &mut World) {
        if !self.is_up {
            return;
        }
        self.number += 1;
        let report = GatewayReport {
            gateway: Some(self.name.clone()),
            number: self.number,
            routes: self.routes,
            in_flight: self.in_flight.clone(),
            parked: self.parked.clone(),
            finished: self.finished.clone(),
            left: self.left.clone(),
            ..GatewayReport::default()
        };
        let reply = world.hear(Heard::Gateway(report));
        assert_eq!(reply, Reply::Gateway(Ok(())));
        if !self.is_stuck {
            let term = world.controller.term();
            let newest = routes::table(world.fleet(), term).version;
            assert!(newest >= self.routes, "S9: the routes went back");
            self.routes = newest;
        }
    }
}
