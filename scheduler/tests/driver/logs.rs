//! What replicas print, from the agent's socket to the reader's: whose it is, how much is kept, and
//! that a replica's last words outlive it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wharfage_link::{Limits, serve};
use wharfage_scheduler::config::Config;
use wharfage_scheduler::http::{Machines, State, router};
use wharfage_scheduler::secrets::sha256_hex;
use wharfage_scheduler::telemetry::{LINE_BYTES, LINES_KEPT};
use wharfage_scheduler_core::words::command::{Action, access};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::logs::LogLines;
use wharfage_shared::replica::{Ended, Gone};

use crate::machine::{Machine, PATIENCE, Scheduler, boottime};
use crate::node;

/// The public listener beside the one for machines.
struct Public {
    url: String,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Public {
    async fn start(scheduler: &Scheduler) -> Self {
        let file = scheduler.folder.0.join("scheduler.toml");
        let text = format!("state_dir = {:?}\n", scheduler.folder.0.display().to_string());
        std::fs::write(&file, text).expect("written");
        let stop = CancellationToken::new();
        let state = State {
            handle: scheduler.handle().clone(),
            telemetry: scheduler.telemetry.clone(),
            config: Arc::new(Config::read(&file).expect("a good configuration")),
            machines: Machines { address: scheduler.address.clone(), authority: "0".repeat(64) },
            shutdown: stop.clone(),
        };
        let router = router(state).expect("a router");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let serving = tokio::spawn(serve(listener, router, None, Limits::default(), stop.clone()));
        Self { url, stop, serving }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = reqwest::Client::new().get(format!("{}{path}", self.url));
        let answer = request.bearer_auth("acme-viewer").timeout(PATIENCE).send().await;
        let answer = answer.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.expect("no panic");
    }
}

/// Hands in lines as an agent does; the status of a refusal.
async fn say(machine: &Machine, replica: ReplicaId, lines: Vec<String>) -> Result<(), u16> {
    let told = LogLines { replica, lines };
    let path = "/agent/v1/logs";
    match machine.client.post_json::<_, ()>(path, &told, PATIENCE).await {
        Ok(()) => Ok(()),
        Err(wharfage_link::ClientError::Refused { status, .. }) => Err(status),
        Err(other) => panic!("expected an answer, got {other}"),
    }
}

async fn viewer(scheduler: &Scheduler) {
    let token = access::Action::CreateToken {
        id: "tok-viewer".into(),
        organization: "acme".into(),
        roles: [Role::Viewer].into(),
        name: "viewer".to_owned(),
        sha256: sha256_hex("acme-viewer"),
    };
    scheduler.provider(Action::Access(token)).await;
}

/// Its engine ended by itself.
async fn crash(machine: &Machine, beat: &mut Heartbeat) {
    let gone = beat.replicas.drain(..).map(|report| Gone {
        replica: report.replica,
        ended: Ended::Exited { code: 3 },
        processes_gone_at: boottime(),
        memory_back_at: boottime(),
        memory: Vec::new(),
    });
    beat.gone = gone.collect();
    machine.next(beat).await;
}

#[tokio::test]
async fn what_a_replica_prints_is_read_by_its_owner_until_after_its_end() {
    let scheduler = Scheduler::start("logs").await;
    let public = Public::start(&scheduler).await;
    node::tenant(&scheduler).await;
    viewer(&scheduler).await;
    let (one, two) = (scheduler.node("node-1").await, scheduler.node("node-2").await);
    let mut beat = node::introduce(&one).await;
    scheduler.provider(node::deployment("d-1", 1)).await;
    node::settle(&one, &mut beat).await;
    let replica = beat.replicas[0].replica;
    let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let of_deployment = "/api/v1/deployments/d-1/logs";
    let empty = json!({"deployment": "d-1", "logs": [{"replica": replica, "lines": []}]});
    assert_eq!(public.get(of_deployment).await, (200, empty.clone()));

    assert_eq!(say(&two, replica, lines(&["a lie"])).await, Err(403), "not on its node");
    assert_eq!(say(&one, ReplicaId(77), lines(&["a ghost"])).await, Err(403), "no such replica");
    assert_eq!(public.get(of_deployment).await, (200, empty));

    assert_eq!(say(&one, replica, lines(&["loading", "<b>\u{1b}[31mready"])).await, Ok(()));
    crash(&one, &mut beat).await;
    assert_eq!(say(&one, replica, lines(&["no weights"])).await, Ok(()), "last words come late");
    let said = json!(["loading", "<b>\u{1b}[31mready", "no weights"]);
    let (status, told) = public.get(&format!("/api/v1/replicas/{replica}/logs")).await;
    assert_eq!((status, &told["lines"]), (200, &said));
    let (_, told) = public.get(of_deployment).await;
    let rows = told["logs"].as_array().expect("replica by replica");
    let row = rows.iter().find(|row| row["replica"] == json!(replica));
    assert_eq!(row.map(|row| &row["lines"]), Some(&said), "{told}");
    public.end().await;
    scheduler.stop().await;
}

#[tokio::test]
async fn of_many_replicas_that_failed_the_newest_are_shown() {
    let scheduler = Scheduler::start("many-ended").await;
    let public = Public::start(&scheduler).await;
    node::tenant(&scheduler).await;
    viewer(&scheduler).await;
    let machine = scheduler.node("node-1").await;
    let mut beat = node::introduce(&machine).await;
    scheduler.provider(node::deployment("d-1", 1)).await;
    let mut seen = Vec::new();
    for round in 0..8 {
        node::settle(&machine, &mut beat).await;
        let replica = beat.replicas[0].replica;
        assert_eq!(say(&machine, replica, vec![format!("failure {round}")]).await, Ok(()));
        seen.push(replica);
        // An operator ends it; a crash would be tried again later and later.
        scheduler.provider(node::terminate(replica)).await;
        crash(&machine, &mut beat).await;
    }
    node::settle(&machine, &mut beat).await;
    let (_, told) = public.get("/api/v1/deployments/d-1/logs").await;
    let rows = told["logs"].as_array().expect("replica by replica");
    let shown: Vec<_> = rows.iter().filter(|row| row["lines"] != json!([])).collect();
    let last: Vec<_> = shown.iter().map(|row| row["lines"][0].as_str()).collect();
    let newest = [3, 4, 5, 6, 7].map(|round| Some(format!("failure {round}")));
    assert_eq!(last, newest.each_ref().map(|line| line.as_deref()), "{told}");
    public.end().await;
    scheduler.stop().await;
}

#[tokio::test]
async fn the_end_of_much_output_is_kept_and_a_long_line_is_cut() {
    let scheduler = Scheduler::start("much").await;
    node::tenant(&scheduler).await;
    let machine = scheduler.node("node-1").await;
    let mut beat = node::introduce(&machine).await;
    scheduler.provider(node::deployment("d-1", 1)).await;
    node::settle(&machine, &mut beat).await;
    let replica = beat.replicas[0].replica;
    let many = (0..LINES_KEPT + 10).map(|number| format!("line {number}")).collect();
    assert_eq!(say(&machine, replica, many).await, Ok(()));
    assert_eq!(say(&machine, replica, vec!["ü".repeat(LINE_BYTES)]).await, Ok(()));
    let kept = scheduler.telemetry.lines(replica);
    assert_eq!(kept.len(), LINES_KEPT);
    assert_eq!(&*kept[0], "line 11");
    assert_eq!(kept.last().map(|line| line.len()), Some(LINE_BYTES));
    let flood = vec!["x".repeat(300 << 10)];
    assert_eq!(say(&machine, replica, flood).await, Err(413));
    scheduler.stop().await;
}
