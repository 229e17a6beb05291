//! `wharfage logs`: the end of what replicas printed.

use serde_json::Value;
use wharfage_shared::ids::ReplicaId;

use super::{deployment_id, escaped};
use crate::args::Output;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Prints a replica's lines, or those of a deployment's replicas with their names before them.
pub async fn run(client: &Client, id: &str, how: Output) -> Result<(), Failure> {
    let is_replica = id.parse::<ReplicaId>().is_ok();
    let path = if is_replica {
        format!("/api/v1/replicas/{}/logs", escaped(id))
    } else {
        format!("/api/v1/deployments/{}/logs", escaped(&deployment_id(client, id).await?))
    };
    let answer = client.get(&path).await?;
    if how == Output::Json {
        return output::json(&answer);
    }
    if is_replica {
        print(&answer, "");
    }
    for replica in answer.get("logs").and_then(Value::as_array).into_iter().flatten() {
        let name = output::cell(replica.get("replica"));
        print(replica, &format!("{name} | "));
    }
    Ok(())
}

fn print(of: &Value, before: &str) {
    for line in of.get("lines").and_then(Value::as_array).into_iter().flatten() {
        println!("{before}{}", output::printable(line.as_str().unwrap_or_default()));
    }
}
