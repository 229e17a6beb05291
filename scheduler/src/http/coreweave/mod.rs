//! The CoreWeave Inference API: the same operations as REST and as Connect JSON.

pub mod claim;
pub mod deployment;
pub mod deployments;
pub mod errors;
pub mod extension;
pub mod gateway;
pub mod gateways;
pub mod offer;
pub mod resource;
pub mod semver;
pub mod service;

mod claims;
#[cfg(test)]
mod tests;

use super::route::Route;

/// Every route of the API.
pub fn routes() -> Vec<Route> {
    let mut routes = service::routes::<deployments::Deployments>();
    routes.extend(service::routes::<gateways::Gateways>());
    routes.extend(service::routes::<claims::Claims>());
    routes
}
