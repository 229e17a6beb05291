//! What a caller may choose from: the zones, instance types, engines and gateways that exist for
//! it. Bodies are checked against it and `.../parameters` answers it, so both always agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wharfage_shared::capacity::{Sku, Zone};
use wharfage_shared::ids::GatewayId;
use wharfage_shared::telemetry::EngineOffer;

use super::semver;

/// What there is for one caller.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Zones of the fleet.
    pub zones: BTreeSet<Zone>,
    /// Instance types of the fleet.
    pub instance_types: BTreeSet<Sku>,
    /// Engines that at least one node offers.
    pub engines: BTreeMap<String, Engine>,
    /// The caller's gateway resources.
    pub gateways: BTreeSet<GatewayId>,
}

/// One engine, over all nodes that offer it.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// Versions that some node offers.
    pub versions: BTreeSet<String>,
    /// Flags that some node lets a deployment set, without `--`.
    pub flags: BTreeSet<String>,
    /// Environment names likewise.
    pub env: BTreeSet<String>,
}

impl Offer {
    /// Adds what one node offers.
    pub fn add_engine(&mut self, offer: &EngineOffer) {
        let engine = self.engines.entry(offer.name.clone()).or_default();
        engine.versions.extend(offer.versions.iter().cloned());
        engine.flags.extend(offer.flags.iter().cloned());
        engine.env.extend(offer.env.iter().cloned());
    }

    /// `GET .../deployments/parameters`.
    pub fn deployment_parameters(&self) -> Value {
        let mut versions = serde_json::Map::new();
        let mut flags = serde_json::Map::new();
        let mut env = serde_json::Map::new();
        for (name, engine) in &self.engines {
            versions.insert(name.clone(), json!({"versions": engine.newest_first()}));
            flags.insert(name.clone(), json!({"allowedKeys": engine.flags}));
            env.insert(name.clone(), json!({"allowedNames": engine.env}));
        }
        json!({
            "gatewayIds": self.gateways,
            "runtimeParameters": {
                "runtimeVersions": versions,
                "runtimeConfigOptions": flags,
                "engineEnvOptions": env,
            },
            "resourceParameters": {"instanceTypes": self.instance_types},
        })
    }

    /// `GET .../gateways/parameters`.
    pub fn gateway_parameters(&self) -> Value {
        json!({"zones": self.zones})
    }
}

impl Engine {
    /// The versions, newest first.
    pub fn newest_first(&self) -> Vec<String> {
        let mut versions: Vec<String> = self.versions.iter().cloned().collect();
        semver::newest_first(&mut versions);
        versions
    }
}

/// Texts as a sentence lists them.
pub fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let mut texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let hidden = texts.len().saturating_sub(MOST_LISTED);
    texts.truncate(MOST_LISTED);
    match (texts.is_empty(), hidden) {
        (true, _) => "nothing at this moment: no node offers any".to_owned(),
        (false, 0) => texts.join(", "),
        (false, hidden) => format!("{} and {hidden} more", texts.join(", ")),
    }
}

/// Most items that one sentence lists.
const MOST_LISTED: usize = 40;
