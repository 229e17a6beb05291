//! One file of `engines.d`: read whole, checked whole, refused with the key named.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wharfage_agent_sys::trusted::{self, Owner};
use wharfage_shared::causes::with_causes;
use wharfage_shared::order::RunOrder;

use super::failures::Pattern;
use super::parameter::{Parameter, is_plain};
use super::placeholders;
use super::wire::{Metrics, Prove, ProveKind, Readiness, Stop, Wire};
use crate::bad_key::{self, BadKey};

/// A proof that takes longer than this is none.
const LONGEST_PROOF_SECONDS: u32 = 600;

/// Further ports of one engine: more is a mistake.
const MOST_PORTS: usize = 8;

/// One engine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The name that deployments use.
    pub name: String,
    /// Versions that this definition runs, newest first.
    pub versions: Vec<String>,
    /// Flags that a deployment may set to any text, without `--`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Flags that a deployment may set, with what each accepts.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Environment names that a deployment may set.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names of further ports: `{port.<name>}` in the command.
    #[serde(default)]
    pub ports: Vec<String>,
    /// The program and its arguments. `{port}`, `{port.<name>}`, `{model_dir}`, `{model_name}`,
    /// `{gpus}`, `{gpu_count}` and `{version}` are replaced.
    pub command: Vec<String>,
    /// How it runs over several nodes; without it, it does not.
    pub gang: Option<OverNodes>,
    /// The user that it runs as (default: `replicas.user` of `agent.toml`).
    pub user: Option<String>,
    /// How a flag is written, with `{name}` and `{value}`.
    #[serde(default = "default_flag")]
    pub flag: Vec<String>,
    /// Environment of every process of this engine.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where it says that it is up; `{model_name}` is filled in.
    #[serde(default = "default_health")]
    pub health: String,
    /// What its answers mean besides 200.
    #[serde(default)]
    pub readiness: Readiness,
    /// How it proves that it works.
    #[serde(default)]
    pub prove: Prove,
    /// Its metrics under the common names.
    pub metrics: Option<Metrics>,
    /// How it is told to end.
    #[serde(default)]
    pub stop: Stop,
    /// What its last output means when it fails, before the shipped patterns.
    #[serde(default, rename = "failure")]
    pub failures: Vec<Pattern>,
}

