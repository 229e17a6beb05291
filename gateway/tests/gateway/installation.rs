//! The scheduler's side of the gateways' protocol, engines, a gateway, and a client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wharfage_gateway::gateway::{Bounds, Gateway};
use wharfage_gateway::openai::router;
use wharfage_gateway::uplink;
use wharfage_link::tls::guard_connector;
use wharfage_link::{
    Authority, Decoder, IdentityDir, Limits, MachineClient, Peer, PeerName, ServerTls, serve,
};
use wharfage_shared::enroll::{EnrollRequest, Enrolled, JoinString};
use wharfage_shared::gateway::{
    GatewayReport, RouteDeployment, RouteGateway, RouteReplica, Routes, RoutesVersion, Routing,
};
use wharfage_shared::ids::{
    DeploymentId, GatewayId, GatewayName, NodeId, OrganizationId, ReplicaId,
};
use wharfage_shared::version::Term;

use crate::engine::Engine;

/// Longer than anything takes on a busy host; reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tokens of the two organizations.
pub const ACME: &str = "token-of-acme";
pub const RIVAL: &str = "token-of-rival";

/// Awaits, with an end.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// Everything around a gateway, and the gateway itself.
pub struct Installation {
    pub folder: PathBuf,
    pub scheduler: SchedulerEnd,
    pub gateway: GatewayEnd,
}

/// The scheduler's listener.
pub struct SchedulerEnd {
    authority: Arc<Authority>,
    join: JoinString,
    routes: watch::Sender<Routes>,
    reports: watch::Receiver<GatewayReport>,
    is_newer: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// A running gateway.
pub struct GatewayEnd {
    pub url: String,
    pub gateway: Arc<Gateway>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    authority: Arc<Authority>,
    routes: watch::Sender<Routes>,
    reports: Arc<watch::Sender<GatewayReport>>,
    is_newer: Arc<AtomicBool>,
}

pub fn bounds() -> Bounds {
    Bounds { queue_timeout: PATIENCE, queue_limit: 10, answer_timeout: PATIENCE }
}

impl Installation {
    pub async fn start() -> Self {
        Self::bounded(bounds()).await
    }

    pub async fn bounded(bounds: Bounds) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharfage-gateway-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        wharfage_link::tls::install();
        let scheduler = SchedulerEnd::start(&folder).await;
        let gateway = GatewayEnd::start(&folder, Some(&scheduler.join), bounds).await;
        Self { folder, scheduler, gateway }
    }

    /// An engine on a node of its own.
    pub async fn engine(&self, node: &'static str) -> Engine {
        Engine::start(node, self.scheduler.machine(&self.folder, node)).await
    }

    /// Publishes routes and waits until the gateway uses them.
    pub async fn publish(&self, deployments: Vec<RouteDeployment>) {
        self.publish_with(deployments, Vec::new()).await;
    }

    pub async fn publish_with(
        &self,
        deployments: Vec<RouteDeployment>,
        gateways: Vec<RouteGateway>,
    ) {
        let version = self.scheduler.publish(deployments, gateways);
        let mut tables = self.gateway.gateway.tables();
        let used = tables.wait_for(|table| table.version == version);
        soon("the new routes", used).await.expect("the gateway lives");
    }

    /// The first report that satisfies `wanted`.
    pub async fn reported(&self, what: &str, wanted: impl Fn(&GatewayReport) -> bool) {
        let mut reports = self.scheduler.reports.clone();
        soon(what, reports.wait_for(wanted)).await.expect("the scheduler lives");
    }

    pub fn last_report(&self) -> GatewayReport {
        self.scheduler.reports.borrow().clone()
    }

    /// Ends the gateway and starts it again on the same folder.
    pub async fn restart_gateway(&mut self) {
        self.gateway.stop.cancel();
        let next = GatewayEnd::start(&self.folder, None, bounds()).await;
        let old = std::mem::replace(&mut self.gateway, next);
        soon("the gateway's end", old.ended).await.expect("it ends well");
    }

