//! Signing in: a token in exchange for a session cookie that scripts cannot read.
//!
//! A session holds the hash of its token, so that revoking the token ends the session too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};

use crate::http::Shared;

/// A session ends this long after it began.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// It ends when nobody has used it for this long.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Most sessions at a time; the one that was idle longest makes room.
const MOST: usize = 1000;

/// The people who have signed in.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Mutex<HashMap<String, Session>>,
}

#[derive(Debug)]
struct Session {
    token_sha256: String,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) > LONGEST
            || now.saturating_duration_since(self.used) > IDLE
    }
}

impl Sessions {
    /// A new session's secret for the token with this hash.
    pub fn begin(&self, token_sha256: String, now: Instant) -> std::io::Result<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        let secret = hex::encode(bytes);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| !session.is_over(now));
        if all.len() >= MOST {
            let idlest = all.iter().min_by_key(|(_, session)| session.used);
            if let Some(idlest) = idlest.map(|(secret, _)| secret.clone()) {
                all.remove(&idlest);
            }
        }
        all.insert(secret.clone(), Session { token_sha256, begun: now, used: now });
        Ok(secret)
    }

    /// The token's hash of a session that goes on.
    pub fn token(&self, secret: &str, now: Instant) -> Option<String> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let session = all.get_mut(secret).filter(|session| !session.is_over(now))?;
        session.used = now;
        Some(session.token_sha256.clone())
    }

    /// Ends a session.
    pub fn end(&self, secret: &str) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(secret);
    }
}

/// The cookie's name: browsers hold the prefix to its promises, which need TLS.
fn name(shared: &Shared) -> &'static str {
    if shared.config.tls.is_some() { "__Host-wharfage" } else { "wharfage" }
}

/// The session's secret in a request.
pub fn secret(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    let name = name(shared);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

/// The token's hash of the session that a request belongs to.
pub fn token(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    shared.sessions.token(&secret(shared, headers)?, Instant::now())
}

/// The header that gives the cookie, or takes it back.
pub fn cookie(shared: &Shared, secret: Option<&str>) -> HeaderValue {
    let secure = if shared.config.tls.is_some() { "; Secure" } else { "" };
    let age = if secret.is_some() { LONGEST.as_secs() } else { 0 };
    let text = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}",
        name(shared),
        secret.unwrap_or_default(),
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_age_by_idleness_and_by_word() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let secret = sessions.begin("hash".into(), start).expect("randomness");
        assert_eq!(sessions.token(&secret, start + IDLE).as_deref(), Some("hash"));
        assert_eq!(sessions.token(&secret, start + IDLE * 3), None);
        let mut at = start;
        let other = sessions.begin("hash".into(), start).expect("randomness");
        while at <= start + LONGEST {
            assert!(sessions.token(&other, at).is_some());
            at += IDLE;
        }
        assert_eq!(sessions.token(&other, start + LONGEST + IDLE), None);
        let third = sessions.begin("hash".into(), start).expect("randomness");
        sessions.end(&third);
        assert_eq!(sessions.token(&third, start), None);
    }
}
