//! The autoscaling rule on a recorded load: one decision at each row, the first and each change
//! told. The rule is the production core's; the file only says what was in flight when.

mod settings;

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};
use wharfage_scheduler_core::policies::autoscale::{self, Load, Window};
use wharfage_scheduler_core::words::because::scaling::DesiredBecause;
use wharfage_shared::time::{Millis, Timestamp};

pub use self::settings::Settings;
use crate::table::{BadTrace, Table};

/// The longest load that is read, in seconds: a year.
const LONGEST: u64 = 366 * 86_400;
/// The most requests in flight at once.
const MOST_IN_FLIGHT: u64 = 1_000_000_000;

/// What a file says that it cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// In the settings.
    #[error("{file}: {field} is {got}; accepted: {accepted}")]
    Setting {
        /// Which file.
        file: String,
        /// Which field.
        field: String,
        /// What it is.
        got: String,
        /// What is accepted.
        accepted: String,
    },
    /// The settings are not an object of JSON.
    #[error("{file}: {what}; accepted: an object of JSON, {{\"min_replica\": 1, ...}}")]
    Json {
        /// Which file.
        file: String,
        /// What is wrong, and where.
        what: String,
    },
    /// In the load.
    #[error(transparent)]
    Load(#[from] BadTrace),
}

/// The first decision and each change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// In the order of time.
    pub changes: Vec<Change>,
}

/// One decision that changed the count, or the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, since the series' beginning.
    pub at: Millis,
    /// How many replicas.
    pub desired: u32,
    /// Why.
    pub because: DesiredBecause,
}

impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let t_seconds: Value = if self.at.0.is_multiple_of(1000) {
            (self.at.0 / 1000).into()
        } else {
            self.at.as_seconds().into()
        };
        let because = self.because.word();
        json!({ "t_seconds": t_seconds, "desired": self.desired, "because": because })
            .serialize(serializer)
    }
}

impl Outcome {
    /// The changes as a CSV: `t_seconds,desired`.
    pub fn csv(&self) -> String {
        let mut text = String::from("t_seconds,desired\n");
        for Change { at, desired, .. } in &self.changes {
            let (whole, part) = (at.0 / 1000, at.0 % 1000);
            let part = if part == 0 { String::new() } else { format!(".{part:03}") };
            let _ = writeln!(text, "{whole}{part},{desired}");
        }
        text
    }
}

/// Decides at each row of a load (columns `t_seconds`, `in_flight`).
pub fn run(settings: &Settings, file: &str, text: &str) -> Result<Outcome, Error> {
    let length = Millis::from_seconds(u64::from(settings.scaling.window_seconds));
    let (mut window, mut below_since, mut last) = (Window::default(), None, Millis(0));
    let mut current = settings.initial;
    let mut changes: Vec<Change> = Vec::new();
    for row in Table::new(file, text, &["t_seconds", "in_flight"])? {
        let at = Millis(row.thousandths(0, LONGEST)?);
        if at < last {
            let accepted = format!("not before the row above ({})", last.as_seconds());
            return Err(row.wrong(0, accepted).into());
        }
        last = at;
        let now = Timestamp(0) + at;
        // In thousandths on both sides of the division.
        window.push(now, row.thousandths(1, MOST_IN_FLIGHT)?, 1000);
        window.forget(now, length);
        let wish = window.mean().map(|requests| {
            let load = Load { requests, tokens: None, is_there_now: false };
            autoscale::wish(&settings.scaling, &load)
        });
        let decision = autoscale::decide(&settings.scaling, wish, current, below_since, now);
        below_since = decision.below_since;
        if changes.is_empty() || decision.desired != current {
            let (desired, because) = (decision.desired, decision.because);
            changes.push(Change { at, desired, because });
        }
        current = decision.desired;
    }
    if changes.is_empty() {
        let what = "there is no row; needed: one a reading, `t_seconds,in_flight`".to_owned();
        return Err(BadTrace::Empty { file: file.to_owned(), what }.into());
    }
    Ok(Outcome { changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::read("s.json", text).expect("the cases' settings are good")
    }

    fn csv(text: &str, load: &str) -> String {
        run(&settings(text), "l.csv", load).expect("the cases' loads are good").csv()
    }

    #[test]
    fn the_first_decision_and_each_change_are_told() {
        let rule = r#"{"min_replica": 0, "max_replica": 8, "autoscaling_window": 10,
            "scale_down_delay": 30, "concurrency_target": 2, "target_utilization_percentage": 50}"#;
        let load = "t_seconds,in_flight\n0,1\n5,5\n15,0\n20,0\n50,0\n80,0\n110,0\n140,0\n";
        assert_eq!(csv(rule, load), "t_seconds,desired\n0,1\n5,3\n50,1\n80,0\n");
        let outcome = run(&settings(rule), "l.csv", "in_flight,t_seconds\n7,0.5\n0,9\n");
        assert_eq!(
            json!(outcome.expect("columns go by their names")),
            json!({"changes": [{"t_seconds": 0.5, "desired": 7, "because": "woken"}]})
        );
    }

    #[test]
    fn a_beginning_beyond_the_bounds_is_brought_within_them_at_once() {
        let rule = |initial: u32| {
            format!(r#"{{"min_replica": 2, "max_replica": 4, "initial_replica": {initial}}}"#)
        };
        assert_eq!(csv(&rule(9), "t_seconds,in_flight\n0,0\n"), "t_seconds,desired\n0,4\n");
        assert_eq!(csv(&rule(0), "t_seconds,in_flight\n0,0\n"), "t_seconds,desired\n0,2\n");
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number_and_column() {
        let head = "t_seconds,in_flight\n0,1\n";
        let cases = [
            ("t,in_flight\n", "l.csv: line 1: there is no column `t_seconds`"),
            ("t_seconds,in_flight\n", "l.csv: there is no row"),
            (&format!("{head}5,x\n"), "l.csv: line 3: in_flight is `x`; accepted: a number from 0"),
            (&format!("{head}5\n"), "l.csv: line 3: in_flight is ``"),
            (&format!("{head}5,-1\n"), "l.csv: line 3: in_flight is `-1`"),
            (&format!("{head}0.0001,1\n"), "l.csv: line 3: t_seconds is `0.0001`"),
            (&format!("{head}5,1\n4,1\n"), "line 4: t_seconds is `4`; accepted: not before"),
        ];
        for (load, words) in cases {
            let error = run(&settings("{}"), "l.csv", load).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_recorded_loads_give_the_expected_counts() {
        let Some(folder) = std::env::var_os("WHARFAGE_DATA").map(std::path::PathBuf::from) else {
            println!("SKIPPED: WHARFAGE_DATA names no folder of traces");
            return;
        };
        let read = |name: &str| {
            std::fs::read_to_string(folder.join("autoscale").join(name)).expect("a file of traces")
        };
        for (rule, load) in [("llm", "azure_conv"), ("image", "image_2d")] {
            let told = csv(
                &read(&format!("settings_{rule}.json")),
                &read(&format!("inflight_{load}.csv")),
            );
            assert_eq!(told, read(&format!("expected_{load}.csv")), "{load}");
        }
    }
}
