//! One value as NVML gave it, did not know it, or failed to give it.
//!
//! The rule it guards: what a GPU or driver does not support is `unsupported`, never zero, and an
//! error of one value never hides the others.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value of a reading. As JSON it is the bare value, `"unsupported"`, or `{"error": sentence}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<T> {
    /// What was read.
    Value(T),
    /// This GPU, driver or library does not have it.
    Unsupported,
    /// It could not be read: one sentence.
    Error(String),
}

impl<T> Value<T> {
    /// What was read, if it was.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unsupported | Self::Error(_) => None,
        }
    }

    /// What was read, turned into something else.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Value<U> {
        match self {
            Self::Value(value) => Value::Value(turn(value)),
            Self::Unsupported => Value::Unsupported,
            Self::Error(because) => Value::Error(because),
        }
    }
}

impl<T: Copy> Value<T> {
    /// A copy of what was read, if it was.
    pub fn get(&self) -> Option<T> {
        self.known().copied()
    }
}

/// How a value is written; the order is the order in which reading tries them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Absent(Absent),
    Value(T),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Absent {
    Unsupported,
    Error(String),
}

impl<T: Serialize> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => Written::Value(value),
            Self::Unsupported => Written::Absent(Absent::Unsupported),
            Self::Error(because) => Written::Absent(Absent::Error(because.clone())),
        }
        .serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Absent(Absent::Unsupported) => Self::Unsupported,
            Written::Absent(Absent::Error(because)) => Self::Error(because),
            Written::Value(value) => Self::Value(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    // JSON itself is a matter of the crates above: here a value goes through its parts only.
    #[test]
    fn only_what_was_read_is_known() {
        assert_eq!(Value::Value(0_u32).get(), Some(0));
        assert_eq!(Value::<u32>::Unsupported.get(), None);
        assert_eq!(Value::<u32>::Error("no".to_owned()).map(|v| v + 1).get(), None);
        assert_eq!(Value::Value(1_u32).map(|v| v + 1), Value::Value(2));
    }
}
