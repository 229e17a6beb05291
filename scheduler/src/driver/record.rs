//! What one record of the log holds: everything that one input made true, and what that input was.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharfage_billing::canonical;
use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::words::command::Command;
use wharfage_shared::ids::{GatewayName, NodeId, OrganizationId, TokenId};

/// The layout of records; one with a higher number was written by a later release.
pub const RECORD_VERSION: u16 = 1;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The layout.
    pub version: u16,
    /// What the input was.
    pub cause: Cause,
    /// The facts, in the order in which they were decided.
    pub events: Vec<Event>,
}

/// What made a record be written: with a command's caller this is the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A scheduler began to lead.
    Start,
    /// Somebody asked.
    Command {
        /// Whose token.
        organization: OrganizationId,
        /// Which token; absent for the scheduler itself.
        token: Option<TokenId>,
        /// `deployment.create`, `node.cordon`, ...
        action: String,
    },
    /// A node reported.
    Heartbeat {
        /// Which.
        node: NodeId,
    },
    /// A node handed in closed segments.
    Segments {
        /// Which.
        node: NodeId,
    },
    /// A gateway process reported.
    Gateway {
        /// Which; absent when it did not say.
        gateway: Option<GatewayName>,
    },
    /// Time passed.
    Tick,
}

/// A payload that is no record of this program.
#[derive(Debug, thiserror::Error)]
pub enum NotARecord {
    /// A later release wrote it.
    #[error("it has layout {found}; this program knows {RECORD_VERSION}: use a newer release")]
    Newer {
        /// Its layout.
        found: u64,
    },
    /// Something else.
    #[error("it does not read as a record: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Record {
    /// A record of this release.
    pub fn new(cause: Cause, events: Vec<Event>) -> Self {
        Self { version: RECORD_VERSION, cause, events }
    }

    /// The canonical JSON that the log keeps.
    pub fn encode(&self) -> String {
        canonical::to_string(self).expect("events hold integers and texts only")
    }

    /// Reads what the log keeps.
    pub fn decode(payload: &str) -> Result<Self, NotARecord> {
        match serde_json::from_str::<Self>(payload) {
            Ok(record) if record.version == RECORD_VERSION => Ok(record),
            Ok(record) => Err(NotARecord::Newer { found: u64::from(record.version) }),
            Err(error) => Err(newer(payload).unwrap_or(NotARecord::Malformed(error))),
        }
    }
}

/// Says so when an unreadable record carries a later layout.
fn newer(payload: &str) -> Option<NotARecord> {
    let value: Value = serde_json::from_str(payload).ok()?;
    let found = value.get("version")?.as_u64()?;
    (found > u64::from(RECORD_VERSION)).then_some(NotARecord::Newer { found })
}

impl Cause {
    /// The cause of what a command makes true.
    pub fn of(command: &Command) -> Self {
        Self::Command {
            organization: command.caller.organization.clone(),
            token: command.caller.token.clone(),
            action: action_name(command),
        }
    }
}

/// `deployment.create` of `Deployment(Create { .. })`: the words of the types themselves, so that
/// a new command has its name without another table.
fn action_name(command: &Command) -> String {
    let mut words = Vec::new();
    let mut value = serde_json::to_value(&command.action).unwrap_or_default();
    for _ in 0..2 {
        let (word, inner) = match value {
            Value::Object(fields) if fields.len() == 1 => match fields.into_iter().next() {
                Some((word, inner)) => (word, inner),
                None => break,
            },
            Value::String(word) => (word, Value::Null),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => break,
        };
        words.push(snake(&word));
        value = inner;
    }
    words.join(".")
}

fn snake(word: &str) -> String {
    let mut text = String::with_capacity(word.len() + 4);
    for letter in word.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
