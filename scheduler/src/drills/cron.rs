//! When a schedule is due: cron's five fields, read as civil time of a time zone.
//!
//! A time that a change of the clocks leaves out is due when the clocks have gone on, one that comes
//! twice is due the first time: each is due once.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use wharfage_shared::time::Timestamp;

/// What people are told when they write something else.
pub const ACCEPTED: &str =
    "five fields: minute hour day-of-month month day-of-week, as in `30 3 * * MON`";

/// The 29th of February of a year that is not divisible by 400 is at most eight years away.
const MOST_DAYS: u32 = 366 * 9;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The five fields, each as the set of its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both the day of the month and that of the week are named: one of them is enough.
    either_day: bool,
}

/// A time zone by its IANA name; `UTC` is known without a database.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

impl Cron {
    /// What is wrong with the text is told in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("it has {} fields", fields.len()));
        };
        let sundays = set("day of week", weekday, 0, 7, &WEEKDAYS)?;
        Ok(Self {
            minutes: set("minute", minute, 0, 59, &[])?,
            hours: set("hour", hour, 0, 23, &[])?,
            days: set("day of month", day, 1, 31, &[])?,
            months: set("month", month, 1, 12, &MONTHS)?,
            // 7 is Sunday too.
            weekdays: (sundays | sundays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// The first time after an instant; none where no day of any year fits.
    pub fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let from = jiff::Timestamp::from_millisecond(after.0).ok()?;
        let mut date = from.to_zoned(zone.clone()).date();
        for _ in 0..MOST_DAYS {
            if self.is_on(date)
                && let Some(at) = self.of_day(zone, date).filter(|at| *at > after).min()
            {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let is_in = |set: u64, number: i8| set >> number & 1 == 1;
        let day = is_in(self.days, date.day());
        let weekday = is_in(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = if self.either_day { day || weekday } else { day && weekday };
        fits && is_in(self.months, date.month())
    }

    fn of_day(&self, zone: &TimeZone, date: Date) -> impl Iterator<Item = Timestamp> {
        let hours = (0..24i8).filter(|hour| self.hours >> hour & 1 == 1);
        hours.flat_map(move |hour| {
            let minutes = (0..60i8).filter(|minute| self.minutes >> minute & 1 == 1);
            minutes.filter_map(move |minute| {
                let civil = date.at(hour, minute, 0, 0);
                let at = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
                Some(Timestamp(at.as_millisecond()))
            })
        })
    }
}

/// The numbers of one field: `*`, `5`, `1-5`, `*/15`, `10-20/2`, and lists of them.
fn set(field: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let mut numbers = 0;
    for part in text.split(',') {
        let wrong = || format!("the field {field} has `{part}`, accepted are {least} to {most}");
        let number = |text: &str| {
            let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
            let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + least);
            let digits = text.chars().all(|c| c.is_ascii_digit());
            let plain = if digits { text.parse().ok() } else { None };
            named.or(plain).filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: usize = step.parse().map_err(|_| wrong())?;
                (range, step)
            }
            None => (part, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (least, most),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            // `5/10` means from there on.
            (_, None) if part.contains('/') => (number(range)?, most),
            (_, None) => (number(range)?, number(range)?),
        };
        if from > to || !(1..=60).contains(&step) {
            return Err(wrong());
        }
        for number in (from..=to).step_by(step) {
            numbers |= 1u64 << number;
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().expect("an instant");
        Timestamp(at.as_millisecond())
    }

    fn shown(at: Timestamp) -> String {
        jiff::Timestamp::from_millisecond(at.0).expect("in range").to_string()
    }

    /// The next times of a schedule, as read in UTC.
    fn next(cron: &str, zone: &TimeZone, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron).expect(cron);
        let mut from = at(after);
        let mut found = Vec::new();
        for _ in 0..count {
            from = cron.next(zone, from).expect("there is a next one");
            found.push(shown(from));
        }
        found
    }

    /// Central Europe by its rule alone: the clocks change in March and October.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule")
    }

    #[test]
    fn times_are_found_by_minute_hour_day_month_and_weekday() {
        let utc = TimeZone::UTC;
        let from = "2026-01-01T00:00:00Z";
        let cases = [
            ("30 3 * * *", "2026-01-01T03:30:00Z"),
            ("0 0 * * *", "2026-01-02T00:00:00Z"),
            ("*/20 * * * *", "2026-01-01T00:20:00Z"),
            ("0 4 * * MON", "2026-01-05T04:00:00Z"),
            ("0 4 * * 7", "2026-01-04T04:00:00Z"),
            ("0 4 13 * FRI", "2026-01-02T04:00:00Z"),
            ("0 0 29 feb *", "2028-02-29T00:00:00Z"),
            ("5,35 22-23/1 1 6 *", "2026-06-01T22:05:00Z"),
        ];
        for (cron, expected) in cases {
            assert_eq!(next(cron, &utc, from, 1), [expected], "{cron}");
        }
        let never = Cron::parse("0 0 30 2 *").expect("it can be read");
        assert_eq!(never.next(&utc, at(from)), None);
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_is_due_once_they_have_gone_on() {
        let found = next("30 2 * * *", &berlin(), "2026-03-28T12:00:00Z", 2);
        assert_eq!(found, ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        let found = next("0,30 2,3 29 3 *", &berlin(), "2026-03-28T12:00:00Z", 3);
        let once = ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2027-03-29T00:00:00Z"];
        assert_eq!(found, once, "two names of one instant are one");
    }

    #[test]
    fn a_time_that_comes_twice_is_due_the_first_time() {
        let found = next("30 2 * * *", &berlin(), "2026-10-24T12:00:00Z", 2);
        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let cases = [
            ("", "it has 0 fields"),
            ("* * * *", "it has 4 fields"),
            ("60 * * * *", "the field minute has `60`, accepted are 0 to 59"),
            ("* 24 * * *", "the field hour has `24`"),
            ("* * 0 * *", "the field day of month has `0`"),
            ("* * * 13 *", "the field month has `13`"),
            ("* * * * 8", "the field day of week has `8`"),
            ("5-1 * * * *", "the field minute has `5-1`"),
            ("*/0 * * * *", "the field minute has `*/0`"),
            ("+1 * * * *", "the field minute has `+1`"),
            ("1,,2 * * * *", "the field minute has ``"),
            ("@daily", "it has 1 fields"),
        ];
        for (text, says) in cases {
            let said = Cron::parse(text).expect_err(text);
            assert!(said.contains(says), "`{text}`: {said}");
        }
    }
}
