//! What bodies of all resources have in common: the id, the organization, and how a whole body is
//! read with every mistake named.

use serde_json::{Map, Value};
use wharfage_billing::timestamp::parse_rfc3339;
use wharfage_scheduler_core::words::principal::Caller;
use wharfage_shared::ids::OrganizationId;
use wharfage_shared::time::Timestamp;

use crate::http::fault::Fault;
use crate::http::fields::{Fields, Problems, Unknown, Wrong, kind};

/// What a hostname label is, as a sentence says it.
pub const LABEL: &str = "a hostname label: 1 to 63 of a-z, A-Z, 0-9 and `-`, beginning and ending \
                         with a letter or a digit";

/// Words that stand in an id's place in some path.
const RESERVED_IDS: [&str; 3] = ["development", "production", "parameters"];

/// A body that was read.
#[derive(Debug)]
pub struct Draft<S> {
    /// The id that the client chose.
    pub id: Option<String>,
    /// The organization that the client named.
    pub organization: Option<String>,
    /// What it asks for.
    pub spec: S,
}

/// Reads a body as a `what`; `spec` reads all but the id and the organization.
pub fn read<S>(
    body: &Map<String, Value>,
    unknown: Unknown,
    what: &str,
    spec: impl FnOnce(&Fields<'_>) -> Option<S>,
) -> Result<Draft<S>, Vec<Wrong>> {
    let problems = Problems::default();
    let fields = Fields::new(body, unknown, &problems);
    let id = id(&fields);
    let organization = fields.text("organizationId").filter(|text| !text.is_empty());
    let organization = organization.map(str::to_owned);
    let spec = spec(&fields);
    fields.finish();
    problems.take()?;
    match spec {
        Some(spec) => Ok(Draft { id, organization, spec }),
        None => {
            let problem = format!("the body cannot be read as a {what}");
            Err(vec![Wrong { field: String::new(), problem, accepted: None }])
        }
    }
}

impl<S> Draft<S> {
    /// The id of what is made: the client's choice, else a new UUID.
    pub fn chosen_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }

    /// A replacement may say again whose and which it is, and nothing else.
    pub fn is_still(
        &self,
        what: &str,
        id: &str,
        organization: &OrganizationId,
    ) -> Result<(), Fault> {
        if self.id.as_deref().is_some_and(|named| named != id) {
            let accepted = format!("`{id}`, or no id");
            return Err(Fault::field("id", "it is not the id in the path", accepted));
        }
        if self.organization.as_deref().is_some_and(|named| named != organization.as_str()) {
            let accepted = format!("`{organization}`, or no organization");
            let problem = format!("a {what}'s organization is fixed for its life");
            return Err(Fault::field("organizationId", problem, accepted));
        }
        Ok(())
    }
}

fn id(fields: &Fields<'_>) -> Option<String> {
    let id = fields.text("id").filter(|id| !id.is_empty())?;
    if !is_label(id) {
        fields.wrong("id", format!("`{id}` is no id"), format!("a UUID or {LABEL}"));
    } else if RESERVED_IDS.contains(&id) {
        fields.wrong("id", format!("`{id}` has a meaning of its own in paths"), "another id");
    }
    Some(id.to_owned())
}

/// Whether a text is a hostname label.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Whether a text has characters that no terminal, log or page should be sent.
pub fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// For whom a body asks: the provider may name anybody, others only themselves.
pub fn organization(caller: &Caller, body: &Map<String, Value>) -> Result<OrganizationId, Fault> {
    let named = body.get("organizationId").or_else(|| body.get("organization_id"));
    let named = named.and_then(Value::as_str).filter(|name| !name.is_empty());
    match named {
        None => Ok(caller.organization.clone()),
        Some(name) if caller.is_provider() || name == caller.organization.as_str() => {
            Ok(OrganizationId::from(name))
        }
        Some(_) => {
            let accepted = format!("`{}`, or no organization", caller.organization);
            Err(Fault::field("organizationId", "it is not the token's organization", accepted))
        }
    }
}

/// The id that a Connect body names.
pub fn id_of(body: &Map<String, Value>) -> Result<String, Fault> {
    match body.get("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        None | Some(Value::Null | Value::String(_)) => {
            Err(Fault::field("id", "it is missing", "the id of the resource"))
        }
        Some(other) => {
            let problem = format!("it is {}", kind(other));
            Err(Fault::field("id", problem, "the id of the resource, as a text"))
        }
    }
}

/// The `updatedAfter` that a Connect body names.
pub fn updated_after(body: &Map<String, Value>) -> Result<Option<Timestamp>, Fault> {
    match body.get("updatedAfter").or_else(|| body.get("updated_after")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match parse_rfc3339(text) {
            Ok(at) => Ok(Some(at)),
            Err(error) => Err(Fault::field(
                "updatedAfter",
                error.to_string(),
                "RFC 3339 in UTC, as in 2026-06-01T00:00:00Z",
            )),
        },
        Some(other) => {
            let problem = format!("it is {}", kind(other));
            Err(Fault::field("updatedAfter", problem, "an instant as a text"))
        }
    }
}
