//! Engines as the node's owner defined them in `engines.d/*.toml`: what a name, a version and a
//! flag of the API mean on this host. No command line ever comes over the network.

mod definition;
pub mod failures;
mod launch;
pub mod load;
mod parameter;
mod placeholders;
pub mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wharfage_agent_sys::trusted::Owner;
use wharfage_shared::order::RunOrder;
use wharfage_shared::telemetry::EngineOffer;

pub use definition::{Engine, OverNodes, is_env_name};
pub use launch::{Ports, Seat};
pub use wire::{Prove, ProveKind};

/// The most definitions that are read: a folder of anything else is a mistake.
const MOST_FILES: usize = 200;

/// The definitions of this host, and what was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engines {
    known: Vec<Engine>,
    /// Files that were refused, one sentence each.
    pub refused: Vec<String>,
}

impl Engines {
    /// Reads the folder; a definition that cannot be used is refused with its reason and the
    /// others still count.
    pub fn load(folder: &Path, owner: Owner) -> Self {
        let mut engines = Self::default();
        let files = match definition_files(folder) {
            Ok(files) => files,
            Err(why) => {
                engines.refused.push(why);
                return engines;
            }
        };
        for path in files {
            match Engine::read(&path, owner) {
                Ok(engine) => engines.known.push(engine),
                Err(why) => engines.refused.push(why),
            }
        }
        engines
    }

    /// What can be used, in the order of the files' names.
    pub fn known(&self) -> &[Engine] {
        &self.known
    }

    /// What the inventory says of them: one offer a name.
    pub fn offers(&self) -> Vec<EngineOffer> {
        let mut offers: BTreeMap<&str, EngineOffer> = BTreeMap::new();
        for engine in &self.known {
            let offer = offers.entry(&engine.name).or_insert_with(|| EngineOffer {
                name: engine.name.clone(),
                versions: Vec::new(),
                flags: Vec::new(),
                env: Vec::new(),
                gangs: Vec::new(),
            });
            add_missing(&mut offer.versions, &engine.versions);
            add_missing(&mut offer.flags, &engine.flag_names());
            add_missing(&mut offer.env, &engine.env);
            if engine.gang.is_some() {
                add_missing(&mut offer.gangs, &engine.versions);
            }
        }
        offers.into_values().collect()
    }

    /// The definition that an order names, or why this host cannot run it.
    pub fn select(&self, order: &RunOrder) -> Result<&Engine, String> {
        let named = || self.known.iter().filter(|engine| engine.name == order.engine);
        if named().next().is_none() {
            return Err(format!("this host has no engine `{}`", order.engine));
        }
        let engine = named()
            .find(|engine| engine.versions.contains(&order.engine_version))
            .ok_or_else(|| {
                let versions: Vec<&str> =
                    named().flat_map(|e| e.versions.iter().map(String::as_str)).collect();
                let (name, version) = (&order.engine, &order.engine_version);
                format!(
                    "this host has no version `{version}` of engine `{name}`: it has {}",
                    versions.join(", ")
                )
            })?;
        engine.allows(order)?;
        Ok(engine)
    }
}

/// The `*.toml` files of a folder in the order of their names.
pub fn definition_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", folder.display());
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A host without hooks has no folder of hooks.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files.truncate(MOST_FILES);
    Ok(files)
}

fn add_missing(to: &mut Vec<String>, from: &[String]) {
    for item in from {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests;
