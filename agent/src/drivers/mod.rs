//! How replicas are run on this host: a guard process per replica, started in one of two ways.
//!
//! Guards, their records and their sockets are the same both ways, and so is everything that is
//! proven of them. Only who starts a guard, who contains it and who lists it differs.

pub mod keeper;
mod launch;
mod prepare;
mod process;
pub mod release;
pub mod systemd;
mod untended;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use wharfage_agent_core::input::{FoundReplica, Input};
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::process::{is_alive, signal};
use wharfage_shared::ids::{BootId, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::Boottime;

use self::keeper::Kept;
use self::launch::Awaited;
pub use self::prepare::random_text;
use self::systemd::{Limits, Near, Units};
use crate::config::{self, Config};
use crate::engines::Engines;
use crate::gpu::Gpus;
use crate::guard::record::{Command, Folder, Params};
use crate::hooks::gpu_checkpoint::{self, Rates};
use crate::weights::Weights;

/// How guards are started, contained and listed here.
#[derive(Clone, Debug)]
pub enum Way {
    /// As children in sessions of their own.
    Process,
    /// As instances of the packaged template `wharfage-replica@.service`.
    Systemd(Units),
}

impl Way {
    /// Its word in `agent.toml`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Systemd(_) => "systemd",
        }
    }

    /// What the settings ask for, or what this host offers; with one sentence when replicas do not
    /// become units although nobody said that they should not. The error is a sentence too.
    pub async fn choose(config: &Config) -> Result<(Self, Option<String>), String> {
        match config.driver {
            Some(config::Driver::Process) => Ok((Self::Process, None)),
            Some(config::Driver::Systemd) => {
                let units = Units::of_host(&config.state_dir).await;
                let units = units.map_err(|why| format!("driver = \"systemd\": {why}"))?;
                Ok((Self::Systemd(units), None))
            }
            None => match Units::of_host(&config.state_dir).await {
                Ok(units) => Ok((Self::Systemd(units), None)),
                Err(why) => Ok((
                    Self::Process,
                    Some(format!("replicas run as processes of this host, without limits: {why}")),
                )),
            },
        }
    }
}

/// Everything that running replicas needs to know.
pub struct Driver {
    /// How guards are started.
    pub way: Way,
    /// The agent's own program.
    pub program: PathBuf,
    /// The node's identity, with which guards serve.
    pub identity_dir: PathBuf,
    /// The boot that the clock belongs to.
    pub boot: BootId,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// Where what happens is told.
    pub inputs: mpsc::Sender<Input>,
    /// How fast GPU memory was seen to go to the host.
    pub gpu_rates: Rates,
    settings: Mutex<Settings>,
    /// The keepers' ears.
    kept: Mutex<BTreeMap<ReplicaId, mpsc::Sender<Command>>>,
    /// When the last process of an ended replica was seen gone.
    gone_since: Mutex<BTreeMap<ReplicaId, Boottime>>,
    /// What guards were told, as this agent knows it: a proof must not hang on a file that was
    /// damaged or removed meanwhile.
    told: Mutex<BTreeMap<ReplicaId, Params>>,
    untended: Mutex<untended::Untended>,
}

/// What a new configuration replaces while replicas run.
struct Settings {
    config: Arc<Config>,
    weights: Weights,
}

/// What a driver is made of.
pub struct Host {
    /// How guards are started.
    pub way: Way,
    /// The agent's own program.
    pub program: PathBuf,
    /// The node's identity.
    pub identity_dir: PathBuf,
    /// The boot that the clock belongs to.
    pub boot: BootId,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// Where what happens is told.
    pub inputs: mpsc::Sender<Input>,
}

impl Driver {
    /// On this host, by these settings.
    pub fn new(config: Config, host: Host) -> Self {
        let weights = Weights::new(config.buckets.clone(), config.cache_dir.clone());
        let Host { way, program, identity_dir, boot, gpus, inputs } = host;
        Self {
            way,
            program,
            identity_dir,
            boot,
            gpus,
            inputs,
            gpu_rates: Rates::default(),
            settings: Mutex::new(Settings { config: Arc::new(config), weights }),
            kept: Mutex::default(),
            gone_since: Mutex::default(),
            told: Mutex::default(),
            untended: Mutex::default(),
        }
    }

