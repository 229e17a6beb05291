//! The simulator: both production cores under one virtual clock, with a hostile network and the
//! truth kept on simulated hosts.

pub mod sheet;
