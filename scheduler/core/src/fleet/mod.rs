//! The fleet: tables that only facts change, and the questions that everybody asks of them.
//!
//! Replaying the log through [`Fleet::apply`] gives the same fleet, byte for byte (S7). A copy is
//! cheap, so the published view is a copy.

pub mod environments;
pub mod routes;
pub mod rows;
pub mod table;

pub mod check;

mod ahead;
mod apply;
mod desired;
mod drills;
pub(crate) mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{
    ClaimId, ContractId, DeploymentId, DrillId, GatewayId, GatewayName, JoinId, NodeId,
    OrganizationId, PoolId, ReplicaId, TokenId,
};
use wharfage_shared::time::{Millis, Timestamp};
use wharfage_shared::version::Term;

use self::index::Index;
use self::rows::access::{JoinRow, OrganizationRow, TokenRow};
use self::rows::claim::ClaimRow;
use self::rows::deployment::DeploymentRow;
use self::rows::drill::{DrillRow, ScheduleRow};
use self::rows::gateway::{GatewayProcessRow, GatewayRow};
use self::rows::interruptions::{History, Taken};
use self::rows::meter::Meter;
use self::rows::node::NodeRow;
use self::rows::replica::ReplicaRow;
use self::table::Table;
use crate::words::contract::{Contract, Price};
use crate::words::deployment::{ModelKey, Spec, StartKey};
use crate::words::event::money::Invoice;
use crate::words::event::request::{self, RequestKey};
use crate::words::node::{Brake, Pool, PoolSize, Pulled, Reach};
use crate::words::quota::QuotaKey;
use crate::words::replica::{Phase, PhaseWord};

/// Everything that the log says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Fleet {
    pub(crate) term: Term,
    pub(crate) pools: Table<PoolId, Arc<Pool>>,
    pub(crate) nodes: Table<NodeId, Arc<NodeRow>>,
    pub(crate) replicas: Table<ReplicaId, Arc<ReplicaRow>>,
    pub(crate) last_replica: u32,
    pub(crate) deployments: Table<DeploymentId, Arc<DeploymentRow>>,
    pub(crate) gateways: Table<GatewayId, Arc<GatewayRow>>,
    pub(crate) gateway_processes: Table<GatewayName, Arc<GatewayProcessRow>>,
    pub(crate) organizations: Table<OrganizationId, Arc<OrganizationRow>>,
    pub(crate) tokens: Table<TokenId, Arc<TokenRow>>,
    pub(crate) joins: Table<JoinId, Arc<JoinRow>>,
    pub(crate) contracts: Table<ContractId, Arc<ContractRow>>,
    pub(crate) prices: Arc<Vec<Price>>,
    pub(crate) invoices: Table<String, Arc<Invoice>>,
    pub(crate) meter: Meter,
    pub(crate) requests: Table<RequestKey, Arc<request::Event>>,
    pub(crate) routes_number: u64,
    /// By health rule.
    #[serde(default)]
    pub(crate) brakes: BTreeMap<String, Brake>,
    #[serde(default)]
    pub(crate) claims: Table<ClaimId, Arc<ClaimRow>>,
    /// Those that were set; the others follow from nodes and contracts.
    #[serde(default)]
    pub(crate) quotas: Table<QuotaKey, u32>,
    /// Of pools that are to have a stated number of nodes.
    #[serde(default)]
    pub(crate) pool_sizes: Table<PoolId, PoolCount>,
    /// When which replicas began to move, of the last hour.
    #[serde(default)]
    pub(crate) moves: Table<(Timestamp, ReplicaId), ()>,
    /// How large the weights of a model are, as the host said that cached it last.
    #[serde(default)]
    pub(crate) weights: Table<ModelKey, u64>,
    /// How long the last start of each kind took.
    #[serde(default)]
    pub(crate) starts: Table<StartKey, Millis>,
    /// What nodes of a type were seen to have.
    #[serde(default)]
    pub(crate) types: Table<Sku, TypeSeen>,
    /// How often nodes were taken away.
    #[serde(default)]
    pub(crate) interruptions: Table<Taken, History>,
    #[serde(default)]
    pub(crate) drills: Table<DrillId, Arc<DrillRow>>,
    /// Those that are not finished.
    #[serde(default)]
    pub(crate) active_drills: BTreeSet<DrillId>,
    #[serde(default)]
    pub(crate) schedules: Table<DrillId, Arc<ScheduleRow>>,
    #[serde(skip)]
    pub(crate) index: Index,
}

