//! What seldom changes on the host: read at the start and again from time to time, hashed so that
//! it travels only when it changed.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use wharfage_agent_core::History;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::HookId;
use wharfage_shared::telemetry::{CachedModel, Inventory};
use wharfage_shared::time::Millis;

use crate::config::Config;
use crate::engines::Engines;
use crate::gpu::Gpus;
use crate::hooks::builtin::Step;
use crate::hooks::definition;

/// The owner's definitions as they are on disk now.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Engines.
    pub engines: Engines,
    /// Usable hooks.
    pub hooks: Vec<HookId>,
    /// What hooks are expected to take, where their owner said so.
    pub hook_estimates: BTreeMap<HookId, Millis>,
    /// Files that were refused, one sentence each.
    pub refused: Vec<String>,
    /// Where other hosts reach this one.
    pub address: Option<String>,
    /// The fast network that it is on.
    pub fabric: Option<String>,
    /// The host's id at its provider.
    pub provider_id: Option<String>,
}

impl Definitions {
    /// Reads both folders.
    pub fn load(config: &Config) -> Self {
        let owner = config.trusted_owner();
        let engines = Engines::load(&config.engines_dir, owner);
        let (known, refused_hooks) = definition::list(&config.hooks_dir, owner);
        let refused = engines.refused.iter().cloned().chain(refused_hooks).collect();
        let estimate = |(id, hook): &(HookId, definition::Definition)| {
            let seconds = hook.expected_seconds?;
            Some((id.clone(), Millis::from_seconds(u64::from(seconds))))
        };
        let grace = Millis::from_seconds(u64::from(config.hooks.sigterm_grace_seconds));
        let of_ours = [(Step::Sigterm.id(), grace)];
        let hook_estimates = known.iter().filter_map(estimate).chain(of_ours).collect();
        let own = Step::ALL.into_iter().map(Step::id);
        let hooks = known.into_iter().map(|(id, _)| id).chain(own).collect();
        let (address, fabric) = (config.reached_at(), config.fabric.clone());
        let provider_id = config.provider_id.clone();
        Self { engines, hooks, hook_estimates, refused, address, fabric, provider_id }
    }

    /// The inventory with these GPUs, what was learned of the engines and what the cache holds.
    pub fn inventory(&self, gpus: &Gpus, history: &History, models: Vec<CachedModel>) -> Inventory {
        Inventory {
            gpus: gpus.identities.clone(),
            driver_version: gpus.driver_version.clone(),
            gpu_trouble: gpus.trouble.clone(),
            engines: self.engines.offers().into(),
            hooks: self.hooks.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: clock::kernel_release(),
            false_ready: history.false_ready().to_vec(),
            models,
            address: self.address.clone(),
            fabric: self.fabric.clone(),
            provider_id: self.provider_id.clone(),
        }
    }
}

/// The name under which the scheduler knows an inventory or a health report.
pub fn hash(told: &impl serde::Serialize) -> String {
    // Plain structures of text and numbers: turning them into JSON cannot fail.
    let text = serde_json::to_vec(told).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}
