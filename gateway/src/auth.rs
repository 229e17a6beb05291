//! Who asks: a token's hash is looked up in the routes; the token itself is never kept.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::errors::Problem;
use crate::routes::{Key, Table};

/// The longest token that is hashed at all.
const LONGEST_TOKEN: usize = 512;

/// The key of `Authorization: Bearer <token>` or `Api-Key <token>`.
///
/// The look-up is by the token's SHA-256, so that its timing tells nothing about other tokens.
pub fn authenticate(table: &Table, headers: &HeaderMap) -> Result<Arc<Key>, Problem> {
    if table.is_empty() {
        return Err(Problem::no_routes());
    }
    let token = token(headers).ok_or_else(Problem::unauthorized)?;
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    table.key(&hash).cloned().ok_or_else(Problem::unauthorized)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("api-key");
    let token = token.trim();
    (known && (1..=LONGEST_TOKEN).contains(&token.len())).then_some(token)
}