/// A snapshot as it is read: the indexes follow from the rows.
impl<'de> Deserialize<'de> for Fleet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived function of the rows: `remote` makes it an inherent one.
        let mut fleet = Fleet::deserialize(deserializer)?;
        fleet.index_anew();
        Ok(fleet)
    }
}

impl Serialize for Fleet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fleet::serialize(self, serializer)
    }
}

/// The most that nodes of a type were seen to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeSeen {
    /// Slots of one node.
    pub slots: u8,
    /// Memory of one slot in MiB.
    pub slot_mib: u64,
}

/// How many nodes a pool is to have, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCount {
    /// What is wanted.
    pub size: PoolSize,
    /// Nodes that are there.
    pub current: u32,
    /// Nodes that are wanted beyond these.
    pub queued: u32,
    /// Since when it is so.
    pub since: Timestamp,
}

/// A contract and whether its period is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractRow {
    /// The contract.
    pub contract: Contract,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// Its guarantee is in force.
    pub in_force: bool,
    /// The Flex contract that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<ContractId>,
    /// What goes on from it, and from when on: it ends there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<(ContractId, Timestamp)>,
}

impl ContractRow {
    /// First instant after it: of its period, or of what goes on from it.
    pub fn end(&self) -> Timestamp {
        self.amended.as_ref().map_or(self.contract.end, |(_, from)| *from)
    }
}

