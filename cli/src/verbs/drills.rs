//! `wharfage drill`: practise a notice, watch it, read how it went.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{deployment_id, escaped};
use crate::args::Output;
use crate::args::drill::{Drill, DrillRun, Pattern, ReportFormat};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column, cell};

const PATH: &str = "/api/v1/drills";

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("SCOPE", "/scope"),
    ("PROFILE", "/profile"),
    ("CREATED", "/created_at"),
    ("NODES", "#/nodes"),
    ("VERDICT", "/verdict"),
];

/// How often a drill is asked for while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Does what was asked for.
pub async fn run(client: &Client, drill: Drill) -> Result<(), Failure> {
    match drill {
        Drill::Run(run) => begin(client, *run).await,
        Drill::List { output } => output::rows(&client.get(PATH).await?, "drills", COLUMNS, output),
        Drill::Schedule(asked) => {
            let mut body = body(client, &asked.pattern).await?;
            body["schedule"] = json!({"cron": asked.cron, "time_zone": asked.time_zone});
            output::described(&client.post(PATH, &body).await?, asked.output)
        }
        Drill::Show { id, format: Some(format), .. } => {
            let word = match format {
                ReportFormat::Json => "json",
                ReportFormat::Junit => "junit",
                ReportFormat::Html => "html",
            };
            let answer = client.stream(&format!("{}/report?format={word}", path_of(&id))).await?;
            let text = answer
                .text()
                .await
                .map_err(|error| Failure::unavailable(format!("the answer broke off: {error}")))?;
            println!("{text}");
            Ok(())
        }
        Drill::Show { id, output, .. } => show(client, &id, output).await,
        Drill::Abort { id, output } => {
            output::described(&client.delete(&path_of(&id)).await?, output)
        }
    }
}

/// The report of a drill; a schedule has none and is shown itself.
async fn show(client: &Client, id: &str, output: Output) -> Result<(), Failure> {
    let row = client.get(&path_of(id)).await?;
    if row.get("schedule").is_some() {
        return output::described(&row, output);
    }
    output::described(&client.get(&format!("{}/report", path_of(id))).await?, output)
}

fn path_of(id: &str) -> String {
    format!("{PATH}/{}", escaped(id))
}

async fn begin(client: &Client, run: DrillRun) -> Result<(), Failure> {
    let body = body(client, &run.pattern).await?;
    if run.dry_run {
        let answer = client.post(&format!("{PATH}?dryRun=true"), &body).await?;
        return output::described(&answer, run.output);
    }
    let made = client.post(PATH, &body).await?;
    if !run.wait {
        return output::described(&made, run.output);
    }
    let id = made["id"].as_str().unwrap_or_default();
    let report = follow(client, id).await?;
    match report["verdict"].as_str() {
        Some("passed") => Ok(()),
        _ => Err(Failure::check(cell(report.get("sentence")))),
    }
}

/// Prints each new line of the timeline until the drill is over; answers the report.
async fn follow(client: &Client, id: &str) -> Result<Value, Failure> {
    println!("drill {id}");
    let mut printed: Vec<String> = Vec::new();
    loop {
        let report = client.get(&format!("{}/report", path_of(id))).await?;
        let is_over = report["verdict"] != "running";
        for node in report["nodes"].as_array().into_iter().flatten() {
            for moment in node["timeline"].as_array().into_iter().flatten() {
                let what = moment.get("what");
                // The deadline is known from the beginning; it is told when all is told.
                if !is_over && what.is_some_and(|what| what == "deadline") {
                    continue;
                }
                let line = [moment.get("at"), node.get("node"), what].map(cell).join("  ");
                if !printed.contains(&line) {
                    println!("{line}");
                    printed.push(line);
                }
            }
        }
        if is_over {
            println!("{}: {}", cell(report.get("verdict")), cell(report.get("sentence")));
            return Ok(report);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn body(client: &Client, run: &Pattern) -> Result<Value, Failure> {
    let mut scope = Map::new();
    let deployment = match &run.deployment {
        Some(named) => Some(deployment_id(client, named).await?),
        None => None,
    };
    put(&mut scope, "node", run.node.clone());
    put(&mut scope, "pool", run.pool.clone());
    put(&mut scope, "deployment", deployment);
    put(&mut scope, "percent", run.percent);
    let mut targets = Map::new();
    put(&mut targets, "first_action_seconds", run.first_action);
    put(&mut targets, "checkpoints_percent", run.checkpoints);
    put(&mut targets, "window_used_percent", run.window_used);
    put(&mut targets, "requests_cut", run.requests_cut);
    put(&mut targets, "capacity_back_seconds", run.capacity_back);
    let mut abort = Map::new();
    put(&mut abort, "fewer_than_ready", run.fewer_than);
    put(&mut abort, "more_requests_cut_than", run.more_cut_than);
    put(&mut abort, "below_min_ready", run.go_on.then_some(false));
    let mut body = Map::new();
    put(&mut body, "name", run.name.clone());
    put(&mut body, "profile", Some(run.profile.clone()));
    put(&mut body, "window_seconds", run.window);
    put(&mut body, "scope", Some(scope));
    put(&mut body, "targets", Some(targets));
    put(&mut body, "abort", Some(abort));
    let budget = json!({"nodes_at_once": run.at_once, "within_hours": run.within_hours});
    put(&mut body, "budget", Some(budget));
    Ok(Value::Object(body))
}

fn put(into: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        into.insert(key.to_owned(), value.into());
    }
}
