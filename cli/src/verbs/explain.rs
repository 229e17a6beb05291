//! `wharfage explain`: candidate by candidate, the first rule that fails or the terms of the rank.

use serde_json::Value;

use super::{deployment_id, escaped};
use crate::args::{Explainable, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const CANDIDATES: &[Column] = &[
    ("NODE", "/node"),
    ("ZONE", "/zone"),
    ("CLASS", "/compute_class"),
    ("FREE", "/free"),
    ("VERDICT", "/sentence"),
];

const GROUPS: &[Column] = &[("NODES", "/nodes"), ("NO OPTION BECAUSE", "/because")];

/// Asks and prints.
pub async fn run(client: &Client, what: Explainable, id: &str, how: Output) -> Result<(), Failure> {
    let path = match what {
        Explainable::Replica => format!("/api/v1/replicas/{}/explain", escaped(id)),
        Explainable::Deployment => {
            let id = deployment_id(client, id).await?;
            format!("/api/v1/deployments/{}/explain", escaped(&id))
        }
    };
    let answer = client.get(&path).await?;
    if how == Output::Json {
        return output::json(&answer);
    }
    print_explanation(&answer);
    let none = Vec::new();
    for replica in answer.get("replicas").and_then(Value::as_array).unwrap_or(&none) {
        print_explanation(replica);
    }
    Ok(())
}

fn print_explanation(explanation: &Value) {
    for key in ["summary", "because"] {
        if let Some(sentence) = explanation.get(key).and_then(Value::as_str) {
            let whose = explanation.get("replica").and_then(Value::as_str).unwrap_or_default();
            println!("{whose}{}{sentence}", if whose.is_empty() { "" } else { ": " });
            break;
        }
    }
    if let Some(Value::Array(groups)) = explanation.get("groups")
        && groups.len() > 1
    {
        println!("{}", output::table(groups, GROUPS));
    }
    if let Some(Value::Array(candidates)) = explanation.get("candidates") {
        println!("{}", output::table(candidates, CANDIDATES));
    }
}
