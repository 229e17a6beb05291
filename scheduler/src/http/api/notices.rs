//! Notices that reach the scheduler and not the host: whoever reads the provider's events hands them
//! over here, and the node is told with its next answer.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::command::{Action, nodes};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_shared::ids::{NodeId, NoticeId};
use wharfage_shared::notice::NoticeKind;
use wharfage_shared::time::Millis;

use super::bodies;
use crate::http::body::Write;
use crate::http::fault::Fault;
use crate::http::fields::Fields;
use crate::http::route::{Access, Route};
use crate::http::{Shared, query};

/// No provider tells a day ahead that it takes an instance.
const LONGEST_WINDOW: u32 = 86_400;

/// Oracle states no time; third-party code counts on two minutes (not checked on their machines).
const OCI_WINDOW_SECONDS: u64 = 120;

/// Oracle's event of a preemption (their Events service, "Compute" events).
const OCI_PREEMPTION: &str = "com.oraclecloud.computeapi.instancepreemptionaction";

pub fn routes() -> Vec<Route> {
    let operator = Access::Provider(Role::Operator);
    vec![
        Route::post("/api/v1/notices", "A provider takes a node.", announce)
            .access(operator)
            .takes("Notice"),
        Route::post("/api/v1/notices/oci", "An event of Oracle's clouds.", oci)
            .access(operator)
            .query(&["in_seconds"]),
    ]
}

/// What was announced.
struct Announced {
    id: NoticeId,
    /// The node's name, or its id at the provider.
    instance: String,
    kind: NoticeKind,
    gone_after: Millis,
}

async fn announce(State(shared): State<Shared>, write: Write) -> Result<Response, Fault> {
    let announced = bodies::read(&write.body, announced)?;
    answer(&shared, write, announced).await
}

fn announced(fields: &Fields<'_>) -> Option<Announced> {
    const KINDS: [(&str, u64, NoticeKind); 3] = [
        ("preempt", 0, NoticeKind::Preempt),
        ("maintenance", 1, NoticeKind::Maintenance),
        ("shutdown", 2, NoticeKind::Shutdown),
    ];
    let id = fields.required_text("id", ID).and_then(|text| notice_id(fields, text));
    let instance = match (fields.text("node"), fields.text("provider_id")) {
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        _ => {
            let problem = "it names none of node and provider_id, or both";
            fields.wrong("node", problem, "exactly one of node, provider_id");
            None
        }
    };
    if !fields.has("kind") {
        fields.wrong("kind", "it is missing", "preempt, maintenance or shutdown");
    }
    let kind = fields.word("kind", &KINDS);
    let window = fields.required_whole("in_seconds", 0..=LONGEST_WINDOW);
    let gone_after = Millis::from_seconds(window?.into());
    Some(Announced { id: id?, instance: instance?, kind: kind?, gone_after })
}

const ID: &str = "1 to 64 letters, digits, `-`, `_` and `.`: the same event keeps the same id";

fn notice_id(fields: &Fields<'_>, text: &str) -> Option<NoticeId> {
    let is_good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_good) {
        return Some(NoticeId::new(text));
    }
    fields.wrong("id", "it is no notice id", ID);
    None
}

async fn oci(State(shared): State<Shared>, uri: Uri, write: Write) -> Result<Response, Fault> {
    let window = query::whole(&uri, "in_seconds", LONGEST_WINDOW.into())?;
    let gone_after = Millis::from_seconds(window.unwrap_or(OCI_WINDOW_SECONDS));
    let text = |map: &Map<String, Value>, key: &str| {
        map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let missing = |field: &str| {
        Fault::field(field, "it is missing", "a text, as Oracle's Events service sends it")
    };
    let kind = text(&write.body, "eventType").ok_or_else(|| missing("eventType"))?;
    if kind != OCI_PREEMPTION {
        // A rule that lets other events through is no failure that the sender should repeat.
        let because = format!("events of the type {OCI_PREEMPTION} are heard, this is {kind}");
        return Ok(axum::Json(json!({"ignored": because})).into_response());
    }
    let data = write.body.get("data").and_then(Value::as_object);
    let instance = data.and_then(|data| text(data, "resourceId"));
    let instance = instance.ok_or_else(|| missing("data.resourceId"))?;
    // One instance is preempted once; an event without an id is that one.
    let event = text(&write.body, "eventID").unwrap_or_else(|| "preemption".to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let event: String = event.chars().filter(|c| plain(*c)).take(60).collect();
    let id = NoticeId::new(format!("oci-{event}"));
    answer(&shared, write, Announced { id, instance, kind: NoticeKind::Preempt, gone_after }).await
}

async fn answer(shared: &Shared, write: Write, announced: Announced) -> Result<Response, Fault> {
    let Announced { id, instance, kind, gone_after } = announced;
    let node = {
        let view = shared.handle.view();
        let by_name = view.fleet().node(&NodeId::from(instance.as_str()));
        let is_it = Some(instance.as_str());
        let by_provider =
            || view.fleet().nodes().find(|row| row.inventory.provider_id.as_deref() == is_it);
        by_name.or_else(by_provider).map(|row| row.id.clone())
    };
    let node = node.ok_or_else(|| Fault::not_found("node", &instance))?;
    let (of, caller, name) = (shared.clone(), write.caller.clone(), node.clone());
    let render = move |fleet: &Fleet, _: &_| {
        let node = fleet.node(&name);
        let row = node.map(|node| of.show_fleet(fleet, &caller, |shown| shown.node(node)));
        (StatusCode::OK, json!(row))
    };
    let action = nodes::Action::Announce { node, notice: id, kind, gone_after };
    write.carry_out(shared, Action::Node(action), render).await
}
