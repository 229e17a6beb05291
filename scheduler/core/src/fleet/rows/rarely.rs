//! Fields of which most rows have none: they stand apart, so that a fleet of rows is small and a
//! row is copied fast.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Fields that most rows leave empty.
pub trait Rare: Clone + PartialEq + 'static {
    /// All of them empty.
    const NONE: &'static Self;
}

/// Rare fields. Invariant: where all are empty, none are kept.
#[derive(Clone)]
pub struct Rarely<T>(Option<Box<T>>);

impl<T: Rare> Rarely<T> {
    /// Keeps nothing of fields that are all empty: to be called after they were changed.
    pub fn tidy(&mut self) {
        if self.0.as_deref() == Some(T::NONE) {
            self.0 = None;
        }
    }
}

impl<T> Default for Rarely<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Rare> From<T> for Rarely<T> {
    fn from(fields: T) -> Self {
        let mut rarely = Self(Some(Box::new(fields)));
        rarely.tidy();
        rarely
    }
}

impl<T: Rare> Deref for Rarely<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NONE)
    }
}

impl<T: Rare> DerefMut for Rarely<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::NONE.clone()))
    }
}

impl<T: Rare> PartialEq for Rarely<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Rare + fmt::Debug> fmt::Debug for Rarely<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// In a snapshot they stand among the row's other fields.
impl<T: Rare + Serialize> Serialize for Rarely<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Rare + Deserialize<'de>> Deserialize<'de> for Rarely<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Rare, Rarely};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Marks {
        names: Vec<String>,
    }

    impl Rare for Marks {
        const NONE: &'static Self = &Self { names: Vec::new() };
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        id: u32,
        #[serde(flatten)]
        marks: Rarely<Marks>,
    }

    #[test]
    fn what_is_empty_again_is_kept_no_more_and_stands_among_the_rows_fields() {
        let mut row = Row { id: 1, marks: Rarely::default() };
        assert_eq!(serde_json::to_string(&row).expect("JSON"), r#"{"id":1,"names":[]}"#);
        row.marks.names.push("a".to_owned());
        let written = serde_json::to_string(&row).expect("JSON");
        assert_eq!(written, r#"{"id":1,"names":["a"]}"#);
        assert_eq!(serde_json::from_str::<Row>(&written).expect("it was written"), row);
        row.marks.names.clear();
        assert_eq!(row, Row { id: 1, marks: Rarely::default() }, "kept or not is no difference");
        assert!(row.marks.0.is_some());
        row.marks.tidy();
        assert!(row.marks.0.is_none());
        let read: Row = serde_json::from_str(r#"{"id":1,"names":[]}"#).expect("a row");
        assert!(read.marks.0.is_none());
    }
}
