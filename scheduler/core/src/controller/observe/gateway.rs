//! A gateway's report: which table it uses and what is in flight.

use std::sync::Arc;

use wharfage_shared::enroll::MachineProblem;
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::time::Timestamp;

use super::{drills, problem};
use crate::controller::{Controller, Decided};
use crate::reconcile::plan::GatewayHeard;
use crate::reconcile::reconcile;
use crate::words::event::gateway::Event;

impl Controller {
    pub(in crate::controller) fn gateway(
        &mut self,
        now: Timestamp,
        report: GatewayReport,
    ) -> Decided<Result<(), MachineProblem>> {
        let known = report.gateway.as_ref().and_then(|name| self.fleet.gateway_process(name));
        let Some(process) = known else {
            let name = report.gateway.map_or_else(String::new, |name| name.to_string());
            let detail = format!("no gateway `{name}` has enrolled; enrol with a join string");
            return Decided { answer: Err(problem("gateway_unknown", detail)), events: Vec::new() };
        };
        let (name, connected) = (process.name.clone(), process.connected);
        let left = report.left;
        let heard = GatewayHeard {
            at: now,
            number: report.number,
            routes: report.routes,
            in_flight: Arc::new(report.in_flight),
        };
        self.soft.gateways.insert(name.clone(), heard);
        let mut plan = self.plan(now);
        if !connected {
            plan.record(Event::Connected { name: name.clone(), at: now });
        }
        drills::requests(&mut plan, &name, &left);
        reconcile(&mut plan);
        Decided { answer: Ok(()), events: plan.events }
    }
}
