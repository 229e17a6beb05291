//! How replicas are run on this host. One driver so far: a guard process per replica.

pub mod keeper;
pub mod process;
pub mod release;
