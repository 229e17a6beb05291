//! A gateway's report: which table it uses and what is in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::ids::{DeploymentId, GatewayName};
use wharfage_shared::time::Timestamp;

use super::{drills, problem};
use crate::controller::{Controller, Decided};
use crate::reconcile::loads::{Hearing, heard_since, requests_by_deployment};
use crate::reconcile::plan::{GatewayHeard, Plan};
use crate::reconcile::reconcile;
use crate::words::event::gateway::Event;

impl Controller {
    pub(in crate::controller) fn gateway(
        &mut self,
        now: Timestamp,
        mut report: GatewayReport,
    ) -> Decided<Result<(), MachineProblem>> {
        let known = report.gateway.as_ref().and_then(|name| self.fleet.gateway_process(name));
        let Some(process) = known else {
            let name = report.gateway.map_or_else(String::new, |name| name.to_string());
            let detail = format!("no gateway `{name}` has enrolled; enrol with a join string");
            return Decided { answer: Err(problem("gateway_unknown", detail)), events: Vec::new() };
        };
        let (name, connected) = (process.name.clone(), process.connected);
        let left = std::mem::take(&mut report.left);
        let requests = requests_by_deployment(&self.fleet, &report);
        let ended = ended(self.soft.gateways.get(&name), &report);
        let heard = GatewayHeard {
            at: now,
            since: heard_since(self.soft.gateways.get(&name), now),
            number: report.number,
            routes: report.routes,
            in_flight: Arc::new(report.in_flight),
            requests: Arc::new(requests),
            finished: Arc::new(report.finished),
        };
        self.soft.gateways.insert(name.clone(), heard);
        let mut plan = self.plan(now);
        if !connected {
            plan.record(Event::Connected { name: name.clone(), at: now });
        }
        drills::requests(&mut plan, &name, &left);
        follow(&mut plan, &name, &ended);
        reconcile(&mut plan);
        Decided { answer: Ok(()), events: plan.events }
    }
}

/// Requests that have ended since the gateway's last word. A process that begins counts from zero;
/// what it did before this scheduler heard it is not known.
fn ended(before: Option<&GatewayHeard>, report: &GatewayReport) -> BTreeMap<DeploymentId, u64> {
    let Some(before) = before else { return BTreeMap::new() };
    let since = |(id, count): (&DeploymentId, &u64)| {
        let known = before.finished.get(id).copied().unwrap_or_default();
        let ended = if *count >= known { count - known } else { *count };
        (ended > 0).then(|| (id.clone(), ended))
    };
    report.finished.iter().filter_map(since).collect()
}

/// What has requests is followed from now on; what has none of its replicas yet is woken at once.
fn follow(plan: &mut Plan<'_>, name: &GatewayName, ended: &BTreeMap<DeploymentId, u64>) {
    let Some(requests) = plan.gateways.get(name).map(|word| Arc::clone(&word.requests)) else {
        return;
    };
    let hearing = Hearing::of(plan.fleet, plan.gateways, plan.began, plan.now);
    for (id, ended) in ended {
        let Some(row) = plan.fleet.deployment(id) else { continue };
        plan.loads.ended(row, *ended, plan.gateways, hearing, plan.now);
    }
    for id in requests.keys() {
        let Some(row) = plan.fleet.deployment(id) else { continue };
        plan.loads.follow(row, plan.gateways, hearing, plan.now);
        if plan.loads.wake(plan.fleet, row, plan.gateways, plan.now) {
            plan.agenda.scale(id.clone());
        }
    }
}
