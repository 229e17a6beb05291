//! The scheduler's hands: the log, the one writer, the listeners.
//!
//! What is decided is decided in `wharfage-scheduler-core`; here it is made durable, published and
//! answered, in this order.

pub mod bootstrap;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod drills;
pub mod driver;
pub mod http;
pub mod log;
pub mod machines;
pub mod metrics;
pub mod run;
pub mod secrets;
pub mod telemetry;
pub mod webhooks;
