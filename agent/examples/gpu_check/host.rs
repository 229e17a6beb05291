//! The real agent on this host, in folders of its own, under a scheduler in this process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tokio::net::TcpSocket;
use wharfage_agent::guard::record::Folder;
use wharfage_agent_sys::process::{self, ProcessId};
use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::order::{Order, RunOrder, StopCause, StopOrder};
use wharfage_shared::time::{Millis, Timestamp};

use crate::Arguments;

/// Everything that is waited for comes within this long, also from a slow driver.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked for: the figures are no finer than this.
const LOOK: Duration = Duration::from_millis(10);

/// What the agent is told of a driver's and a test's surroundings, where they are set.
const PASSED_ON: [&str; 2] = ["LD_LIBRARY_PATH", "WHARFAGE_FAKE_GPUS"];

/// The agent's process and its folders.
pub struct Host {
    root: PathBuf,
    agent: Option<Child>,
    port: TcpSocket,
}

impl Host {
    /// Makes the folders; the agent is not started yet.
    pub fn new() -> Result<Self, String> {
        let name = format!("wharfage-gpu-check-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for folder in ["state", "bucket", "engines.d", "hooks.d", "scheduler"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(|e| format!("`{}`: {e}", path.display()))?;
        }
        // Bound, so that nobody else is given it, and not listening, so that the agent may.
        let port = TcpSocket::new_v4().and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(([127, 0, 0, 1], 0).into())?;
            Ok(socket)
        });
        let port = port.map_err(|error| format!("a free port: {error}"))?;
        Ok(Self { root, agent: None, port })
    }

    /// Its folders.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts the agent.
    pub fn start(&mut self, join: &str, arguments: &Arguments) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| format!("{what}: {error}")
        };
        self.write_engine(arguments.take_mib).map_err(failed("the engine's definition"))?;
        let config = self.write_config(join, arguments).map_err(failed("the configuration"))?;
        let log = std::fs::File::create(self.root.join("agent.log"));
        let mut command = Command::new(built("wharfage-agent")?);
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.map_err(failed("the agent's log"))?);
        self.agent = Some(command.spawn().map_err(failed("the agent"))?);
        Ok(())
    }

    fn write_engine(&self, mib: u32) -> std::io::Result<()> {
        let program = built("examples/development_engine").map_err(std::io::Error::other)?;
        let command = [
            program.display().to_string(),
            "--port={port}".to_owned(),
            "--model-dir={model_dir}".to_owned(),
            "--served-model-name={model_name}".to_owned(),
            "--load-seconds=1".to_owned(),
            format!("--gpu-memory-mib={mib}"),
        ];
        let text = format!("name = \"stub\"\nversions = [\"1\"]\ncommand = {command:?}\n");
        std::fs::write(self.root.join("engines.d/stub.toml"), text)
    }

    fn write_config(&self, join: &str, arguments: &Arguments) -> std::io::Result<PathBuf> {
        let at = |name: &str| self.root.join(name);
        let mut env = BTreeMap::from([(
            "WHARFAGE_CUDA_LIBRARY".to_owned(),
            arguments.cuda.display().to_string(),
        )]);
        let passed_on =
            PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
        env.extend(passed_on.map(|(name, value)| (name.to_owned(), value)));
        let env: String = env.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        let library = arguments.nvml.as_ref().map(|path| format!("library = {path:?}\n"));
        let text = format!(
            "node = \"gpu-check\"\njoin = {join:?}\nstate_dir = {:?}\ncache_dir = {:?}\n\
             engines_dir = {:?}\nhooks_dir = {:?}\nrequire_root_owned = false\n\
             driver = \"process\"\non_exit = \"stop\"\n\
             [nvml]\n{}\
             [health]\nread_kmsg = false\n\
             [notices]\nlogind = false\ncloud = \"none\"\n\
             [status]\nlisten = \"127.0.0.1:{}\"\n\
             [[bucket]]\nname = \"models\"\ndirectory = {:?}\ngenerate_missing = true\n\
             generate_mib = 1\n[env]\n{env}",
            at("state"),
            at("cache"),
            at("engines.d"),
            at("hooks.d"),
            library.unwrap_or_default(),
            self.port.local_addr()?.port(),
            at("bucket"),
        );
        let path = at("agent.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// The agent's process, and the helper that reads GPUs.
    pub fn processes(&self) -> Vec<u32> {
        let Some(agent) = self.agent.as_ref().map(Child::id) else { return Vec::new() };
        let is_helper = |pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"nvml-helper")
        };
        let table = process::table().unwrap_or_default();
        let children = table.iter().filter(|process| process.parent == agent);
        let helpers = children.map(|process| process.id.pid).filter(|pid| is_helper(*pid));
        std::iter::once(agent).chain(helpers).collect()
    }

    /// The engine of a replica.
    pub fn engine(&self, replica: u32) -> Result<ProcessId, String> {
        let folder = Folder::of(&self.root.join("state"), ReplicaId(replica));
        let engine = folder.record().and_then(|record| record.engine);
        engine.ok_or_else(|| format!("no engine of replica {replica} is written down"))
    }

    /// The status page's word on a slot.
    pub fn slot(&self, gpu: &GpuUuid) -> Option<serde_json::Value> {
        let gpus = self.status()?["gpus"].as_array()?.clone();
        gpus.into_iter().find(|slot| slot["uuid"] == *gpu.text())
    }

    fn status(&self) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(self.port.local_addr().ok()?).ok()?;
        let request = "GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Waits until `seen` gives something; how long that took. Fails with the end of the agent's
    /// log.
    pub fn until<T>(
        &self,
        what: &str,
        mut seen: impl FnMut() -> Option<T>,
    ) -> Result<(T, Duration), String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(value) = seen() {
                return Ok((value, began.elapsed()));
            }
            std::thread::sleep(LOOK);
        }
        let log = std::fs::read_to_string(self.root.join("agent.log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        Err(format!("not seen in {} s: {what}\n{}", PATIENCE.as_secs(), end.join("\n")))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // It takes its replicas along.
            if let Some(id) = process::identify(agent.id()) {
                drop(process::signal(id, Signal::TERM));
            }
            drop(agent.wait());
        }
        // A folder left in the temporary one harms nobody.
        drop(std::fs::remove_dir_all(&self.root));
    }
}

