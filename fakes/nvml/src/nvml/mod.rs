//! The exported symbols of `libnvidia-ml`, by subject.
//!
//! Each body is one question to the folder. `stubs` exports every remaining name of the header, so
//! that a caller sees "not supported", as on a board without the feature, and not a missing symbol.

mod devices;
mod events;
mod fields;
mod gpm;
mod health;
mod memory;
mod mig;
mod modes;
mod nvlink;
mod processes;
mod readings;
mod stubs;
mod system;
