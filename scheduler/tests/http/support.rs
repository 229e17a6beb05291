//! A scheduler's public listener on a free port, with nodes that report what a test says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wharfage_link::{Limits, ServerTls, serve};
use wharfage_scheduler::config::Config;
use wharfage_scheduler::driver::{self, Cause, Driver, Record};
use wharfage_scheduler::http::{Machines, State, router};
use wharfage_scheduler::secrets::sha256_hex;
use wharfage_scheduler::telemetry::Telemetry;
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::command::{Action, Command, nodes};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_scheduler_core::{Caller, Heard, Reply};
use wharfage_shared::gateway::{GatewayReport, RoutesVersion};
use wharfage_shared::health::Health;
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{NodeId, ReplicaId};
use wharfage_shared::notice::{Notice, SourceHeard};
use wharfage_shared::order::{Desired, Order};
use wharfage_shared::replica::{ReplicaReport, ReportedPhase};
use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, PROTOCOL_VERSION};

/// Longer than anything takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The zone of every node.
pub const ZONE: &str = "US-EAST-04A";

/// Their instance type.
pub const SKU: &str = "gd-8xh100ib-i128";

/// A scheduler whose folder is removed at its end.
pub struct Scheduler {
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// The way to its controller.
    pub driver: Driver,
    /// What machines said.
    pub telemetry: Telemetry,
    client: reqwest::Client,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _folder: Folder,
}

/// A folder of a test's own, which goes with it however it ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The body, where the status is this one.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl Scheduler {
    /// One with the organizations acme and rival, tokens for all roles, a price list and no nodes.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, "").await
    }

    /// The same with more lines of configuration.
    pub async fn start_with(name: &str, lines: &str) -> Self {
        Self::start_for(name, lines, client()).await
    }

    /// The same, asked by this client.
    pub async fn start_for(name: &str, lines: &str, client: reqwest::Client) -> Self {
        let folder = format!("wharfage-http-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let folder = Folder(folder);
        let file = folder.0.join("scheduler.toml");
        let text = format!("state_dir = {:?}\n{lines}", folder.0.display().to_string());
        std::fs::write(&file, text).expect("written");
        let config = Config::read(&file).expect("a good configuration");
        let driver = driver::start(driver::Options::of(&config)).await.expect("starts");
        let (telemetry, shutdown) = (Telemetry::default(), CancellationToken::new());
        let state = State {
            handle: driver.handle.clone(),
            telemetry: telemetry.clone(),
            config: Arc::new(config),
            machines: Machines { address: "127.0.0.1:7071".into(), authority: "0".repeat(64) },
            shutdown: shutdown.clone(),
        };
        let tls = state.config.tls.clone().map(|tls| ServerTls::public(&tls.certificate, &tls.key));
        let tls = tls.transpose().expect("a good certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("bound"));
        let router = router(state).expect("a router");
        let serving =
            tokio::spawn(serve(listener, router, tls, Limits::default(), shutdown.clone()));
        let _folder = folder;
        let scheduler = Self { url, driver, telemetry, client, shutdown, serving, _folder };
        scheduler.tenancy().await;
        scheduler
    }

    /// Organizations and tokens; a token's secret is `<organization>-<role>`.
    async fn tenancy(&self) {
        for id in ["provider", "acme", "rival"] {
            let action =
                access::Action::CreateOrganization { id: id.into(), currency: "USD".into() };
            self.provider(Action::Access(action)).await;
            let roles = [
                ("viewer", Role::Viewer),
                ("operator", Role::Operator),
                ("billing", Role::Billing),
                ("admin", Role::Admin),
            ];
            for (word, role) in roles {
                let secret = format!("{id}-{word}");
                let action = access::Action::CreateToken {
                    id: format!("tok-{secret}").as_str().into(),
                    organization: id.into(),
                    roles: [role].into(),
                    name: word.into(),
                    sha256: sha256_hex(&secret),
                };
                self.provider(Action::Access(action)).await;
            }
        }
        let price = json!({
            "sku": SKU, "region": "US-EAST-04", "on_demand": "49.24", "spot": "19.71", "gpus": 8,
            "from": "2020-01-01T00:00:00Z",
        });
        self.post("/api/v1/prices", "provider-admin", &price).await.expect(201);
    }

    /// Carries out a command of the provider.
    pub async fn provider(&self, action: Action) {
        let command = Command { caller: Caller::provider(), action };
        self.driver.handle.submit(command).await.expect("carried out");
    }

    /// A request with a JSON body, if there is one.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        read(request).await
    }

    /// A GET.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, Some(token), None).await
    }

    /// A POST.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(token), Some(body)).await
    }

    /// A PATCH.
    pub async fn patch(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, Some(token), Some(body)).await
    }

    /// A DELETE.
    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.ask("DELETE", path, Some(token), None).await
    }

    /// A node that is connected and fit, in a pool of its compute class.
    pub async fn node(&self, name: &str, compute_class: &str) -> Node<'_> {
        let pool = format!("pool-{compute_class}");
        let body = json!({
            "id": pool, "zone": ZONE, "sku": SKU, "compute_class": compute_class,
        });
        let made = self.post("/api/v1/nodepools", "provider-admin", &body).await;
        assert!(matches!(made.status, 201 | 409), "{}", made.text);
        let join = format!("join-{name}");
        let action = access::Action::CreateJoin {
            id: join.as_str().into(),
            admits: Admits::Nodes { pool: pool.as_str().into() },
            uses: 1,
            expires: self.driver.handle.now() + Millis::from_seconds(600),
            sha256: sha256_hex(&join),
        };
        self.provider(Action::Access(action)).await;
        let action = nodes::Action::Enroll {
            node: name.into(),
            join: join.as_str().into(),
            pool: None,
            key: sha256_hex(name),
        };
        self.provider(Action::Node(action)).await;
        let mut node = Node { scheduler: self, beat: heartbeat(&NodeId::from(name)) };
        node.introduce().await;
        node
    }

    /// A gateway process that is connected, and acme's and rival's front doors `front` and `gate`.
    pub async fn gateways(&self) {
        let action = access::Action::CreateJoin {
            id: "join-gw".into(),
            admits: Admits::Gateways,
            uses: 1,
            expires: self.driver.handle.now() + Millis::from_seconds(600),
            sha256: sha256_hex("join-gw"),
        };
        self.provider(Action::Access(action)).await;
        let action = access::Action::EnrollGateway {
            gateway: "gw".into(),
            join: "join-gw".into(),
            key: sha256_hex("gw"),
        };
        self.provider(Action::Access(action)).await;
        let report = GatewayReport {
            gateway: Some("gw".into()),
            number: 1,
            routes: RoutesVersion::default(),
            endpoint: Some("https://gw.example.org".to_owned()),
            ..GatewayReport::default()
        };
        self.telemetry.gateway(self.driver.handle.now(), "gw".into(), report.clone());
        self.driver.handle.observe(Heard::Gateway(report)).await.expect("heard");
        for (id, token) in [("front", "acme-operator"), ("gate", "rival-operator")] {
            let body = gateway(id);
            self.post("/v1alpha1/inference/gateways", token, &body).await.expect(200);
        }
    }

    /// What was asked for and carried out after a position of the log, by its word.
    pub async fn commands_since(&self, position: u64) -> Vec<String> {
        let (mut after, mut commands) = (position, Vec::new());
        loop {
            let page = self.driver.handle.log().after(after, 500).await.expect("readable");
            let Some(last) = page.last() else { return commands };
            after = last.position;
            for stored in page {
                let record = Record::decode(&stored.payload).expect("a record");
                if let Cause::Command { action, .. } = record.cause {
                    commands.push(action);
                }
            }
        }
    }

    /// Looks until `seen` gives something.
    pub async fn until<T, F>(&self, what: &str, mut seen: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = seen().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not seen within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.expect("no panic");
        self.driver.stop().await;
    }
}

