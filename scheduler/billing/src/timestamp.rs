//! Instants as people write them: RFC 3339 in UTC, at most milliseconds.
//!
//! Parsed and printed here, by hand, so that usage files, the log and invoices agree on every
//! instant and no time zone or locale can enter.

use wharfage_shared::time::Timestamp;

const MS_PER_DAY: i64 = 86_400_000;

/// A text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no instant: {problem}; accepted: RFC 3339 in UTC with at most milliseconds, \
     as in 2026-06-01T00:00:00Z or 2026-06-01T00:00:00.250Z"
)]
pub struct NotAnInstant {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The instant that `text` names. `Z` or `+00:00`; one to three digits of a second's fraction;
/// years 0001 to 9999; no leap seconds.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, NotAnInstant> {
    parse(text).map_err(|problem| NotAnInstant { text: text.to_owned(), problem })
}

/// `2026-06-01T00:00:00Z`, with three decimals where the milliseconds are not zero.
pub fn to_rfc3339(at: Timestamp) -> String {
    let days = at.0.div_euclid(MS_PER_DAY);
    let in_day = at.0.rem_euclid(MS_PER_DAY);
    let (year, month, day) = civil_from_days(days);
    let (seconds, ms) = (in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if ms == 0 { format!("{whole}Z") } else { format!("{whole}.{ms:03}Z") }
}

fn parse(text: &str) -> Result<Timestamp, &'static str> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return Err("it is not of the form YYYY-MM-DDThh:mm:ssZ");
    }
    let punctuated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if punctuated.iter().any(|&(at, mark)| bytes[at] != mark) {
        return Err("it is not of the form YYYY-MM-DDThh:mm:ssZ");
    }
    let year = number(&bytes[0..4])?;
    let month = number(&bytes[5..7])?;
    let day = number(&bytes[8..10])?;
    let (hour, minute, second) =
        (number(&bytes[11..13])?, number(&bytes[14..16])?, number(&bytes[17..19])?);
    if year == 0 {
        return Err("years go from 0001 to 9999");
    }
    if !(1..=12).contains(&month) {
        return Err("months go from 01 to 12");
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return Err("the month has no such day");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("times go from 00:00:00 to 23:59:59");
    }
    let ms = fraction_and_zone(&text[19..])?;
    let seconds = hour * 3600 + minute * 60 + second;
    Ok(Timestamp(days_from_civil(year, month, day) * MS_PER_DAY + seconds * 1000 + ms))
}

/// The milliseconds of what follows the whole seconds.
fn fraction_and_zone(rest: &str) -> Result<i64, &'static str> {
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=3).contains(&digits) {
                return Err("a second's fraction has one to three digits");
            }
            rest.split_at(digits)
        }
    };
    if zone != "Z" && zone != "+00:00" {
        return Err("the zone is not UTC");
    }
    number(format!("{fraction:0<3}").as_bytes())
}

fn number(digits: &[u8]) -> Result<i64, &'static str> {
    digits.iter().try_fold(0, |value, byte| {
        if !byte.is_ascii_digit() {
            return Err("a digit is missing");
        }
        Ok(value * 10 + i64::from(byte - b'0'))
    })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Counts years from March, so that the leap day is the last of a year;
/// 400 such years have 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_read_and_print() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-06-01T00:00:00Z", 1_780_272_000_000),
            ("2026-07-09T01:55:36.493Z", 1_783_562_136_493),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_rfc3339(text), Ok(Timestamp(ms)), "{text}");
            assert_eq!(to_rfc3339(Timestamp(ms)), text);
        }
        assert_eq!(parse_rfc3339("2026-06-01T00:00:00.5+00:00"), Ok(Timestamp(1_780_272_000_500)));
    }

    #[test]
    fn a_bad_instant_says_what_is_wrong() {
        let cases = [
            ("2026-06-01", "it is not of the form YYYY-MM-DDThh:mm:ssZ"),
            ("2026-06-01 00:00:00Z", "it is not of the form YYYY-MM-DDThh:mm:ssZ"),
            ("2026-06-01T00:00:00+02:00", "the zone is not UTC"),
            ("2026-06-01T00:00:00.Z", "a second's fraction has one to three digits"),
            ("2026-06-01T00:00:00.0001Z", "a second's fraction has one to three digits"),
            ("2026-06-01T00:00:00.5", "the zone is not UTC"),
            ("2026-13-01T00:00:00Z", "months go from 01 to 12"),
            ("2026-02-29T00:00:00Z", "the month has no such day"),
            ("2100-02-29T00:00:00Z", "the month has no such day"),
            ("2026-06-00T00:00:00Z", "the month has no such day"),
            ("2026-06-01T24:00:00Z", "times go from 00:00:00 to 23:59:59"),
            ("2026-06-30T23:59:60Z", "times go from 00:00:00 to 23:59:59"),
            ("0000-06-01T00:00:00Z", "years go from 0001 to 9999"),
            ("+026-06-01T00:00:00Z", "a digit is missing"),
        ];
        for (text, problem) in cases {
            let wrong = NotAnInstant { text: text.to_owned(), problem };
            assert_eq!(parse_rfc3339(text), Err(wrong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(ms in -62_135_596_800_000i64..=253_402_300_799_999) {
            prop_assert_eq!(parse_rfc3339(&to_rfc3339(Timestamp(ms))), Ok(Timestamp(ms)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9TZ:.+-]{15,30}") {
            let _ = parse_rfc3339(&text);
        }
    }
}
