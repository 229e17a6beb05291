//! The request path in front of the replicas: who asks, for which model, which replica answers.
//!
//! The rule it guards: a request is cut by nothing that the fleet does. A gateway serves from its
//! last routes through an outage of the scheduler, lets streams end at replicas that were taken out
//! of the routes, and sends nothing new there once it has acknowledged the removal.

pub mod auth;
pub mod config;
pub mod counts;
pub mod errors;
pub mod gateway;
pub mod metrics;
pub mod openai;
pub mod pick;
pub mod proxy;
pub mod relay;
pub mod routes;
pub mod selection;
pub mod uplink;
pub mod upstream;
