//! `wharfage rehearse`: recorded traffic against the real replicas of a deployment, with drills in
//! it, and what came of it: latency, lost requests, scaling, interruptions, cost on each plan.
//!
//! What is kept does not grow with the recording, and whoever stops it gets what was measured until
//! then.

mod cost;
mod load;
mod page;
mod practise;
mod report;
mod send;
mod tally;
mod watch;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::practise::{Practised, practise};
use self::report::Report;
use self::send::{Door, Pace};
use self::tally::Tally;
use self::watch::Seen;
use crate::args::Output;
use crate::args::rehearse::{Planned, RehearseArgs};
use crate::client::Client;
use crate::exit::Failure;
use crate::output;
use crate::verbs::deployment_id;

/// So long answers are waited for after the last request was sent.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is said how far it is, to a person and to a file.
const SAY_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// What is rehearsed with.
struct Stage {
    client: Client,
    id: String,
    row: Value,
    began: Instant,
    tally: Arc<Mutex<Tally>>,
    seen: Mutex<Seen>,
}

/// Rehearses and reports.
pub async fn run(args: &RehearseArgs) -> Result<(), Failure> {
    let extent = load::check(&args.load)?;
    let client = Client::from_environment()?;
    let id = deployment_id(&client, &args.deployment).await?;
    let row = client.get(&format!("/api/v1/deployments/{id}")).await?;
    let serves = row["ready"].as_u64().unwrap_or_default() > 0;
    if !serves && row["desired"].as_u64().unwrap_or_default() > 0 {
        let text = format!("{} has no ready replica: wait until it serves", args.deployment);
        return Err(Failure::unavailable(text));
    }
    let door = door(args, &client, &row).await?;
    let whole = Duration::try_from_secs_f64(extent.seconds / args.speed).unwrap_or(Duration::MAX);
    let length = args.length.map_or(whole, |length| length.min(whole));
    let drills = timed(&args.drills, length);
    if let Some(late) = drills.iter().find(|planned| planned.at > Some(length)) {
        let at = late.at.unwrap_or_default().as_secs_f64();
        let text = format!(
            "drill {} begins after {at} s, the last request comes after {:.1} s",
            late.profile,
            length.as_secs_f64()
        );
        return Err(Failure::usage(text));
    }
    let stage = Stage {
        client,
        id,
        row,
        began: Instant::now(),
        tally: Arc::new(Mutex::new(Tally::new(length))),
        seen: Mutex::new(Seen::default()),
    };
    let began_at = jiff::Timestamp::now();
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let recording = load::Recording::open(&args.load)?;
    let pace = Pace { began: stage.began, speed: args.speed, length, at_once: args.concurrency };
    let acts = async {
        let drilled = drills.into_iter().map(|planned| {
            practise(&stage.client, &stage.id, planned, args.go_on, stage.began, &stop)
        });
        let played = send::play(Arc::new(door), recording, &pace, &stage.tally, &stop, PATIENCE);
        let came = tokio::join!(played, join_all(drilled));
        over.cancel();
        came
    };
    let ((played, drilled), (), (), ()) = tokio::join!(
        acts,
        watch::watch(&stage.client, &stage.id, stage.began, &stage.seen, &over),
        say(&stage, length, &over),
        stopped(&stop, &over),
    );
    played?;
    let drilled: Vec<Practised> = drilled.into_iter().flatten().collect();
    let told = Told { began_at, requests: extent.requests, interrupted: stop.is_cancelled() };
    finish(args, &stage, &told, &drilled).await
}

/// What the report says besides what was measured.
struct Told {
    began_at: jiff::Timestamp,
    requests: u64,
    interrupted: bool,
}

