//! Agents and gateways over real sockets: each speaks for itself alone, joins say what to do, a
//! heartbeat waits for news and not longer.

use std::time::{Duration, SystemTime};

use crate::machine::{Machine, PATIENCE, Scheduler, heartbeat};
use wharfage_link::enroll::{enroll, renew};
use wharfage_link::{ClientError, Decoder, EnrollError, IdentityDir, PeerName};
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::command::{Action, nodes};
use wharfage_scheduler_core::words::node::Reach;
use wharfage_scheduler_core::words::principal::{PROVIDER, Role};
use wharfage_shared::enroll::{EnrollRequest, Enrolled, MachineProblem};
use wharfage_shared::gateway::{GatewayReport, Routes, RoutesVersion};
use wharfage_shared::heartbeat::HeartbeatAnswer;
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::segment::{SegmentBatch, SegmentsAcknowledged};
use wharfage_shared::time::Millis;
use wharfage_shared::version::{Epoch, PROTOCOL_VERSION};

const HOUR: Millis = Millis::from_seconds(3600);

fn nodes_of(pool: &str) -> Admits {
    Admits::Nodes { pool: pool.into() }
}

fn refused<T>(outcome: Result<T, EnrollError>) -> MachineProblem {
    match outcome {
        Err(EnrollError::Refused(problem)) => problem,
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal, was admitted"),
    }
}

fn problem<T>(outcome: Result<T, ClientError>) -> (u16, String) {
    match outcome {
        Err(ClientError::Refused { status, problem }) => (status, problem.code),
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal, was answered"),
    }
}

