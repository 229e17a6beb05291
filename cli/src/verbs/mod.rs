//! Verbs that talk to a scheduler: one file a group.

mod brakes;
mod claims;
mod events;
mod explain;
mod get;
mod invoice;
mod logs;
mod nodes;
mod usage;

use serde_json::Value;

use crate::args::{Listable, Verb};
use crate::client::Client;
use crate::exit::Failure;

/// Does what was asked for.
pub async fn run(verb: Verb) -> Result<(), Failure> {
    let client = Client::from_environment()?;
    match verb {
        Verb::Get { what, output } => get::list(&client, what, output).await,
        Verb::Describe { what, id, output } => get::describe(&client, what, &id, output).await,
        Verb::Explain { what, id, output } => explain::run(&client, what, &id, output).await,
        Verb::Cordon(verb) => nodes::act(&client, "cordon", &verb).await,
        Verb::Uncordon(verb) => nodes::act(&client, "uncordon", &verb).await,
        Verb::Drain(verb) => nodes::act(&client, "drain", &verb).await,
        Verb::Reclaim(verb) => nodes::act(&client, "reclaim", &verb).await,
        Verb::Brake(brake) => brakes::run(&client, brake).await,
        Verb::Claim(claim) => claims::run(&client, claim).await,
        Verb::Capacity { output } => get::list(&client, Listable::Capacity, output).await,
        Verb::Invoice(invoice) => invoice::run(&client, invoice).await,
        Verb::Usage { from, to, organization, output } => {
            usage::run(&client, from, to, organization, output).await
        }
        Verb::Top { output } => nodes::top(&client, output).await,
        Verb::Logs { id, output } => logs::run(&client, &id, output).await,
        Verb::Events { since, count } => events::follow(&client, since, count).await,
    }
}

/// A deployment's id, from its id or its name.
async fn deployment_id(client: &Client, id_or_name: &str) -> Result<String, Failure> {
    let answer = client.get("/api/v1/deployments").await?;
    let none = Vec::new();
    let rows = answer.get("deployments").and_then(Value::as_array).unwrap_or(&none);
    let id_of = |row: &Value| row.get("id").and_then(Value::as_str).map(str::to_owned);
    let is = |row: &&Value, key: &str| row.get(key).and_then(Value::as_str) == Some(id_or_name);
    if let Some(row) = rows.iter().find(|row| is(row, "id")) {
        return id_of(row).ok_or_else(|| Failure::check("a deployment's row has no id"));
    }
    let named: Vec<String> = rows.iter().filter(|row| is(row, "name")).filter_map(id_of).collect();
    match named.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Failure::check(format!("there is no deployment `{id_or_name}`"))),
        several => Err(Failure::check(format!(
            "{} deployments are named `{id_or_name}`; name one by its id: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// A path segment with everything but plain letters escaped.
fn escaped(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