/// An order to run a replica on one GPU.
pub fn run(number: u32, gpu: &GpuUuid) -> Order {
    Order::Run(Box::new(RunOrder {
        replica: ReplicaId(number),
        deployment: "gpu-check".into(),
        deployment_name: "gpu-check".into(),
        organization: "gpu-check".into(),
        engine: "stub".into(),
        engine_version: "1".into(),
        engine_flags: BTreeMap::new(),
        engine_env: BTreeMap::new(),
        model_name: "small".into(),
        model_bucket: "models".into(),
        model_path: "small/1".into(),
        gpus: vec![gpu.clone()],
        hooks: BTreeMap::new(),
        single_copy: false,
        grace: Millis::from_seconds(30),
        start_deadline: Millis::from_seconds(60),
        gang: None,
    }))
}

/// An order to stop a replica soon.
pub fn stop(number: u32) -> Order {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    Order::Stop(StopOrder {
        replica: ReplicaId(number),
        because: StopCause::NodeDrained,
        deadline: now + Millis::from_seconds(10),
        quiet: true,
    })
}

/// A program that was built with this one: in the folder above, or beside it.
pub fn built(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let folders = own.ancestors().skip(1).take(3);
    let mut found = folders.map(|folder| folder.join(name)).filter(|path| path.is_file());
    found.next().ok_or_else(|| format!("`{name}` was not built: run `make gpu-check`"))
}
