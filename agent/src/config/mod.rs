//! `agent.toml`: read whole, checked whole, refused with the key named.

mod bucket;
mod nvml;
mod replicas;
mod status;
mod timing;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharfage_agent_sys::trusted::Owner;
use wharfage_shared::enroll::JoinString;
use wharfage_shared::ids::{NodeId, PoolId};

use crate::bad_key::{self, BadKey};
use crate::engines::is_env_name;
use crate::health::settings as health;
use crate::hooks::settings as hooks;
use crate::notices::settings::Notices;
use crate::plain;

pub use bucket::Bucket;
pub use nvml::Nvml;
pub use replicas::{Driver, Replicas};
pub use status::Status;
pub use timing::Timing;
use timing::{LONGEST_SECONDS, too_long};

/// The agent's settings as its owner wrote them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name in the fleet: `[a-z0-9-]{1,63}`.
    pub node: String,
    /// The pool that it joins; must be the join string's.
    pub pool: Option<String>,
    /// A join string; needed until the node has enrolled.
    pub join: Option<String>,
    /// A file that holds the join string.
    pub join_file: Option<PathBuf>,
    /// Identity, desired state, segment log, replicas' records, checkpoints.
    pub state_dir: PathBuf,
    /// Models that were fetched.
    pub cache_dir: PathBuf,
    /// Where guards listen for gateways.
    #[serde(default = "loopback")]
    pub guard_listen_ip: IpAddr,
    /// The host by which gateways reach the guards (default: `guard_listen_ip`).
    pub advertise_host: Option<String>,
    /// Definitions of engines.
    #[serde(default = "default_engines_dir")]
    pub engines_dir: PathBuf,
    /// Definitions of hooks.
    #[serde(default = "default_hooks_dir")]
    pub hooks_dir: PathBuf,
    /// The fast network that connects this host with others, by a name of the owner's: one replica
    /// on several nodes stays on one (default: none is declared).
    pub fabric: Option<String>,
    /// This host's id at its provider (`ocid1.instance..`, `i-0abc..`): events that are handed to the
    /// scheduler name the node by it (default: such events cannot).
    pub provider_id: Option<String>,
    /// How replicas are run (default: units where systemd runs and the template is installed).
    pub driver: Option<Driver>,
    /// What a replica may have of this host.
    #[serde(default)]
    pub replicas: Replicas,
    /// Engine and hook files must belong to root; otherwise the agent's own user may own them too.
    #[serde(default = "yes")]
    pub require_root_owned: bool,
    /// What happens to replicas when the agent is ended by SIGTERM or SIGINT.
    #[serde(default)]
    pub on_exit: OnExit,
    /// What `on_exit = "drain"` gives replicas; less than the unit's `TimeoutStopSec=`.
    #[serde(default = "default_exit_drain")]
    pub exit_drain_seconds: u32,
    /// How GPUs are read.
    #[serde(default)]
    pub nvml: Nvml,
    /// Where notices come from.
    #[serde(default)]
    pub notices: Notices,
    /// How the node judges its health.
    #[serde(default)]
    pub health: health::Settings,
    /// The status page.
    #[serde(default)]
    pub status: Status,
    /// Margins and estimates.
    #[serde(default)]
    pub timing: Timing,
    /// Who hooks run as.
    #[serde(default)]
    pub hooks: hooks::Hooks,
    /// Where checkpoints lie.
    #[serde(default)]
    pub checkpoints: hooks::Checkpoints,
    /// Where models come from.
    #[serde(default, rename = "bucket")]
    pub buckets: Vec<Bucket>,
    /// Extra environment of every engine and of the GPU helper, set by the node's owner.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// What happens to replicas when the agent is ended by a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExit {
    /// They go on; the next agent adopts them.
    #[default]
    Leave,
    /// They are ended with the agent (development, a host that is handed back).
    Stop,
    /// They leave as under a notice of `exit_drain_seconds`; then the agent ends.
    Drain,
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what is accepted.
    #[error("`{path}`: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, key and what is accepted.
        message: String,
    },
    /// A value is out of what is accepted.
    #[error("`{path}`: {key}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was wrong and what is accepted.
        message: String,
    },
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = plain::read(path, plain::LARGEST)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            message: bad_key::said(&error),
        })?;
        // What is set for engines may be empty.
        let strange = || bad_key::zero_byte(text).or(bad_key::strange_text(text, &["env"]));
        match config.check().and_then(|()| strange().map_or(Ok(()), Err)) {
            Ok(()) => Ok(config.with_absolute_paths()),
            Err(BadKey { key, message }) => {
                Err(Error::Value { path: path.to_owned(), key, message })
            }
        }
    }

    /// Guards, engines and hooks run in other folders and are told these paths.
    fn with_absolute_paths(mut self) -> Self {
        let buckets = self.buckets.iter_mut().map(|bucket| &mut bucket.directory);
        let own =
            [&mut self.state_dir, &mut self.cache_dir, &mut self.hooks_dir, &mut self.engines_dir];
        let store = self.checkpoints.store.iter_mut().map(|store| &mut store.credentials);
        let checkpoints = self.checkpoints.dir.iter_mut().chain(store);
        for path in own.into_iter().chain(buckets).chain(checkpoints) {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        self
    }

    fn check(&self) -> Result<(), BadKey> {
        if !is_name(&self.node) {
            return Err(BadKey::new(
                "node",
                format!("`{}` is no name: accepted is [a-z0-9-]{{1,63}}", self.node),
            ));
        }
        if self.join.is_some() && self.join_file.is_some() {
            return Err(BadKey::new("join", "set either join or join_file".to_owned()));
        }
        if let Some(join) = &self.join {
            join.parse::<JoinString>().map_err(|error| BadKey::new("join", error.to_string()))?;
        }
        if self.guard_listen_ip.is_unspecified() && self.advertise_host.is_none() {
            let message = "must be given when guard_listen_ip is no address that others can dial";
            return Err(BadKey::new("advertise_host", message.to_owned()));
        }
        self.status.check()?;
        if let Some(host) = self.advertise_host.as_ref().filter(|host| !is_host(host)) {
            return Err(BadKey::new(
                "advertise_host",
                format!("`{host}` is no host: accepted is a name or an address, without a port"),
            ));
        }
        self.timing.check()?;
        if self.exit_drain_seconds > LONGEST_SECONDS {
            return Err(BadKey::new("exit_drain_seconds", too_long(self.exit_drain_seconds)));
        }
        self.replicas.check(self.driver)?;
        self.health.check()?;
        self.notices.check()?;
        self.hooks.check()?;
        self.checkpoints.check()?;
        bucket::check(&self.buckets)?;
        for key in self.env.keys() {
            if !is_env_name(key) {
                return Err(BadKey::new(
                    "env",
                    format!("`{key}` is no name of an environment variable"),
                ));
            }
        }
        Ok(())
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        NodeId::from(self.node.as_str())
    }

    /// The pool's id, if one is named.
    pub fn pool_id(&self) -> Option<PoolId> {
        self.pool.as_deref().map(PoolId::from)
    }

    /// The join string, from the file if that is where it is.
    pub fn join_string(&self) -> Result<Option<JoinString>, String> {
        let text = match (&self.join, &self.join_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => plain::read(path, plain::LARGEST)
                .map_err(|error| format!("cannot read join_file `{}`: {error}", path.display()))?,
            (None, None) => return Ok(None),
        };
        text.parse().map(Some).map_err(|error: wharfage_shared::enroll::BadJoinString| match &self
            .join_file
        {
            Some(path) => format!("join_file `{}`: {error}", path.display()),
            None => format!("join: {error}"),
        })
    }

    /// The host by which gateways reach the guards, as it stands before `:port`.
    pub fn advertised(&self) -> String {
        let host = self.advertise_host.clone();
        let host = host.unwrap_or_else(|| self.guard_listen_ip.to_string());
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host }
    }

    /// Where members of one replica on other hosts reach this one, if that is told.
    pub fn reached_at(&self) -> Option<String> {
        let listens = Some(self.guard_listen_ip).filter(|ip| !ip.is_unspecified());
        self.advertise_host.clone().or(listens.map(|ip| ip.to_string()))
    }

    /// Whose engine and hook files are trusted.
    pub fn trusted_owner(&self) -> Owner {
        if self.require_root_owned { Owner::Root } else { Owner::RootOrSelf }
    }
}

