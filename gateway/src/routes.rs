//! The route table in use: what the scheduler said last, arranged for look-ups.
//!
//! A table is never changed, only replaced as a whole; a request picks from the table of its
//! moment, and the report names the table in use, which acknowledges every removal up to it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wharfage_shared::gateway::{RouteDeployment, RouteReplica, Routes, RoutesVersion, Routing};
use wharfage_shared::ids::{DeploymentId, GatewayId, OrganizationId, ReplicaId};

use crate::counts::Counts;
use crate::selection::Asked;
use crate::upstream::Upstream;

/// One version of the routes.
#[derive(Default)]
pub struct Table {
    /// Which.
    pub version: RoutesVersion,
    deployments: Vec<Deployment>,
    organizations: HashMap<OrganizationId, Organization>,
    keys: HashMap<String, Arc<Key>>,
}

/// A token that may send requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The first 8 hex digits of its hash.
    pub id: String,
    /// Whose it is.
    pub organization: OrganizationId,
}

/// What the table holds for one organization.
#[derive(Default)]
struct Organization {
    /// Deployments by model name and by their own ids, as indexes.
    by_model: HashMap<String, Vec<usize>>,
    by_id: HashMap<String, usize>,
    models: BTreeSet<String>,
    /// Headers in which its front doors look for the model.
    headers: Vec<String>,
    /// Whether one of its front doors looks in the path.
    by_path: bool,
}

/// A deployment with its replicas' counts and connections.
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The name that requests use.
    pub model: String,
    /// Its share among deployments of the same model name.
    pub weight: u32,
    /// In-flight requests that one replica should have.
    pub concurrency: u32,
    /// Whether requests may be parked while no replica is ready.
    pub parks: bool,
    environments: Vec<String>,
    ways: Ways,
    /// Its ready replicas, in the order of their ids.
    pub replicas: Vec<Arc<Upstream>>,
}

/// By which kinds of front door a deployment is reached.
#[derive(Default)]
struct Ways {
    body: bool,
    path: bool,
    headers: Vec<String>,
}

impl Table {
    /// Arranges `routes`. Replicas that `counts` knows keep their counts and connections.
    pub fn new(routes: &Routes, counts: &Counts) -> Self {
        let known = counts.known();
        let mut table = Self { version: routes.version, ..Self::default() };
        for gateway in &routes.gateways {
            let organization = table.organizations.entry(gateway.organization.clone()).or_default();
            match &gateway.routing {
                Routing::Header { name } => organization.headers.push(name.to_ascii_lowercase()),
                Routing::Path => organization.by_path = true,
                Routing::Body => {}
            }
        }
        for (index, route) in routes.deployments.iter().enumerate() {
            let organization = table.organizations.entry(route.organization.clone()).or_default();
            organization.by_model.entry(route.model.clone()).or_default().push(index);
            organization.by_id.insert(route.id.to_string(), index);
            organization.models.insert(route.model.clone());
            table.deployments.push(Deployment::new(route, routes, &known));
        }
        for (hash, organization) in &routes.keys {
            let hash = hash.to_ascii_lowercase();
            let id = hash.chars().take(8).collect();
            let key = Key { id, organization: organization.clone() };
            table.keys.insert(hash, Arc::new(key));
        }
        table
    }

    /// Whether the scheduler has ever been heard.
    pub fn is_empty(&self) -> bool {
        self.version == RoutesVersion::default()
    }

    /// The key with this SHA-256 in hex.
    pub fn key(&self, hash: &str) -> Option<&Arc<Key>> {
        self.keys.get(hash)
    }

    /// All replicas.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.deployments.iter().flat_map(|deployment| &deployment.replicas)
    }

    /// All deployments.
    pub fn deployments(&self) -> &[Deployment] {
        &self.deployments
    }

    /// The model names of an organization, sorted.
    pub fn models(&self, organization: &OrganizationId) -> impl Iterator<Item = &str> {
        let models = self.organizations.get(organization).map(|found| &found.models);
        models.into_iter().flatten().map(String::as_str)
    }

    /// The headers in which an organization's front doors look for the model.
    pub fn headers(&self, organization: &OrganizationId) -> &[String] {
        self.organizations.get(organization).map_or(&[], |found| &found.headers)
    }

    /// Whether one of an organization's front doors looks for the model in the path.
    pub fn routes_by_path(&self, organization: &OrganizationId) -> bool {
        self.organizations.get(organization).is_some_and(|found| found.by_path)
    }

    /// The deployments of `organization` that answer what was asked. Another organization's
    /// deployments do not exist here.
    pub fn find(&self, organization: &OrganizationId, asked: &Asked) -> Vec<&Deployment> {
        let Some(organization) = self.organizations.get(organization) else { return Vec::new() };
        let named = |model: &str| {
            let indexes = organization.by_model.get(model).map_or(&[][..], Vec::as_slice);
            indexes.iter().filter_map(|index| self.deployments.get(*index))
        };
        let by_id =
            |id: &str| organization.by_id.get(id).and_then(|index| self.deployments.get(*index));
        match asked {
            Asked::Body { model } => named(model).filter(|d| d.ways.body).collect(),
            Asked::Path { model } => named(model).filter(|d| d.ways.path).collect(),
            Asked::Header { name, model } => {
                named(model).filter(|d| d.ways.headers.contains(name)).collect()
            }
            Asked::Environment { model, environment } => named(model)
                .chain(by_id(model))
                .filter(|d| d.environments.iter().any(|word| word == environment))
                .take(1)
                .collect(),
            Asked::Deployment { model, id } => {
                by_id(id).filter(|d| d.model == *model || d.id.is(model)).into_iter().collect()
            }
        }
    }
}

impl Deployment {
    fn new(
        route: &RouteDeployment,
        routes: &Routes,
        known: &HashMap<ReplicaId, Arc<Upstream>>,
    ) -> Self {
        let mut ways = Ways::default();
        let mut resolved = false;
        let of_mine = |id: &GatewayId| {
            routes.gateways.iter().find(|g| g.id == *id && g.organization == route.organization)
        };
        for gateway in route.gateways.iter().filter_map(of_mine) {
            resolved = true;
            match &gateway.routing {
                Routing::Body => ways.body = true,
                Routing::Path => ways.path = true,
                Routing::Header { name } => ways.headers.push(name.to_ascii_lowercase()),
            }
        }
        // Without a front door of its own a deployment is reached the plain way.
        ways.body |= !resolved;
        let upstream = |replica: &RouteReplica| match known.get(&replica.id) {
            Some(known) if known.is(replica) => Arc::clone(known),
            _ => Arc::new(Upstream::new(replica)),
        };
        Self {
            id: route.id.clone(),
            model: route.model.clone(),
            weight: route.weight,
            concurrency: route.concurrency,
            parks: route.parks,
            environments: route.environments.clone(),
            ways,
            replicas: route.replicas.iter().map(upstream).collect(),
        }
    }
}