async fn finish(
    args: &RehearseArgs,
    stage: &Stage,
    told: &Told,
    drilled: &[Practised],
) -> Result<(), Failure> {
    let length = stage.began.elapsed();
    let tally = send::of(&stage.tally).clone();
    let seen = watch::lock(&stage.seen).clone();
    let text = |pointer: &str| stage.row.pointer(pointer).and_then(Value::as_str);
    let held = cost::Held {
        nodes: seen.nodes.clone(),
        most: seen.most_nodes,
        length_ms: length.as_millis(),
        completed: tally.completed,
    };
    let organization = text("/organization").unwrap_or_default();
    let sku = text("/spec/resources/instanceType").unwrap_or_default();
    let known = cost::Known::of(&stage.client).await;
    let now = told.began_at.to_string();
    let report = Report(json!({
        "deployment": {
            "id": stage.id,
            "name": text("/name"),
            "model": text("/model"),
            "organization": organization,
            "sku": sku,
        },
        "load": {
            "file": args.load.display().to_string(),
            "requests": told.requests,
            "speed": args.speed,
        },
        "began_at": now,
        "seconds": (length.as_secs_f64() * 10.0).round() / 10.0,
        "interrupted": told.interrupted,
        "requests": tally.requests(),
        "latency_ms": tally.latency(),
        "scaling": seen.shown(),
        "interruptions": drilled.iter().map(Practised::shown).collect::<Vec<_>>(),
        "cost": cost::plans(&known, organization, sku, &held, &now),
    }));
    let report = report.judged();
    if let Some(path) = &args.html {
        let drawn = page::Drawn { tally: &tally, seen: &seen, drills: drilled, length };
        std::fs::write(path, page::page(&report, &drawn)).map_err(|error| {
            Failure::check(format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    match args.output {
        Output::Json => output::json(&report.0)?,
        Output::Table => println!("{}", report.text()),
    }
    let (met, sentence) = report.verdict();
    if met { Ok(()) } else { Err(Failure::check(sentence)) }
}

/// Where requests go: the gateway that was named, else one that the scheduler knows.
async fn door(args: &RehearseArgs, client: &Client, row: &Value) -> Result<Door, Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = args.gateway.clone().or_else(|| set("WHARFAGE_GATEWAY_URL"));
    let url = match named {
        Some(url) => url,
        None => known(client).await?,
    };
    let token = set("WHARFAGE_GATEWAY_TOKEN").unwrap_or_else(|| client.token().to_owned());
    let model = row["model"].as_str().unwrap_or_default();
    Door::new(&url, token, model.to_owned())
}

async fn known(client: &Client) -> Result<String, Failure> {
    let answer = client.get("/v1alpha1/inference/gateways").await?;
    let mut found = answer["gateways"].as_array().into_iter().flatten();
    let endpoint = found.find_map(|row| row.pointer("/status/endpoints/0")?.as_str());
    endpoint.map(str::to_owned).ok_or_else(|| {
        Failure::unavailable(
            "the scheduler knows no gateway that is up: name it with --gateway or \
             WHARFAGE_GATEWAY_URL",
        )
    })
}

/// Drills without a time divide the rehearsal evenly.
fn timed(drills: &[Planned], length: Duration) -> Vec<Planned> {
    let open = drills.iter().filter(|planned| planned.at.is_none()).count();
    let parts = u32::try_from(open).unwrap_or(u32::MAX).saturating_add(1);
    let mut number = 0;
    let timed = drills.iter().cloned().map(|mut planned| {
        if planned.at.is_none() {
            number += 1;
            planned.at = Some(length.saturating_mul(number) / parts);
        }
        planned
    });
    timed.collect()
}

/// Ends the rehearsal when somebody asks for it.
async fn stopped(stop: &CancellationToken, over: &CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return over.cancelled().await };
    tokio::select! {
        () = over.cancelled() => {}
        _ = tokio::signal::ctrl_c() => stop.cancel(),
        _ = terminated.recv() => stop.cancel(),
    }
}

/// Says how far it is, on standard error.
async fn say(stage: &Stage, length: Duration, over: &CancellationToken) {
    let for_people = std::io::stderr().is_terminal();
    let pause = SAY_AGAIN[usize::from(!for_people)];
    while !over.is_cancelled() {
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(pause) => {
                let line = progress(stage, length);
                if for_people { eprint!("\r\x1b[2K{line}") } else { eprintln!("{line}") }
            }
        }
    }
    if for_people {
        eprint!("\r\x1b[2K");
    }
}

fn progress(stage: &Stage, length: Duration) -> String {
    let passed = stage.began.elapsed().as_secs();
    let replicas = watch::lock(&stage.seen).now();
    let tally = send::of(&stage.tally);
    format!(
        "{passed} of {} s: {} sent, {} completed, {} failed, {} cut, {} under way; {} of {} \
         replicas ready",
        length.as_secs().max(passed),
        tally.sent,
        tally.completed,
        tally.failed(),
        tally.cut,
        tally.open(),
        replicas.ready,
        replicas.desired,
    )
}

#[cfg(test)]
mod tests {
    use super::{Duration, Planned, timed};

    #[test]
    fn drills_without_a_time_divide_the_rehearsal() {
        let seconds = Duration::from_secs;
        let planned = |at: Option<u64>| Planned {
            profile: "gcp-30".to_owned(),
            window_seconds: None,
            at: at.map(seconds),
        };
        let at = |drills: &[Planned]| -> Vec<u64> {
            let timed = timed(drills, seconds(90)).into_iter();
            timed.map(|planned| planned.at.map_or(0, |at| at.as_secs())).collect()
        };
        assert_eq!(at(&[planned(None)]), [45]);
        assert_eq!(at(&[planned(None), planned(Some(7)), planned(None)]), [30, 7, 60]);
    }
}
