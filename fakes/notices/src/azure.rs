//! Azure's instance metadata: Scheduled Events, and who the machine is.

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::moments::rfc1123;
use crate::world::{OWN_NAME, Said, World};

/// What it answers; nothing about a path that is another cloud's.
pub fn answer(world: &mut World, request: &Request) -> Option<Answer> {
    if !request.path.starts_with("/metadata/") {
        return None;
    }
    if request.header("metadata") != Some("true") {
        let error = json!({"error": "Bad request. Required metadata header not specified"});
        return Some(Answer { status: 400, ..Answer::json(&error) });
    }
    if request.asked("api-version").is_none() {
        let error = json!({"error": "Bad request. api-version was not specified in the request"});
        return Some(Answer { status: 400, ..Answer::json(&error) });
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/metadata/instance/compute/name") => Some(Answer::text(OWN_NAME)),
        ("GET", "/metadata/scheduledevents") => Some(Answer::json(&document(world))),
        ("POST", "/metadata/scheduledevents") => Some(approve(world, &request.body)),
        _ => None,
    }
}

fn document(world: &World) -> Value {
    let events = world.said.iter().filter(|said| said.what.kind.word.starts_with("azure."));
    let events: Vec<Value> = events.map(|said| event(world, said)).collect();
    json!({"DocumentIncarnation": world.changes, "Events": events})
}

fn event(world: &World, said: &Said) -> Value {
    let kind = match said.what.kind.word {
        "azure.preempt" => "Preempt",
        "azure.terminate" => "Terminate",
        "azure.redeploy" => "Redeploy",
        "azure.reboot" => "Reboot",
        _ => "Freeze",
    };
    let on = said.what.on.iter().map(|name| if name == "me" { OWN_NAME } else { name });
    let named: Vec<&str> = on.collect();
    let is_started = said.what.is_started;
    let not_before = if is_started { String::new() } else { rfc1123(world.stated_ms(said)) };
    json!({
        "EventId": said.id,
        "EventStatus": if is_started { "Started" } else { "Scheduled" },
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": if named.is_empty() { vec![OWN_NAME] } else { named },
        "NotBefore": not_before,
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    })
}

/// An event that is approved begins at once.
fn approve(world: &mut World, body: &[u8]) -> Answer {
    let read: Option<Value> = serde_json::from_slice(body).ok();
    let requests = read.as_ref().and_then(|read| read["StartRequests"].as_array());
    let Some(requests) = requests else {
        return Answer { status: 400, ..Answer::json(&json!({"error": "Bad request"})) };
    };
    let ids: Vec<&str> = requests.iter().filter_map(|one| one["EventId"].as_str()).collect();
    for said in &mut world.said {
        said.what.is_started |= ids.contains(&said.id.as_str());
    }
    world.changes += 1;
    Answer::text("")
}
