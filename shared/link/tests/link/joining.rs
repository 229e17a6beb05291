//! Joining over real sockets: what is sent to whom, and whose name arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::common::{Folder, Scheduler};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use wharfage_link::enroll::enroll;
use wharfage_link::{
    Authority, ClientError, Decoder, EnrollError, IdentityDir, MachineClient, PeerName,
};
use wharfage_shared::enroll::EnrollRequest;
use wharfage_shared::ids::{GatewayName, NodeId};

const DAY: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(60);

fn request(identity: &IdentityDir, secret: &str) -> EnrollRequest {
    EnrollRequest {
        protocol: 1,
        name: NodeId::from("node-1"),
        pool: None,
        secret: secret.into(),
        csr_pem: identity.create_key_and_csr("node-1").expect("the folder is writable"),
    }
}

fn node(name: &str) -> PeerName {
    PeerName::Node(NodeId::from(name))
}

async fn whoami(identity: IdentityDir, address: &str) -> Result<String, ClientError> {
    let client = MachineClient::new(identity, address)?;
    client.get_json("/whoami", PATIENCE).await.map(|answer| answer.expect("it has a body"))
}

#[tokio::test]
async fn a_node_joins_and_is_known_by_its_certificate_from_then_on() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let identity = IdentityDir::new(folder.join("node"));
    assert!(!identity.is_enrolled());

    let request = request(&identity, "open-sesame");
    let enrolled = enroll(&scheduler.join(), "/agent/v1/enroll", &request, &Decoder::default())
        .await
        .expect("welcome");
    identity.store(&enrolled).expect("writable");

    assert!(identity.is_enrolled());
    let loaded = identity.load().expect("complete");
    assert_eq!(loaded.name, node("node-1"));
    assert!(!loaded.needs_renewal(SystemTime::now()));
    assert!(!loaded.needs_renewal(SystemTime::now() + DAY * 6 / 10));
    assert!(loaded.needs_renewal(SystemTime::now() + DAY * 7 / 10));
    assert_eq!(whoami(identity, &scheduler.address).await.expect("known"), "node node-1");
}

