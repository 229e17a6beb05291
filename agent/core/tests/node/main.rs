//! The node's decisions against a host and a scheduler of virtual time: stories that read like
//! timelines, and rules that hold for every course of events.

mod builders;
mod drills;
mod evacuation;
mod health;
mod host;
mod instances;
mod leaving;
mod left_alone;
mod life;
mod metering;
mod orders;
mod properties;
mod starts;
mod xids;
