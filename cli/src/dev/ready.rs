//! When an installation is up: seen, not assumed.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::exit::Failure;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `seen` gives something, or says after `within` what did not come.
pub async fn until<T, F, W>(what: &str, within: Duration, mut seen: F) -> Result<T, Failure>
where
    F: FnMut() -> W,
    W: Future<Output = Result<Option<T>, Failure>>,
{
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        match seen().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(failure) => last = Some(failure),
        }
        if Instant::now() > deadline {
            let seconds = within.as_secs();
            let why = last.map_or(String::new(), |failure| format!(" ({failure})"));
            return Err(Failure::check(format!("{what}: not seen within {seconds} s{why}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Every node of these is connected, fit and has reported readings of all its GPUs.
pub async fn nodes(admin: &Client, ids: &[String]) -> Result<Option<Vec<Value>>, Failure> {
    let answer = admin.get("/api/v1/nodes").await?;
    let none = Vec::new();
    let rows = answer.get("nodes").and_then(Value::as_array).unwrap_or(&none);
    let is =
        |row: &Value, key: &str, word: &str| row.get(key).and_then(Value::as_str) == Some(word);
    let has_readings = |row: &Value| {
        row.get("gpus").and_then(Value::as_array).is_some_and(|gpus| {
            gpus.iter().all(|gpu| gpu.get("memory_used_mib").is_some_and(Value::is_number))
        })
    };
    let up: Vec<Value> = rows
        .iter()
        .filter(|row| ids.iter().any(|id| is(row, "id", id)))
        .filter(|row| is(row, "reach", "connected") && is(row, "health", "fit"))
        .filter(|row| has_readings(row))
        .cloned()
        .collect();
    Ok((up.len() == ids.len()).then_some(up))
}

/// The gateway resource is STATUS_READY.
pub async fn gateway(tenant: &Client, id: &str) -> Result<Option<()>, Failure> {
    let answer = tenant.get(&format!("/v1alpha1/inference/gateways/{id}")).await?;
    let status = answer.pointer("/gateway/status/status").and_then(Value::as_str);
    Ok((status == Some("STATUS_READY")).then_some(()))
}

/// A listener answers 200 on this path.
pub async fn answers(http: &reqwest::Client, url: &str) -> Result<Option<()>, Failure> {
    let answer = http.get(url).timeout(Duration::from_secs(2)).send().await;
    Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
}
