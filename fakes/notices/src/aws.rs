//! EC2's metadata service, version 2: a token first, then keys that are missing while nothing is
//! announced.

use serde_json::json;

use crate::http::{Answer, Request};
use crate::moments::{of_maintenance, rfc3339};
use crate::world::{World, not_found};

/// The longest life of a token, in seconds.
const LONGEST_TTL: u32 = 21_600;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// What it answers; nothing about a path that is another cloud's.
pub fn answer(world: &mut World, request: &Request) -> Option<Answer> {
    let key = request.path.strip_prefix("/latest/")?;
    if key == "api/token" {
        // Another service may have the same path with a header of its own.
        let is_others = request.headers.iter().any(|(name, _)| name.starts_with("x-aliyun-"));
        return (!is_others).then(|| token(world, request, TTL));
    }
    let key = key.strip_prefix("meta-data/")?;
    if !has_token(world, request, TOKEN) {
        return Some(Answer::of(401, "text/html", "401 - Unauthorized"));
    }
    match key {
        "instance-life-cycle" => Some(Answer::text("spot")),
        "instance-id" => Some(Answer::text("i-0123456789abcdef0")),
        "spot/instance-action" => Some(instance_action(world)),
        "events/recommendations/rebalance" => Some(rebalance(world)),
        "events/maintenance/scheduled" => Some(maintenance(world)),
        "autoscaling/target-lifecycle-state" => {
            let state = world.newest("aws.asg").map_or("InService", |said| said.what.option);
            Some(Answer::text(state))
        }
        _ => None,
    }
}

/// A token for who asks rightly; Alibaba's service gives it out in the same way.
pub fn token(world: &mut World, request: &Request, ttl_header: &'static str) -> Answer {
    if request.method != "PUT" {
        return Answer::of(405, "text/html", "405 - Method Not Allowed");
    }
    let ttl = request.header(ttl_header).and_then(|ttl| ttl.parse::<u32>().ok());
    match ttl.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) {
        None => Answer::of(400, "text/html", "400 - Bad Request"),
        Some(ttl) => {
            world.tokens_given += 1;
            let token = format!("AQAE{}-{}==", world.token_age, world.tokens_given);
            Answer::text(token).with(ttl_header, ttl.to_string())
        }
    }
}

/// Whether a token that is good now was shown.
pub fn has_token(world: &World, request: &Request, header: &str) -> bool {
    let good = format!("AQAE{}-", world.token_age);
    request.header(header).is_some_and(|token| token.starts_with(&good))
}

fn instance_action(world: &World) -> Answer {
    let Some(said) = world.newest("aws.spot") else { return not_found() };
    let time = rfc3339(world.stated_ms(said));
    let body = format!("{{\"action\": \"{}\", \"time\": \"{time}\"}}", said.what.option);
    Answer::of(200, "application/json", body)
}

fn rebalance(world: &World) -> Answer {
    let Some(said) = world.newest("aws.rebalance") else { return not_found() };
    let body = format!("{{\"noticeTime\": \"{}\"}}", rfc3339(world.stated_ms(said)));
    Answer::of(200, "application/json", body)
}

fn maintenance(world: &World) -> Answer {
    let events = world.said.iter().filter(|said| said.what.kind.word == "aws.maintenance");
    let events: Vec<_> = events
        .map(|said| {
            let from = world.stated_ms(said);
            json!({
                "NotBefore": of_maintenance(from),
                "Code": said.what.option,
                "Description": format!("scheduled {}", said.what.option),
                "EventId": format!("instance-{}", said.id),
                "NotAfter": of_maintenance(from.saturating_add(15 * 60_000)),
                "State": "active",
            })
        })
        .collect();
    Answer::of(200, "application/json", json!(events).to_string())
}
