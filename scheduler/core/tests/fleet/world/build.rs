//! How stories make hosts, organizations and deployments.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_scheduler_core::Refusal;
use wharfage_scheduler_core::capacity::claims;
use wharfage_scheduler_core::words::claim::Spec as Claim;
use wharfage_scheduler_core::words::command::access::{Action as Access, Admits};
use wharfage_scheduler_core::words::command::claims::Action as Claims;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::money::Action as Money;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::command::{Action, Answer};
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::words::quota::QuotaKey;
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku, Tenancy, Zone};
use wharfage_shared::ids::{ClaimId, ContractId, JoinId, NodeId, OrganizationId, PoolId};
use wharfage_shared::time::Millis;

use super::{Agent, Gateway, World, id};

/// The instance type of most stories: eight GPUs.
pub const SKU: &str = "gd-8xh100ib-i128";
/// The zone of most stories.
pub const ZONE: &str = "US-EAST-04A";

/// A deployment of one replica with eight GPUs, on whatever is not spot.
pub fn spec(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        model: Model {
            name: format!("model-{name}"),
            bucket: "models".to_owned(),
            path: name.to_owned(),
        },
        runtime: Runtime {
            engine: "vllm".to_owned(),
            version: String::new(),
            config: BTreeMap::new(),
            env: BTreeMap::new(),
        },
        sku: Sku::new(SKU),
        gpus: GpuCount::new(8).expect("8 is allowed"),
        gateways: BTreeSet::new(),
        zone: None,
        disabled: false,
        weight: 100,
        classes: Vec::new(),
        priority: Priority::default(),
        scaling: Scaling::coreweave(Bounds::new(1, 1).expect("1 to 1"), None),
        extension: Extension::default(),
    }
}

impl World {
    /// So many standard and spot hosts, connected and fit: node-1, node-2, ...
    pub fn with_nodes(standard: usize, spot: usize) -> Self {
        let mut world = Self::new();
        world.add_nodes(standard, ComputeClass::Standard);
        world.add_nodes(spot, ComputeClass::Spot);
        world.run(10);
        world
    }

    /// More hosts of one class, just started.
    pub fn add_nodes(&mut self, count: usize, class: ComputeClass) {
        for _ in 0..count {
            self.add_node(class, SKU, ZONE, 8);
        }
    }

    /// One more standard host of the usual type in a zone.
    pub fn add_standard(&mut self, zone: &str) -> NodeId {
        self.add_node(ComputeClass::Standard, SKU, zone, 8)
    }

    /// One more host that an organization owns.
    pub fn add_owned(&mut self, organization: &str) -> NodeId {
        let owner = Some(self.organization(organization));
        self.add_host(owner, ComputeClass::Standard, SKU, ZONE, 8)
    }

    /// One more host.
    pub fn add_node(&mut self, class: ComputeClass, sku: &str, zone: &str, gpus: usize) -> NodeId {
        self.add_host(None, class, sku, zone, gpus)
    }

    fn add_host(
        &mut self,
        owner: Option<OrganizationId>,
        class: ComputeClass,
        sku: &str,
        zone: &str,
        gpus: usize,
    ) -> NodeId {
        let whose = owner.as_ref().map_or(String::new(), |owner| format!("{owner}-"));
        let zone_id = zone.to_ascii_lowercase();
        let pool = PoolId::new(format!("{whose}{sku}-{class}-{zone_id}"));
        if self.fleet().pool(&pool).is_none() {
            let pool = Pool {
                id: pool.clone(),
                zone: Zone::new(zone),
                sku: Sku::new(sku),
                compute_class: class,
                tenancy: Tenancy::Dedicated,
                owner,
            };
            self.command(Action::Node(Nodes::CreatePool(pool))).expect("a pool");
        }
        let node = NodeId::new(format!("node-{}", self.agents.len() + 1));
        self.enrol(&node, &pool).expect("a new host is admitted");
        self.agents.insert(node.clone(), Agent::new(&node, gpus, self.now));
        node
    }

    /// A host presents a fresh join's secret.
    pub fn enrol(&mut self, node: &NodeId, pool: &PoolId) -> Result<Answer, Refusal> {
        let join = self.join(Admits::Nodes { pool: pool.clone() });
        let key = format!("{:064x}", self.fresh());
        let node = node.clone();
        self.command(Action::Node(Nodes::Enroll { node, join, pool: Some(pool.clone()), key }))
    }

    fn join(&mut self, admits: Admits) -> JoinId {
        let number = self.fresh();
        let id = JoinId::new(format!("join-{number}"));
        let expires = self.now + Millis::from_seconds(3600);
        let sha256 = format!("{number:064x}");
        let action = Access::CreateJoin { id: id.clone(), admits, uses: 1, expires, sha256 };
        self.command(Action::Access(action)).expect("a join");
        id
    }

    /// A gateway process enrols.
    pub fn add_gateway(&mut self, name: &str) {
        let join = self.join(Admits::Gateways);
        let gateway = Gateway::new(name);
        let key = format!("{:064x}", self.fresh());
        let action = Access::EnrollGateway { gateway: gateway.name.clone(), join, key };
        self.command(Action::Access(action)).expect("a gateway is admitted");
        self.gateways.insert(gateway.name.clone(), gateway);
    }

    /// The organization exists afterwards.
    pub fn organization(&mut self, name: &str) -> OrganizationId {
        let id = OrganizationId::from(name);
        if self.fleet().organization(&id).is_none() {
            let currency = "USD".to_owned();
            let action = Access::CreateOrganization { id: id.clone(), currency };
            self.command(Action::Access(action)).expect("an organization");
        }
        id
    }

