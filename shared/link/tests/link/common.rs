//! A scheduler's listener for machines, small enough to be read, on a real socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wharfage_link::{Authority, IdentityDir, Limits, Peer, PeerName, ServerTls, serve};
use wharfage_shared::enroll::{EnrollRequest, Enrolled, JoinString};

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharfage-link-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The listener, its authority, and how many requests reached a handler.
pub struct Scheduler {
    pub authority: Arc<Authority>,
    pub address: String,
    pub requests: Arc<AtomicU32>,
}

#[derive(Clone)]
struct Shared {
    authority: Arc<Authority>,
    requests: Arc<AtomicU32>,
}

impl Scheduler {
    pub async fn start(folder: &Folder) -> Self {
        wharfage_link::tls::install();
        let authority = Authority::open_or_create(&folder.join("authority")).expect("writable");
        let authority = Arc::new(authority);
        let requests = Arc::new(AtomicU32::new(0));
        let shared = Shared { authority: authority.clone(), requests: requests.clone() };
        let router = Router::new()
            .route("/agent/v1/enroll", post(enroll))
            .route("/whoami", get(whoami))
            .route("/nothing", get(async || axum::http::StatusCode::NO_CONTENT))
            .with_state(shared);
        let tls = ServerTls::machines(&authority, &[]).expect("a good authority");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(serve(
            listener,
            router,
            Some(tls),
            Limits::machines(),
            CancellationToken::new(),
        ));
        Self { authority, address, requests }
    }

    pub fn join(&self) -> JoinString {
        JoinString {
            address: self.address.clone(),
            authority: self.authority.spki_sha256(),
            secret: "open-sesame".into(),
        }
    }

    /// A machine's folder as if it had enrolled at `issued` for `valid`.
    pub fn machine(
        &self,
        folder: &Folder,
        name: PeerName,
        issued: SystemTime,
        valid: Duration,
    ) -> IdentityDir {
        let identity = IdentityDir::new(folder.join(name.as_str()));
        self.issue(&identity, &name, issued, valid);
        identity
    }

    pub fn issue(
        &self,
        identity: &IdentityDir,
        name: &PeerName,
        issued: SystemTime,
        valid: Duration,
    ) {
        let csr = identity.create_key_and_csr("whatever it says").expect("writable");
        let certificate_pem =
            self.authority.sign_client(&csr, name, valid, issued).expect("a good request");
        let enrolled = Enrolled {
            certificate_pem,
            authority_pem: self.authority.pem().to_owned(),
            valid_seconds: valid.as_secs(),
        };
        identity.store(&enrolled).expect("the certificate fits the key");
    }
}

async fn enroll(
    State(shared): State<Shared>,
    Json(request): Json<EnrollRequest>,
) -> Result<Json<Enrolled>, (axum::http::StatusCode, &'static str)> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    if request.secret != "open-sesame" {
        let problem =
            r#"{"code":"join_unknown","detail":"ask the operator for a new join string"}"#;
        return Err((axum::http::StatusCode::UNAUTHORIZED, problem));
    }
    let valid = Duration::from_secs(24 * 3600);
    let name = PeerName::Node(request.name);
    let signed = shared.authority.sign_client(&request.csr_pem, &name, valid, SystemTime::now());
    Ok(Json(Enrolled {
        certificate_pem: signed.map_err(|_| (axum::http::StatusCode::BAD_REQUEST, "{}"))?,
        authority_pem: shared.authority.pem().to_owned(),
        valid_seconds: valid.as_secs(),
    }))
}

async fn whoami(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Json<String> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let name = peer.name.map_or_else(|| "a stranger".into(), |name| name.to_string());
    Json(if peer.expired { format!("{name}, expired") } else { name })
}