impl Fleet {
    /// The newest term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Pools in the order of their names.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(|row| &**row)
    }

    /// One pool.
    pub fn pool(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id).map(|row| &**row)
    }

    /// How many nodes a pool is to have and has, if that was said.
    pub fn pool_count(&self, id: &PoolId) -> Option<&PoolCount> {
        self.pool_sizes.get(id)
    }

    /// Nodes in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values().map(|row| &**row)
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<&NodeRow> {
        self.nodes.get(id).map(|row| &**row)
    }

    /// Replicas in the order of their ids; ended ones stay for an hour.
    pub fn replicas(&self) -> impl Iterator<Item = &ReplicaRow> {
        self.replicas.values().map(|row| &**row)
    }

    /// One replica.
    pub fn replica(&self, id: ReplicaId) -> Option<&ReplicaRow> {
        self.replicas.get(&id).map(|row| &**row)
    }

    /// A deployment's replicas whose end is not proven.
    pub fn replicas_of(&self, id: &DeploymentId) -> impl Iterator<Item = &ReplicaRow> {
        let ids = self.deployments.get(id).into_iter().flat_map(|row| row.replicas.keys());
        ids.filter_map(|id| self.replica(*id))
    }

    /// The same as rows that stay as they are while the fleet is changed.
    pub(crate) fn rows_of(&self, id: &DeploymentId) -> Vec<Arc<ReplicaRow>> {
        let ids = self.deployments.get(id).into_iter().flat_map(|row| row.replicas.keys());
        ids.filter_map(|id| self.replicas.get(id).map(Arc::clone)).collect()
    }

    /// The replicas that are ordered to run or to stop on a node.
    pub fn replicas_on(&self, id: &NodeId) -> impl Iterator<Item = &ReplicaRow> {
        let ids = self.nodes.get(id).into_iter().flat_map(|row| row.replicas.iter());
        ids.filter_map(|id| self.replica(*id))
    }

    /// The spec that a replica runs.
    pub fn spec_of(&self, replica: &ReplicaRow) -> Option<&Spec> {
        let deployment = self.deployment(&replica.deployment)?;
        deployment.revisions.get(&replica.revision).map(|spec| &**spec)
    }

    /// The word for a replica's phase: a lost node's replicas are unreachable.
    pub fn phase_word(&self, replica: &ReplicaRow) -> PhaseWord {
        let lost = || {
            let mut nodes = replica.nodes().filter_map(|node| self.node(node));
            nodes.any(|node| node.reach == Reach::Lost)
        };
        match &replica.phase {
            Phase::Placed { .. } | Phase::Leaving { .. } if lost() => PhaseWord::Unreachable,
            phase => phase.word(),
        }
    }

    /// Health rules whose brake is on, in their order.
    pub fn brakes(&self) -> impl Iterator<Item = (&str, &Pulled)> {
        let brakes = self.brakes.iter();
        brakes.filter_map(|(rule, brake)| Some((rule.as_str(), brake.pulled.as_ref()?)))
    }

    /// Deployments in the order of their ids, those that are being deleted included.
    pub fn deployments(&self) -> impl Iterator<Item = &DeploymentRow> {
        self.deployments.values().map(|row| &**row)
    }

    /// One deployment.
    pub fn deployment(&self, id: &DeploymentId) -> Option<&DeploymentRow> {
        self.deployments.get(id).map(|row| &**row)
    }

    /// Gateway resources in the order of their ids.
    pub fn gateways(&self) -> impl Iterator<Item = &GatewayRow> {
        self.gateways.values().map(|row| &**row)
    }

    /// One gateway resource.
    pub fn gateway(&self, id: &GatewayId) -> Option<&GatewayRow> {
        self.gateways.get(id).map(|row| &**row)
    }

    /// Gateway processes in the order of their names.
    pub fn gateway_processes(&self) -> impl Iterator<Item = &GatewayProcessRow> {
        self.gateway_processes.values().map(|row| &**row)
    }

    /// One gateway process.
    pub fn gateway_process(&self, name: &GatewayName) -> Option<&GatewayProcessRow> {
        self.gateway_processes.get(name).map(|row| &**row)
    }

    /// Organizations in the order of their ids.
    pub fn organizations(&self) -> impl Iterator<Item = &OrganizationRow> {
        self.organizations.values().map(|row| &**row)
    }

    /// One organization.
    pub fn organization(&self, id: &OrganizationId) -> Option<&OrganizationRow> {
        self.organizations.get(id).map(|row| &**row)
    }

    /// Tokens in the order of their ids, revoked ones included.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenRow> {
        self.tokens.values().map(|row| &**row)
    }

    /// One token.
    pub fn token(&self, id: &TokenId) -> Option<&TokenRow> {
        self.tokens.get(id).map(|row| &**row)
    }

    /// The token whose secret has this SHA-256 (hex).
    pub fn token_by_sha256(&self, sha256: &str) -> Option<&TokenRow> {
        self.index.tokens.get(&sha256.to_owned()).and_then(|id| self.token(id))
    }

    /// Joins in the order of their ids.
    pub fn joins(&self) -> impl Iterator<Item = &JoinRow> {
        self.joins.values().map(|row| &**row)
    }

    /// One join.
    pub fn join(&self, id: &JoinId) -> Option<&JoinRow> {
        self.joins.get(id).map(|row| &**row)
    }

    /// The join whose secret has this SHA-256 (hex).
    pub fn join_by_sha256(&self, sha256: &str) -> Option<&JoinRow> {
        self.index.joins.get(&sha256.to_owned()).and_then(|id| self.join(id))
    }

    /// Contracts in the order of their ids.
    pub fn contracts(&self) -> impl Iterator<Item = &ContractRow> {
        self.contracts.values().map(|row| &**row)
    }

    /// One contract.
    pub fn contract(&self, id: &ContractId) -> Option<&ContractRow> {
        self.contracts.get(id).map(|row| &**row)
    }

    /// Capacity claims in the order of their ids, those that have ended left out.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimRow> {
        self.claims.values().map(|row| &**row).filter(|row| row.deleted_at.is_none())
    }

    /// One capacity claim, ended or not.
    pub fn claim(&self, id: &ClaimId) -> Option<&ClaimRow> {
        self.claims.get(id).map(|row| &**row)
    }

    /// Instance quotas that were set, in order.
    pub fn quotas(&self) -> impl Iterator<Item = (&QuotaKey, u32)> {
        self.quotas.iter().map(|(key, instances)| (key, *instances))
    }

    /// How many nodes of a kind were taken away since then, to the hour.
    pub fn interruptions(&self, of: &Taken, since: Timestamp) -> u32 {
        self.interruptions.get(of).map_or(0, |history| history.since(since))
    }

    /// List prices in the order in which they were set.
    pub fn prices(&self) -> &[Price] {
        &self.prices
    }

    /// Invoices in the order of their ids.
    pub fn invoices(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.values().map(|row| &**row)
    }

    /// One invoice.
    pub fn invoice(&self, id: &str) -> Option<&Invoice> {
        self.invoices.get(&id.to_owned()).map(|row| &**row)
    }

    /// What is proven of the nodes' time.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The answer that was given to an idempotency key within the last 24 hours.
    pub fn request(&self, key: &RequestKey) -> Option<&request::Event> {
        self.requests.get(key).map(|row| &**row)
    }

    /// Raised whenever anything in the route table changes.
    pub fn routes_number(&self) -> u64 {
        self.routes_number
    }
}
