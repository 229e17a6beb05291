//! Times as the clouds write them.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::{Offset, TimeZone};
use wharfage_shared::time::Timestamp;

/// `2017-09-18T08:22:00Z`, with any offset.
pub fn rfc3339(text: &str) -> Result<Timestamp, String> {
    let read: Result<jiff::Timestamp, _> = text.parse();
    read.map(of).map_err(|_| format!("`{}` is no time (RFC 3339)", short(text)))
}

/// `Mon, 11 Apr 2026 22:26:58 GMT`, `1 Jan 2020 01:03:47 GMT`: with or without the day of the week,
/// which is not believed.
pub fn rfc1123(text: &str) -> Result<Timestamp, String> {
    let read = DateTimeParser::new().relaxed_weekday(true).parse_zoned(text);
    read.map(|zoned| of(zoned.timestamp()))
        .map_err(|_| format!("`{}` is no time (RFC 1123)", short(text)))
}

/// `2018-08-18 12:05:33`, eight hours ahead of UTC without saying so.
pub fn of_tencent(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("`{}` is no time (YYYY-MM-DD HH:MM:SS)", short(text));
    let read = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).map_err(|_| bad())?;
    let zone = TimeZone::fixed(Offset::constant(8));
    read.to_zoned(zone).map(|zoned| of(zoned.timestamp())).map_err(|_| bad())
}

fn of(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_millisecond())
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2020-01-01T01:03:47Z
    const AT: Timestamp = Timestamp(1_577_840_627_000);

    #[test]
    fn every_shape_of_a_time_is_read() {
        assert_eq!(rfc3339("2020-01-01T01:03:47Z"), Ok(AT));
        assert_eq!(rfc3339("2020-01-01T02:03:47+01:00"), Ok(AT));
        assert_eq!(rfc1123("1 Jan 2020 01:03:47 GMT"), Ok(AT));
        assert_eq!(rfc1123("Wed, 01 Jan 2020 01:03:47 GMT"), Ok(AT));
        assert_eq!(rfc1123("Mon, 01 Jan 2020 01:03:47 GMT"), Ok(AT), "documents err in the day");
        assert_eq!(of_tencent("2020-01-01 09:03:47"), Ok(AT));
        for bad in ["", "soon", "2020-01-01", "2020-13-01T00:00:00Z"] {
            assert!(rfc3339(bad).is_err() && rfc1123(bad).is_err() && of_tencent(bad).is_err());
        }
    }
}
