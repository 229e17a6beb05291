//! One host: folders, fake GPUs, definitions, and the agent's process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use rustix::process::Signal;
use tokio::net::TcpSocket;
use wharfage_agent::guard::record::{Folder, Record};
use wharfage_agent_sys::process::{self, Family};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Order, RunOrder, StopCause, StopOrder};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Millis, Timestamp};

use super::wait_for;

static NODES: AtomicU32 = AtomicU32::new(0);

/// A host with two fake GPUs.
pub struct Node {
    root: PathBuf,
    agent: Option<Child>,
    status: Port,
    join: String,
    /// Which cloud it listens to: none, unless a story has one.
    pub notices: String,
    /// Further tables of `agent.toml`.
    pub settings: String,
    /// NVML's library: the fake one, unless a story takes it away.
    pub nvml_library: PathBuf,
    /// CUDA's driver library: none is there, whatever the test's own host has.
    pub cuda_library: PathBuf,
}

impl Node {
    /// Makes the folders; the agent is not started yet.
    pub fn new(join: String) -> Self {
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharfage-journey-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&root));
        for folder in ["state", "cache", "bucket", "engines.d", "hooks.d", "gpus", "notices"] {
            std::fs::create_dir_all(root.join(folder)).expect("folder");
        }
        // Disk, memory and kernel of the test's own host are not what stories are about.
        let settings = "[health]\nread_kmsg = false\n[health.off]\nG16 = \"a test\"\n\
                        G17 = \"a test\"\n"
            .to_owned();
        let cuda_library = root.join("libcuda.so.1");
        let nvml_library = beside_tests("libwharfage_fake_nvml.so");
        let status = Port::kept();
        let notices = "cloud = \"none\"".to_owned();
        let node =
            Self { root, agent: None, status, join, notices, settings, nvml_library, cuda_library };
        node.gpus(&serde_json::json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
        node.engine("stub", &[]);
        node
    }

    /// The host's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The host has CUDA's driver library, which sees the GPUs whose UUID has NVIDIA's form.
    pub fn install_cuda(&mut self) {
        self.cuda_library = beside_tests("libwharfage_fake_cuda.so");
    }

    /// Writes the fake GPUs.
    pub fn gpus(&self, gpus: &serde_json::Value) {
        self.driver(&serde_json::json!({"gpus": gpus}));
    }

    /// Writes the fake GPUs and what is wrong with their driver.
    pub fn driver(&self, fleet: &serde_json::Value) {
        let text = fleet.to_string();
        let new = self.root.join("gpus/new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.root.join("gpus/gpus.json")).expect("renamed");
    }

    /// Defines the development engine with further arguments.
    pub fn engine(&self, name: &str, further: &[&str]) {
        self.engine_of(name, &[], further);
    }

    /// Defines the development engine as a script that does something else first.
    pub fn engine_that_first(&self, script: &str) {
        let script = format!("{script}; exec \"$0\" \"$@\"");
        self.engine_of("stub", &["/bin/sh", "-c", &script], &[]);
    }

    /// Adds lines to the definition of an engine.
    pub fn engine_also(&self, name: &str, lines: &str) {
        let path = self.root.join(format!("engines.d/{name}.toml"));
        let text = std::fs::read_to_string(&path).expect("defined before");
        std::fs::write(path, format!("{text}{lines}\n")).expect("written");
    }

    fn engine_of(&self, name: &str, before: &[&str], further: &[&str]) {
        let program = beside_tests("examples/development_engine");
        let mut command: Vec<String> = before.iter().map(|&part| part.to_owned()).collect();
        command.extend([
            program.display().to_string(),
            "--port={port}".into(),
            "--model-dir={model_dir}".into(),
            "--served-model-name={model_name}".into(),
            "--load-seconds=0.2".into(),
            "--gpu-memory-mib=20000".into(),
        ]);
        command.extend(further.iter().map(|&argument| argument.to_owned()));
        let command = serde_json::to_string(&command).expect("JSON is TOML here");
        let text = format!(
            "name = \"{name}\"\nversions = [\"1\"]\ncommand = {command}\n\
             flags = [\"max-model-len\"]\nflag = [\"--flag\", \"{{name}}={{value}}\"]\n"
        );
        self.definition(&format!("engines.d/{name}.toml"), &text, 0o644);
    }

    /// Defines a hook as a shell script of the node's owner.
    pub fn hook(&self, id: &str, script: &str, timeout_seconds: u32, mode: u32) {
        let path = self.root.join(format!("hooks.d/{id}.sh"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let text =
            format!("command = [\"{}\"]\ntimeout_seconds = {timeout_seconds}\n", path.display());
        self.definition(&format!("hooks.d/{id}.toml"), &text, mode);
    }

    fn definition(&self, path: &str, text: &str, mode: u32) {
        let path = self.root.join(path);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// Writes `agent.toml` with further lines and says where it is.
    pub fn config(&self, further: &str) -> PathBuf {
        let at = |name: &str| self.root.join(name).display().to_string();
        let text = format!(
            "node = \"node-1\"\njoin = \"{}\"\nstate_dir = \"{}\"\ncache_dir = \"{}\"\n\
             engines_dir = \"{}\"\nhooks_dir = \"{}\"\nrequire_root_owned = false\n\
             driver = \"process\"\non_exit = \"stop\"\n{further}\n\
             [nvml]\nlibrary = \"{}\"\ncuda_library = \"{}\"\ndriver_gpus = \"{}\"\npci_devices = \"{}\"\n\
             [notices]\nlogind = false\n{}\n[notices.file]\npath = \"{}\"\n\
             [status]\nlisten = \"127.0.0.1:{}\"\n[timing]\nstop_margin_seconds = 3\n\
             checkpoint_seconds = 2\ndrain_seconds = 1\nstop_seconds = 1\n\
             [[bucket]]\nname = \"models\"\ndirectory = \"{}\"\ngenerate_missing = true\n\
             generate_mib = 1\n[env]\nWHARFAGE_FAKE_GPUS = \"{}\"\n",
            self.join,
            at("state"),
            at("cache"),
            at("engines.d"),
            at("hooks.d"),
            self.nvml_library.display(),
            self.cuda_library.display(),
            at("driver"),
            at("pci"),
            self.notices,
            at("notices/notice.json"),
            self.status.number(),
            at("bucket"),
            at("gpus"),
        );
        let path = self.root.join("agent.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        self.start_in(None);
    }

    /// Starts the agent, inside a control group if one is given.
    pub fn start_in(&mut self, group: Option<&Path>) {
        let config = self.config(&self.settings);
        let log = self.root.join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let program = env!("CARGO_BIN_EXE_wharfage-agent");
        let mut command = match group {
            Some(group) => {
                let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &enter, "sh", program]);
                shell
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(config).stdin(Stdio::null()).stderr(log);
        self.agent = Some(command.spawn().expect("the agent starts"));
    }

    /// Starts the agent by another command, which becomes it.
    pub fn start_as(&mut self, mut command: Command) {
        let log = self.root.join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        self.agent = Some(command.stderr(log).spawn().expect("the agent starts"));
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("it runs").id()
    }

    /// Runs another agent on the same host to its end: its status and what it said.
    pub fn another(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"));
        let done = command.args(arguments).output().expect("it runs");
        (done.status, String::from_utf8_lossy(&done.stderr).into_owned())
    }

    /// Ends the agent without a word.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().expect("killed");
        agent.wait().expect("collected");
    }

    /// Changes a line of `agent.toml` and tells the agent to read it again.
    pub fn reload(&self, line: &str, instead: &str) {
        let path = self.root.join("agent.toml");
        let text = std::fs::read_to_string(&path).expect("it was written");
        assert!(text.contains(line), "{line}: {text}");
        std::fs::write(&path, text.replace(line, instead)).expect("written");
        self.signal(Signal::HUP);
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        let id = process::identify(self.agent_pid()).expect("it is in the table");
        process::signal(id, signal).expect("sent");
    }

    /// Waits until the agent has ended by itself.
    pub fn until_ended(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().expect("it runs");
        wait_for("the agent's end", || agent.try_wait().expect("seen"))
    }

    /// What the guard of a replica wrote down.
    pub fn record(&self, replica: u32) -> Option<Record> {
        Folder::of(&self.root.join("state"), ReplicaId(replica)).record()
    }

    /// The folder of a replica.
    pub fn replica_folder(&self, replica: u32) -> PathBuf {
        self.root.join("state/replicas").join(ReplicaId(replica).to_string())
    }

    /// A page of the agent's status listener.
    pub fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.status.number())).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// The status as JSON.
    pub fn status(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.page("/status")?).ok()
    }

    /// Puts a notice file in place by renaming it.
    pub fn notice(&self, seconds: i64) {
        let at = now().0 / 1000 + seconds;
        let gone_at = jiff::Timestamp::from_second(at).expect("a time");
        let text = serde_json::json!({"kind": "preempt", "gone_at": gone_at.to_string()});
        let new = self.root.join("notices/new");
        std::fs::write(&new, text.to_string()).expect("written");
        std::fs::rename(new, self.root.join("notices/notice.json")).expect("renamed");
    }

    /// What the agent has logged, for a failing test's reader.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
        if let Some(mut agent) = self.agent.take() {
            if let Some(id) = process::identify(agent.id()) {
                drop(process::signal(id, Signal::TERM));
                // One that a story has stopped does not hear it before it goes on.
                drop(process::signal(id, Signal::CONT));
            }
            drop(agent.wait());
        }
        // An agent that was killed left its replicas: end exactly those.
        for replica in Folder::list(&self.root.join("state")).unwrap_or_default() {
            let folder = Folder::of(&self.root.join("state"), replica);
            let Some(record) = folder.record() else { continue };
            // A story that failed may have spoilt them: its session is known by the guard.
            let mark = folder.params().map(|params| params.mark).unwrap_or_default();
            let family = Family { guard: record.guard, mark };
            for member in family.members().unwrap_or_default() {
                drop(process::signal(member.id, Signal::KILL));
            }
            drop(process::signal(record.guard, Signal::KILL));
        }
        if std::env::var_os("WHARFAGE_KEEP").is_none() {
            drop(std::fs::remove_dir_all(&self.root));
        }
    }
}

