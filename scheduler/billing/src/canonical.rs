//! Canonical JSON: one text per value, so that bytes can be hashed and compared.
//!
//! Keys sorted by code point, no spaces, integers only: a float has no canonical text and money no
//! use for one.

use serde::Serialize;
use serde_json::Value;

/// A value without canonical text.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    /// A number that is no integer of 64 bits.
    #[error("{path} is {number}; accepted: integers of 64 bits")]
    NotAnInteger {
        /// Where, as in `.lines[3].rate`.
        path: String,
        /// The number.
        number: String,
    },
    /// The value has no JSON at all.
    #[error("the value cannot be written as JSON")]
    NotJson(#[source] serde_json::Error),
}

/// The canonical JSON of `value`.
pub fn to_string(value: &impl Serialize) -> Result<String, NotCanonical> {
    let value = serde_json::to_value(value).map_err(NotCanonical::NotJson)?;
    let mut text = String::new();
    let mut path = String::new();
    write(&value, &mut text, &mut path)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String, path: &mut String) -> Result<(), NotCanonical> {
    let depth = path.len();
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            let (path, number) = (path.clone(), number.to_string());
            return Err(NotCanonical::NotAnInteger { path, number });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                path.push_str(&format!("[{at}]"));
                write(item, text, path)?;
                path.truncate(depth);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            // Sorted here, whatever order the map keeps: a feature of another crate decides that.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (at, (key, item)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                path.push('.');
                path.push_str(key);
                write(item, text, path)?;
                path.truncate(depth);
            }
            text.push('}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_nothing_is_spaced() {
        let value = json!({"b": [1, -2, null], "a": {"z": "é\n", "y": true}, "": u64::MAX});
        let text = to_string(&value).expect("only integers");
        assert_eq!(text, r#"{"":18446744073709551615,"a":{"y":true,"z":"é\n"},"b":[1,-2,null]}"#);
    }

    #[test]
    fn a_float_is_refused_with_its_place() {
        let refused = to_string(&json!({"lines": [{"rate": 1}, {"rate": 2.5}]}));
        let refused = refused.map_err(|error| error.to_string());
        assert_eq!(refused, Err(".lines[1].rate is 2.5; accepted: integers of 64 bits".to_owned()));
    }
}
