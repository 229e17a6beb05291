//! Metadata services with one key or none.

use serde_json::json;

use crate::aws::{has_token, token};
use crate::http::{Answer, Request};
use crate::moments::{of_tencent, rfc3339};
use crate::world::{World, not_found};

const KEY: &str = "/latest/meta-data/instance/spot/termination-time";

/// Alibaba's: a token, then a key that is missing while nothing is announced.
pub fn alibaba(world: &mut World, request: &Request) -> Option<Answer> {
    match request.path.as_str() {
        "/latest/api/token" => {
            Some(token(world, request, "x-aliyun-ecs-metadata-token-ttl-seconds"))
        }
        KEY if !has_token(world, request, "x-aliyun-ecs-metadata-token") => {
            Some(Answer::of(401, "text/plain", "401 - Unauthorized"))
        }
        KEY => Some(match world.newest("alibaba.spot") {
            Some(said) => Answer::text(rfc3339(world.stated_ms(said))),
            None => not_found(),
        }),
        _ => None,
    }
}

/// Tencent's: no token, and a time whose zone it does not say.
pub fn tencent(world: &World, request: &Request) -> Option<Answer> {
    match request.path.as_str() {
        "/latest/meta-data/instance-id" => Some(Answer::text("ins-01234567")),
        "/latest/meta-data/spot/termination-time" => Some(match world.newest("tencent.spot") {
            Some(said) => Answer::text(of_tencent(world.stated_ms(said))),
            None => not_found(),
        }),
        _ => None,
    }
}

/// Oracle's: it says who the machine is, and nothing of its end.
pub fn oci(request: &Request) -> Option<Answer> {
    let is_known = request.header("authorization") == Some("Bearer Oracle");
    match request.path.as_str() {
        "/opc/v2/instance/" if is_known => {
            Some(Answer::json(&json!({"id": "ocid1.instance.oc1..a", "displayName": "vm-0"})))
        }
        _ => None,
    }
}