/// An order to run replica `number` on one GPU.
pub fn run_order(number: u32, gpu: &str) -> RunOrder {
    RunOrder {
        replica: ReplicaId(number),
        deployment: "chat".into(),
        deployment_name: "chat".into(),
        organization: "acme".into(),
        engine: "stub".into(),
        engine_version: "1".into(),
        engine_flags: BTreeMap::from([("max-model-len".to_owned(), "4096".to_owned())]),
        engine_env: BTreeMap::new(),
        model_name: "small".into(),
        model_bucket: "models".into(),
        model_path: "small/1".into(),
        gpus: vec![gpu.into()],
        hooks: BTreeMap::new(),
        single_copy: false,
        grace: Millis::from_seconds(30),
        start_deadline: Millis::from_seconds(60),
        gang: None,
    }
}

/// The same as an order, with hooks.
pub fn run_with(mut order: RunOrder, hooks: &[(HookKind, &str)]) -> Order {
    order.hooks = hooks.iter().map(|(kind, id)| (*kind, (*id).into())).collect();
    Order::Run(Box::new(order))
}

/// An order to stop a replica within so many seconds.
pub fn stop_order(number: u32, seconds: u64) -> Order {
    Order::Stop(StopOrder {
        replica: ReplicaId(number),
        because: StopCause::NodeDrained,
        deadline: now() + Millis::from_seconds(seconds),
        quiet: true,
    })
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("small"))
}

/// A port for a process to listen on: bound, so that nobody else is given it, and not listening,
/// so that the process may.
struct Port(TcpSocket);

impl Port {
    fn kept() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of sockets");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self(socket)
    }

    fn number(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }
}

/// Something that was built with the tests, in the folder of the build or in its `deps`.
pub fn beside_tests(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("its own path");
    wait_for(name, || {
        let folders = test.ancestors().skip(1).take(2);
        folders.map(|folder| folder.join(name)).find(|path| path.exists())
    })
}
