//! The drills of a rehearsal: begun at their time, followed to their end, given up with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::args::rehearse::Planned;
use crate::client::Client;
use crate::exit::Failure;

const PATH: &str = "/api/v1/drills";

/// How often a drill is asked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// So long after its deadline nobody waits for a drill: the scheduler closes it after ten minutes.
const PATIENCE: Duration = Duration::from_secs(660);

/// So long a node has to hear that its drill is given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(30);

/// What came of a drill.
#[derive(Clone, Debug)]
pub struct Practised {
    /// What was practised.
    pub planned: Planned,
    /// When it began, from the beginning of the rehearsal.
    pub at: Duration,
    /// How it went: the scheduler's report; else why there is none.
    pub report: Result<Value, String>,
}

impl Practised {
    /// One word.
    pub fn verdict(&self) -> &str {
        match &self.report {
            Ok(report) => report["verdict"].as_str().unwrap_or("unknown"),
            Err(_) => "not begun",
        }
    }

    /// One sentence.
    pub fn sentence(&self) -> &str {
        match &self.report {
            Ok(report) => report["sentence"].as_str().unwrap_or_default(),
            Err(because) => because,
        }
    }

    /// As the report of the rehearsal has it.
    pub fn shown(&self) -> Value {
        let report = self.report.as_ref().ok();
        json!({
            "profile": self.planned.profile,
            "window_seconds": report.map(|report| &report["drill"]["window_seconds"]),
            "at_seconds": self.at.as_secs(),
            "drill": report.map(|report| &report["drill"]["id"]),
            "verdict": self.verdict(),
            "sentence": self.sentence(),
            "nodes": report.map(|report| &report["nodes"]),
        })
    }
}

/// Begins a drill at its time on one of the deployment's nodes and follows it; nothing where its
/// time did not come.
pub async fn practise(
    client: &Client,
    deployment: &str,
    planned: Planned,
    go_on: bool,
    began: Instant,
    stop: &CancellationToken,
) -> Option<Practised> {
    let at = planned.at.unwrap_or_default();
    tokio::select! {
        () = stop.cancelled() => return None,
        () = tokio::time::sleep_until((began + at).into()) => {}
    }
    let at = began.elapsed();
    let body = body(deployment, &planned, go_on);
    let report = match client.post(PATH, &body).await {
        Ok(made) => follow(client, made["id"].as_str().unwrap_or_default(), stop).await,
        Err(refused) => Err(refused),
    };
    let report = report.map_err(|failure| failure.to_string());
    Some(Practised { planned, at, report })
}

fn body(deployment: &str, planned: &Planned, go_on: bool) -> Value {
    // One percent, rounded up, is one node.
    let mut body = json!({
        "name": "rehearsal",
        "scope": {"deployment": deployment, "percent": 1},
        "profile": planned.profile,
    });
    if let Some(window) = planned.window_seconds {
        body["window_seconds"] = json!(window);
    }
    if go_on {
        body["abort"] = json!({"below_min_ready": false});
    }
    body
}

/// Gives it up and waits for its node to hear so.
async fn give_up(client: &Client, one: &str) -> Result<Value, Failure> {
    // Where it is over in this very moment there is nothing to give up.
    let _ = client.delete(one).await;
    let asked = Instant::now();
    loop {
        let report = client.get(&format!("{one}/report")).await?;
        if report["verdict"] != "running" || asked.elapsed() > GIVEN_UP_WITHIN {
            return Ok(report);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits for its end; when the rehearsal is stopped it is given up.
async fn follow(client: &Client, id: &str, stop: &CancellationToken) -> Result<Value, Failure> {
    let (one, asked) = (format!("{PATH}/{id}"), Instant::now());
    loop {
        let report = client.get(&format!("{one}/report")).await?;
        let window = report["drill"]["window_seconds"].as_u64().unwrap_or_default();
        let is_late = asked.elapsed() > PATIENCE + Duration::from_secs(window);
        if report["verdict"] != "running" || is_late {
            return Ok(report);
        }
        if stop.is_cancelled() {
            return give_up(client, &one).await;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
