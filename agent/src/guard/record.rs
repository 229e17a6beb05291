//! A replica's folder: what the guard is told, what it writes down, and the words on its socket.
//!
//! Another agent than the one that started a guard must find everything here.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wharfage_agent_sys::process::{Family, ProcessId};
use wharfage_shared::ids::{BootId, GpuUuid, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::Boottime;

use crate::engines::failures::Failure;
use crate::engines::wire::Wire;
use crate::engines::{Ports, Prove};

/// The folder of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// What a guard is told once, when it is started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// The order that it carries out.
    pub order: RunOrder,
    /// The boot of the agent that started it.
    pub boot: BootId,
    /// When the start was asked for.
    pub asked_at: Boottime,
    /// Where the owner's definitions of engines are: the command line comes from there alone.
    pub engines_dir: PathBuf,
    /// Whether those files must be root's.
    pub require_root_owned: bool,
    /// The model's folder on this host.
    pub model_dir: PathBuf,
    /// Environment that the node's owner gives every engine.
    pub owners_env: BTreeMap<String, String>,
    /// The user of engines whose definition names none (absent: the guard's own).
    pub user: Option<String>,
    /// `NAME=value` in that environment by which every process of the replica is known.
    pub mark: String,
    /// The loopback port that the engine listens on.
    pub engine_port: u16,
    /// The path of its health.
    pub health: String,
    /// How it proves that it works.
    pub prove: Prove,
    /// What its statuses and metrics mean.
    #[serde(default)]
    pub wire: Wire,
    /// Further ports that it listens on, by the names of its definition.
    #[serde(default)]
    pub further_ports: BTreeMap<String, u16>,
    /// Other ports, for an engine whose own were taken by somebody else.
    #[serde(default)]
    pub spares: Vec<Ports>,
    /// Where the guard listens for gateways.
    pub listen_ip: IpAddr,
    /// By which host gateways reach it.
    pub advertise_host: String,
    /// The node's identity: what the guard serves with.
    pub identity_dir: PathBuf,
    /// The control group for everything of the replica, where there is one.
    pub cgroup: Option<PathBuf>,
    /// What each GPU showed while idle, before the engine was started.
    pub baselines: Vec<Baseline>,
}

/// One GPU while idle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Which.
    pub gpu: GpuUuid,
    /// Memory in use.
    pub used_mib: u64,
    /// Processes that held it then already (a display server, a monitor).
    pub holders: Vec<u32>,
}

/// What a guard has written down of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Itself.
    pub guard: ProcessId,
    /// The engine, once started.
    pub engine: Option<ProcessId>,
    /// `host:port` for gateways.
    pub address: String,
    /// When the engine was started.
    pub started_at: Boottime,
    /// Whether the engine was asked to end.
    #[serde(default)]
    pub asked: bool,
    /// How the engine ended, once it has.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// Why the guard ended it, when it did so by itself (one sentence).
    #[serde(default)]
    pub because: Option<String>,
    /// Why the engine ended, when it did so by itself.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Engines that found their port taken and were started again on another one.
    #[serde(default)]
    pub port_clashes: u32,
}

/// Who decided first whether a prepared start happens. Written once, by whoever is first: an agent
/// that finds a start half done knows afterwards either who its guard is or that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// This guard starts it now.
    Guard(ProcessId),
    /// An agent gave it up: no guard may start it any more.
    Withdrawn,
}

/// What the agent tells a guard: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Command {
    /// Ask the engine to end.
    Terminate,
    /// End everything of the replica at once.
    Kill,
    /// The serving lease: absent = no end.
    ServeUntil {
        /// Its end.
        until: Option<Boottime>,
    },
}