    /// The agent's settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Where models lie.
    pub fn weights(&self) -> Weights {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).weights.clone()
    }

    /// From now on these settings count; what runs is not touched.
    pub fn reconfigure(&self, config: Config) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.weights.refit(config.buckets.clone(), config.cache_dir.clone());
        settings.config = Arc::new(config);
    }

    /// The folder of a replica.
    pub fn folder(&self, replica: ReplicaId) -> Folder {
        Folder::of(&self.config().state_dir, replica)
    }

    /// Starts guard and engine and keeps them; answers `Started`, later `Exited`.
    pub fn start(self: &Arc<Self>, order: RunOrder, engines: &Engines) {
        let replica = order.replica;
        let (sender, commands) = mpsc::channel(64);
        self.kept().insert(replica, sender);
        let driver = Arc::clone(self);
        let prepared = self.prepare(order, engines);
        tokio::spawn(async move {
            let mut commands = commands;
            let started = match prepared {
                Ok(params) => driver.launch(params, &mut commands).await,
                Err(because) => Err(because),
            };
            match started {
                Ok(kept) => {
                    driver
                        .say(Input::Started { replica, outcome: Ok(kept.record.address.clone()) })
                        .await;
                    keeper::keep(&driver, kept, commands).await;
                }
                Err(because) => {
                    driver.say(Input::Started { replica, outcome: Err(because) }).await;
                }
            }
        });
    }

    /// Hands a command to a replica's keeper. One that is gone needs none; what is to be killed
    /// without one is known by the records.
    pub fn command(self: &Arc<Self>, replica: ReplicaId, command: Command) {
        let sender = self.kept().get(&replica).cloned();
        let is_kept = sender.is_some_and(|sender| sender.try_send(command.clone()).is_ok());
        if is_kept {
            return;
        }
        tracing::debug!(replica.id = %replica, "a command came after the replica's end");
        if command == Command::Kill {
            let driver = Arc::clone(self);
            tokio::spawn(async move { driver.kill_unkept(replica).await });
        }
    }

    async fn kill_unkept(&self, replica: ReplicaId) {
        let folder = self.folder(replica);
        let (Ok(params), Ok(Some(record))) = (self.params(replica), folder.started()) else {
            return;
        };
        if params.boot != self.boot {
            return;
        }
        if let Err(error) = signal(record.guard, Signal::KILL) {
            tracing::warn!(replica.id = %replica, "its guard cannot be ended: {error}");
        }
        self.end_without_record(&folder, &params).await;
    }

    /// What a replica's guard was told: as the disk says, or as this agent still knows.
    pub fn params(&self, replica: ReplicaId) -> io::Result<Params> {
        self.folder(replica).params().or_else(|error| {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.get(&replica).cloned().ok_or(error)
        })
    }

    fn remember(&self, params: &Params) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(params.order.replica, params.clone());
    }

    /// Forgets an ended replica with everything that is left of it.
    pub fn forget(&self, replica: ReplicaId) -> io::Result<()> {
        self.kept().remove(&replica);
        self.gone_since.lock().unwrap_or_else(PoisonError::into_inner).remove(&replica);
        let folder = self.folder(replica);
        if let Ok(params) = self.params(replica)
            && let Some(cgroup) = params.cgroup.as_deref().and_then(Cgroup::existing)
        {
            cgroup.remove();
        }
        if let Way::Systemd(units) = &self.way {
            let units = units.clone();
            tokio::spawn(async move { units.forget(replica).await });
        }
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&replica);
        folder.remove()
    }

    /// Ends every replica: asks, waits a little, ends what is left.
    pub async fn end_all(&self) {
        const ASKED: Duration = Duration::from_secs(3);
        let senders: Vec<_> = self.kept().values().cloned().collect();
        for command in [Command::Terminate, Command::Kill] {
            for sender in &senders {
                // A keeper that is gone has seen its replica's end.
                drop(sender.send(command.clone()).await);
            }
            let all_gone = async {
                for sender in &senders {
                    sender.closed().await;
                }
            };
            if tokio::time::timeout(ASKED, all_gone).await.is_ok() {
                return;
            }
        }
    }

    /// Every replica that something of an earlier agent's is left of, and those of whom only a
    /// running unit is left: nobody knows their orders any more.
    pub async fn list(&self) -> io::Result<(Vec<ReplicaId>, Vec<ReplicaId>)> {
        let known = Folder::list(&self.config().state_dir)?;
        let running = match &self.way {
            Way::Process => Vec::new(),
            Way::Systemd(units) => units.list().await.map_err(io::Error::other)?,
        };
        let strays = running.into_iter().filter(|replica| !known.contains(replica)).collect();
        Ok((known, strays))
    }

    /// Finds what an earlier agent left and keeps what lives.
    pub async fn adopt(self: &Arc<Self>) -> io::Result<Vec<FoundReplica>> {
        let mut found = Vec::new();
        let (known, strays) = self.list().await?;
        for replica in strays {
            let because = format!(
                "{replica} of an earlier agent is left alone and holds its GPUs: its unit runs and \
                 its records are lost; `systemctl stop wharfage-replica@{replica}` ends it"
            );
            self.leave_alone(replica, because);
        }
        for replica in known {
            match self.adopt_one(replica).await {
                Ok((one, kept)) => {
                    found.push(one);
                    if kept.is_some() {
                        self.bring_back(replica);
                    }
                    self.take_over(kept);
                }
                // An agent ended between the folder and the parameters, so that nothing was
                // started, or while it forgot a replica that was gone.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && release::is_nothing_left(self, replica).await =>
                {
                    self.folder(replica).remove()?;
                }
                Err(error) => self.leave_unread(replica, &error),
            }
        }
        self.watch_untended();
        Ok(found)
    }

    /// An earlier agent may have ended while a replica's GPU memory lay in the host's.
    fn bring_back(self: &Arc<Self>, replica: ReplicaId) {
        let driver = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(why) = gpu_checkpoint::bring_back(&driver, replica).await {
                tracing::warn!(replica.id = %replica, "its GPU memory is not back: {why}");
            }
        });
    }

    /// What is left of a replica, and what is to be kept of it while it lives.
    async fn adopt_one(&self, replica: ReplicaId) -> io::Result<(FoundReplica, Option<Kept>)> {
        let folder = self.folder(replica);
        let params = folder.params()?;
        self.remember(&params);
        if params.boot == self.boot {
            self.mend_record(&folder).await;
        }
        let mut one = FoundReplica {
            order: params.order.clone(),
            address: None,
            started_at: params.asked_at,
            was_ready: folder.was_ready(),
            ended: None,
        };
        let record = match self.await_start(&folder, &params).await? {
            Awaited::Record(record) => *record,
            Awaited::Never => {
                let because = "the agent ended while it was being started".to_owned();
                one.ended = Some(Ended::NeverStarted { because });
                return Ok((one, None));
            }
            Awaited::Died => {
                self.end_without_record(&folder, &params).await;
                let failure = folder.failure();
                one.ended = Some(match failure {
                    Some(because) => Ended::NeverStarted { because },
                    None => Ended::Unknown,
                });
                return Ok((one, None));
            }
        };
        one.address = Some(record.address.clone());
        one.started_at = record.started_at;
        if params.boot != self.boot {
            one.ended = Some(record.ended.unwrap_or(Ended::Unknown));
        } else if is_alive(record.guard) && record.ended.is_none() {
            return Ok((one, Some(Kept { folder, params, record, child: None })));
        } else {
            keeper::end_what_is_left(&folder, &params, &record);
            let known = record.failure.filter(|failure| failure.kind.is_some() && !one.was_ready);
            one.ended = Some(match known {
                Some(failure) => Ended::NeverStarted { because: failure.because },
                None => record.ended.unwrap_or(Ended::Unknown),
            });
        }
        Ok((one, None))
    }

    /// A guard that lives knows what its record says: one that was damaged or lost is written anew.
    async fn mend_record(&self, folder: &Folder) {
        if matches!(folder.read_record(), Ok(Some(_))) {
            return;
        }
        let Some(record) = keeper::ask(folder).await else { return };
        // Meanwhile the guard may have written a newer one. What cannot be written is said where it
        // is read.
        let is_missing = !matches!(folder.read_record(), Ok(Some(_)));
        if is_missing && is_alive(record.guard) && folder.write_record(&record).is_ok() {
            let guard = record.guard.pid;
            tracing::warn!(process.pid = guard, "the guard's record was written anew by its word");
        }
    }

    fn take_over(self: &Arc<Self>, kept: Option<Kept>) {
        let Some(kept) = kept else { return };
        let (sender, commands) = mpsc::channel(64);
        self.kept().insert(kept.params.order.replica, sender);
        let driver = Arc::clone(self);
        tokio::spawn(async move { keeper::keep(&driver, kept, commands).await });
    }

    /// A guard died between its start and its record: what it started is known by its mark.
    async fn end_without_record(&self, folder: &Folder, params: &Params) {
        if params.boot != self.boot {
            return;
        }
        if let Ok(Some(record)) = folder.started() {
            keeper::end_what_is_left(folder, params, &record);
        }
        if let Way::Systemd(units) = &self.way
            && let Err(error) = units.kill(params.order.replica).await
        {
            tracing::warn!(replica.id = %params.order.replica, "{error}");
        }
    }

    /// What the node's owner grants a replica of its host.
    fn limits(&self, params: &Params) -> Limits {
        let config = self.config();
        let gpus = self.gpus.borrow();
        let of_replica =
            |gpu: &&wharfage_shared::telemetry::GpuIdentity| params.order.gpus.contains(&gpu.uuid);
        let addresses = gpus.identities.iter().filter(of_replica).filter_map(|g| g.pci.as_deref());
        Limits {
            memory_max_mib: config.replicas.memory_max_mib,
            cpu_weight: config.replicas.cpu_weight,
            near: match config.replicas.near_gpus {
                true => {
                    Near::to(&addresses.map(str::to_owned).collect::<Vec<_>>(), Path::new("/sys"))
                }
                false => Near::default(),
            },
        }
    }

    /// Tells the node's decisions what happened.
    pub async fn say(&self, input: Input) {
        // The receiver only goes when the agent ends; then nobody needs to hear it.
        drop(self.inputs.send(input).await);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<ReplicaId, mpsc::Sender<Command>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
