//! What is due by the clock: silence, alarms, attribution.

use wharfage_shared::ids::{GatewayName, NodeId};
use wharfage_shared::time::Timestamp;

use super::{Controller, Decided};
use crate::fleet::rows::meter::OpenFact;
use crate::policies::partition;
use crate::reconcile::reconcile;
use crate::words::event::meter::{Behind, Event as MeterEvent};
use crate::words::event::{gateway, node};
use crate::words::node::Reach;

impl Controller {
    /// Does what is due; answers when it must be called again at the latest.
    pub fn tick(&mut self, now: Timestamp) -> Decided<Timestamp> {
        self.now = self.now.max(now);
        let now = self.now;
        self.agenda.ring(&self.fleet, now);
        self.look_at_loads(now);
        let silences = self.silences(now);
        let lapsed = self.lapsed(now);
        let metered = (self.soft.next_tick <= now).then(|| self.meter(now));
        if metered.is_some() {
            self.soft.next_tick = now + self.policy.tick();
        }
        // Not at every change: what waits may fit in a moment, and a search is dear.
        if metered.is_some() && (self.policy.consolidation || self.policy.spot_return) {
            self.agenda.look_for_moves();
        }
        let mut plan = self.plan(now);
        for (node, reach) in silences {
            plan.record(node::Event::ReachChanged { node, reach, at: now });
        }
        for name in lapsed {
            plan.record(gateway::Event::Lapsed { name, at: now });
        }
        if let Some(event) = metered {
            plan.record(event);
        }
        reconcile(&mut plan);
        let events = plan.events;
        Decided { answer: self.next_wake(now), events }
    }

    pub(super) fn next_wake(&self, now: Timestamp) -> Timestamp {
        let silence = self.soft.checks.first().map(|((at, _), ())| *at);
        let lease = self.policy.gateway_lease();
        let connected = self.fleet.gateway_processes().filter(|process| process.connected);
        let gateway = connected.map(|process| self.gateway_heard(&process.name) + lease).min();
        let next = [silence, gateway, self.agenda.next(), self.soft.loads.next()]
            .into_iter()
            .flatten()
            .min();
        let next = next.map_or(self.soft.next_tick, |next| next.min(self.soft.next_tick));
        next.max(Timestamp(now.0 + 1))
    }

    /// Nodes that have been silent long enough for another word. Nobody is lost while a scheduler
    /// waits for agents to come back, or while a partition is suspected.
    fn silences(&mut self, now: Timestamp) -> Vec<(NodeId, Reach)> {
        let mut changes = Vec::new();
        let mut suspected = None;
        let floor = self.soft.began + self.policy.start_wait();
        while let Some((at, id)) = self.soft.checks.first().map(|(key, ())| key.clone()) {
            if at > now {
                break;
            }
            self.soft.checks.remove(&(at, id.clone()));
            let Some(row) = self.fleet.node(&id) else { continue };
            let heard = self.soft.heard(&id);
            let silent_at = heard + self.policy.silent_after();
            let lost_at = (heard + self.policy.lease()).max(floor);
            let next = match row.reach {
                Reach::Joining | Reach::Lost => continue,
                Reach::Connected | Reach::Silent if silent_at > now => silent_at,
                Reach::Connected => {
                    changes.push((id.clone(), Reach::Silent));
                    lost_at.max(Timestamp(now.0 + 1))
                }
                Reach::Silent if lost_at > now => lost_at,
                Reach::Silent => {
                    let held = suspected.get_or_insert_with(|| {
                        partition::suspected(&self.fleet, &self.policy, now)
                    });
                    if !held.contains_key(&row.zone) {
                        changes.push((id, Reach::Lost));
                        continue;
                    }
                    now + self.policy.silent_after()
                }
            };
            self.soft.checks.insert((next, id), ());
        }
        changes
    }

    fn gateway_heard(&self, name: &GatewayName) -> Timestamp {
        self.soft.gateways.get(name).map_or(self.soft.began, |heard| heard.at)
    }

    fn lapsed(&self, now: Timestamp) -> Vec<GatewayName> {
        let lease = self.policy.gateway_lease();
        let connected = self.fleet.gateway_processes().filter(|process| process.connected);
        let silent = connected.filter(|process| self.gateway_heard(&process.name) + lease <= now);
        silent.map(|process| process.name.clone()).collect()
    }

    /// Up to when every open segment is proven, and who is behind. It never goes back.
    fn meter(&self, now: Timestamp) -> MeterEvent {
        let meter = self.fleet.meter();
        let known = meter.tick.as_ref();
        let open = meter.open.values().filter(|fact| fact.superseded.is_none());
        let proven: Vec<(NodeId, Timestamp)> = open.map(|fact| self.proven(fact)).collect();
        let cutoff = now.minus(self.policy.silent_after());
        let current = proven.iter().map(|(_, at)| *at).filter(|at| *at >= cutoff).min();
        let proven_until = current
            .unwrap_or(if proven.is_empty() { now } else { cutoff })
            .min(now)
            .max(known.map_or(cutoff, |tick| tick.proven_until));
        let late = proven.into_iter().filter(|(_, at)| *at < proven_until);
        let mut behind: Vec<Behind> =
            late.map(|(node, proven_until)| Behind { node, proven_until }).collect();
        behind.sort();
        MeterEvent::Tick { at: now, proven_until, behind }
    }

    /// How far one open segment is proven, on the scheduler's clock: what its agent said since this
    /// scheduler began, else what the last tick says.
    fn proven(&self, fact: &OpenFact) -> (NodeId, Timestamp) {
        let key = &fact.segment.key;
        let heard = self.soft.nodes.get(&key.node).and_then(|heard| heard.proven.as_ref());
        let at = heard.filter(|(of, _)| of == key).map_or(fact.segment.proven_until, |(_, at)| *at);
        let meter = self.fleet.meter();
        let wall = meter.wall(&key.node, &key.boot, at).unwrap_or_default();
        let told = meter.tick.as_ref().map(|tick| tick.of(&key.node));
        let start = meter.wall(&key.node, &key.boot, fact.segment.start).unwrap_or_default();
        let told = told.filter(|told| *told >= start).unwrap_or(wall);
        (key.node.clone(), wall.max(told))
    }
}
