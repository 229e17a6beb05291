//! An idempotency key's answer, kept in the same record as its effect.

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::TokenId;
use wharfage_shared::time::Timestamp;

/// The version of these words.
pub const EVENT_VERSION: u16 = 1;

/// What a key names: one caller's one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestKey {
    /// Whose token.
    pub token: Option<TokenId>,
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The key.
    pub key: String,
}

/// A request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Event {
    /// Which request.
    pub key: RequestKey,
    /// SHA-256 (hex) of the body that came with it.
    pub body_sha256: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's body.
    pub body: String,
    /// When.
    pub at: Timestamp,
}