#[tokio::test]
async fn a_join_that_does_not_admit_says_why_and_what_to_do() {
    let scheduler = Scheduler::start("joins").await;
    let one = scheduler.join("one", nodes_of("pool-a"), 1, HOUR).await;
    scheduler.enrol("node-1", &one, "/agent/v1/enroll", Some("pool-a")).await.expect("admitted");
    let past = scheduler.join("past", nodes_of("pool-a"), 5, Millis(1)).await;
    while scheduler
        .handle()
        .view()
        .fleet()
        .join_by_sha256(&wharfage_scheduler::secrets::sha256_hex("past"))
        .is_some_and(|join| scheduler.handle().now() < join.expires)
    {
        tokio::task::yield_now().await;
    }
    let many = scheduler.join("many", nodes_of("pool-a"), 5, HOUR).await;
    let doors = scheduler.join("doors", Admits::Gateways, 5, HOUR).await;
    let unknown = scheduler.join_string("guessed");
    let agent = "/agent/v1/enroll";
    let cases = [
        ("node-2", &unknown, agent, None, "join_unknown", "new join string"),
        ("node-2", &one, agent, None, "join_used_up", "used 1 of 1"),
        ("node-2", &past, agent, None, "join_expired", "new join string"),
        ("node-2", &many, agent, Some("pool-b"), "join_wrong_pool", "pool-b"),
        ("node-2", &doors, agent, None, "join_wrong_pool", "gateways"),
        ("door-1", &many, "/gateway/v1/enroll", None, "join_wrong_pool", "gateways"),
        ("node-1", &many, agent, None, "name_taken", "/api/v1/nodes/node-1/rejoin"),
        ("Node 1", &many, agent, None, "malformed", "cannot be a machine's name"),
    ];
    let before = scheduler.handle().view().position();
    for (name, join, path, pool, code, part) in cases {
        let problem = refused(scheduler.enrol(name, join, path, pool).await);
        assert_eq!(problem.code, code, "{}", problem.detail);
        assert!(problem.detail.contains(part), "{code} says: {}", problem.detail);
    }
    assert_eq!(scheduler.handle().view().position(), before, "a refusal is no fact");
    let doors = scheduler.enrol("door-1", &doors, "/gateway/v1/enroll", None).await;
    doors.expect("the gateways' join admits a gateway");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_certified_does_not_use_up_the_join() {
    let scheduler = Scheduler::start("csr").await;
    let join = scheduler.join("once", nodes_of("pool-a"), 1, HOUR).await;
    let request = EnrollRequest {
        protocol: PROTOCOL_VERSION,
        name: NodeId::from("node-1"),
        pool: None,
        secret: join.secret.clone(),
        csr_pem: "not a request".to_owned(),
    };
    let path = "/agent/v1/enroll";
    assert_eq!(refused(enroll(&join, path, &request, &Decoder::default()).await).code, "malformed");
    let future = EnrollRequest { protocol: 99, ..request };
    assert_eq!(
        refused(enroll(&join, path, &future, &Decoder::default()).await).code,
        "protocol_unsupported"
    );
    scheduler.enrol("node-1", &join, path, None).await.expect("the use is still there");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_name_that_rejoins_leaves_the_old_certificate_without_a_say() {
    let scheduler = Scheduler::start("rejoin").await;
    let old = scheduler.node("node-1").await;
    old.introduce().await;
    let node = NodeId::from("node-1");
    scheduler.provider(Action::Node(nodes::Action::AllowRejoin { node })).await;
    let join = scheduler.join("again", nodes_of("pool-a"), 1, HOUR).await;
    let new = scheduler.enrol("node-1", &join, "/agent/v1/enroll", None).await.expect("admitted");
    new.introduce().await;
    let gone = problem(old.beat(&heartbeat(&old.name)).await);
    assert_eq!(gone, (403, "identity_replaced".to_owned()));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_node_is_heard_and_its_readings_are_kept_with_their_age() {
    let scheduler = Scheduler::start("heard").await;
    let node = scheduler.node("node-1").await;
    let steady = node.introduce().await;
    let view = scheduler.handle().view();
    let row = view.fleet().node(&node.name).expect("enrolled");
    assert_eq!(row.reach, Reach::Connected);
    assert_eq!(row.inventory.gpus.len(), 8);
    assert_eq!(Some(row.epoch), steady.epoch);
    let told = scheduler.telemetry.node(&node.name).expect("heard");
    assert_eq!(told.readings, steady.readings);
    assert!(told.age(&told.readings[0], scheduler.handle().now()) >= Millis(5));
    let position = view.position();
    let mut steady = steady;
    for _ in 0..20 {
        node.next(&mut steady).await;
    }
    assert_eq!(scheduler.handle().view().position(), position, "steady heartbeats are no facts");
    scheduler.stop().await;
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let scheduler = Scheduler::start("for-itself").await;
    let (one, two) = (scheduler.node("node-1").await, scheduler.node("node-2").await);
    let steady = two.introduce().await;
    let not_yours = (403, "not_yours".to_owned());
    assert_eq!(problem(one.beat(&steady).await), not_yours);
    let key = wharfage_shared::segment::SegmentKey {
        node: two.name.clone(),
        boot: "boot-1".into(),
        log: "log-1".into(),
        number: 1,
    };
    let segment = wharfage_shared::segment::Segment {
        key,
        epoch: Epoch(1),
        held_for: None,
        activity: wharfage_shared::segment::Activity::IdleHeld,
        replicas: Vec::new(),
        start: wharfage_shared::time::Boottime(1),
        end: wharfage_shared::time::Boottime(2),
    };
    let batch = SegmentBatch { epoch: Epoch(1), segments: vec![segment] };
    let path = "/agent/v1/segments";
    let told = one.client.post_json::<_, SegmentsAcknowledged>(path, &batch, PATIENCE).await;
    assert_eq!(problem(told), not_yours);
    let routes = "/gateway/v1/routes?term=0&number=0";
    assert_eq!(problem(one.client.get_json::<Routes>(routes, PATIENCE).await), not_yours);
    let doors = scheduler.join("doors", Admits::Gateways, 1, HOUR).await;
    let door = scheduler.enrol("door-1", &doors, "/gateway/v1/enroll", None).await.expect("let in");
    assert_eq!(problem(door.beat(&steady).await), not_yours);
    let report = GatewayReport { gateway: Some("door-2".into()), ..GatewayReport::default() };
    let told = door.client.post_json::<_, ()>("/gateway/v1/report", &report, PATIENCE).await;
    assert_eq!(problem(told), not_yours);
    // Without a certificate nobody is anybody.
    let request = EnrollRequest {
        protocol: PROTOCOL_VERSION,
        name: NodeId::from("node-1"),
        pool: None,
        secret: String::new(),
        csr_pem: String::new(),
    };
    let stranger =
        enroll(&scheduler.join_string("x"), "/agent/v1/heartbeat", &request, &Decoder::default())
            .await;
    assert_eq!(refused(stranger).code, "no_certificate");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_held_until_there_is_news_or_a_newer_one() {
    let scheduler = Scheduler::start("held").await;
    let node = scheduler.node("node-1").await;
    let mut steady = node.introduce().await;
    steady.answer_at_once = false;
    let held = |heartbeat: &wharfage_shared::heartbeat::Heartbeat| {
        let other = Machine::new(&scheduler, "node-1", node.identity.clone());
        let heartbeat = heartbeat.clone();
        tokio::spawn(async move { other.beat(&heartbeat).await.expect("answered") })
    };
    steady.number += 1;
    let first = held(&steady);
    steady.number += 1;
    let second = held(&steady);
    let overtaken: HeartbeatAnswer = tokio::select! {
        answer = first => answer.expect("no panic"),
        // The order in which two connections arrive is the network's business.
        answer = second => answer.expect("no panic"),
    };
    assert_eq!(overtaken.desired, None, "a newer heartbeat ends the wait of an older one");
    steady.number += 1;
    let waiting = held(&steady);
    let cordon =
        nodes::Action::Cordon { node: node.name.clone(), reason: "a look at its fans".to_owned() };
    scheduler.provider(Action::Node(cordon)).await;
    let told = waiting.await.expect("no panic");
    let desired = told.desired.expect("the cordon is news");
    assert!(desired.cordoned);
    assert!(desired.version > steady.persisted);
    assert!(told.next_in <= Millis::from_seconds(5));
    scheduler.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_for_its_key_and_up_to_seven_days_late() {
    let scheduler = Scheduler::start("renew").await;
    let node = scheduler.node("node-1").await;
    let steady = node.introduce().await;
    let path = "/agent/v1/renew";
    renew(&node.client, path, &node.identity).await.expect("renewed in time");
    node.beat(&steady).await.expect("speaks with the new one");
    let ended = |days: u64| {
        let csr = node.identity.create_key_and_csr("node-1").expect("a request");
        let name = PeerName::Node(node.name.clone());
        let (life, hour) = (Duration::from_secs(days * 86_400), Duration::from_secs(3600));
        let issued = SystemTime::now() - life - hour;
        let pem = scheduler.authority.sign_client(&csr, &name, hour, issued).expect("signed");
        let enrolled = Enrolled {
            certificate_pem: pem,
            authority_pem: scheduler.authority.pem().to_owned(),
            valid_seconds: 3600,
        };
        let identity = IdentityDir::new(node.identity.path());
        identity.store(&enrolled).expect("kept");
        Machine::new(&scheduler, "node-1", identity)
    };
    let late = ended(6);
    assert_eq!(problem(late.beat(&steady).await), (401, "certificate_ended".to_owned()));
    renew(&late.client, path, &late.identity).await.expect("renewed late");
    Machine::new(&scheduler, "node-1", late.identity).beat(&steady).await.expect("speaks again");
    let too_late = ended(8);
    let outcome = renew(&too_late.client, path, &too_late.identity).await;
    assert_eq!(refused(outcome).code, "certificate_ended");
    scheduler.stop().await;
}

#[tokio::test]
async fn routes_come_at_once_and_then_when_they_are_newer() {
    let scheduler = Scheduler::start("routes").await;
    let doors = scheduler.join("doors", Admits::Gateways, 1, HOUR).await;
    let door = scheduler.enrol("door-1", &doors, "/gateway/v1/enroll", None).await.expect("let in");
    let path = "/gateway/v1/routes?term=0&number=0";
    let first = door.client.get_json::<Routes>(path, PATIENCE).await.expect("answered");
    let first = first.expect("the first table comes at once");
    let RoutesVersion { term, number } = first.version;
    assert!(first.keys.is_empty());
    let waiting = tokio::spawn(async move {
        let path = format!("/gateway/v1/routes?term={}&number={number}", term.0);
        door.client.get_json::<Routes>(&path, PATIENCE).await.expect("answered")
    });
    for action in organization_and_token() {
        scheduler.provider(Action::Access(action)).await;
    }
    let second = waiting.await.expect("no panic").expect("a token is a key of the table");
    assert!(second.version > first.version);
    assert_eq!(second.keys.len(), 1);
    scheduler.stop().await;
}

fn organization_and_token() -> [access::Action; 2] {
    let (id, currency) = (OrganizationId::from(PROVIDER), "USD".to_owned());
    let token = access::Action::CreateToken {
        id: "token-1".into(),
        organization: id.clone(),
        roles: [Role::Viewer].into(),
        name: "a viewer".to_owned(),
        sha256: wharfage_scheduler::secrets::sha256_hex("secret"),
    };
    [access::Action::CreateOrganization { id, currency }, token]
}

#[tokio::test]
async fn bodies_have_limits_and_errors_name_the_field() {
    let scheduler = Scheduler::start("bodies").await;
    let node = scheduler.node("node-1").await;
    let mut large = node.introduce().await;
    large.nonce = "n".repeat(70_000);
    assert_eq!(problem(node.beat(&large).await), (413, "too_large".to_owned()));
    large.nonce = "n".repeat(2 << 20);
    assert_eq!(problem(node.beat(&large).await), (413, "too_large".to_owned()));
    let path = "/agent/v1/heartbeat";
    let bodies = [
        (serde_json::json!({"protocol": 1}), "missing field `node`"),
        (serde_json::json!({"protocol": -1}), "protocol"),
        (serde_json::json!([]), "the body"),
    ];
    for (body, part) in bodies {
        let told = node.client.post_json::<_, HeartbeatAnswer>(path, &body, PATIENCE).await;
        match told {
            Err(ClientError::Refused { status: 400, problem }) => {
                assert!(problem.detail.contains(part) || part == "protocol", "{}", problem.detail);
            }
            other => panic!("{body}: expected 400, got {other:?}"),
        }
    }
    let told = node.client.post_json::<_, ()>("/agent/v1/nothing", &(), PATIENCE).await;
    assert_eq!(problem(told), (404, "no_such_path".to_owned()));
    scheduler.stop().await;
}

#[tokio::test]
async fn the_neighbouring_releases_are_understood_and_others_are_told_so() {
    let scheduler = Scheduler::start("releases").await;
    let node = scheduler.node("node-1").await;
    let mut steady = node.introduce().await;
    steady.number += 1;
    steady.protocol = PROTOCOL_VERSION + 1;
    let mut newer = serde_json::to_value(&steady).expect("JSON");
    newer["a_word_of_the_next_release"] = serde_json::json!({"any": ["thing"]});
    let path = "/agent/v1/heartbeat";
    let told = node.client.post_json::<_, HeartbeatAnswer>(path, &newer, PATIENCE).await;
    assert_eq!(Some(told.expect("answered").epoch), steady.epoch);
    steady.protocol = PROTOCOL_VERSION + 2;
    let refused = problem(node.beat(&steady).await);
    assert_eq!(refused, (400, "protocol_unsupported".to_owned()));
    scheduler.stop().await;
}

#[tokio::test]
async fn fields_of_the_next_release_are_ignored_and_counted() {
    let scheduler = Scheduler::start("unknown-fields").await;
    let node = scheduler.node("node-1").await;
    let mut steady = node.introduce().await;
    let counted = || {
        let text = scheduler.handle().render_metrics();
        let lines = text.lines().filter(|line| line.starts_with("wharfage_unknown_fields_total{"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(counted().is_empty(), "a release knows its own words: {:?}", counted());
    steady.number += 1;
    steady.readings[0].temperature_c = Some(77);
    let mut newer = serde_json::to_value(&steady).expect("JSON");
    newer["fans"] = serde_json::json!({"any": ["thing"]});
    newer["readings"][3]["fan_percent"] = serde_json::json!(40);
    newer["readings"][4]["fan_percent"] = serde_json::json!(41);
    let path = "/agent/v1/heartbeat";
    let told = node.client.post_json::<_, HeartbeatAnswer>(path, &newer, PATIENCE).await;
    assert_eq!(Some(told.expect("answered").epoch), steady.epoch);
    let heard = scheduler.telemetry.node(&node.name).expect("heard");
    assert_eq!(heard.readings[0].temperature_c, Some(77), "the rest is understood");
    assert_eq!(counted(), ["wharfage_unknown_fields_total{kind=\"heartbeat\"} 3"]);
    node.next(&mut steady).await;
    assert_eq!(counted(), ["wharfage_unknown_fields_total{kind=\"heartbeat\"} 3"]);
    scheduler.stop().await;
}
