//! One suite for both ways of running replicas: what a driver promises is the same whether a guard
//! is a child of the agent or an instance of `wharfage-replica@.service`.
//!
//! Run as it is, the stories use processes. `units` boots a systemd in a container and runs the
//! very same stories inside, with the packaged template.

mod agents;
mod bench;
mod records;
mod starts;
mod stops;
mod units;
