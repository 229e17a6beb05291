//! What becomes of the deployment meanwhile: its replicas over time, and how long it held which
//! node.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::exit::Failure;

/// How often the scheduler is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Most changes that are kept: a deployment that changes every second for an hour.
const MOST_CHANGES: usize = 3_600;

/// How many replicas there are at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Wanted.
    pub desired: u64,
    /// On a node.
    pub placed: u64,
    /// Ready.
    pub ready: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each change, with when it was seen.
    pub changes: Vec<(Duration, Replicas)>,
    /// How long the deployment held each node, in milliseconds.
    pub nodes: BTreeMap<String, u128>,
    /// The most nodes at a time.
    pub most_nodes: u64,
    /// Looks that got no answer.
    pub missed: u64,
    last: Option<(Instant, Vec<String>)>,
}

impl Seen {
    /// Takes in what is seen now.
    fn look(&mut self, began: Instant, now: Instant, replicas: Replicas, nodes: Vec<String>) {
        self.hold(now);
        self.most_nodes = self.most_nodes.max(nodes.len() as u64);
        self.last = Some((now, nodes));
        let is_new = self.changes.last().is_none_or(|(_, last)| *last != replicas);
        if is_new && self.changes.len() < MOST_CHANGES {
            self.changes.push((now.duration_since(began), replicas));
        }
    }

    /// What was held at the last look was held until now.
    pub fn hold(&mut self, now: Instant) {
        let Some((since, nodes)) = &mut self.last else { return };
        let passed = now.duration_since(*since).as_millis();
        for node in nodes.iter() {
            *self.nodes.entry(node.clone()).or_default() += passed;
        }
        *since = now;
    }

    /// Replicas as they are now.
    pub fn now(&self) -> Replicas {
        self.changes.last().map(|(_, replicas)| *replicas).unwrap_or_default()
    }

    /// Replicas over time.
    pub fn shown(&self) -> Value {
        let changes = self.changes.iter().map(|(at, replicas)| {
            json!({
                "t_seconds": (at.as_secs_f64() * 10.0).round() / 10.0,
                "desired": replicas.desired,
                "placed": replicas.placed,
                "ready": replicas.ready,
            })
        });
        let ready = || self.changes.iter().map(|(_, replicas)| replicas.ready);
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "least_ready": ready().min(),
            "most_ready": ready().max(),
            "most_nodes": self.most_nodes,
            "looks_without_an_answer": self.missed,
        })
    }
}

/// Looks every second until it is stopped.
pub async fn watch(
    client: &Client,
    deployment: &str,
    began: Instant,
    seen: &Mutex<Seen>,
    over: &CancellationToken,
) {
    while !over.is_cancelled() {
        let looked = look(client, deployment).await;
        {
            let mut seen = lock(seen);
            match looked {
                Ok((replicas, nodes)) => seen.look(began, Instant::now(), replicas, nodes),
                Err(_) => seen.missed += 1,
            }
        }
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    lock(seen).hold(Instant::now());
}

/// What was seen; whoever panicked while it was locked has left it whole.
pub fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn look(client: &Client, deployment: &str) -> Result<(Replicas, Vec<String>), Failure> {
    let row = client.get(&format!("/api/v1/deployments/{deployment}")).await?;
    let answer = client.get("/api/v1/replicas").await?;
    let rows = answer["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(counted(deployment, row["desired"].as_u64().unwrap_or_default(), rows))
}

fn counted(deployment: &str, desired: u64, rows: &[Value]) -> (Replicas, Vec<String>) {
    let mut replicas = Replicas { desired, ..Replicas::default() };
    let mut nodes: Vec<String> = Vec::new();
    let of = |row: &&Value| row["deployment"] == deployment && row["phase"] != "stopped";
    for row in rows.iter().filter(of) {
        let members = row["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let on = members.iter().chain([row]).filter_map(|at| at["node"].as_str());
        let before = nodes.len();
        nodes.extend(on.map(str::to_owned));
        replicas.placed += u64::from(nodes.len() > before);
        replicas.ready += u64::from(row["phase"] == "ready");
    }
    nodes.sort();
    nodes.dedup();
    (replicas, nodes)
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, Replicas, Seen, counted};
    use serde_json::json;

    #[test]
    fn replicas_are_counted_by_what_they_hold_and_nodes_once() {
        let row = |of: &str, node: Option<&str>, phase: &str| json!({"deployment": of, "node": node, "phase": phase});
        let rows = [
            row("d", Some("n-1"), "ready"),
            row("d", Some("n-1"), "loading"),
            row("d", Some("n-2"), "draining"),
            row("d", None, "pending"),
            row("d", Some("n-3"), "stopped"),
            row("other", Some("n-4"), "ready"),
        ];
        let (replicas, nodes) = counted("d", 2, &rows);
        assert_eq!(replicas, Replicas { desired: 2, placed: 3, ready: 1 });
        assert_eq!(nodes, ["n-1", "n-2"]);
        let gang = json!({"deployment": "d", "node": "n-1", "phase": "ready",
            "members": [{"node": "n-1"}, {"node": "n-2"}]});
        let (replicas, nodes) = counted("d", 1, &[gang]);
        assert_eq!((replicas.placed, nodes.len()), (1, 2), "it stands on two nodes");
    }

    #[test]
    fn a_node_is_held_from_one_look_to_the_next() {
        let (began, mut seen) = (Instant::now(), Seen::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        let one = Replicas { desired: 1, placed: 1, ready: 1 };
        let two = Replicas { placed: 2, ..one };
        let on = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>();
        seen.look(began, at(0), one, on(&["n-1"]));
        seen.look(began, at(10), two, on(&["n-1", "n-2"]));
        seen.look(began, at(15), one, on(&["n-2"]));
        seen.look(began, at(16), one, on(&["n-2"]));
        seen.hold(at(20));
        let held: Vec<_> = seen.nodes.iter().map(|(node, ms)| (node.as_str(), *ms)).collect();
        assert_eq!(held, [("n-1", 15_000), ("n-2", 10_000)]);
        assert_eq!((seen.changes.len(), seen.most_nodes), (3, 2), "what is the same is no change");
    }
}
