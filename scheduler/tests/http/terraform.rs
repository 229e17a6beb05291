//! The calls of CoreWeave's public Terraform provider, replayed: vectors written by hand from its
//! published behaviour, each a story of Connect calls.
//!
//! The provider sends every mutable field on each update, leaves out what has its default, and
//! compares what it reads with what it asked for: a value that nobody asked for is a change to it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Node, Scheduler};

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    about: String,
    calls: Vec<Call>,
}

/// One call. `<name>` in a body stands for what an earlier call kept under that name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// `GatewayService/CreateGateway`.
    method: String,
    body: Value,
    status: u16,
    /// What the answer holds, by JSON pointer; null = nothing.
    #[serde(default)]
    holds: BTreeMap<String, Value>,
    /// What is kept of it, name -> JSON pointer.
    #[serde(default)]
    keep: BTreeMap<String, String>,
    /// It is asked again until the answer is as it is to be.
    #[serde(default)]
    poll: bool,
}

const STORIES: [&str; 5] = [
    include_str!("terraform/gateway.json"),
    include_str!("terraform/deployment.json"),
    include_str!("terraform/claim.json"),
    include_str!("terraform/newer.json"),
    include_str!("terraform/refused.json"),
];

/// Most times that a state is asked for: each time the node has spoken once more.
const MOST_POLLS: usize = 20;

#[tokio::test]
async fn the_calls_of_the_terraform_provider_are_answered_as_it_expects() {
    for (number, story) in STORIES.into_iter().enumerate() {
        let story: Story = serde_json::from_str(story).expect("a story");
        let scheduler = Scheduler::start(&format!("terraform-{number}")).await;
        let mut node = scheduler.node("node-1", "standard").await;
        scheduler.gateways().await;
        let mut kept = BTreeMap::new();
        for (at, call) in story.calls.iter().enumerate() {
            let what = format!("{}, call {at} ({})", story.about, call.method);
            carry_out(&scheduler, &mut node, call, &mut kept, &what).await;
        }
        scheduler.stop().await;
    }
}

async fn carry_out(
    scheduler: &Scheduler,
    node: &mut Node<'_>,
    call: &Call,
    kept: &mut BTreeMap<String, String>,
    what: &str,
) {
    let path = format!("/coreweave.inference.v1alpha1.{}", call.method);
    let body = filled(&call.body, kept);
    let mut answer = scheduler.post(&path, "acme-operator", &body).await;
    for _ in 0..MOST_POLLS {
        if !call.poll || differs(call, kept, &answer.json()).is_none() {
            break;
        }
        node.next().await;
        answer = scheduler.post(&path, "acme-operator", &body).await;
    }
    assert_eq!(answer.status, call.status, "{what}: {}", answer.text);
    let answer = answer.json();
    assert_eq!(differs(call, kept, &answer), None, "{what}: {answer}");
    for (name, pointer) in &call.keep {
        let text = answer.pointer(pointer).and_then(Value::as_str).expect("a text to keep");
        kept.insert(name.clone(), text.to_owned());
    }
}

/// The first pointer at which an answer is not as it is to be, and what is there.
fn differs(call: &Call, kept: &BTreeMap<String, String>, answer: &Value) -> Option<String> {
    call.holds.iter().find_map(|(pointer, expected)| {
        let found = answer.pointer(pointer).unwrap_or(&Value::Null);
        (*found != filled(expected, kept)).then(|| format!("{pointer} is {found}"))
    })
}

/// The value with what was kept in the place of its names.
fn filled(value: &Value, kept: &BTreeMap<String, String>) -> Value {
    let mut text = value.to_string();
    for (name, value) in kept {
        text = text.replace(&format!("<{name}>"), value);
    }
    serde_json::from_str(&text).expect("ids need no escapes")
}
