//! A driver on a host without GPUs, engines as shell scripts, and an agent that can be killed at
//! any instant: its tasks stop where they stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use wharfage_agent::config::Config;
use wharfage_agent::drivers::{Driver, Host, Way, release};
use wharfage_agent::engines::Engines;
use wharfage_agent::gpu::Gpus;
use wharfage_agent::guard::record::{Command, Folder, Record};
use wharfage_agent_core::input::{FoundReplica, Input, Release};
use wharfage_agent_sys::trusted::Owner;
use wharfage_agent_sys::{clock, process};
use wharfage_link::authority::Authority;
use wharfage_link::identity::IdentityDir;
use wharfage_link::peer::PeerName;
use wharfage_shared::enroll::Enrolled;
use wharfage_shared::ids::{BootId, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::Millis;

/// Set where the stories run inside a machine with systemd: the folder in which each makes its own.
pub const INSIDE: &str = "WHARFAGE_STORIES_IN_UNITS";

/// Root's definitions of engines, for a story that is not root.
pub const OWNERS_ENGINES: &str = "WHARFAGE_STORIES_ENGINES";

/// Everything that a story waits for comes within this long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

static BENCHES: AtomicU32 = AtomicU32::new(0);

/// The host of one story. One replica's number is never used twice, as in a fleet.
pub struct Bench {
    root: PathBuf,
    state: PathBuf,
    pub replica: ReplicaId,
}

/// An agent of that host.
pub struct Agent {
    pub driver: Arc<Driver>,
    inputs: mpsc::Receiver<Input>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Waits until `seen` gives something; fails naming what was waited for.
pub fn wait_for<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(Instant::now() < deadline, "not seen in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the stories run inside a machine with systemd.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

impl Bench {
    /// A host whose engine is this shell script.
    pub fn new(script: &str) -> Self {
        let bench = Self::without_engine();
        bench.engine(&["/bin/sh", "-c", script]);
        bench
    }

    /// A host without an engine yet.
    pub fn without_engine() -> Self {
        let number = BENCHES.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("wharfage-drivers-{}-{number}", std::process::id());
        // A unit has a /tmp of its own.
        let inside = std::env::var_os(INSIDE).map(PathBuf::from);
        let shared = inside.unwrap_or_else(std::env::temp_dir);
        let root = shared.join(name);
        drop(std::fs::remove_dir_all(&root));
        for folder in ["engines.d", "authority", "identity"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        // The template names this folder; elsewhere each story has its own.
        let state =
            if is_inside() { PathBuf::from("/var/lib/wharfage-agent") } else { root.join("state") };
        std::fs::create_dir_all(&state).expect("a folder");
        join(&root);
        Self { root, state, replica: ReplicaId(std::process::id() * 100 + number) }
    }

    /// Defines the engine.
    pub fn engine(&self, command: &[&str]) {
        let command = serde_json::to_string(command).expect("JSON is TOML here");
        let text = format!("name = \"script\"\nversions = [\"1\"]\ncommand = {command}\n");
        std::fs::write(self.root.join("engines.d/script.toml"), text).expect("written");
    }

    fn engines_dir(&self) -> PathBuf {
        std::env::var_os(OWNERS_ENGINES).map_or_else(|| self.path("engines.d"), PathBuf::from)
    }

    /// The definitions as they are now.
    pub fn engines(&self) -> Engines {
        let engines = Engines::load(&self.engines_dir(), Owner::RootOrSelf);
        assert_eq!(engines.refused, Vec::<String>::new());
        engines
    }

    /// A path on this host that belongs to the story.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The replica's folder.
    pub fn folder(&self) -> Folder {
        Folder::of(&self.state, self.replica)
    }

    /// An agent begins on this host.
    pub fn agent(&self) -> Agent {
        let config = self.root.join("agent.toml");
        let way = if is_inside() { "systemd" } else { "process" };
        let text = format!(
            "node = \"node-1\"\nstate_dir = {:?}\ncache_dir = {:?}\nengines_dir = {:?}\n\
             require_root_owned = false\ndriver = \"{way}\"\n\
             [[bucket]]\nname = \"models\"\ndirectory = {:?}\n",
            self.state,
            self.path("cache"),
            self.engines_dir(),
            self.path("bucket"),
        );
        std::fs::write(&config, text).expect("written");
        let config = Config::load(&config).expect("a good configuration");
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let (way, _) = runtime.block_on(Way::choose(&config)).expect("a way to run replicas");
        assert_eq!(matches!(way, Way::Systemd(_)), is_inside());
        let (said, inputs) = mpsc::channel(1024);
        let host = Host {
            way,
            program: PathBuf::from(env!("CARGO_BIN_EXE_wharfage-agent")),
            identity_dir: self.root.join("identity"),
            boot: clock::boot_id().expect("a boot"),
            gpus: watch::channel(Arc::new(Gpus::default())).1,
            inputs: said,
        };
        Agent { driver: Arc::new(Driver::new(config, host)), inputs, runtime: Some(runtime) }
    }

    /// The order for the story's replica.
    pub fn order(&self) -> RunOrder {
        RunOrder {
            replica: self.replica,
            deployment: "d-1".into(),
            deployment_name: "chat".into(),
            organization: "acme".into(),
            engine: "script".into(),
            engine_version: "1".into(),
            engine_flags: BTreeMap::new(),
            engine_env: BTreeMap::new(),
            model_name: "small".into(),
            model_bucket: "models".into(),
            model_path: "small".into(),
            gpus: Vec::new(),
            hooks: BTreeMap::new(),
            single_copy: false,
            grace: Millis::from_seconds(30),
            start_deadline: Millis::from_seconds(600),
            gang: None,
        }
    }

    /// Live processes of the replica, its guard left out.
    pub fn living(&self) -> Vec<process::Process> {
        let folder = self.folder();
        let (Ok(params), Ok(Some(record))) = (folder.params(), folder.started()) else {
            return Vec::new();
        };
        params.family(record.guard).members().expect("the process table")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for left in self.living() {
            drop(process::signal(left.id, Signal::KILL));
        }
        if let Ok(Some(record)) = self.folder().started() {
            drop(process::signal(record.guard, Signal::KILL));
        }
        drop(self.folder().remove());
        drop(std::fs::remove_dir_all(&self.root));
    }
}

impl Agent {
    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().expect("it lives")
    }

    /// Runs a future on the agent's threads.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    /// Orders the replica to be started.
    pub fn start(&self, bench: &Bench) {
        self.start_with(bench, &bench.engines());
    }

    /// Orders it by definitions that may have changed since they were read.
    pub fn start_with(&self, bench: &Bench, engines: &Engines) {
        let _entered = self.runtime().enter();
        self.driver.start(bench.order(), engines);
    }

    /// What came of the start.
    pub fn started(&mut self) -> Result<String, String> {
        loop {
            if let Input::Started { outcome, .. } = self.next("the start's outcome") {
                return outcome;
            }
        }
    }

    /// Starts the replica and waits until its engine runs.
    pub fn run(&mut self, bench: &Bench) -> Record {
        self.start(bench);
        self.started().expect("it starts");
        bench.folder().record().expect("a record")
    }

    /// How the engine ended, once it has.
    pub fn exited(&mut self) -> Ended {
        loop {
            if let Input::Exited { ended, .. } = self.next("the engine's end") {
                return ended;
            }
        }
    }

    /// The replica that was left alone and can be read again.
    pub fn adopted(&mut self) -> FoundReplica {
        loop {
            if let Input::Adopted(found) = self.next("the adoption") {
                return *found;
            }
        }
    }

    fn next(&mut self, what: &str) -> Input {
        let heard = self
            .runtime
            .as_ref()
            .expect("it lives")
            .block_on(async { tokio::time::timeout(PATIENCE, self.inputs.recv()).await });
        match heard {
            Ok(Some(input)) => input,
            _ => panic!("not heard in time: {what}"),
        }
    }

    /// A command for the replica.
    pub fn command(&self, bench: &Bench, command: Command) {
        let _entered = self.runtime().enter();
        self.driver.command(bench.replica, command);
    }

    /// One look whether the replica has left the host.
    pub fn look(&self, bench: &Bench) -> Release {
        self.runtime().block_on(release::look(&self.driver, bench.replica))
    }

    /// Waits until the replica has left the host, then forgets it; nothing of it may be left.
    pub fn release(&self, bench: &Bench) {
        let mut last = None;
        let freed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("a free place", || {
                let saw = self.look(bench);
                let is_free = matches!(saw, Release::Free { .. });
                last = Some(saw);
                is_free.then_some(())
            });
        }));
        assert!(freed.is_ok(), "{last:?}");
        assert!(bench.living().is_empty(), "{:?}", bench.living());
        let _entered = self.runtime().enter();
        self.driver.forget(bench.replica).expect("forgotten");
        assert!(!bench.folder().path().exists());
        // A guard stays a moment longer than its engine, so that its last word is heard.
        wait_for("the end of the guard", || {
            let (known, strays) =
                self.runtime().block_on(self.driver.list()).expect("a list of what is left");
            assert!(!known.contains(&bench.replica));
            (!strays.contains(&bench.replica)).then_some(())
        });
    }

    /// What this agent finds of the replica.
    pub fn adopt(&self, bench: &Bench) -> Option<FoundReplica> {
        let found = self.runtime().block_on(self.driver.adopt()).expect("the records are read");
        found.into_iter().find(|one| one.order.replica == bench.replica)
    }

    /// SIGKILL: every task stops where it stands, and nobody tidies up.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives the host a node's certificate.
fn join(root: &Path) {
    wharfage_link::tls::install();
    let authority = Authority::open_or_create(&root.join("authority")).expect("an authority");
    let identity = IdentityDir::new(root.join("identity"));
    let csr = identity.create_key_and_csr("node-1").expect("a key");
    let day = Duration::from_secs(86_400);
    let name = PeerName::Node("node-1".into());
    let certificate_pem =
        authority.sign_client(&csr, &name, day, SystemTime::now()).expect("a good request");
    let authority_pem = authority.pem().to_owned();
    let enrolled = Enrolled { certificate_pem, authority_pem, valid_seconds: day.as_secs() };
    identity.store(&enrolled).expect("kept");
}

/// Another boot than this one.
pub fn other_boot() -> BootId {
    BootId::from("00000000-0000-0000-0000-000000000000")
}
