//! A flag that the node's owner lets deployments set, with the values that it may take: what is
//! out of bounds is refused here, before an engine spends minutes on it.

use serde::Deserialize;

/// What a typed parameter accepts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
pub enum Parameter {
    /// A whole number.
    Integer {
        /// The smallest that is accepted.
        min: Option<i64>,
        /// The largest that is accepted.
        max: Option<i64>,
    },
    /// A decimal number.
    Number {
        /// The smallest that is accepted.
        min: Option<f64>,
        /// The largest that is accepted.
        max: Option<f64>,
    },
    /// `true` or `false`; written without a value.
    Boolean {
        /// What stands on the command line for `true`.
        #[serde(default = "plain_name")]
        on: Vec<String>,
        /// What stands there for `false`.
        #[serde(default)]
        off: Vec<String>,
    },
    /// One of these.
    Choice {
        /// All that is accepted.
        values: Vec<String>,
    },
    /// Any text that no program could take for a flag.
    Text {
        /// The longest that is accepted, in bytes.
        #[serde(default = "default_longest")]
        longest: usize,
    },
}

impl Parameter {
    /// Whether this value is accepted; if not, what is.
    pub fn accepts(&self, value: &str) -> Result<(), String> {
        let is_good = match self {
            Parameter::Integer { min, max } => value.parse::<i64>().is_ok_and(|number| {
                min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)
            }),
            Parameter::Number { min, max } => value.parse::<f64>().is_ok_and(|number| {
                number.is_finite()
                    && min.is_none_or(|min| number >= min)
                    && max.is_none_or(|max| number <= max)
            }),
            Parameter::Boolean { .. } => matches!(value, "true" | "false"),
            Parameter::Choice { values } => values.iter().any(|known| known == value),
            Parameter::Text { longest } => value.len() <= *longest && is_plain(value),
        };
        if is_good { Ok(()) } else { Err(format!("accepted is {}", self.accepted())) }
    }

    /// The arguments of one value; `usual` is how the engine writes a flag.
    pub fn arguments<'a>(&'a self, value: &str, usual: &'a [String]) -> &'a [String] {
        match self {
            Parameter::Boolean { on, off } => {
                if value == "true" {
                    on
                } else {
                    off
                }
            }
            Parameter::Integer { .. }
            | Parameter::Number { .. }
            | Parameter::Choice { .. }
            | Parameter::Text { .. } => usual,
        }
    }

    /// Whether it can accept anything at all.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Parameter::Integer { min: Some(min), max: Some(max) } if min > max => {
                Err("min is above max: nothing would be accepted")
            }
            Parameter::Number { min: Some(min), max: Some(max) } if min > max => {
                Err("min is above max: nothing would be accepted")
            }
            Parameter::Choice { values } if values.is_empty() => {
                Err("values is empty: nothing would be accepted")
            }
            Parameter::Integer { .. }
            | Parameter::Number { .. }
            | Parameter::Boolean { .. }
            | Parameter::Choice { .. }
            | Parameter::Text { .. } => Ok(()),
        }
    }

    fn accepted(&self) -> String {
        match self {
            Parameter::Integer { min, max } => format!("a whole number{}", bounds(min, max)),
            Parameter::Number { min, max } => format!("a number{}", bounds(min, max)),
            Parameter::Boolean { .. } => "true or false".to_owned(),
            Parameter::Choice { values } => format!("one of {}", values.join(", ")),
            Parameter::Text { longest } => {
                format!("text of at most {longest} bytes that does not begin with -")
            }
        }
    }
}

/// Whether a value cannot be taken for a flag by the program that reads it.
pub fn is_plain(value: &str) -> bool {
    let is_negative_number = || value.parse::<f64>().is_ok();
    !value.contains('\0') && (!value.starts_with('-') || is_negative_number())
}

fn bounds<T: std::fmt::Display>(min: &Option<T>, max: &Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    }
}

fn plain_name() -> Vec<String> {
    vec!["--{name}".to_owned()]
}

fn default_longest() -> usize {
    256
}
