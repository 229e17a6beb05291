//! Compute Engine's metadata server: values that can be waited for.

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::moments::rfc3339;
use crate::world::World;

const PREFIX: &str = "/computeMetadata/v1/instance/";

/// What it answers; nothing about a path that is another cloud's.
pub fn answer(world: &World, request: &Request) -> Option<Answer> {
    if request.path == "/" && request.header("metadata-flavor").is_some() {
        return Some(flavoured(Answer::text("computeMetadata/\n")));
    }
    let key = request.path.strip_prefix(PREFIX)?;
    if request.header("metadata-flavor") != Some("Google") {
        return Some(Answer::of(403, "text/html", "Missing Metadata-Flavor:Google header."));
    }
    let body = value(world, key, request)?;
    Some(flavoured(Answer::of(200, "application/text", body)).with("ETag", etag(world, key)))
}

/// How long a request waits at most, and for another value than which; absent = it does not wait.
pub fn waits(request: &Request) -> Option<(String, u64)> {
    let key = request.path.strip_prefix(PREFIX)?;
    let is_asked = request.asked("wait_for_change") == Some("true");
    let seconds = request.asked("timeout_sec").and_then(|seconds| seconds.parse().ok());
    is_asked.then(|| (key.to_owned(), seconds.unwrap_or(3600)))
}

/// The value's mark: the same value has the same one.
pub fn etag(world: &World, key: &str) -> String {
    let text = value(world, key, &Request::default()).unwrap_or_default();
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{sum:016x}")
}

fn flavoured(answer: Answer) -> Answer {
    answer.with("Metadata-Flavor", "Google").with("Server", "Metadata Server for VM")
}

fn value(world: &World, key: &str, request: &Request) -> Option<String> {
    match key {
        "preempted" => {
            let is = world.newest("gcp.preempted").is_some();
            Some(if is { "TRUE" } else { "FALSE" }.to_owned())
        }
        "maintenance-event" => {
            let said = world.newest("gcp.maintenance").map(|said| said.what.option);
            Some(match said {
                Some("terminate") => "TERMINATE_ON_HOST_MAINTENANCE".to_owned(),
                Some(_) => "MIGRATE_ON_HOST_MAINTENANCE".to_owned(),
                None => "NONE".to_owned(),
            })
        }
        "upcoming-maintenance" => Some(upcoming(world, request)),
        "id" => Some("1234567890".to_owned()),
        "scheduling/preemptible" => Some("TRUE".to_owned()),
        _ => None,
    }
}

/// In one of the three shapes that are seen in the wild.
fn upcoming(world: &World, request: &Request) -> String {
    let Some(said) = world.newest("gcp.upcoming") else {
        let none = json!({"error": "no notifications have been received yet, try again later"});
        return none.to_string();
    };
    let from = world.stated_ms(said);
    let (start, end) = (rfc3339(from), rfc3339(from.saturating_add(4 * 3_600_000)));
    let of_json: Value = json!({
        "can_reschedule": "false", "latest_window_start_time": start,
        "maintenance_reasons": ["PLANNED_UPDATE"], "maintenance_status": "PENDING",
        "type": "SCHEDULED", "window_end_time": end, "window_start_time": start,
    });
    let is_text = said.what.option == "text" && request.asked("alt") != Some("json");
    match said.what.option {
        "rest" => json!({
            "canReschedule": false, "latestWindowStartTime": start, "maintenanceStatus": "PENDING",
            "type": "SCHEDULED", "windowEndTime": end, "windowStartTime": start,
        })
        .to_string(),
        _ if is_text || said.what.option == "text" => {
            let zoned = start.replace('Z', "+00:00");
            format!(
                "can_reschedule false\nlatest_window_start_time {zoned}\n\
                 maintenance_status PENDING\ntype SCHEDULED\nwindow_end_time {end}\n\
                 window_start_time {zoned}\n"
            )
        }
        _ => of_json.to_string(),
    }
}
