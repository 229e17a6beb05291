//! A gateway resource of the CoreWeave API: a front door of one organization.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::Zone;
use wharfage_shared::gateway::Routing;

/// What a client asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Free text, unique in its organization, fixed for life.
    pub name: String,
    /// Its zones, in the client's order.
    pub zones: Vec<Zone>,
    /// Who checks requests.
    pub auth: Auth,
    /// How a request names its model.
    pub routing: Routing,
    /// Names that the customer points here; merged on update.
    pub additional_dns: BTreeSet<String>,
}

/// Who checks requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "auth")]
pub enum Auth {
    /// This product's own tokens.
    Tokens,
}
