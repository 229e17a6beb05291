//! Engines as the node's owner defined them in `engines.d/*.toml`: what a name, a version and a
//! flag of the API mean on this host. No command line ever comes over the network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharfage_agent_sys::trusted::{self, Owner};
use wharfage_shared::causes::with_causes;
use wharfage_shared::order::RunOrder;
use wharfage_shared::telemetry::EngineOffer;

/// The most definitions that are read: a folder of anything else is a mistake.
const MOST_FILES: usize = 200;

/// One engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The name that deployments use.
    pub name: String,
    /// Versions that this definition runs, newest first.
    pub versions: Vec<String>,
    /// Flags that a deployment may set, without `--`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Environment names that a deployment may set.
    #[serde(default)]
    pub env: Vec<String>,
    /// The program and its arguments. `{port}`, `{model_dir}`, `{model_name}`, `{gpus}`,
    /// `{gpu_count}` and `{version}` are replaced.
    pub command: Vec<String>,
    /// The user that it runs as (default: `replicas.user` of `agent.toml`).
    pub user: Option<String>,
    /// How a flag is written, with `{name}` and `{value}`.
    #[serde(default = "default_flag")]
    pub flag: Vec<String>,
    /// Environment of every process of this engine.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where it says that it is up.
    #[serde(default = "default_health")]
    pub health: String,
    /// How it proves that it works.
    #[serde(default)]
    pub prove: Prove,
}

/// How an engine proves that it works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Prove {
    /// What is asked.
    #[serde(default)]
    pub kind: ProveKind,
    /// Where (default: the kind's usual path).
    pub path: Option<String>,
    /// How long the answer may take.
    #[serde(default = "default_prove_seconds")]
    pub timeout_seconds: u32,
}

/// What is asked of an engine as proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProveKind {
    /// One token of OpenAI's completions.
    #[default]
    Completions,
    /// One token of OpenAI's chat completions.
    Chat,
    /// One embedding.
    Embeddings,
}

impl Default for Prove {
    fn default() -> Self {
        let timeout_seconds = default_prove_seconds();
        Self { kind: ProveKind::default(), path: None, timeout_seconds }
    }
}

/// The definitions of this host, and what was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engines {
    known: Vec<Engine>,
    /// Files that were refused, one sentence each.
    pub refused: Vec<String>,
}

/// What an engine's command line needs to know of one replica.
#[derive(Clone, Debug)]
pub struct Seat<'a> {
    /// The loopback port that it shall listen on.
    pub port: u16,
    /// The model's folder on this host.
    pub model_dir: &'a Path,
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
            match read(&path, owner) {
                Ok(engine) => engines.known.push(engine),
                Err(why) => engines.refused.push(why),
            }
        }
        engines
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
            });
            add_missing(&mut offer.versions, &engine.versions);
            add_missing(&mut offer.flags, &engine.flags);
            add_missing(&mut offer.env, &engine.env);
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
        engine.check(order)?;
        Ok(engine)
    }
}

impl Engine {
    /// Whether every flag and every environment name of the order is allowed here.
    fn check(&self, order: &RunOrder) -> Result<(), String> {
        let refused = |what: &str, name: &str, allowed: &[String]| {
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            let engine = &self.name;
            Err(format!(
                "engine `{engine}` does not allow {what} `{name}` here; allowed: {allowed}"
            ))
        };
        for name in order.engine_flags.keys() {
            if !self.flags.contains(name) {
                return refused("the flag", name, &self.flags);
            }
        }
        for name in order.engine_env.keys() {
            if !self.env.contains(name) {
                return refused("the environment variable", name, &self.env);
            }
        }
        Ok(())
    }

    /// The program and its arguments for one replica. Every value is one argument: nothing is
    /// split and no shell reads it.
    pub fn command_line(&self, order: &RunOrder, seat: &Seat<'_>) -> Vec<String> {
        let gpus: Vec<&str> = order.gpus.iter().map(|gpu| gpu.as_str()).collect();
        let values = [
            ("{port}", seat.port.to_string()),
            ("{model_dir}", seat.model_dir.display().to_string()),
            ("{model_name}", order.model_name.clone()),
            ("{gpus}", gpus.join(",")),
            ("{gpu_count}", order.gpus.len().to_string()),
            ("{version}", order.engine_version.clone()),
        ];
        let mut line: Vec<String> = self.command.iter().map(|part| fill(part, &values)).collect();
        for (name, value) in &order.engine_flags {
            let values = [("{name}", name.clone()), ("{value}", value.clone())];
            line.extend(self.flag.iter().map(|part| fill(part, &values)));
        }
        line
    }
}