/// A client: plain HTTP on loopback.
pub fn client() -> reqwest::Client {
    wharfage_link::tls::install();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    builder.timeout(PATIENCE).build().expect("a client")
}

/// Sends and reads the whole answer.
pub async fn read(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.expect("answered");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, text: answer.text().await.expect("a body") }
}

/// The body of a gateway.
pub fn gateway(id: &str) -> Value {
    json!({
        "id": id, "name": id, "zones": [ZONE], "coreWeaveAuth": {},
        "bodyBasedRouting": {"apiType": "API_TYPE_OPENAI"},
    })
}

/// The body of a deployment of acme.
pub fn deployment(name: &str) -> Value {
    json!({
        "id": format!("d-{name}"),
        "name": name,
        "gatewayIds": ["front"],
        "runtime": {"engine": "vllm", "version": "", "engineConfig": {"max-model-len": "8192"}},
        "resources": {"instanceType": SKU, "gpuCount": 8},
        "model": {"name": format!("{name}-model"), "bucket": "models", "path": "small"},
        "autoscaling": {"min": 1, "max": 2, "priority": 500,
                        "capacityClasses": ["CAPACITY_CLASS_ON_DEMAND"]},
        "traffic": {},
    })
}

/// A node as its agent would speak.
pub struct Node<'s> {
    scheduler: &'s Scheduler,
    beat: Heartbeat,
}

