//! A scheduler in the test's own process: real authority, real mTLS, and a desired state that the
//! test writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Extension, Json, Router};
use tokio_util::sync::CancellationToken;
use wharfage_link::authority::Authority;
use wharfage_link::peer::{Peer, PeerName};
use wharfage_link::server::{Limits, ServerTls, serve};
use wharfage_shared::enroll::{EnrollRequest, Enrolled, MachineProblem};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::logs::LogLines;
use wharfage_shared::order::{Desired, Order};
use wharfage_shared::replica::{Gone, ReplicaReport};
use wharfage_shared::segment::{Segment, SegmentBatch, SegmentsAcknowledged};
use wharfage_shared::telemetry::Inventory;
use wharfage_shared::time::{Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, Generation, Term};

/// The secret that joins.
pub const SECRET: &str = "open-sesame";

/// What the scheduler knows.
pub struct Known {
    authority: Authority,
    desired: Desired,
    epochs: BTreeMap<String, Epoch>,
    last: Option<Heartbeat>,
    inventory: Option<Inventory>,
    segments: Vec<Segment>,
    lines: Vec<LogLines>,
    enrolments: u32,
    answers: bool,
    is_newer: bool,
    lease: Millis,
    lag: Duration,
}

/// The running scheduler.
pub struct Scheduler {
    known: Arc<Mutex<Known>>,
    address: String,
    pin: String,
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Scheduler {
    /// Listens on a free port.
    pub fn start(folder: &Path) -> Self {
        wharfage_link::tls::install();
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let authority = Authority::open_or_create(&folder.join("authority")).expect("authority");
        let pin = authority.spki_sha256();
        let tls = ServerTls::machines(&authority, &[]).expect("TLS");
        let known = Arc::new(Mutex::new(Known {
            authority,
            desired: Desired::default(),
            epochs: BTreeMap::new(),
            last: None,
            inventory: None,
            segments: Vec::new(),
            lines: Vec::new(),
            enrolments: 0,
            answers: true,
            is_newer: false,
            lease: Millis::from_seconds(30),
            lag: Duration::ZERO,
        }));
        let router = Router::new()
            .route("/agent/v1/enroll", post(enroll))
            .route("/agent/v1/heartbeat", post(heartbeat))
            .route("/agent/v1/segments", post(segments))
            .route("/agent/v1/logs", post(logs))
            .with_state(Arc::clone(&known));
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stop = CancellationToken::new();
        let limits = Limits { grace: Duration::ZERO, ..Limits::machines() };
        runtime.spawn(serve(listener, router, Some(tls), limits, stop.clone()));
        Self { known, address, pin, stop, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A join string with this secret.
    pub fn join(&self, secret: &str) -> String {
        format!("wharfage-join:v1:{}:{}:{secret}", self.address, self.pin)
    }

    /// Replaces the orders: a new generation.
    pub fn order(&self, orders: Vec<Order>) {
        let mut known = self.known.lock().expect("not poisoned");
        let generation = Generation(known.desired.version.generation.0 + 1);
        known.desired.version = DesiredVersion { term: Term(7), generation };
        known.desired.orders = orders;
    }

    /// From now on it answers nothing (or answers again).
    pub fn answer(&self, answers: bool) {
        self.known.lock().expect("not poisoned").answers = answers;
    }

    /// From now on it says more than this release knows, in each answer and in each run order.
    pub fn speak_newer(&self) {
        self.known.lock().expect("not poisoned").is_newer = true;
    }

    /// From now on its answers take so long to arrive.
    pub fn lag(&self, lag: Duration) {
        self.known.lock().expect("not poisoned").lag = lag;
    }

    /// From now on it grants control leases of this length.
    pub fn lease(&self, lease: Millis) {
        self.known.lock().expect("not poisoned").lease = lease;
    }

    /// The last report.
    pub fn last(&self) -> Option<Heartbeat> {
        self.known.lock().expect("not poisoned").last.clone()
    }

    /// The last report's word on the only replica.
    pub fn replica(&self) -> Option<ReplicaReport> {
        self.last()?.replicas.into_iter().next()
    }

    /// The last report's proof of the only replica's end.
    pub fn gone(&self) -> Option<Gone> {
        self.last()?.gone.into_iter().next()
    }

    /// The last inventory.
    pub fn inventory(&self) -> Option<Inventory> {
        self.known.lock().expect("not poisoned").inventory.clone()
    }

    /// Every segment that was taken.
    pub fn segments(&self) -> Vec<Segment> {
        self.known.lock().expect("not poisoned").segments.clone()
    }

    /// What a replica has printed, line by line.
    pub fn lines(&self, replica: u32) -> Vec<String> {
        let known = self.known.lock().expect("not poisoned");
        let told = known.lines.iter().filter(|told| told.replica.0 == replica);
        told.flat_map(|told| told.lines.iter().cloned()).collect()
    }

    /// How many nodes have joined.
    pub fn enrolments(&self) -> u32 {
        self.known.lock().expect("not poisoned").enrolments
    }

    /// An identity folder with a gateway's certificate.
    pub fn gateway_identity(&self, folder: &Path) -> wharfage_link::identity::IdentityDir {
        let identity = wharfage_link::identity::IdentityDir::new(folder);
        let csr = identity.create_key_and_csr("gw-1").expect("a key");
        let known = self.known.lock().expect("not poisoned");
        let name = PeerName::Gateway("gw-1".into());
        identity.store(&certified(&known.authority, &csr, &name)).expect("kept");
        identity
    }

    /// Runs a future on the scheduler's threads.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self._runtime.block_on(future)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Shared = State<Arc<Mutex<Known>>>;

fn certified(authority: &Authority, csr: &str, name: &PeerName) -> Enrolled {
    let day = Duration::from_secs(86_400);
    Enrolled {
        certificate_pem: authority
            .sign_client(csr, name, day, SystemTime::now())
            .expect("a good request"),
        authority_pem: authority.pem().to_owned(),
        valid_seconds: day.as_secs(),
    }
}

async fn enroll(
    State(known): Shared,
    Json(request): Json<EnrollRequest>,
) -> Result<Json<Enrolled>, (StatusCode, Json<MachineProblem>)> {
    if request.secret != SECRET {
        let detail = "this join was used up: ask an operator for a new one".to_owned();
        let problem = MachineProblem { code: "join_used_up".to_owned(), detail };
        return Err((StatusCode::FORBIDDEN, Json(problem)));
    }
    let mut known = known.lock().expect("not poisoned");
    known.enrolments += 1;
    let name = PeerName::Node(request.name);
    Ok(Json(certified(&known.authority, &request.csr_pem, &name)))
}

async fn heartbeat(
    State(known): Shared,
    Extension(peer): Extension<Peer>,
    Json(report): Json<Heartbeat>,
) -> Result<impl IntoResponse, StatusCode> {
    if peer.name != Some(PeerName::Node(report.node.clone())) {
        return Err(StatusCode::FORBIDDEN);
    }
    let lag = known.lock().expect("not poisoned").lag;
    let answered = answer_to(&known, &report)?;
    tokio::time::sleep(lag).await;
    Ok(answered)
}

fn answer_to(
    known: &Mutex<Known>,
    report: &Heartbeat,
) -> Result<impl IntoResponse + use<>, StatusCode> {
    let mut known = known.lock().expect("not poisoned");
    if !known.answers {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let next = Epoch(known.epochs.len() as u64 + 1);
    let epoch = *known.epochs.entry(report.nonce.clone()).or_insert(next);
    let newest = Epoch(known.epochs.len() as u64);
    if report.epoch == Some(epoch) && epoch == newest {
        if let Some(inventory) = &report.inventory {
            known.inventory = Some(inventory.clone());
        }
        known.last = Some(report.clone());
    }
    let newer = known.desired.version > report.persisted;
    let log = report.open_segment.as_ref().map(|open| open.key.log.clone());
    let log = log.or_else(|| known.segments.last().map(|segment| segment.key.log.clone()));
    let segments = log.map(|log| {
        let of_log = known.segments.iter().filter(|segment| segment.key.log == log);
        let up_to = of_log.map(|segment| segment.key.number).max().unwrap_or(0);
        SegmentsAcknowledged { log, up_to }
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let answer = HeartbeatAnswer {
        term: Term(7),
        epoch: newest.max(epoch),
        lease: known.lease,
        next_in: Millis(100),
        now: Timestamp(i64::try_from(now.as_millis()).expect("small")),
        held: Millis(0),
        segments,
        desired: (newer && report.epoch.is_some()).then(|| known.desired.clone()),
        send_inventory: known.inventory.is_none(),
        send_health: false,
    };
    let mut text = serde_json::to_string(&answer).expect("JSON");
    if known.is_newer {
        text = text.replacen('{', r#"{"mood":{"any":["thing"]},"#, 1);
        text = text.replace(r#""order":"run""#, r#""order":"run","gently":true"#);
    }
    Ok(([("content-type", "application/json")], text))
}

async fn segments(State(known): Shared, Json(batch): Json<SegmentBatch>) -> Json<()> {
    let mut known = known.lock().expect("not poisoned");
    for segment in batch.segments {
        if known.segments.iter().all(|taken| taken.key != segment.key) {
            known.segments.push(segment);
        }
    }
    Json(())
}

async fn logs(State(known): Shared, Json(told): Json<LogLines>) -> StatusCode {
    known.lock().expect("not poisoned").lines.push(told);
    StatusCode::NO_CONTENT
}