/// What a guard tells the agent: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "saw")]
pub enum Event {
    /// The record, at the beginning and after each change.
    Record(Record),
    /// The engine has read this much of its weights.
    Load {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

impl Folder {
    /// The folder of this replica in the agent's state folder.
    pub fn of(state_dir: &Path, replica: ReplicaId) -> Self {
        Self { path: all(state_dir).join(replica.to_string()) }
    }

    /// The folder that holds this parameter file.
    pub fn of_params(params: &Path) -> Self {
        Self { path: params.parent().unwrap_or(Path::new(".")).to_owned() }
    }

    /// Every replica that has a folder here, in order.
    pub fn list(state_dir: &Path) -> io::Result<Vec<ReplicaId>> {
        let entries = match std::fs::read_dir(all(state_dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut replicas = Vec::new();
        for entry in entries {
            replicas.extend(
                entry?.file_name().to_str().and_then(|name| name.parse::<ReplicaId>().ok()),
            );
        }
        replicas.sort();
        Ok(replicas)
    }

    /// Makes it, for its owner's eyes only.
    pub fn create(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    /// Removes it with everything inside.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parameter file.
    pub fn params_path(&self) -> PathBuf {
        self.path.join("params.json")
    }

    /// Writes the parameters.
    pub fn write_params(&self, params: &Params) -> io::Result<()> {
        crate::journal::replace(&self.params_path(), &serde_json::to_vec(params)?)
    }

    /// The parameters, if they are there and readable.
    pub fn params(&self) -> io::Result<Params> {
        read_json(&self.params_path())
    }

    /// Writes the record.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        crate::journal::replace(&self.path.join("guard.json"), &serde_json::to_vec(record)?)
    }

    /// The record, if the guard came so far and it can be read.
    pub fn record(&self) -> Option<Record> {
        self.read_record().ok().flatten()
    }

    /// The record, if the guard came so far. One that is there and cannot be read is an error.
    pub fn read_record(&self) -> io::Result<Option<Record>> {
        if_there(read_json(&self.path.join("guard.json")))
    }

    /// What is known of a guard that has begun: its record, or at least itself. Nothing is said of
    /// a guard only where none can have begun.
    pub fn started(&self) -> io::Result<Option<Record>> {
        match (self.read_record(), self.claimed()) {
            (Ok(Some(record)), _) => Ok(Some(record)),
            (_, Ok(Some(Claim::Guard(guard)))) => Ok(Some(Record::of_guard(guard))),
            (Ok(None), Ok(None | Some(Claim::Withdrawn))) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Decides the start, unless it was decided before. Whether this claim is the one that counts.
    pub fn claim(&self, claim: &Claim) -> io::Result<bool> {
        // A link appears with its contents or not at all, and never over another one.
        let own = self.path.join(format!("claim.{}", std::process::id()));
        std::fs::write(&own, serde_json::to_vec(claim)?)?;
        let linked = std::fs::hard_link(&own, self.path.join("claim"));
        std::fs::remove_file(&own)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How the start was decided, once it was.
    pub fn claimed(&self) -> io::Result<Option<Claim>> {
        if_there(read_json(&self.path.join("claim")))
    }

    /// Notes why the guard could not start the engine.
    pub fn note_failure(&self, why: &str) -> io::Result<()> {
        std::fs::write(self.path.join("failure"), why)
    }

    /// Why the guard could not start the engine, if it said so.
    pub fn failure(&self) -> Option<String> {
        std::fs::read_to_string(self.path.join("failure")).ok()
    }

    /// Notes that its end was ordered: the guard may see the engine end before it hears why.
    pub fn mark_asked(&self) -> io::Result<()> {
        std::fs::write(self.path.join("asked"), "")
    }

    /// Whether its end was ordered.
    pub fn was_asked(&self) -> bool {
        self.path.join("asked").exists()
    }

    /// Notes that the replica was proven ready once.
    pub fn mark_ready(&self) -> io::Result<()> {
        std::fs::write(self.path.join("ready"), "")
    }

    /// Whether it was proven ready once.
    pub fn was_ready(&self) -> bool {
        self.path.join("ready").exists()
    }
}

impl Record {
    /// How the engine ended, and why when it did so by itself; nothing while it runs.
    pub fn end(self) -> Option<(Ended, Option<Failure>)> {
        self.ended.map(|ended| (ended, self.failure))
    }

    /// A guard that has begun and has not come to write its record.
    pub fn of_guard(guard: ProcessId) -> Self {
        Self {
            guard,
            engine: None,
            address: String::new(),
            started_at: Boottime::default(),
            asked: false,
            ended: None,
            because: None,
            failure: None,
            port_clashes: 0,
        }
    }
}

impl Params {
    /// How the replica's processes are found.
    pub fn family(&self, guard: ProcessId) -> Family {
        Family { guard, mark: self.mark.clone() }
    }
}

/// A path to a socket that is short whatever the state folder's name: a socket's path may hold 107
/// bytes only, so it is named through an open folder.
pub struct SocketPath {
    _folder: std::fs::File,
    path: PathBuf,
}

impl SocketPath {
    /// For the control socket in a replica's folder.
    pub fn of(folder: &Folder) -> io::Result<Self> {
        Self::inside(folder.path(), "control.sock")
    }

    /// For a socket of this name in a folder.
    pub fn inside(folder: &Path, name: &str) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let folder = std::fs::File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
        Ok(Self { _folder: folder, path })
    }

    /// The path; usable while this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn all(state_dir: &Path) -> PathBuf {
    state_dir.join("replicas")
}

/// The error names the file.
fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let named = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => "is damaged",
            _ => "cannot be read",
        };
        io::Error::new(error.kind(), format!("`{}` {what}: {error}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(named)?;
    serde_json::from_slice(&bytes).map_err(|error| named(error.into()))
}

fn if_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