/// Replaces placeholders in one pass, so that a value that looks like one is left alone.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    'outer: while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        for (name, value) in values {
            if let Some(after) = rest.strip_prefix(name) {
                filled.push_str(value);
                rest = after;
                continue 'outer;
            }
        }
        filled.push('{');
        rest = &rest[1..];
    }
    filled.push_str(rest);
    filled
}

fn read(path: &Path, owner: Owner) -> Result<Engine, String> {
    let text = trusted::read(path, owner).map_err(|error| with_causes(&error))?;
    let engine: Engine = toml::from_str(&text)
        .map_err(|error| format!("`{}`: {}", path.display(), error.to_string().trim_end()))?;
    let wrong = |key: &str, message: &str| Err(format!("`{}`: {key}: {message}", path.display()));
    if engine.name.is_empty() {
        return wrong("name", "must not be empty");
    }
    if engine.versions.is_empty() {
        return wrong("versions", "at least one is needed");
    }
    let Some(program) = engine.command.first().filter(|program| program.starts_with('/')) else {
        return wrong("command", "must begin with an absolute path");
    };
    if !Path::new(program).exists() {
        return wrong("command", &format!("`{program}` does not exist"));
    }
    if !engine.health.starts_with('/') {
        return wrong("health", "must begin with /");
    }
    Ok(engine)
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

fn default_flag() -> Vec<String> {
    vec!["--{name}".to_owned(), "{value}".to_owned()]
}

fn default_health() -> String {
    "/health".to_owned()
}

fn default_prove_seconds() -> u32 {
    30
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, order};

    const STUB: &str = r#"
        name = "stub"
        versions = ["2", "1"]
        flags = ["max-model-len"]
        command = ["/bin/sh", "--port={port}", "--gpus", "{gpus}", "{model_name}", "{model_dir}"]
    "#;

    fn loaded(folder: &Folder) -> Engines {
        std::fs::write(folder.path().join("stub.toml"), STUB).expect("written");
        Engines::load(folder.path(), Owner::RootOrSelf)
    }

    #[test]
    fn placeholders_are_filled_and_a_value_is_never_split_or_filled_again() {
        let folder = Folder::new("engines-line");
        let engines = loaded(&folder);
        assert_eq!(engines.refused, Vec::<String>::new());
        let mut order = order(7);
        order.engine = "stub".into();
        order.engine_version = "1".into();
        order.model_name = "a model; rm -rf {port}".into();
        order.engine_flags.insert("max-model-len".into(), "4096".into());
        let engine = engines.select(&order).expect("it is there");
        let seat = Seat { port: 81, model_dir: Path::new("/m") };
        let line = engine.command_line(&order, &seat);
        let expected = [
            "/bin/sh",
            "--port=81",
            "--gpus",
            "GPU-7",
            "a model; rm -rf {port}",
            "/m",
            "--max-model-len",
            "4096",
        ];
        assert_eq!(line, expected);
    }

    #[test]
    fn what_the_owner_did_not_allow_is_refused_by_name() {
        let folder = Folder::new("engines-refused");
        let engines = loaded(&folder);
        let mut order = order(1);
        assert!(engines.select(&order).expect_err("refused").contains("has no engine `vllm`"));
        order.engine = "stub".into();
        order.engine_version = "9".into();
        assert!(engines.select(&order).expect_err("refused").contains("it has 2, 1"));
        order.engine_version = "2".into();
        order.engine_flags.insert("host".into(), "0.0.0.0".into());
        let said = engines.select(&order).expect_err("refused");
        assert!(
            said.contains("does not allow the flag `host` here; allowed: max-model-len"),
            "{said}"
        );
    }

    #[test]
    fn a_broken_definition_is_refused_and_the_others_count() {
        let folder = Folder::new("engines-broken");
        let bad = "name = \"x\"\nversions = [\"1\"]\ncommand = [\"sh\"]\n";
        std::fs::write(folder.path().join("bad.toml"), bad).expect("written");
        let engines = loaded(&folder);
        assert_eq!(engines.offers().len(), 1);
        assert!(engines.refused[0].contains("command: must begin with an absolute path"));
    }
}
