//! How many requests one key may make in a minute.
//!
//! A bucket per key and lane holds one minute's worth and refills evenly: a burst is fine, a flood
//! is told when to come back. Heartbeats have a listener of their own and never wait here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Most keys that are remembered; full buckets are forgotten first, since they say nothing.
const MOST_KEYS: usize = 10_000;

/// Which limit a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// POST, PUT, PATCH, DELETE.
    Write,
    /// GET, HEAD.
    Read,
    /// Tokens that nobody has, by the address they came from.
    Refused,
}

/// The buckets of all keys.
#[derive(Debug)]
pub struct Limiter {
    writes_per_minute: u32,
    reads_per_minute: u32,
    buckets: Mutex<HashMap<(Lane, String), Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limiter {
    /// With these many a minute; 0 = no limit.
    pub fn new(writes_per_minute: u32, reads_per_minute: u32) -> Self {
        Self { writes_per_minute, reads_per_minute, buckets: Mutex::default() }
    }

    /// Counts one request, or says after how many seconds it may come again.
    pub fn count(&self, lane: Lane, key: &str, now: Instant) -> Result<(), u32> {
        let limit = match lane {
            Lane::Write | Lane::Refused => self.writes_per_minute,
            Lane::Read => self.reads_per_minute,
        };
        if limit == 0 {
            return Ok(());
        }
        let full = f64::from(limit);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_KEYS {
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at).as_secs() < 60);
        }
        let bucket =
            buckets.entry((lane, key.to_owned())).or_insert(Bucket { left: full, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * full / 60.0).min(full);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let seconds = ((1.0 - bucket.left) * 60.0 / full).ceil();
        Err((seconds as u32).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_a_flood_is_told_when_to_come_back_and_keys_do_not_share() {
        let limiter = Limiter::new(60, 0);
        let start = Instant::now();
        for _ in 0..60 {
            assert_eq!(limiter.count(Lane::Write, "a", start), Ok(()));
        }
        assert_eq!(limiter.count(Lane::Write, "a", start), Err(1));
        assert_eq!(limiter.count(Lane::Write, "b", start), Ok(()));
        assert_eq!(limiter.count(Lane::Read, "a", start), Ok(()));
        let later = start + Duration::from_secs(2);
        assert_eq!(limiter.count(Lane::Write, "a", later), Ok(()));
        assert_eq!(limiter.count(Lane::Write, "a", later), Ok(()));
        assert_eq!(limiter.count(Lane::Write, "a", later), Err(1));
    }
}
