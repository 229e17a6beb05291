//! Starts guards, finds those that an earlier agent left, and hands commands to them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command as Program};
use tokio::sync::{mpsc, watch};
use wharfage_agent_core::input::{FoundReplica, Input};
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::ids::{BootId, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::Boottime;

use super::keeper::{self, Kept};
use crate::config::Config;
use crate::engines::{Engines, Seat};
use crate::gpu::Gpus;
use crate::guard::record::{Baseline, Command, Folder, Params, Record};
use crate::weights::Weights;

/// Engines' ports: below the range from which the kernel takes ports for outgoing connections,
/// so that a port that is free now stays free until the engine has bound it.
const ENGINE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A guard writes its record within this long: it binds two sockets and starts one process.
const GUARD_DEADLINE: Duration = Duration::from_secs(15);

/// A guard that an agent started in its last moments may need this long to write its record.
const LATE_RECORD: Duration = Duration::from_secs(2);

/// Everything that starting a replica needs to know.
pub struct Driver {
    /// The agent's settings.
    pub config: Config,
    /// The agent's own program.
    pub program: PathBuf,
    /// The node's identity, with which guards serve.
    pub identity_dir: PathBuf,
    /// The boot that the clock belongs to.
    pub boot: BootId,
    /// Where models lie.
    pub weights: Weights,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// Where what happens is told.
    pub inputs: mpsc::Sender<Input>,
    /// The keepers' ears.
    pub kept: Mutex<BTreeMap<ReplicaId, mpsc::Sender<Command>>>,
    /// When the last process of an ended replica was seen gone.
    pub gone_since: Mutex<BTreeMap<ReplicaId, Boottime>>,
}

impl Driver {
    /// The folder of a replica.
    pub fn folder(&self, replica: ReplicaId) -> Folder {
        Folder::of(&self.config.state_dir, replica)
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

    /// Hands a command to a replica's keeper; one that is gone needs none.
    pub fn command(&self, replica: ReplicaId, command: Command) {
        let sender = self.kept().get(&replica).cloned();
        if let Some(sender) = sender
            && sender.try_send(command).is_err()
        {
            tracing::debug!(replica.id = %replica, "a command came after the replica's end");
        }
    }

    /// Forgets an ended replica with everything that is left of it.
    pub fn forget(&self, replica: ReplicaId) -> io::Result<()> {
        self.kept().remove(&replica);
        self.gone_since.lock().unwrap_or_else(PoisonError::into_inner).remove(&replica);
        let folder = self.folder(replica);
        if let Ok(params) = folder.params()
            && let Some(cgroup) = params.cgroup.as_deref().and_then(Cgroup::existing)
        {
            cgroup.remove();
        }
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

    /// Finds what an earlier agent left and keeps what lives.
    pub async fn adopt(self: &Arc<Self>) -> io::Result<Vec<FoundReplica>> {
        let mut found = Vec::new();
        for replica in Folder::list(&self.config.state_dir)? {
            match self.adopt_one(replica).await {
                Ok(one) => found.push(one),
                Err(error) => tracing::warn!(
                    replica.id = %replica,
                    "the replica's records cannot be read, it is left alone: {error}"
                ),
            }
        }
        Ok(found)
    }

    async fn adopt_one(self: &Arc<Self>, replica: ReplicaId) -> io::Result<FoundReplica> {
        let folder = self.folder(replica);
        let params = folder.params()?;
        let mut one = FoundReplica {
            order: params.order.clone(),
            address: None,
            started_at: params.asked_at,
            was_ready: folder.was_ready(),
            ended: None,
        };
        let Some(record) = self.awaited_record(&folder, &params).await else {
            let because = "the agent ended while it was being started".to_owned();
            one.ended = Some(Ended::NeverStarted { because });
            return Ok(one);
        };
        one.address = Some(record.address.clone());
        one.started_at = record.started_at;
        if params.boot != self.boot {
            one.ended = Some(record.ended.unwrap_or(Ended::Unknown));
        } else if process::is_alive(record.guard) && record.ended.is_none() {
            let (sender, commands) = mpsc::channel(64);
            self.kept().insert(replica, sender);
            let driver = Arc::clone(self);
            let kept = Kept { folder, params, record, child: None };
            tokio::spawn(async move { keeper::keep(&driver, kept, commands).await });
        } else {
            keeper::end_what_is_left(&folder, &params, &record);
            one.ended = Some(record.ended.unwrap_or(Ended::Unknown));
        }
        Ok(one)
    }

    async fn awaited_record(&self, folder: &Folder, params: &Params) -> Option<Record> {
        let deadline = tokio::time::Instant::now() + LATE_RECORD;
        loop {
            let record = folder.record();
            let may_come = params.boot == self.boot && tokio::time::Instant::now() < deadline;
            if record.is_some() || !may_come {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything that can be refused before anything was started.
    fn prepare(&self, order: RunOrder, engines: &Engines) -> Result<Params, String> {
        let engine = engines.select(&order)?;
        let model_dir = self.weights.destination(&order)?;
        let baselines = self.baselines(&order)?;
        let port = free_port(order.replica).map_err(|error| error.to_string())?;
        let random = random_text().map_err(|error| format!("no random numbers: {error}"))?;
        let seat = Seat { port, model_dir: &model_dir };
        let command = engine.command_line(&order, &seat);
        let env = self.environment(&order, engine.environment.clone(), &random);
        let group = format!("wharfage-{}-{}-{}", self.config.node, order.replica, &random[..8]);
        Ok(Params {
            boot: self.boot.clone(),
            asked_at: clock::boottime(),
            command,
            env,
            mark: format!("WHARFAGE_GUARD={random}"),
            engine_port: port,
            health: engine.health.clone(),
            prove: engine.prove.clone(),
            listen_ip: self.config.guard_listen_ip,
            advertise_host: self.config.advertised(),
            identity_dir: self.identity_dir.clone(),
            cgroup: Cgroup::create(&group).map(|cgroup| cgroup.path().to_owned()),
            baselines,
            order,
        })
    }

    /// What each GPU shows while idle: without it no release could be proven later.
    fn baselines(&self, order: &RunOrder) -> Result<Vec<Baseline>, String> {
        let gpus = self.gpus.borrow();
        let troubles = gpus.troubles();
        let one = |gpu| {
            if let Some(trouble) = troubles.get(gpu) {
                return Err(format!("{gpu}: {trouble}"));
            }
            let seen = gpus.seen.get(gpu).ok_or_else(|| format!("this host has no GPU {gpu}"))?;
            let used_mib = seen
                .reading
                .memory_used_mib
                .ok_or_else(|| format!("{gpu}: its memory cannot be read"))?;
            let holders = seen.processes.iter().map(|process| process.pid).collect();
            Ok(Baseline { gpu: gpu.clone(), used_mib, holders })
        };
        order.gpus.iter().map(one).collect()
    }

    /// The engine's whole environment. The order's own (allow-listed) names come before the
    /// node owner's, and ours last: nothing of the network's can replace them.
    fn environment(
        &self,
        order: &RunOrder,
        of_engine: BTreeMap<String, String>,
        mark: &str,
    ) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for name in ["PATH", "HOME", "LANG"] {
            if let Ok(value) = std::env::var(name) {
                env.insert(name.to_owned(), value);
            }
        }
        env.extend(order.engine_env.clone());
        env.extend(of_engine);
        env.extend(self.config.env.clone());
        let gpus: Vec<&str> = order.gpus.iter().map(|gpu| gpu.as_str()).collect();
        env.insert("CUDA_VISIBLE_DEVICES".to_owned(), gpus.join(","));
        env.insert("WHARFAGE_REPLICA".to_owned(), order.replica.to_string());
        env.insert("WHARFAGE_GUARD".to_owned(), mark.to_owned());
        env
    }

    async fn launch(
        &self,
        params: Params,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Kept, String> {
        let folder = self.folder(params.order.replica);
        if folder.path().exists() {
            return Err("a replica of this id was started here before".to_owned());
        }
        let failed = |error: io::Error| format!("its guard cannot be started: {error}");
        folder.create().map_err(failed)?;
        folder.write_params(&params).map_err(failed)?;
        let mut child = self.spawn_guard(&folder).map_err(failed)?;
        let deadline = tokio::time::Instant::now() + GUARD_DEADLINE;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                // Biased: a guard that wrote its record and ended is one that was started.
                biased;
                command = commands.recv() => if matches!(command, Some(Command::Kill)) {
                    self.end_guard(&mut child, &params).await;
                    return Err("it was stopped while it was being started".to_owned());
                },
                _ = look.tick() => {}
            }
            if let Some(record) = folder.record() {
                return Ok(Kept { folder, params, record, child: Some(child) });
            }
            if let Ok(Some(status)) = child.try_wait() {
                let said = std::fs::read_to_string(folder.path().join("guard.err.log"));
                let said = said.unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing");
                return Err(format!("its guard ended at once ({status}): {last}"));
            }
            if tokio::time::Instant::now() > deadline {
                self.end_guard(&mut child, &params).await;
                return Err(format!("its guard was not up within {} s", GUARD_DEADLINE.as_secs()));
            }
        }
    }

    async fn end_guard(&self, child: &mut Child, params: &Params) {
        if let Some(guard) = child.id().and_then(process::identify) {
            let family = params.family(guard);
            drop(process::signal(guard, rustix::process::Signal::KILL));
            for member in family.members().unwrap_or_default() {
                drop(process::signal(member.id, rustix::process::Signal::KILL));
            }
        }
        drop(child.wait().await);
    }

    fn spawn_guard(&self, folder: &Folder) -> io::Result<Child> {
        let errors = std::fs::File::create(folder.path().join("guard.err.log"))?;
        Program::new(&self.program)
            .arg("guard")
            .arg("--params")
            .arg(folder.params_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .kill_on_drop(false)
            .spawn()
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

/// A loopback port on which nobody listens. Replicas begin their search at different places.
fn free_port(replica: ReplicaId) -> io::Result<u16> {
    let span = u32::from(ENGINE_PORTS.end - ENGINE_PORTS.start);
    let mut seed = [0; 4];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let first = u32::from_le_bytes(seed).wrapping_add(replica.0);
    for step in 0..span {
        let offset = u16::try_from(first.wrapping_add(step) % span).unwrap_or(0);
        let port = ENGINE_PORTS.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no loopback port is free for an engine"))
}

/// 32 hex digits from the kernel.
pub fn random_text() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}
