//! Times as each cloud writes them.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// The wall clock in milliseconds.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `2017-09-18T08:22:00Z`.
pub fn rfc3339(ms: i64) -> String {
    written(ms, "%Y-%m-%dT%H:%M:%SZ")
}

/// `Mon, 11 Apr 2026 22:26:58 GMT`.
pub fn rfc1123(ms: i64) -> String {
    written(ms, "%a, %d %b %Y %H:%M:%S GMT")
}

/// `1 Jan 2020 01:03:47 GMT`: days are not padded.
pub fn of_maintenance(ms: i64) -> String {
    written(ms, "%-d %b %Y %H:%M:%S GMT")
}

/// `2018-08-18 12:05:33`: eight hours ahead of UTC, without saying so.
pub fn of_tencent(ms: i64) -> String {
    written(ms + 8 * 3_600_000, "%Y-%m-%d %H:%M:%S")
}

fn written(ms: i64, format: &str) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.to_zoned(TimeZone::fixed(Offset::UTC)).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_own_way_to_write_a_time() {
        // 2020-01-01T01:03:47Z, a Wednesday.
        let ms = 1_577_840_627_000;
        assert_eq!(rfc3339(ms), "2020-01-01T01:03:47Z");
        assert_eq!(rfc1123(ms), "Wed, 01 Jan 2020 01:03:47 GMT");
        assert_eq!(of_maintenance(ms), "1 Jan 2020 01:03:47 GMT");
        assert_eq!(of_tencent(ms), "2020-01-01 09:03:47");
    }
}
