//! Errors in CoreWeave's words: a google.rpc status with typed details, in JSON on the REST paths
//! and in Connect's form (details as base64 protobuf) on the Connect paths.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use crate::http::fault::{Fault, Reason};

/// A google.rpc code: its number, its word on Connect, its word in `status`, its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(u8, &'static str, &'static str, StatusCode);

const INVALID_ARGUMENT: Code =
    Code(3, "invalid_argument", "INVALID_ARGUMENT", StatusCode::BAD_REQUEST);
const NOT_FOUND: Code = Code(5, "not_found", "NOT_FOUND", StatusCode::NOT_FOUND);
const ALREADY_EXISTS: Code = Code(6, "already_exists", "ALREADY_EXISTS", StatusCode::CONFLICT);
const PERMISSION_DENIED: Code =
    Code(7, "permission_denied", "PERMISSION_DENIED", StatusCode::FORBIDDEN);
const RESOURCE_EXHAUSTED: Code =
    Code(8, "resource_exhausted", "RESOURCE_EXHAUSTED", StatusCode::TOO_MANY_REQUESTS);
const FAILED_PRECONDITION: Code =
    Code(9, "failed_precondition", "FAILED_PRECONDITION", StatusCode::BAD_REQUEST);
const OUT_OF_RANGE: Code = Code(11, "out_of_range", "OUT_OF_RANGE", StatusCode::PAYLOAD_TOO_LARGE);
const UNIMPLEMENTED: Code = Code(12, "unimplemented", "UNIMPLEMENTED", StatusCode::NOT_IMPLEMENTED);
const INTERNAL: Code = Code(13, "internal", "INTERNAL", StatusCode::INTERNAL_SERVER_ERROR);
const UNAVAILABLE: Code = Code(14, "unavailable", "UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE);
const UNAUTHENTICATED: Code =
    Code(16, "unauthenticated", "UNAUTHENTICATED", StatusCode::UNAUTHORIZED);

fn code(reason: &Reason) -> Code {
    match reason {
        Reason::Unauthenticated => UNAUTHENTICATED,
        Reason::Forbidden => PERMISSION_DENIED,
        Reason::NotFound { .. } => NOT_FOUND,
        Reason::WrongMethod { .. } => {
            Code(UNIMPLEMENTED.0, UNIMPLEMENTED.1, UNIMPLEMENTED.2, StatusCode::METHOD_NOT_ALLOWED)
        }
        Reason::NameTaken { .. } => ALREADY_EXISTS,
        Reason::Unreadable | Reason::Invalid(_) => INVALID_ARGUMENT,
        Reason::MediaType => Code(
            INVALID_ARGUMENT.0,
            INVALID_ARGUMENT.1,
            INVALID_ARGUMENT.2,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        Reason::KeyReused => Code(
            INVALID_ARGUMENT.0,
            INVALID_ARGUMENT.1,
            INVALID_ARGUMENT.2,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        Reason::Precondition { .. } => FAILED_PRECONDITION,
        Reason::Exhausted { .. } | Reason::RateLimited => RESOURCE_EXHAUSTED,
        Reason::TooLarge => OUT_OF_RANGE,
        Reason::Unimplemented => UNIMPLEMENTED,
        Reason::Busy => UNAVAILABLE,
        Reason::DiskFull => {
            Code(UNAVAILABLE.0, UNAVAILABLE.1, UNAVAILABLE.2, StatusCode::INSUFFICIENT_STORAGE)
        }
        Reason::Internal => INTERNAL,
    }
}

/// One typed detail: the message's name, its fields for JSON, its protobuf bytes for Connect.
struct Detail {
    name: &'static str,
    json: Value,
    protobuf: Vec<u8>,
}

fn detail(fault: &Fault) -> Option<Detail> {
    let say = fault.detail.as_str();
    match &fault.reason {
        Reason::NotFound { kind, id } | Reason::NameTaken { kind, name: id } => Some(Detail {
            name: "google.rpc.ResourceInfo",
            json: json!({"resourceType": kind, "resourceName": id, "description": say}),
            protobuf: message(&[(1, kind), (2, id), (4, say)]),
        }),
        Reason::Invalid(wrongs) => {
            let rows: Vec<(String, String)> =
                wrongs.iter().map(|wrong| (wrong.field.clone(), wrong.sentence())).collect();
            let violations: Vec<Value> = rows
                .iter()
                .map(|(field, description)| json!({"field": field, "description": description}))
                .collect();
            let mut protobuf = Vec::new();
            for (field, description) in &rows {
                put(&mut protobuf, 1, &message(&[(1, field), (2, description)]));
            }
            let json = json!({"fieldViolations": violations});
            Some(Detail { name: "google.rpc.BadRequest", json, protobuf })
        }
        Reason::Precondition { subject } => {
            let mut protobuf = Vec::new();
            put(&mut protobuf, 1, &message(&[(1, "STATE"), (2, subject), (3, say)]));
            let row = json!({"type": "STATE", "subject": subject, "description": say});
            let json = json!({"violations": [row]});
            Some(Detail { name: "google.rpc.PreconditionFailure", json, protobuf })
        }
        Reason::Exhausted { subject } => {
            let mut protobuf = Vec::new();
            put(&mut protobuf, 1, &message(&[(1, subject), (2, say)]));
            let json = json!({"violations": [{"subject": subject, "description": say}]});
            Some(Detail { name: "google.rpc.QuotaFailure", json, protobuf })
        }
        Reason::Unauthenticated
        | Reason::Forbidden
        | Reason::WrongMethod { .. }
        | Reason::Unreadable
        | Reason::TooLarge
        | Reason::MediaType
        | Reason::KeyReused
        | Reason::RateLimited
        | Reason::Unimplemented
        | Reason::Busy
        | Reason::DiskFull
        | Reason::Internal => None,
    }
}

/// `{"code":5,"status":"NOT_FOUND","message":...,"details":[{"@type":...}]}`.
pub fn rest(fault: &Fault) -> Response<Body> {
    let code = code(&fault.reason);
    let mut details = Vec::new();
    if let Some(mut detail) = detail(fault) {
        detail.json["@type"] = json!(format!("type.googleapis.com/{}", detail.name));
        details.push(detail.json);
    }
    answer(
        code.3,
        &json!({
            "code": code.0, "status": code.2, "message": fault.detail, "details": details,
        }),
    )
}

/// `{"code":"not_found","message":...,"details":[{"type":...,"value":...,"debug":...}]}`.
pub fn connect(fault: &Fault) -> Response<Body> {
    let code = code(&fault.reason);
    let mut details = Vec::new();
    if let Some(detail) = detail(fault) {
        details.push(json!({
            "type": detail.name,
            "value": STANDARD_NO_PAD.encode(&detail.protobuf),
            "debug": detail.json,
        }));
    }
    answer(code.3, &json!({"code": code.1, "message": fault.detail, "details": details}))
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A protobuf message of text fields; empty ones are left out, as proto3 has it.
fn message(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, text) in fields {
        if !text.is_empty() {
            put(&mut bytes, *number, text.as_bytes());
        }
    }
    bytes
}

/// One length-delimited protobuf field.
fn put(bytes: &mut Vec<u8>, number: u8, content: &[u8]) {
    bytes.push(number << 3 | 2);
    let mut left = content.len();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::Wrong;

    fn wrong(field: &str, problem: &str) -> Wrong {
        Wrong { field: field.into(), problem: problem.into(), accepted: None }
    }

    #[test]
    fn a_detail_is_protobuf_that_a_generated_client_can_decode() {
        let fault = Fault::from(vec![wrong("a", "b"), wrong("c", "d")]);
        let detail = detail(&fault).expect("invalid fields have a detail");
        // BadRequest { field_violations: [{field: "a", description: "b"}, {"c", "d"}] }
        let inner = |field: u8, text: u8| vec![0x0a, 6, 0x0a, 1, field, 0x12, 1, text];
        assert_eq!(detail.protobuf, [inner(b'a', b'b'), inner(b'c', b'd')].concat());
    }

    #[test]
    fn long_texts_have_a_varint_length() {
        let bytes = message(&[(1, &"x".repeat(300))]);
        assert_eq!(&bytes[..3], &[0x0a, 0xac, 0x02]);
        assert_eq!(bytes.len(), 303);
    }
}
