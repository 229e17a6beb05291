//! A gateway process in the world: it keeps so many requests in flight as the load says, each of
//! one second, sends them to the least loaded replica of its newest table, and counts those that
//! an engine's end cuts off.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::gateway::{GatewayReport, Routes};
use wharfage_shared::ids::{DeploymentId, GatewayName, ReplicaId};
use wharfage_shared::time::Millis;

use crate::network::{Place, Way};
use crate::stage::{AtGateway, AtScheduler, Happening, Stage};

/// A second of requests is cut into so many turns: in each one a part of them ends and begins anew.
const TURNS: usize = 10;

/// The length of one turn.
const TURN: Millis = Millis(100);

/// The distance between reports.
const REPORT: Millis = Millis(1000);

/// One gateway process.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    index: usize,
    pub name: GatewayName,
    number: u64,
    routes: Routes,
    loads: BTreeMap<DeploymentId, Load>,
    in_flight: BTreeMap<ReplicaId, u32>,
    finished: BTreeMap<DeploymentId, u64>,
    turn: usize,
    turns_are_planned: bool,
    pub cut: u64,
}

/// The requests of one deployment.
#[derive(Clone, Debug, Default)]
struct Load {
    wanted: u32,
    turns: [Turn; TURNS],
}

/// The requests that end in one turn.
#[derive(Clone, Debug, Default)]
struct Turn {
    at: Vec<ReplicaId>,
    waiting: u32,
}

impl Gateway {
    pub fn new(index: usize) -> Self {
        Self {
            index,
            name: GatewayName::new(format!("gateway-{}", index + 1)),
            number: 0,
            routes: Routes::default(),
            loads: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            finished: BTreeMap::new(),
            turn: 0,
            turns_are_planned: false,
            cut: 0,
        }
    }

    pub fn begin(&self, stage: &mut Stage) {
        stage.plan_in(Millis(1), Happening::Gateway(self.index, AtGateway::Reports));
    }

    /// From now on so many requests are in flight.
    pub fn load(&mut self, stage: &mut Stage, deployment: DeploymentId, wanted: u32) {
        let load = self.loads.entry(deployment.clone()).or_default();
        load.wanted = wanted;
        for turn in 0..TURNS {
            self.fill(stage, &deployment, turn);
        }
        if !self.turns_are_planned && wanted > 0 {
            self.turns_are_planned = true;
            stage.plan_in(TURN, Happening::Gateway(self.index, AtGateway::Turns));
        }
    }

    pub fn happen(&mut self, stage: &mut Stage, what: AtGateway) {
        match what {
            AtGateway::Reports => {
                self.report(stage);
                stage.plan_in(REPORT, Happening::Gateway(self.index, AtGateway::Reports));
            }
            AtGateway::Turns => self.turns(stage),
            AtGateway::Routes(routes) => {
                if stage.network.passes(Place::Gateway(self.index), Way::Down, stage.now)
                    && routes.version > self.routes.version
                {
                    self.routes = *routes;
                    self.fill_all(stage);
                    self.report(stage);
                }
            }
        }
    }

    /// Engines have ended: what was at them is cut off, and asked again.
    pub fn engines_ended(&mut self, ended: &[ReplicaId]) {
        for replica in ended {
            if self.in_flight.remove(replica).is_none() {
                continue;
            }
            for load in self.loads.values_mut() {
                for turn in &mut load.turns {
                    let before = turn.at.len();
                    turn.at.retain(|at| at != replica);
                    let lost = (before - turn.at.len()) as u32;
                    turn.waiting += lost;
                    self.cut += u64::from(lost);
                }
            }
        }
    }

    fn turns(&mut self, stage: &mut Stage) {
        self.turn = (self.turn + 1) % TURNS;
        let mut had_last_request = false;
        for deployment in self.loads.keys().cloned().collect::<Vec<_>>() {
            let Some(load) = self.loads.get_mut(&deployment) else { continue };
            let ended = std::mem::take(&mut load.turns[self.turn].at);
            *self.finished.entry(deployment.clone()).or_default() += ended.len() as u64;
            for replica in ended {
                had_last_request |= self.request_ends(replica);
            }
            self.fill(stage, &deployment, self.turn);
        }
        if had_last_request {
            // A replica that is no longer in the table has become quiet: said at once.
            self.report(stage);
        }
        if self.loads.values().any(Load::is_alive) {
            stage.plan_in(TURN, Happening::Gateway(self.index, AtGateway::Turns));
        } else {
            self.turns_are_planned = false;
        }
    }

    /// Whether it was the last one at a replica that the table no longer names.
    fn request_ends(&mut self, replica: ReplicaId) -> bool {
        let Some(count) = self.in_flight.get_mut(&replica) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.in_flight.remove(&replica);
        let mut deployments = self.routes.deployments.iter();
        !deployments.any(|deployment| deployment.replicas.iter().any(|r| r.id == replica))
    }

    fn fill_all(&mut self, stage: &Stage) {
        for deployment in self.loads.keys().cloned().collect::<Vec<_>>() {
            for turn in 0..TURNS {
                self.fill(stage, &deployment, turn);
            }
        }
    }

    /// As many requests as the turn should have, as far as there is a replica for them.
    fn fill(&mut self, stage: &Stage, deployment: &DeploymentId, turn: usize) {
        let mut routes = self.routes.deployments.iter();
        let route = routes.find(|route| route.id == *deployment);
        let alive = |id: &ReplicaId| stage.engines.contains_key(id);
        let replicas: BTreeSet<ReplicaId> =
            route.into_iter().flat_map(|r| r.replicas.iter().map(|r| r.id)).filter(alive).collect();
        let Some(load) = self.loads.get_mut(deployment) else { return };
        let quota = load.wanted / TURNS as u32 + u32::from((load.wanted as usize % TURNS) > turn);
        let slot = &mut load.turns[turn];
        let missing = quota.saturating_sub(slot.at.len() as u32);
        slot.waiting = 0;
        for _ in 0..missing {
            let least = replicas
                .iter()
                .min_by_key(|id| (self.in_flight.get(id).copied().unwrap_or(0), **id));
            match least {
                Some(replica) => {
                    slot.at.push(*replica);
                    *self.in_flight.entry(*replica).or_default() += 1;
                }
                None => slot.waiting += 1,
            }
        }
    }

    fn report(&mut self, stage: &mut Stage) {
        self.number += 1;
        let waiting = |load: &Load| load.turns.iter().map(|turn| turn.waiting).sum::<u32>();
        let parks = |id: &DeploymentId| {
            self.routes.deployments.iter().any(|route| route.id == *id && route.replicas.is_empty())
        };
        let waits = self.loads.iter().map(|(id, load)| (id.clone(), waiting(load)));
        let (parked, queued) = waits.filter(|(_, count)| *count > 0).partition(|(id, _)| parks(id));
        let report = GatewayReport {
            gateway: Some(self.name.clone()),
            number: self.number,
            routes: self.routes.version,
            in_flight: self.in_flight.clone(),
            queued,
            parked,
            finished: self.finished.clone(),
            tokens: BTreeMap::new(),
            left: BTreeMap::new(),
            endpoint: None,
        };
        let (gateway, report) = (self.index, Box::new(report));
        let what = AtScheduler::Report { gateway, report };
        stage.send(Place::Gateway(self.index), Way::Up, Happening::Scheduler(what));
    }
}

impl Load {
    fn is_alive(&self) -> bool {
        self.wanted > 0 || self.turns.iter().any(|turn| !turn.at.is_empty())
    }
}
