//! Our own API under `/api/v1`: fleet, deployments, tenancy, money, facts.

pub mod bodies;
pub mod facts;

mod access;
mod audit;
mod deployments;
mod drills;
mod events;
mod invoices;
mod money;
mod nodes;
mod notices;
mod quotas;
mod replicas;

use super::route::Route;

/// Every route below `/api/v1`.
pub fn routes() -> Vec<Route> {
    let mut routes = nodes::routes();
    routes.extend(notices::routes());
    routes.extend(deployments::routes());
    routes.extend(replicas::routes());
    routes.extend(drills::routes());
    routes.extend(quotas::routes());
    routes.extend(money::routes());
    routes.extend(invoices::routes());
    routes.extend(access::routes());
    routes.extend(audit::routes());
    routes.extend(events::routes());
    routes
}
