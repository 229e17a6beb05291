//! Verbs that talk to a scheduler: one file a group.

mod brakes;
mod claims;
mod drills;
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
        Verb::Drill(drill) => drills::run(&client, drill).await,
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
pub async fn deployment_id(client: &Client, id_or_name: &str) -> Result<String, Failure> {
    let answer = client.get("/api/v1/deployments").await?;
    one_of(&answer["deployments"], "", "deployment", id_or_name)
}

/// The id of the row that has this id, else of the only one that has this name; `at` points to
/// where a row keeps both.
fn one_of(rows: &Value, at: &str, what: &str, id_or_name: &str) -> Result<String, Failure> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |row: &Value, key: &str| {
        row.pointer(&format!("{at}/{key}")).and_then(Value::as_str).map(str::to_owned)
    };
    let has = |row: &&Value, key: &str| text(row, key).as_deref() == Some(id_or_name);
    if rows.iter().any(|row| has(&row, "id")) {
        return Ok(id_or_name.to_owned());
    }
    let named = rows.iter().filter(|row| has(row, "name"));
    let named: Vec<String> = named.filter_map(|row| text(row, "id")).collect();
    match named.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Failure::check(format!("there is no {what} `{id_or_name}`"))),
        several => Err(Failure::check(format!(
            "{} {what}s are named `{id_or_name}`; name one by its id: {}",
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::one_of;

    #[test]
    fn a_thing_is_found_by_its_id_then_by_a_name_that_only_it_has() {
        let rows = json!([
            {"spec": {"id": "a", "name": "b"}},
            {"spec": {"id": "b", "name": "c"}},
            {"spec": {"id": "d", "name": "twin"}},
            {"spec": {"id": "e", "name": "twin"}},
        ]);
        let find = |text: &str| {
            one_of(&rows, "/spec", "claim", text).map_err(|failure| failure.to_string())
        };
        assert_eq!(find("b"), Ok("b".to_owned()), "an id goes before a name");
        assert_eq!(find("c"), Ok("b".to_owned()));
        assert_eq!(find("x"), Err("there is no claim `x`".to_owned()));
        let twins = "2 claims are named `twin`; name one by its id: d, e";
        assert_eq!(find("twin"), Err(twins.to_owned()));
    }
}
