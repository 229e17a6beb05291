//! The page: signing in, what it shows, and that nothing in it can become code.

use serde_json::json;
use wharfage_shared::health::{Gate, GateId, GateState, Health, NodeHealth};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource, SourceHeard};
use wharfage_shared::time::{Boottime, Millis};

use crate::support::{Answer, Scheduler, client, deployment, read};

async fn sign_in(scheduler: &Scheduler, token: &str) -> Answer {
    let request = client().post(format!("{}/signin", scheduler.url));
    read(form(request, token)).await
}

/// The form that the sign-in page sends.
fn form(request: reqwest::RequestBuilder, token: &str) -> reqwest::RequestBuilder {
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(format!("token={token}"))
}

async fn page(scheduler: &Scheduler, path: &str, cookie: &str) -> Answer {
    let request = client().get(format!("{}{path}", scheduler.url));
    read(request.header("cookie", cookie)).await
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.headers["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_page_is_for_those_who_have_signed_in() {
    let scheduler = Scheduler::start("page").await;
    let mut node = scheduler.node("node-1", "standard").await;
    scheduler.gateways().await;
    let mut body = deployment("chat");
    body["model"]["name"] = json!("<script>alert(1)</script>");
    scheduler.post("/api/v1/deployments", "acme-operator", &body).await.expect(201);
    node.next().await;
    node.next().await;
    let closed = scheduler.ask("GET", "/", None, None).await;
    assert_eq!(
        (closed.status, &closed.headers["location"]),
        (303, &"/signin".parse().expect("text"))
    );
    let door = scheduler.ask("GET", "/signin", None, None).await;
    assert!(door.status == 200 && door.text.contains("type=\"password\""));
    assert_eq!(sign_in(&scheduler, "nonsense").await.status, 401);
    assert_eq!(sign_in(&scheduler, "acme-billing").await.status, 401);
    let opened = sign_in(&scheduler, "acme-viewer").await;
    assert_eq!(opened.status, 303);
    let cookie = cookie(&opened);
    let whole = page(&scheduler, "/", &cookie).await;
    assert_eq!(whole.status, 200);
    let policy = whole.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for shown in ["node-1", "chat", "connected", "8 of 8 GPUs in use", "Last facts"] {
        assert!(whole.text.contains(shown), "the page does not show `{shown}`: {}", whole.text);
    }
    assert!(!whole.text.contains("<script>alert"), "a name became code");
    assert!(!whole.text.contains(" style=") && !whole.text.contains(" onclick="));
    let part = page(&scheduler, "/fragment", &cookie).await;
    assert!(part.status == 200 && !part.text.contains("<html"));
    for asset in ["/assets/dashboard.css", "/assets/dashboard.js"] {
        assert_eq!(scheduler.ask("GET", asset, None, None).await.status, 200);
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_by_signing_out_and_is_no_key_to_the_api() {
    let scheduler = Scheduler::start("session").await;
    let first = cookie(&sign_in(&scheduler, "acme-viewer").await);
    assert_eq!(page(&scheduler, "/", &first).await.status, 200);
    assert_eq!(page(&scheduler, "/api/v1/nodes", &first).await.status, 401);
    let request = client().post(format!("{}/signout", scheduler.url)).header("cookie", &first);
    assert_eq!(read(request).await.status, 303);
    assert_eq!(page(&scheduler, "/", &first).await.status, 303);
    let second = cookie(&sign_in(&scheduler, "acme-viewer").await);
    scheduler.delete("/api/v1/tokens/tok-acme-viewer", "acme-admin").await.expect(200);
    assert_eq!(page(&scheduler, "/", &second).await.status, 303);
    let request = client().post(format!("{}/signin", scheduler.url));
    let request = form(request.header("sec-fetch-site", "cross-site"), "acme-admin");
    assert_eq!(read(request).await.status, 403, "another site's form is refused");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_gate_that_is_off_is_shown_once_with_its_owners_reason() {
    let scheduler = Scheduler::start("gates").await;
    let mut node = scheduler.node("node-1", "standard").await;
    let gate = |id: u8, gpu: Option<&str>, state: GateState| Gate {
        id: GateId::new(id).expect("a gate"),
        gpu: gpu.map(GpuUuid::from),
        state,
        since: Boottime(0),
        evidence: format!("what G{id} saw"),
    };
    let off = |reason: &str| GateState::Off { reason: reason.to_owned() };
    let riser = || off("the riser of this chassis runs at 8 lanes, ticket 4711");
    let gates = vec![
        gate(16, None, off("a small disk")),
        gate(17, None, GateState::Pass),
        gate(10, Some("GPU-0"), riser()),
        gate(10, Some("GPU-1"), riser()),
        gate(12, Some("GPU-1"), GateState::Fail),
    ];
    node.judges(Health { node: NodeHealth::Fit, gates, ..Health::default() });
    node.next().await;
    let own = page(&scheduler, "/", &cookie(&sign_in(&scheduler, "provider-viewer").await)).await;
    for shown in [
        "G10 PCIe link is off: the riser of this chassis runs at 8 lanes, ticket 4711",
        "G16 disk is off: a small disk",
        "G12 declared modes fail on GPU-1: what G12 saw",
    ] {
        assert_eq!(own.text.matches(shown).count(), 1, "`{shown}`: {}", own.text);
    }
    assert!(!own.text.contains("what G17 saw"), "what is well is not listed");
    let others = page(&scheduler, "/", &cookie(&sign_in(&scheduler, "acme-viewer").await)).await;
    assert!(!others.text.contains("ticket 4711"), "a tenant sees nothing of the hardware");
    scheduler.stop().await;
}

#[tokio::test]
async fn how_a_node_hears_of_its_end_stands_on_its_card_and_in_its_row() {
    let scheduler = Scheduler::start("hearing").await;
    let mut node = scheduler.node("node-1", "spot").await;
    let heard = |question: &str, vital, ago: Option<u64>| SourceHeard {
        source: NoticeSource::Aws,
        question: question.to_owned(),
        vital,
        last_heard_ago: ago.map(Millis::from_seconds),
        trouble: None,
    };
    let likely = Notice {
        id: "aws-rebalance-1".into(),
        kind: NoticeKind::Preempt,
        source: NoticeSource::Aws,
        leaves: Leaves::Node,
        gone_at: Boottime(4_600_000),
        heard_at: Boottime(1_000_000),
        certainty: Certainty::Likely,
        can_acknowledge: false,
        can_be_withdrawn: true,
    };
    let hearing = vec![heard("spot/instance-action", true, Some(7200)), heard("asg", false, None)];
    node.hears(hearing, vec![likely]);
    node.next().await;
    let row = scheduler.get("/api/v1/nodes/node-1", "provider-viewer").await.expect(200);
    let source = &row["hearing"]["sources"][0];
    assert!(source["last_heard_seconds"].as_u64() >= Some(7200), "{row}");
    assert_eq!(row["hearing"]["sources"][1]["last_heard_seconds"], json!(null));
    assert_eq!(row["hearing"]["likely"][0]["id"], "aws-rebalance-1");
    assert_eq!(row["departure"], "none", "what is likely closes nothing: {row}");
    let own = page(&scheduler, "/", &cookie(&sign_in(&scheduler, "provider-viewer").await)).await;
    for shown in ["hears aws spot/instance-action: 72", "may leave by "] {
        assert_eq!(own.text.matches(shown).count(), 1, "`{shown}`: {}", own.text);
    }
    assert!(!own.text.contains("asg"), "what only hints is in the row");
    let others = scheduler.get("/api/v1/nodes/node-1", "acme-viewer").await.expect(200);
    assert_eq!(others["hearing"]["sources"], json!([]), "a tenant sees none of it");
    scheduler.stop().await;
}

#[tokio::test]
async fn the_page_is_told_of_changes() {
    use futures_util::StreamExt;
    let scheduler = Scheduler::start("live").await;
    let cookie = cookie(&sign_in(&scheduler, "acme-viewer").await);
    let request = client().get(format!("{}/live", scheduler.url)).header("cookie", cookie);
    let mut stream = request.send().await.expect("answered").bytes_stream();
    let first = tokio::time::timeout(crate::support::PATIENCE, stream.next()).await;
    let first = first.expect("in time").expect("told").expect("bytes");
    assert!(String::from_utf8_lossy(&first).contains("changed"), "{first:?}");
    scheduler.stop().await;
}

#[tokio::test]
async fn drills_have_a_page_of_their_own_which_only_the_owner_of_nodes_reads() {
    let scheduler = Scheduler::start("drill-page").await;
    let _node = scheduler.node("node-1", "standard").await;
    let body = json!({"name": "<b>weekly</b>", "scope": {"node": "node-1"}, "profile": "gcp-30"});
    scheduler.post("/api/v1/drills", "provider-admin", &body).await.expect(201);
    let owner = cookie(&sign_in(&scheduler, "provider-viewer").await);
    let whole = page(&scheduler, "/drills", &owner).await;
    assert_eq!(whole.status, 200);
    for shown in ["data-fragment=\"/drills/fragment\"", "&lt;b&gt;weekly", "running", "<svg"] {
        assert!(whole.text.contains(shown), "the page does not show `{shown}`: {}", whole.text);
    }
    assert!(!whole.text.contains(" style=") && !whole.text.contains("<b>weekly"));
    let part = page(&scheduler, "/drills/fragment", &owner).await;
    assert!(part.status == 200 && !part.text.contains("<html") && part.text.contains("weekly"));
    let tenant = cookie(&sign_in(&scheduler, "acme-viewer").await);
    let theirs = page(&scheduler, "/drills", &tenant).await;
    assert!(theirs.status == 200 && !theirs.text.contains("weekly"), "{}", theirs.text);
    scheduler.stop().await;
}
