//! Settings of the rule as people write them in a file: Baseten's names, its defaults and ranges.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use wharfage_scheduler_core::words::deployment::{Bounds, MOST_REPLICAS, Scaling};

use super::Error;

const NAMES: [&str; 9] = [
    "min_replica",
    "max_replica",
    "autoscaling_window",
    "scale_down_delay",
    "concurrency_target",
    "target_utilization_percentage",
    "target_in_flight_tokens",
    "max_scale_down_rate",
    "initial_replica",
];

/// The rule's settings and how many replicas there are before the first decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The rule's.
    pub scaling: Scaling,
    /// Before the first decision.
    pub initial: u32,
}

impl Settings {
    /// Reads a file's text; what it does not name, or names as null, is Baseten's default.
    pub fn read(file: &str, text: &str) -> Result<Self, Error> {
        let bad = |what: String| Error::Json { file: file.to_owned(), what };
        let object: Map<String, Value> = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(bad("it is no object".to_owned())),
            Err(error) => return Err(bad(error.to_string())),
        };
        let fields = Fields { file, object };
        if let Some(key) = fields.object.keys().find(|key| !NAMES.contains(&key.as_str())) {
            return Err(fields.wrong(key, "not a setting", NAMES.join(", ")));
        }
        let base = Scaling::baseten();
        let most = MOST_REPLICAS;
        let min = fields.whole("min_replica", 0..=most)?.unwrap_or(base.bounds.min());
        let max = fields.whole("max_replica", 1..=most)?.unwrap_or(base.bounds.max().max(min));
        let bounds = Bounds::new(min, max).ok_or_else(|| {
            let accepted = format!("at least min_replica ({min})");
            fields.wrong("max_replica", &max.to_string(), accepted)
        })?;
        let percent = |key, range, base: u8| -> Result<u8, Error> {
            let percent = fields.whole(key, range)?;
            Ok(percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(base))
        };
        let scaling = Scaling {
            bounds,
            window_seconds: fields
                .whole("autoscaling_window", Scaling::WINDOW_SECONDS)?
                .unwrap_or(base.window_seconds),
            scale_down_delay_seconds: fields
                .whole("scale_down_delay", Scaling::SCALE_DOWN_DELAY_SECONDS)?
                .unwrap_or(base.scale_down_delay_seconds),
            concurrency: fields
                .whole("concurrency_target", Scaling::CONCURRENCY)?
                .unwrap_or(base.concurrency),
            utilization_percent: percent(
                "target_utilization_percentage",
                Scaling::UTILIZATION_PERCENT,
                base.utilization_percent,
            )?,
            in_flight_tokens: fields.whole("target_in_flight_tokens", Scaling::IN_FLIGHT_TOKENS)?,
            max_scale_down_percent: percent(
                "max_scale_down_rate",
                Scaling::MAX_SCALE_DOWN_PERCENT,
                base.max_scale_down_percent,
            )?,
            ..base
        };
        let initial = fields.whole("initial_replica", 0..=most)?.unwrap_or(min);
        Ok(Self { scaling, initial })
    }
}

struct Fields<'a> {
    file: &'a str,
    object: Map<String, Value>,
}

impl Fields<'_> {
    /// A whole number in a range; null is not passed.
    fn whole(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Ok(Some(number));
        }
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        Err(self.wrong(key, &value.to_string(), accepted))
    }

    fn wrong(&self, field: &str, got: &str, accepted: String) -> Error {
        let (file, field, got) = (self.file.to_owned(), field.to_owned(), got.to_owned());
        Error::Setting { file, field, got, accepted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_the_default() {
        let read = |text| Settings::read("s.json", text).expect("good settings");
        let plain = read(r#"{"min_replica": null}"#);
        assert_eq!((plain.scaling, plain.initial), (Scaling::baseten(), 0));
        let three = read(r#"{"min_replica": 3, "target_in_flight_tokens": 40000}"#);
        assert_eq!((three.initial, three.scaling.bounds.max()), (3, 3));
        assert_eq!(three.scaling.in_flight_tokens, Some(40_000));
    }

    #[test]
    fn a_bad_setting_is_refused_with_its_name_and_what_is_accepted() {
        let cases = [
            ("{", "s.json: EOF while parsing an object at line 1"),
            ("[]", "s.json: it is no object"),
            (r#"{"min_replicas": 1}"#, "min_replicas is not a setting; accepted: min_replica, "),
            (r#"{"min_replica": -1}"#, "min_replica is -1; accepted: a whole number from 0 to"),
            (r#"{"max_replica": 0}"#, "max_replica is 0; accepted: a whole number from 1 to"),
            (r#"{"min_replica": 3, "max_replica": 2}"#, "max_replica is 2; accepted: at least min"),
            (r#"{"autoscaling_window": 9}"#, "autoscaling_window is 9; accepted: a whole number"),
            (r#"{"scale_down_delay": 3601}"#, "scale_down_delay is 3601"),
            (r#"{"concurrency_target": 1.5}"#, "concurrency_target is 1.5"),
            (r#"{"target_utilization_percentage": "70"}"#, "is \"70\"; accepted: a whole number"),
            (r#"{"max_scale_down_rate": 51}"#, "max_scale_down_rate is 51"),
        ];
        for (text, words) in cases {
            let error = Settings::read("s.json", text).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
