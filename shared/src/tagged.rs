//! Enums whose variant is named by a field beside the others: `{"order":"stop","replica":"r-3",..}`.
//!
//! serde's own reading puts the other fields aside before it knows whose they are, and whoever
//! counts the fields that this release does not know cannot see into what was put aside. Our
//! programs write the name first; read here, the other fields go straight to their variant.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An enum that is read by [`read`].
pub(crate) trait Tagged: Sized {
    /// The field that names the variant.
    const TAG: &'static str;

    /// Reads the other fields of the variant with this name, if there is one.
    fn variant<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Self, D::Error>;
}

/// The fields of a variant that has none.
#[derive(serde::Deserialize)]
pub(crate) struct NoFields {}

/// Reads an enum.
pub(crate) fn read<'de, T: Tagged, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(ByName(PhantomData))
}

struct ByName<T>(PhantomData<T>);

impl<'de, T: Tagged> Visitor<'de> for ByName<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field `{}`", T::TAG)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut aside = Map::new();
        while let Some(field) = map.next_key::<String>()? {
            if field != T::TAG {
                aside.insert(field, map.next_value()?);
                continue;
            }
            let name: String = map.next_value()?;
            if aside.is_empty() {
                return T::variant(&name, MapAccessDeserializer::new(map));
            }
            // The log's canonical JSON sorts fields by name.
            while let Some((field, value)) = map.next_entry::<String, Value>()? {
                aside.insert(field, value);
            }
            return T::variant(&name, Value::Object(aside)).map_err(A::Error::custom);
        }
        Err(A::Error::missing_field(T::TAG))
    }
}

#[cfg(test)]
mod tests {
    use crate::gateway::Routing;
    use crate::order::Order;
    use crate::replica::Ended;

    #[test]
    fn the_name_may_stand_anywhere_and_what_is_wrong_is_named() {
        let stop = r#""replica":"r-3","because":"orphan","deadline":7,"quiet":true"#;
        let first: Order =
            serde_json::from_str(&format!(r#"{{"order":"stop",{stop}}}"#)).expect("first");
        let last: Order =
            serde_json::from_str(&format!(r#"{{{stop},"order":"stop"}}"#)).expect("last");
        assert_eq!(first, last);
        for (text, said) in [
            (r#"{"replica":"r-3"}"#, "missing field `order`"),
            (
                r#"{"order":"pause","replica":"r-3"}"#,
                "unknown variant `pause`, expected `run` or `stop`",
            ),
            (r#"{"order":"stop","replica":"r-3"}"#, "missing field `because`"),
            (r#"{"replica":"r-3","order":"stop"}"#, "missing field `because`"),
            (r#"["stop"]"#, "an object with the field `order`"),
        ] {
            let error = serde_json::from_str::<Order>(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let ends = [
            Ended::Exited { code: 3 },
            Ended::Signaled { signal: 9 },
            Ended::NeverStarted { because: "no such file".to_owned() },
            Ended::Unknown,
        ];
        for ended in ends {
            let text = serde_json::to_string(&ended).expect("JSON");
            assert!(text.starts_with(r#"{"how":"#), "{text}: the name comes first");
            assert_eq!(serde_json::from_str::<Ended>(&text).expect("read"), ended);
        }
        for routing in
            [Routing::Body, Routing::Header { name: "x-model".to_owned() }, Routing::Path]
        {
            let text = serde_json::to_string(&routing).expect("JSON");
            assert_eq!(serde_json::from_str::<Routing>(&text).expect("read"), routing);
        }
    }
}
