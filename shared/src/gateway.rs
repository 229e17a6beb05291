//! What the scheduler tells gateways, and what they report back.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::capacity::Zone;
use crate::ids::{DeploymentId, GatewayId, GatewayName, NodeId, OrganizationId, ReplicaId};
use crate::tagged::{self, NoFields, Tagged};
use crate::time::Millis;
use crate::version::Term;

/// A gateway whose report is older than this does not count for removals.
pub const GATEWAY_LEASE: Millis = Millis::from_seconds(30);

/// Orders route tables: compared as a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoutesVersion {
    /// Who said it.
    pub term: Term,
    /// Raised whenever anything a gateway acts on changes.
    pub number: u64,
}

/// `GET /gateway/v1/routes?term=T&number=N`: the whole table, held open until it is newer than
/// what the query names (at most 20 s, then 204).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Which table this is.
    pub version: RoutesVersion,
    /// Deployments with what stands behind them.
    pub deployments: Vec<RouteDeployment>,
    /// Front doors.
    pub gateways: Vec<RouteGateway>,
    /// SHA-256 (hex) of every token that may send requests -> its organization.
    pub keys: BTreeMap<String, OrganizationId>,
}

/// A front door of one organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteGateway {
    /// Its id.
    pub id: GatewayId,
    /// Whose.
    pub organization: OrganizationId,
    /// Its zones.
    pub zones: Vec<Zone>,
    /// How the model's name is found in a request.
    pub routing: Routing,
}

/// How the model's name is found in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Routing {
    /// `model` in the body.
    Body,
    /// A header of this name.
    Header {
        /// The header's name.
        name: String,
    },
    /// The first part of the path.
    Path,
}

impl Tagged for Routing {
    const TAG: &'static str = "by";

    fn variant<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Header {
            name: String,
        }
        Ok(match name {
            "body" => NoFields::deserialize(fields).map(|NoFields {}| Routing::Body)?,
            "header" => Routing::Header { name: Header::deserialize(fields)?.name },
            "path" => NoFields::deserialize(fields).map(|NoFields {}| Routing::Path)?,
            other => return Err(D::Error::unknown_variant(other, &["body", "header", "path"])),
        })
    }
}

impl<'de> Deserialize<'de> for Routing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged::read(deserializer)
    }
}

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// Whose.
    pub organization: OrganizationId,
    /// The name that requests use.
    pub model: String,
    /// The front doors that serve it.
    pub gateways: Vec<GatewayId>,
    /// Its share among deployments of the same model name, 0 to 1000.
    pub weight: u32,
    /// In-flight requests that one replica should have.
    pub concurrency: u32,
    /// Whether requests may be parked while no replica is ready.
    pub parks: bool,
    /// The words by which Baseten's paths reach it: `production`, `development`, its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
    /// Ready replicas, in the order of their ids.
    pub replicas: Vec<RouteReplica>,
}

/// One ready replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReplica {
    /// Which.
    pub id: ReplicaId,
    /// Its node: the guard's certificate must carry the DNS name `<node>.node.wharfage`.
    pub node: NodeId,
    /// `host:port` of the guard's mTLS port.
    pub address: String,
}

/// What became of requests at one replica that is out of the routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Came to their end there after it was taken out of the routes.
    #[serde(default)]
    pub completed: u64,
    /// Were sent to another replica instead, before anything had gone to the client.
    #[serde(default)]
    pub moved: u64,
    /// Got no whole answer.
    #[serde(default)]
    pub cut: u64,
}

/// `POST /gateway/v1/report`: every second, and at once on a change of what was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Who.
    pub gateway: Option<GatewayName>,
    /// Counts up within one process.
    pub number: u64,
    /// The table in use: every removal up to it is acknowledged.
    pub routes: RoutesVersion,
    /// Requests at replicas now, also at replicas that are no longer in the table.
    pub in_flight: BTreeMap<ReplicaId, u32>,
    /// Requests that wait, by deployment.
    pub queued: BTreeMap<DeploymentId, u32>,
    /// Requests that wait for a first replica, by deployment.
    pub parked: BTreeMap<DeploymentId, u32>,
    /// Requests finished since the process started, by deployment.
    pub finished: BTreeMap<DeploymentId, u64>,
    /// Tokens since the process started, by key id (the first 8 hex digits of its hash).
    #[serde(default)]
    pub tokens: BTreeMap<String, u64>,
    /// Replicas that were taken out of the routes in the last minute, or still have requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<ReplicaId, Served>,
    /// Where clients reach this process: `https://models.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}