    /// A chat request of acme; status and body.
    pub async fn chat(&self, model: &str) -> (u16, Value) {
        self.ask("/v1/chat/completions", ACME, json!({"model": model, "messages": []})).await
    }

    pub async fn ask(&self, path: &str, token: &str, body: Value) -> (u16, Value) {
        let request = self.request(path, token).body(body.to_string());
        let response = soon("an answer", request.send()).await.expect("an answer");
        let status = response.status().as_u16();
        let text = soon("a whole answer", response.text()).await.expect("a whole answer");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn request(&self, path: &str, token: &str) -> reqwest::RequestBuilder {
        client()
            .post(format!("{}{path}", self.gateway.url))
            .header("authorization", format!("Bearer {token}"))
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = client().get(format!("{}{path}", self.gateway.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = soon("an answer", request.send()).await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a whole answer"))
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.gateway.stop.cancel();
        self.scheduler.stop.cancel();
        // The gateway may be writing its routes down at this very moment.
        for _ in 0..100 {
            if std::fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists() {
                break;
            }
        }
    }
}

pub fn client() -> reqwest::Client {
    let built = reqwest::Client::builder()
        .tls_backend_preconfigured(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        )
        .no_proxy()
        .build();
    built.expect("a plain client")
}

impl SchedulerEnd {
    async fn start(folder: &std::path::Path) -> Self {
        let authority = Authority::open_or_create(&folder.join("authority")).expect("writable");
        let authority = Arc::new(authority);
        let routes = watch::Sender::new(Routes::default());
        let (reports, heard) = watch::channel(GatewayReport::default());
        let is_newer = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            authority: authority.clone(),
            routes: routes.clone(),
            reports: Arc::new(reports),
            is_newer: is_newer.clone(),
        };
        let router = Router::new()
            .route("/gateway/v1/enroll", post(enroll))
            .route("/gateway/v1/routes", get(newer_routes))
            .route("/gateway/v1/report", post(report))
            .with_state(shared);
        let tls = ServerTls::machines(&authority, &[]).expect("a good authority");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let join = JoinString {
            address: listener.local_addr().expect("bound").to_string(),
            authority: authority.spki_sha256(),
            secret: "secret".into(),
        };
        let stop = CancellationToken::new();
        let limits = Limits { grace: Duration::ZERO, ..Limits::machines() };
        tokio::spawn(serve(listener, router, Some(tls), limits, stop.clone()));
        Self { authority, join, routes, reports: heard, is_newer, stop }
    }

    /// From now on it says more than this release knows, in the table and in each front door.
    pub fn speak_newer(&self) {
        self.is_newer.store(true, Ordering::SeqCst);
    }

    /// Ends the listener and every connection to it.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn machine(&self, folder: &std::path::Path, node: &str) -> IdentityDir {
        let identity = IdentityDir::new(folder.join(node));
        let csr_pem = identity.create_key_and_csr(node).expect("writable");
        let name = PeerName::Node(NodeId::from(node));
        identity.store(&enrolled(&self.authority, &csr_pem, &name)).expect("it fits");
        identity
    }

    /// What a gateway joins with.
    pub fn join(&self) -> &JoinString {
        &self.join
    }

    fn publish(
        &self,
        deployments: Vec<RouteDeployment>,
        gateways: Vec<RouteGateway>,
    ) -> RoutesVersion {
        let mut version = RoutesVersion::default();
        self.routes.send_modify(|routes| {
            version = RoutesVersion { term: Term(7), number: routes.version.number + 1 };
            let keys = [(ACME, "acme"), (RIVAL, "rival")].map(|(token, organization)| {
                let hash = hex::encode(Sha256::digest(token.as_bytes()));
                (hash, OrganizationId::from(organization))
            });
            *routes = Routes { version, deployments, gateways, keys: BTreeMap::from(keys) };
        });
        version
    }
}

fn enrolled(authority: &Authority, csr_pem: &str, name: &PeerName) -> Enrolled {
    let signed = authority.sign_client(csr_pem, name, DAY, SystemTime::now());
    Enrolled {
        certificate_pem: signed.expect("a good request"),
        authority_pem: authority.pem().to_owned(),
        valid_seconds: DAY.as_secs(),
    }
}

async fn enroll(State(shared): State<Shared>, Json(request): Json<EnrollRequest>) -> Response {
    if request.secret != "secret" {
        let problem = json!({"code": "join_unknown", "detail": "ask for a new join string"});
        return (StatusCode::UNAUTHORIZED, Json(problem)).into_response();
    }
    let name = PeerName::Gateway(GatewayName::from(request.name.as_str()));
    Json(enrolled(&shared.authority, &request.csr_pem, &name)).into_response()
}

async fn newer_routes(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<RoutesVersionQuery>,
) -> Response {
    assert!(matches!(peer.name, Some(PeerName::Gateway(_))), "{peer:?}");
    let seen = RoutesVersion { term: Term(query.term), number: query.number };
    let mut routes = shared.routes.subscribe();
    let newer = routes.wait_for(|routes| routes.version > seen);
    match tokio::time::timeout(Duration::from_secs(20), newer).await {
        Ok(Ok(routes)) => {
            let mut text = serde_json::to_string(&*routes).expect("JSON");
            if shared.is_newer.load(Ordering::SeqCst) {
                text = text.replacen('{', r#"{"hints":[{"any":"thing"}],"#, 1);
                text = text.replace(r#""by":"body""#, r#""by":"body","case":"exact""#);
            }
            ([("content-type", "application/json")], text).into_response()
        }
        Ok(Err(_)) | Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

#[derive(serde::Deserialize)]
struct RoutesVersionQuery {
    term: u64,
    number: u64,
}

async fn report(State(shared): State<Shared>, Json(report): Json<GatewayReport>) -> StatusCode {
    let last = shared.reports.borrow().clone();
    let again = last.gateway == report.gateway;
    assert!(!again || report.number > last.number, "{} after {}", report.number, last.number);
    shared.reports.send_replace(report);
    StatusCode::NO_CONTENT
}

impl GatewayEnd {
    async fn start(folder: &std::path::Path, join: Option<&JoinString>, bounds: Bounds) -> Self {
        let state = uplink::State::open(&folder.join("gateway")).expect("writable");
        let decoder = Decoder::default();
        let address = uplink::join(&state, "front", join, &decoder).await.expect("welcome");
        let client = MachineClient::new(state.identity(), address).expect("enrolled");
        let client = client.reading_with(decoder.clone());
        let connector = guard_connector(state.identity()).expect("enrolled");
        let gateway = Gateway::new(GatewayName::from("front"), bounds, connector);
        let gateway = Arc::new(gateway.reading_with(decoder));
        if let Some(routes) = state.routes() {
            gateway.adopt(&routes);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        let follow = uplink::follow(gateway.clone(), Arc::new(client), state, stop.clone());
        let limits = Limits { grace: Duration::ZERO, per_address: None, ..Limits::default() };
        let serving = serve(listener, router(gateway.clone()), None, limits, stop.clone());
        let ended = tokio::spawn(async move {
            tokio::join!(follow, serving);
        });
        Self { url, gateway, stop, ended }
    }
}

/// A deployment of acme whose model has its name.
pub fn deployment(name: &str, replicas: &[(u32, &Engine)]) -> RouteDeployment {
    RouteDeployment {
        id: DeploymentId::new(format!("d-{name}")),
        name: name.into(),
        organization: OrganizationId::from("acme"),
        model: name.into(),
        gateways: Vec::new(),
        weight: 0,
        concurrency: 8,
        parks: true,
        environments: vec!["production".into()],
        replicas: replicas.iter().map(|(id, engine)| replica(*id, engine)).collect(),
    }
}

pub fn replica(id: u32, engine: &Engine) -> RouteReplica {
    RouteReplica {
        id: ReplicaId(id),
        node: NodeId::from(engine.name),
        address: engine.address.clone(),
    }
}

pub fn front_door(id: &str, routing: Routing) -> RouteGateway {
    RouteGateway {
        id: GatewayId::from(id),
        organization: OrganizationId::from("acme"),
        zones: Vec::new(),
        routing,
    }
}