    /// Deploys for `acme`; the id is the name.
    pub fn deploy(&mut self, spec: Spec) {
        self.deploy_for("acme", spec).expect("the story's deployment is good");
    }

    /// Deploys for an organization.
    pub fn deploy_for(&mut self, organization: &str, spec: Spec) -> Result<Answer, Refusal> {
        let organization = self.organization(organization);
        let id = id(&spec.name);
        let spec = spec.into();
        self.command(Action::Deployment(Deployments::Create { id, organization, spec }))
    }

    /// Replaces a deployment's spec.
    pub fn replace(&mut self, spec: Spec) -> Result<Answer, Refusal> {
        let id = id(&spec.name);
        self.command(Action::Deployment(Deployments::Replace { id, spec: spec.into() }))
    }

    /// The spec that a deployment has now.
    pub fn spec_of(&self, name: &str) -> Spec {
        (*self.fleet().deployment(&id(name)).expect("it was deployed").spec).clone()
    }

    /// Deletes a deployment.
    pub fn delete(&mut self, name: &str) -> Result<Answer, Refusal> {
        self.command(Action::Deployment(Deployments::Delete { id: id(name) }))
    }

    /// A verb on a node.
    pub fn verb(
        &mut self,
        verb: fn(NodeId, String) -> Nodes,
        node: &str,
    ) -> Result<Answer, Refusal> {
        self.command(Action::Node(verb(NodeId::from(node), "a test".to_owned())))
    }

    /// A claim of `acme` on the usual type in the usual zone; the id is the name.
    pub fn claim(
        &mut self,
        name: &str,
        capacity_type: CapacityType,
        instances: u32,
    ) -> Result<Answer, Refusal> {
        self.claim_for("acme", claimed(name, capacity_type, instances))
    }

    /// A claim of an organization.
    pub fn claim_for(&mut self, organization: &str, spec: Claim) -> Result<Answer, Refusal> {
        let organization = self.organization(organization);
        let id = ClaimId::from(spec.name.as_str());
        self.command(Action::Claim(Claims::Create { id, organization, spec }))
    }

    /// Another count for a claim.
    pub fn resize(&mut self, name: &str, instances: u32) -> Result<Answer, Refusal> {
        let id = ClaimId::from(name);
        let mut spec = self.fleet().claim(&id).expect("it was made").spec.clone();
        spec.instances = instances;
        self.command(Action::Claim(Claims::Replace { id, spec }))
    }

    /// The end of a claim.
    pub fn unclaim(&mut self, name: &str) -> Result<Answer, Refusal> {
        self.command(Action::Claim(Claims::Delete { id: ClaimId::from(name) }))
    }

    /// How many instances a claim has and waits for.
    pub fn counts(&self, name: &str) -> (u32, u32) {
        let row = self.fleet().claim(&ClaimId::from(name)).expect("it was made");
        (claims::allocated(self.fleet(), row), claims::pending(self.fleet(), row))
    }

    /// An organization's instance quota in the usual zone.
    pub fn quota(&mut self, organization: &str, instances: Option<u32>) {
        let organization = self.organization(organization);
        let quota = QuotaKey { organization, zone: Zone::new(ZONE), sku: Sku::new(SKU) };
        let action = Claims::SetQuota { quota, instances };
        self.command(Action::Claim(action)).expect("the provider sets quotas");
    }

    /// A Reserved contract from now on.
    pub fn sign(
        &mut self,
        organization: &str,
        instances: u32,
        days: u64,
    ) -> Result<Answer, Refusal> {
        let terms = ContractTerms::Reserved { rate: "10.00".to_owned() };
        self.sign_as(terms, organization, instances, days * 86_400)
    }

    /// A Flex contract from now on.
    pub fn sign_flex(
        &mut self,
        organization: &str,
        instances: u32,
        seconds: u64,
    ) -> Result<Answer, Refusal> {
        let (holding_rate, usage_rate) = ("5.00".to_owned(), "8.00".to_owned());
        let terms = ContractTerms::Flex { holding_rate, usage_rate };
        self.sign_as(terms, organization, instances, seconds)
    }

    fn sign_as(
        &mut self,
        terms: ContractTerms,
        organization: &str,
        instances: u32,
        seconds: u64,
    ) -> Result<Answer, Refusal> {
        let organization = self.organization(organization);
        let contract = Contract {
            id: ContractId::new(format!("contract-{}", self.fresh())),
            organization,
            region: Region::new("US-EAST-04"),
            sku: Sku::new(SKU),
            instances,
            start: self.now,
            end: self.now + Millis::from_seconds(seconds),
            terms,
        };
        self.command(Action::Money(Money::Sign(contract)))
    }
}

/// What a claim on the usual type in the usual zone asks for.
pub fn claimed(name: &str, capacity_type: CapacityType, instances: u32) -> Claim {
    let (zone, sku) = (Zone::new(ZONE), Sku::new(SKU));
    let says_managed = false;
    Claim { name: name.to_owned(), capacity_type, says_managed, sku, zone, instances }
}

/// The verb that closes a node for what is new.
pub fn cordon(node: NodeId, reason: String) -> Nodes {
    Nodes::Cordon { node, reason }
}

/// The verb that opens it again.
pub fn uncordon(node: NodeId, reason: String) -> Nodes {
    Nodes::Uncordon { node, reason }
}

/// The verb that empties it.
pub fn drain(node: NodeId, reason: String) -> Nodes {
    Nodes::Drain { node, reason }
}