/// What an engine is given beside its command when one replica of it takes several nodes. Beside the
/// command's placeholders `{rank}`, `{world_size}`, `{total_gpus}`, `{leader_host}` and
/// `{leader_port}` are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverNodes {
    /// Arguments of the member that serves, rank 0.
    pub leader: Vec<String>,
    /// Arguments of the others.
    pub follower: Vec<String>,
    /// Environment of all of them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl Engine {
    /// Reads one definition; the error names the file and the key or the line.
    pub fn read(path: &Path, owner: Owner) -> Result<Self, String> {
        let text = trusted::read(path, owner).map_err(|error| with_causes(&error))?;
        let named = |why: String| format!("`{}`: {why}", path.display());
        let engine = Self::parse(&text).map_err(named)?;
        match engine.command.first() {
            Some(program) if !Path::new(program).exists() => {
                Err(named(format!("command: `{program}` does not exist")))
            }
            Some(_) | None => Ok(engine),
        }
    }

    /// Parses one definition; whether its program is there is another question.
    pub fn parse(text: &str) -> Result<Self, String> {
        let engine: Self = toml::from_str(text).map_err(|error| bad_key::said(&error))?;
        let strange = bad_key::zero_byte(text).map_or(Ok(()), Err);
        strange.and_then(|()| engine.check()).map_err(|bad| bad.to_string())?;
        Ok(engine)
    }

    /// What the replica's records keep of it.
    pub fn wire(&self) -> Wire {
        Wire {
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            failures: self.failures.clone(),
        }
    }

    /// Every flag that a deployment may set.
    pub fn flag_names(&self) -> Vec<String> {
        self.flags.iter().chain(self.parameters.keys()).cloned().collect()
    }

    /// Whether every flag and every environment name of the order is allowed here.
    pub fn allows(&self, order: &RunOrder) -> Result<(), String> {
        let engine = &self.name;
        if order.gang.is_some() && self.gang.is_none() {
            return Err(format!("engine `{engine}` cannot run over several nodes here"));
        }
        let refused = |what: &str, name: &str, allowed: &[String]| {
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            Err(format!(
                "engine `{engine}` does not allow {what} `{name}` here; allowed: {allowed}"
            ))
        };
        for (name, value) in &order.engine_flags {
            let accepted = match self.parameters.get(name) {
                Some(typed) => typed.accepts(value),
                None if !self.flags.contains(name) => {
                    return refused("the flag", name, &self.flag_names());
                }
                None if is_plain(value) => Ok(()),
                None => Err("accepted is text that does not begin with -".to_owned()),
            };
            accepted.map_err(|accepted| {
                format!("engine `{engine}`: the flag `{name}` cannot be `{value}`: {accepted}")
            })?;
        }
        for (name, value) in &order.engine_env {
            if !self.env.contains(name) {
                return refused("the environment variable", name, &self.env);
            }
            if value.contains('\0') {
                return Err(format!("engine `{engine}`: `{name}` holds a zero byte"));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), BadKey> {
        if self.name.is_empty() {
            return Err(BadKey::new("name", "must not be empty".to_owned()));
        }
        for (key, text) in [("name", Some(&self.name)), ("user", self.user.as_ref())] {
            if text.is_some_and(|text| text.trim().is_empty() || text.contains(char::is_control)) {
                return Err(BadKey::new(key, "must be a word without control characters"));
            }
        }
        if self.versions.is_empty() || self.versions.iter().any(String::is_empty) {
            return Err(BadKey::new(
                "versions",
                "at least one is needed, and none may be empty".to_owned(),
            ));
        }
        self.check_flags()?;
        self.check_ports()?;
        self.check_command()?;
        self.check_readiness()?;
        self.check_proof()
    }

    fn check_flags(&self) -> Result<(), BadKey> {
        for name in self.flags.iter().chain(self.parameters.keys()) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.starts_with('-') || !name.chars().all(is_name) {
                let message = format!(
                    "`{name}` is no flag: accepted are letters, digits, - _ . without leading --"
                );
                return Err(BadKey::new("flags", message));
            }
        }
        let known = ["{name}", "{value}"].map(str::to_owned);
        check_texts("flag", &self.flag, &known)?;
        if let Some(missing) = known.iter().find(|name| !self.flag.concat().contains(*name)) {
            let message = format!("`{missing}` must stand in it: else no flag would be written");
            return Err(BadKey::new("flag", message));
        }
        for (name, typed) in &self.parameters {
            if self.flags.contains(name) {
                let message = format!("`{name}` is in flags too: keep one of both");
                return Err(BadKey::new("parameters", message));
            }
            typed.check().map_err(|why| BadKey::new(format!("parameters.{name}"), why))?;
        }
        for name in self.env.iter().chain(self.environment.keys()) {
            if !is_env_name(name) {
                return Err(BadKey::new(
                    "env",
                    format!("`{name}` is no name of an environment variable"),
                ));
            }
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), BadKey> {
        if self.ports.len() > MOST_PORTS {
            return Err(BadKey::new("ports", format!("at most {MOST_PORTS} are accepted")));
        }
        for (index, name) in self.ports.iter().enumerate() {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(BadKey::new(
                    "ports",
                    format!("`{name}` is no name: accepted is [a-z0-9_]+"),
                ));
            }
            if self.ports[..index].contains(name) {
                return Err(BadKey::new("ports", format!("`{name}` is named twice")));
            }
        }
        let Some(metrics) = &self.metrics else { return Ok(()) };
        if !metrics.path.starts_with('/') {
            return Err(BadKey::new("metrics.path", "must begin with /".to_owned()));
        }
        match &metrics.port {
            Some(name) if !self.ports.contains(name) => {
                let ports = self.ports.join(", ");
                Err(BadKey::new("metrics.port", format!("`{name}` is not one of ports ({ports})")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_command(&self) -> Result<(), BadKey> {
        if !self.command.first().is_some_and(|program| program.starts_with('/')) {
            return Err(BadKey::new("command", "must begin with an absolute path".to_owned()));
        }
        let mut known: Vec<String> =
            ["port", "model_dir", "model_name", "gpus", "gpu_count", "version"]
                .map(|name| format!("{{{name}}}"))
                .into();
        known.extend(self.ports.iter().map(|name| format!("{{port.{name}}}")));
        check_texts("command", &self.command, &known)?;
        let Some(gang) = &self.gang else { return Ok(()) };
        let of_members = ["rank", "world_size", "total_gpus", "leader_host", "leader_port"];
        known.extend(of_members.map(|name| format!("{{{name}}}")));
        check_texts("gang.leader", &gang.leader, &known)?;
        check_texts("gang.follower", &gang.follower, &known)?;
        if let Some(name) = gang.environment.keys().find(|name| !is_env_name(name)) {
            let message = format!("`{name}` is no name of an environment variable");
            return Err(BadKey::new("gang.environment", message));
        }
        check_texts("gang.environment", gang.environment.values(), &known)
    }

    fn check_readiness(&self) -> Result<(), BadKey> {
        if !self.health.starts_with('/') {
            return Err(BadKey::new("health", "must begin with /".to_owned()));
        }
        let Readiness { path, loading, dead } = &self.readiness;
        for (key, path) in [("readiness.path", path), ("stop.drain", &self.stop.drain)] {
            if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
                return Err(BadKey::new(key, "must begin with /".to_owned()));
            }
        }
        let empty = |row: &Pattern| {
            row.says.iter().any(|text| text.trim().is_empty())
                || (row.says.is_empty() && row.codes.is_empty())
        };
        if self.failures.iter().any(empty) {
            let message = "each row needs texts in says, or codes, and no text may be empty";
            return Err(BadKey::new("failure", message.to_owned()));
        }
        let strange =
            |codes: &[u16]| codes.iter().find(|code| !(300..600).contains(*code)).copied();
        for (key, codes) in [
            ("readiness.loading", loading),
            ("readiness.dead", dead),
            ("prove.loading", &self.prove.loading),
            ("prove.busy", &self.prove.busy),
        ] {
            if let Some(code) = strange(codes) {
                return Err(BadKey::new(
                    key,
                    format!("accepted are statuses from 300 to 599, got {code}"),
                ));
            }
        }
        match loading.iter().find(|code| dead.contains(code)) {
            Some(code) => Err(BadKey::new(
                "readiness.dead",
                format!("{code} cannot mean both loading and dead"),
            )),
            None => Ok(()),
        }
    }

    fn check_proof(&self) -> Result<(), BadKey> {
        let Prove { kind, path, timeout_seconds, body, expect, loading, busy } = &self.prove;
        if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err(BadKey::new("prove.path", "must begin with /".to_owned()));
        }
        if !(1..=LONGEST_PROOF_SECONDS).contains(timeout_seconds) {
            let message = format!("must be 1 to {LONGEST_PROOF_SECONDS}, got {timeout_seconds}");
            return Err(BadKey::new("prove.timeout_seconds", message));
        }
        if let Some(code) = loading.iter().find(|code| busy.contains(code)) {
            return Err(BadKey::new(
                "prove.busy",
                format!("{code} cannot mean both loading and busy"),
            ));
        }
        if *kind != ProveKind::Request {
            return match (body, expect) {
                (None, None) => Ok(()),
                _ => Err(BadKey::new(
                    "prove.kind",
                    "body and expect belong to kind \"request\"".to_owned(),
                )),
            };
        }
        let (Some(_), Some(body), Some(expect)) = (path, body, expect) else {
            return Err(BadKey::new(
                "prove.kind",
                "\"request\" needs path, body and expect".to_owned(),
            ));
        };
        serde_json::from_str::<serde_json::Value>(body)
            .map_err(|error| BadKey::new("prove.body", format!("must be JSON: {error}")))?;
        if !expect.is_empty() && !expect.starts_with('/') {
            return Err(BadKey::new(
                "prove.expect",
                "must be a JSON pointer that begins with /".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Whether it can name an environment variable; a date that TOML reads as a table has none.
pub fn is_env_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !name.is_empty() && name.chars().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Texts whose placeholders are among the known ones.
fn check_texts<'a>(
    key: &'static str,
    texts: impl IntoIterator<Item = &'a String>,
    known: &[String],
) -> Result<(), BadKey> {
    for text in texts {
        let named = placeholders::named(text);
        if let Some(name) = named.into_iter().find(|name| !known.iter().any(|k| k == name)) {
            let message = format!("`{name}` is no placeholder: accepted are {}", known.join(", "));
            return Err(BadKey::new(key, message));
        }
    }
    Ok(())
}

fn default_flag() -> Vec<String> {
    vec!["--{name}".to_owned(), "{value}".to_owned()]
}

fn default_health() -> String {
    "/health".to_owned()
}