/// What stands between `://` and `:port`; IPv6 without its brackets.
fn is_host(text: &str) -> bool {
    let is_name = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    let is_name = (1..=253).contains(&text.len()) && text.bytes().all(is_name);
    is_name || text.parse::<Ipv6Addr>().is_ok()
}

fn is_name(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(good)
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn default_engines_dir() -> PathBuf {
    PathBuf::from("/etc/wharfage/engines.d")
}

fn default_hooks_dir() -> PathBuf {
    PathBuf::from("/etc/wharfage/hooks.d")
}

fn default_exit_drain() -> u32 {
    120
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "node = \"node-1\"\nstate_dir = \"s\"\ncache_dir = \"c\"\n";

    fn refusal(extra: &str) -> String {
        let text = format!("{GOOD}{extra}");
        Config::parse(Path::new("agent.toml"), &text).expect_err("refused").to_string()
    }

    #[test]
    fn the_smallest_file_has_usable_defaults() {
        let config = Config::parse(Path::new("agent.toml"), GOOD).expect("accepted");
        assert_eq!(config.status.listen.to_string(), "127.0.0.1:7090");
        assert_eq!(config.advertised(), "127.0.0.1");
        assert!(config.require_root_owned);
    }

    #[test]
    fn folders_that_other_processes_are_told_do_not_depend_on_where_they_run() {
        let text = "node = \"node-1\"\nstate_dir = \"s\"\ncache_dir = \"c\"\nengines_dir = \"e\"\n\
                    hooks_dir = \"h\"\n";
        let config = Config::parse(Path::new("agent.toml"), text).expect("accepted");
        let told = [config.state_dir, config.cache_dir, config.engines_dir, config.hooks_dir];
        assert!(told.iter().all(|path| path.is_absolute()), "{told:?}");
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_key() {
        for (extra, expected) in [
            ("colour = 1\n", "unknown field `colour`"),
            ("driver = \"docker\"\n", "expected `process` or `systemd`"),
            ("[replicas]\ncpu_weight = 0\n", "replicas.cpu_weight: 1 to 10000 is accepted"),
            (
                "driver = \"process\"\n[replicas]\nnear_gpus = true\n",
                "replicas: limits need the driver `systemd`",
            ),
            ("join = \"hello\"\n", "join: not a join string"),
            ("fabric = \"\"\n", "fabric: it is empty"),
            ("fabric = \"\\u001b[2J\"\n", "fabric: a control character is accepted nowhere"),
            ("env = 1979-05-27\n", "env: `$__toml_private_datetime` is no name"),
            ("advertise_host = \"h:7\"\n", "advertise_host: `h:7` is no host"),
            ("exit_drain_seconds = 86401\n", "exit_drain_seconds: 86401 is longer than a day"),
            ("[timing]\nstop_margin_seconds = 90000\n", "timing.stop_margin_seconds: 90000"),
            ("[env]\nA = \"\\u0000\"\n", "env.A: a zero byte is accepted nowhere"),
            ("guard_listen_ip = \"0.0.0.0\"\n", "advertise_host: must be given"),
            (
                "[status]\nlisten = \"0.0.0.0:7090\"\n",
                "status.listen: 0.0.0.0:7090 is not loopback",
            ),
            ("[nvml]\nenabled = \"no\"\n", "line 5"),
            ("[notices]\nhold_seconds = 0\n", "notices.hold_seconds: 0 is out of what is accepted"),
            ("[health.off]\nG16 = \"\"\n", "health.off: G16 is switched off without a reason"),
            ("[health.off]\nG99 = \"x\"\n", "G1 to G22"),
            ("[health.off]\nG22 = \"x\"\n", "health.off: G22 is the scheduler's"),
            ("[health]\nleast_disk_percent = 100\n", "health.least_disk_percent: 100 is no share"),
            ("[health]\nhottest_idle_c = 0\n", "health.hottest_idle_c: 0 is no limit"),
            ("[health]\ngpus = 0\n", "health.gpus: 0 is none; accepted: a count"),
            (
                "[health.declared]\ncompute_mode = \"mine\"\n",
                "health.declared.compute_mode: `mine` is none; accepted: default, exclusive_process",
            ),
            (
                "[health.declared_for.GPU-1]\nmig = false\nmig_layout = []\n",
                "health.declared_for.\"GPU-1\".mig_layout: mig = false has no layout",
            ),
            ("[health.declared]\nnvlink = 4\n", "unknown field `nvlink`"),
        ] {
            let said = refusal(extra);
            assert!(said.contains(expected), "{extra}: {said}");
        }
        let name = Config::parse(Path::new("a"), &GOOD.replace("node-1", "Node 1"));
        assert!(name.expect_err("refused").to_string().contains("node: `Node 1` is no name"));
    }
}