#[tokio::test]
async fn the_private_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    scheduler.machine(&folder, node("node-1"), SystemTime::now(), DAY);
    for key in ["authority/ca.key", "node-1/key.pem"] {
        let meta = std::fs::metadata(folder.join(key)).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[tokio::test]
async fn a_server_of_another_authority_gets_not_one_byte_of_the_request() {
    let folder = Folder::new();
    wharfage_link::tls::install();
    let right = Authority::open_or_create(&folder.join("right")).expect("writable");
    let wrong = Authority::open_or_create(&folder.join("wrong")).expect("writable");
    let own = wrong.server_identity(&[]).expect("a good authority");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(own.chain, own.key)
        .expect("they fit");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let join = wharfage_shared::enroll::JoinString {
        address: listener.local_addr().expect("bound").to_string(),
        authority: right.spki_sha256(),
        secret: "open-sesame".into(),
    };
    let impostor = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (stream, _) = listener.accept().await.expect("it dials");
        let mut heard = Vec::new();
        if let Ok(mut stream) = acceptor.accept(stream).await {
            let _ = stream.read_to_end(&mut heard).await;
        }
        heard
    });
    let identity = IdentityDir::new(folder.join("node"));
    let refused =
        enroll(&join, "/agent/v1/enroll", &request(&identity, "open-sesame"), &Decoder::default())
            .await;
    let error = refused.expect_err("the pin does not fit");
    assert!(matches!(error, EnrollError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(impostor.await.expect("no panic"), Vec::<u8>::new());
}

#[tokio::test]
async fn an_enrolled_node_cannot_pose_as_the_scheduler() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let thief = scheduler.machine(&folder, node("thief"), SystemTime::now(), DAY).load();
    let thief = thief.expect("enrolled");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![thief.certificate, thief.authority], thief.key)
        .expect("they fit");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut join = scheduler.join();
    join.address = listener.local_addr().expect("bound").to_string();
    let posing = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (stream, _) = listener.accept().await.expect("it dials");
        acceptor.accept(stream).await.is_err()
    });
    let identity = IdentityDir::new(folder.join("node"));
    let refused =
        enroll(&join, "/agent/v1/enroll", &request(&identity, "open-sesame"), &Decoder::default())
            .await;
    assert!(matches!(refused, Err(EnrollError::Unreachable(_))), "{refused:?}");
    assert!(posing.await.expect("no panic"), "the handshake must not have ended well");
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let identity = IdentityDir::new(folder.join("node"));
    let refused = enroll(
        &scheduler.join(),
        "/agent/v1/enroll",
        &request(&identity, "guessed"),
        &Decoder::default(),
    )
    .await;
    let Err(EnrollError::Refused(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.code, "join_unknown");
    assert!(problem.detail.contains("new join string"));
    assert_eq!(scheduler.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nodes_gateways_expired_and_foreign_certificates_are_told_apart() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let now = SystemTime::now();
    let gateway = PeerName::Gateway(GatewayName::from("front"));

    let fresh = scheduler.machine(&folder, gateway, now, DAY);
    assert_eq!(whoami(fresh, &scheduler.address).await.expect("known"), "gateway front");

    let old = scheduler.machine(&folder, node("node-2"), now - DAY * 3, DAY);
    assert!(old.load().expect("complete").is_expired(now));
    assert_eq!(whoami(old, &scheduler.address).await.expect("marked"), "node node-2, expired");

    // A certificate of another installation under the very same name.
    let elsewhere = Folder::new();
    let other = Scheduler::start(&elsewhere).await;
    let foreign = other.machine(&elsewhere, node("node-1"), now, DAY);
    let ca = scheduler.authority.pem();
    std::fs::write(foreign.path().join("ca.pem"), ca).expect("writable");
    let before = scheduler.requests.load(Ordering::SeqCst);
    let refused = whoami(foreign, &scheduler.address).await;
    assert!(matches!(refused, Err(ClientError::Unreachable { .. })), "{refused:?}");
    assert_eq!(scheduler.requests.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_request_on() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let now = SystemTime::now();
    let identity = scheduler.machine(&folder, node("node-1"), now - DAY * 2, DAY);
    let client = MachineClient::new(identity.clone(), scheduler.address.as_str()).expect("usable");
    let ask = async || client.get_json::<String>("/whoami", PATIENCE).await.expect("known");
    assert_eq!(ask().await.as_deref(), Some("node node-1, expired"));
    scheduler.issue(&identity, &node("node-1"), now, DAY);
    assert_eq!(ask().await.as_deref(), Some("node node-1"));
    assert_eq!(client.get_json::<String>("/nothing", PATIENCE).await.expect("204"), None);
}

#[tokio::test]
async fn an_identity_beyond_renewal_or_of_another_installation_needs_a_new_join() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let join = scheduler.join();
    let now = SystemTime::now();
    let issued = |ago| scheduler.machine(&folder, node("node-1"), now - ago, DAY);
    assert!(issued(Duration::ZERO).is_usable_for(&join, now));
    assert!(issued(DAY * 7).is_usable_for(&join, now), "it may still renew");
    assert!(!issued(DAY * 9).is_usable_for(&join, now));
    assert!(!IdentityDir::new(folder.join("nobody")).is_usable_for(&join, now));
    let elsewhere = Folder::new();
    let other = Scheduler::start(&elsewhere).await.join();
    assert!(!issued(Duration::ZERO).is_usable_for(&other, now));
}

#[tokio::test]
async fn a_request_under_one_name_cannot_be_certified_with_names_of_its_own() {
    let folder = Folder::new();
    let scheduler = Scheduler::start(&folder).await;
    let key = rcgen::KeyPair::generate().expect("ring works");
    let wish = rcgen::CertificateParams::new(vec!["scheduler.wharfage".to_owned()]).expect("good");
    let csr = wish.serialize_request(&key).expect("good").pem().expect("good");
    let signed = scheduler
        .authority
        .sign_client(&csr, &node("node-1"), DAY, SystemTime::now())
        .expect("the key is good");
    let pem = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM").1;
    let parsed = pem.parse_x509().expect("X.509");
    let names = parsed.subject_alternative_name().expect("one").expect("some");
    let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["URI(wharfage://node/node-1)", "DNSName(node-1.node.wharfage)"],
        "only what the scheduler decided"
    );
    let bad = scheduler.authority.sign_client("nonsense", &node("n"), DAY, SystemTime::now());
    assert!(bad.expect_err("no PEM").to_string().contains("PKCS #10"));
}

#[tokio::test]
async fn an_authority_is_the_same_after_a_restart_and_refuses_half_a_pair() {
    let folder = Folder::new();
    let first = Authority::open_or_create(&folder.join("a")).expect("writable");
    let again = Authority::open_or_create(&folder.join("a")).expect("readable");
    assert_eq!(first.spki_sha256(), again.spki_sha256());
    assert_eq!(first.pem(), again.pem());
    std::fs::remove_file(folder.join("a/ca.key")).expect("it was there");
    let half = Authority::open_or_create(&folder.join("a")).err().expect("the key is gone");
    assert!(half.to_string().contains("restore both files"), "{half}");
}
