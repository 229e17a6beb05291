//! What an operator does to nodes, and what their GPUs do.

use serde_json::{Value, json};

use super::escaped;
use crate::args::{NodeVerb, Output};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Column};

const GPUS: &[Column] = &[
    ("NODE", "/node"),
    ("GPU", "/uuid"),
    ("NAME", "/name"),
    ("USED MIB", "/memory_used_mib"),
    ("OF MIB", "/memory_mib"),
    ("UTIL %", "/utilization"),
    ("REPLICA", "/replica"),
];

/// `wharfage cordon|uncordon|drain|reclaim NODE`.
pub async fn act(client: &Client, verb: &str, on: &NodeVerb) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{}/{verb}", escaped(&on.node));
    let answer = client.post(&path, &json!({ "reason": on.reason })).await?;
    match on.output {
        Output::Json => output::json(&answer),
        Output::Table => {
            println!("{verb}: {} accepted; `wharfage describe node {}` shows it", on.node, on.node);
            Ok(())
        }
    }
}

/// `wharfage top`.
pub async fn top(client: &Client, how: Output) -> Result<(), Failure> {
    let answer = client.get("/api/v1/nodes").await?;
    if how == Output::Json {
        return output::json(&answer);
    }
    let none = Vec::new();
    let mut rows = Vec::new();
    for node in answer.get("nodes").and_then(Value::as_array).unwrap_or(&none) {
        for gpu in node.get("gpus").and_then(Value::as_array).unwrap_or(&none) {
            let mut row = gpu.clone();
            if let (Value::Object(row), Some(id)) = (&mut row, node.get("id")) {
                row.insert("node".to_owned(), id.clone());
            }
            rows.push(row);
        }
    }
    println!("{}", output::table(&rows, GPUS));
    Ok(())
}