impl Node<'_> {
    async fn introduce(&mut self) {
        let answer = self.send().await;
        self.beat.epoch = Some(answer.0);
        let node = self.beat.node.clone();
        self.beat.inventory = Some(inventory(&node));
        self.beat.readings = readings(&node);
        self.next().await;
        self.beat.inventory = None;
    }

    async fn send(&self) -> (wharfage_shared::version::Epoch, Option<Desired>) {
        let heard = Heard::Heartbeat(Box::new(self.beat.clone()));
        let handle = &self.scheduler.driver.handle;
        let reply = handle.observe(heard).await.expect("heard");
        let Reply::Heartbeat(Ok(answer)) = reply else { panic!("refused: {reply:?}") };
        self.scheduler.telemetry.heartbeat(handle.now(), &self.beat);
        (answer.epoch, answer.desired)
    }

    /// The next heartbeat; replicas that it is told to run are ready at once.
    pub async fn next(&mut self) {
        self.beat.number += 1;
        self.beat.wall = wall();
        self.beat.sent_at = self.beat.sent_at + Millis(10);
        let (_, desired) = self.send().await;
        let Some(desired) = desired else { return };
        self.beat.persisted = desired.version;
        self.beat.applied = desired.version;
        for order in desired.orders {
            let Order::Run(run) = order else { continue };
            if self.beat.replicas.iter().any(|report| report.replica == run.replica) {
                continue;
            }
            self.beat.replicas.push(ready(run.replica, run.gpus, self.beat.sent_at));
        }
    }

    /// Reports this of its health from now on.
    pub fn judges(&mut self, health: Health) {
        self.beat.health = Some(health);
        self.beat.health_hash = format!("health-{}", self.beat.number);
    }

    /// Reports this of its sources of notices, and of what they say, from now on.
    pub fn hears(&mut self, hearing: Vec<SourceHeard>, notices: Vec<Notice>) {
        (self.beat.hearing, self.beat.notices) = (hearing, notices);
    }

    /// Says that every replica here is in this phase, so far along.
    pub fn say(&mut self, phase: ReportedPhase, permille: u16) {
        for report in &mut self.beat.replicas {
            report.phase = phase;
            report.progress_permille = Some(permille);
            report.expected_ready_in = Some(Millis::from_seconds(7));
        }
    }
}

fn ready(
    replica: ReplicaId,
    gpus: Vec<wharfage_shared::ids::GpuUuid>,
    since: Boottime,
) -> ReplicaReport {
    ReplicaReport {
        replica,
        phase: ReportedPhase::Ready,
        since,
        progress_permille: None,
        expected_ready_in: None,
        address: Some("127.0.0.1:9999".into()),
        gpus,
        because: None,
        hooks: Vec::new(),
        load: None,
    }
}

/// The machines' wall clock is right.
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("small"))
}

fn heartbeat(node: &NodeId) -> Heartbeat {
    Heartbeat {
        protocol: PROTOCOL_VERSION,
        node: node.clone(),
        boot: format!("boot-{node}").as_str().into(),
        nonce: format!("nonce-{node}"),
        epoch: None,
        number: 1,
        persisted: DesiredVersion::default(),
        applied: DesiredVersion::default(),
        sent_at: Boottime(1_000_000),
        wall: wall(),
        inventory_hash: "inventory-1".to_owned(),
        inventory: None,
        health_hash: String::new(),
        health: None,
        readings: Vec::new(),
        replicas: Vec::new(),
        gone: Vec::new(),
        open_segment: None,
        last_segment: 0,
        notices: Vec::new(),
        hearing: Vec::new(),
        evacuated: None,
        answer_at_once: true,
    }
}

fn gpu(node: &NodeId, number: usize) -> wharfage_shared::ids::GpuUuid {
    format!("GPU-{node}-{number}").as_str().into()
}

fn inventory(node: &NodeId) -> Inventory {
    let identity = |number| GpuIdentity::whole(gpu(node, number), "NVIDIA H100 80GB HBM3", 81_559);
    let engine = EngineOffer {
        flags: vec!["max-model-len".to_owned()],
        ..EngineOffer::of("vllm", ["0.22.0+crwv.2", "0.22.0"])
    };
    Inventory {
        gpus: (0..8).map(identity).collect(),
        engines: [engine].into(),
        ..Inventory::default()
    }
}

fn readings(node: &NodeId) -> Vec<GpuReading> {
    let reading = |number: usize| GpuReading {
        uuid: gpu(node, number),
        memory_used_mib: Some(7000 * number as u64),
        memory_reserved_mib: Some(300),
        utilization: Some(12 * number as u8),
        temperature_c: Some(40),
        power_mw: Some(70_000),
        age_ms: 5,
        trouble: None,
        unread: None,
    };
    (0..8).map(reading).collect()
}
