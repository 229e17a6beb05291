//! Reads a JSON body field by field and collects everything that is wrong with it.
//!
//! A client learns all of its mistakes from one answer: a reader never stops at the first. What
//! cannot be read counts as absent, so one mistake is named once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// Longest text in a body that has no shorter limit of its own.
const LONGEST_TEXT: usize = 4096;

/// Most entries of a list or map: no resource needs more, and each costs a sentence when wrong.
const MOST_ENTRIES: usize = 1000;

/// Most mistakes that are named in one answer: a body full of them must not make an answer many
/// times its length.
const MOST_WRONG: usize = 64;

/// One field that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The field as the client wrote it (`autoscaling.max`).
    pub field: String,
    /// What was wrong.
    pub problem: String,
    /// What is accepted, where that can be said apart.
    pub accepted: Option<String>,
}

impl Wrong {
    /// Problem and what is accepted, as one sentence.
    pub fn sentence(&self) -> String {
        match &self.accepted {
            Some(accepted) => format!("{}; accepted: {accepted}", self.problem),
            None => self.problem.clone(),
        }
    }
}

/// What was found wrong so far. Shared by the readers of nested objects.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Wrong>>);

impl Problems {
    /// Notes one.
    pub fn note(&self, field: &str, problem: impl Into<String>, accepted: impl Into<String>) {
        let mut noted = self.0.borrow_mut();
        if noted.len() >= MOST_WRONG {
            return;
        }
        let accepted = Some(accepted.into()).filter(|text| !text.is_empty());
        let wrong = Wrong { field: field.to_owned(), problem: problem.into(), accepted };
        noted.push(wrong);
    }

    /// All that was noted, or nothing.
    pub fn take(self) -> Result<(), Vec<Wrong>> {
        let found = self.0.into_inner();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}

/// What becomes of a key that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is named as wrong.
    Refuse,
    /// So too, unless its value is null, empty or the default: clients of the CoreWeave API send
    /// such keys for fields that they know and we do not.
    IgnoreEmpty,
}

/// The reader of one object.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    unknown: Unknown,
    problems: &'a Problems,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// A reader of the whole body.
    pub fn new(map: &'a Map<String, Value>, unknown: Unknown, problems: &'a Problems) -> Self {
        Self { map, path: String::new(), unknown, problems, asked: RefCell::default() }
    }

    /// A field's name as the client sees it.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes that a field is wrong.
    pub fn wrong(&self, key: &str, problem: impl Into<String>, accepted: impl Into<String>) {
        self.problems.note(&self.name(key), problem, accepted);
    }

    /// Where problems go.
    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The value of a key; null counts as absent. Keys in lowerCamelCase are found in snake_case
    /// too, as protojson has it.
    pub fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(key);
        let found = self.map.get(key).or_else(|| self.map.get(&snake(key)));
        found.filter(|value| !value.is_null())
    }

    /// Whether the key is there with a value.
    pub fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            Value::String(text) if text.len() > LONGEST_TEXT => {
                self.wrong(
                    key,
                    format!("the text has {} bytes", text.len()),
                    format!("at most {LONGEST_TEXT}"),
                );
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.wrong(key, format!("it is {}", kind(other)), "a text");
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub fn required_text(&self, key: &'static str, accepted: &str) -> Option<&'a str> {
        if !self.has(key) {
            self.wrong(key, "it is missing", accepted);
            return None;
        }
        let text = self.text(key)?;
        if text.is_empty() {
            self.wrong(key, "it is empty", accepted);
            return None;
        }
        Some(text)
    }

    /// A whole number within a range.
    pub fn whole(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        match value {
            Value::Number(number) => {
                let inside = number.as_u64().and_then(|number| u32::try_from(number).ok());
                let inside = inside.filter(|number| range.contains(number));
                if inside.is_none() {
                    self.wrong(key, format!("it is {number}"), accepted);
                }
                inside
            }
            other => {
                self.wrong(key, format!("it is {}", kind(other)), accepted);
                None
            }
        }
    }

    /// A whole number that must be there.
    pub fn required_whole(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        if !self.has(key) {
            let accepted = format!("a whole number from {} to {}", range.start(), range.end());
            self.wrong(key, "it is missing", accepted);
            return None;
        }
        self.whole(key, range)
    }

    /// True or false.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.wrong(key, format!("it is {}", kind(other)), "true or false");
                None
            }
        }
    }

    /// An object.
    pub fn object(&self, key: &'static str) -> Option<Fields<'a>> {
        match self.value(key)? {
            Value::Object(map) => Some(Fields {
                map,
                path: self.name(key),
                unknown: self.unknown,
                problems: self.problems,
                asked: RefCell::default(),
            }),
            other => {
                self.wrong(key, format!("it is {}", kind(other)), "an object");
                None
            }
        }
    }

    /// An object that must be there.
    pub fn required_object(&self, key: &'static str) -> Option<Fields<'a>> {
        if !self.has(key) {
            self.wrong(key, "it is missing", "an object");
            return None;
        }
        self.object(key)
    }

    /// A list.
    pub fn list(&self, key: &'static str) -> Option<&'a [Value]> {
        match self.value(key)? {
            Value::Array(list) if list.len() > MOST_ENTRIES => {
                self.wrong(
                    key,
                    format!("it has {} entries", list.len()),
                    format!("at most {MOST_ENTRIES}"),
                );
                None
            }
            Value::Array(list) => Some(list),
            other => {
                self.wrong(key, format!("it is {}", kind(other)), "a list");
                None
            }
        }
    }

    /// A list of texts, none of them empty.
    pub fn texts(&self, key: &'static str) -> Option<Vec<&'a str>> {
        let mut texts = Vec::new();
        for (at, value) in self.list(key)?.iter().enumerate() {
            match value {
                Value::String(text) if !text.is_empty() && text.len() <= LONGEST_TEXT => {
                    texts.push(text.as_str());
                }
                Value::String(text) if text.is_empty() => {
                    self.problems.note(&self.entry(key, at), "it is empty", "a text");
                }
                Value::String(_) => {
                    self.problems.note(
                        &self.entry(key, at),
                        "it is too long",
                        format!("at most {LONGEST_TEXT} bytes"),
                    );
                }
                other => {
                    let problem = format!("it is {}", kind(other));
                    self.problems.note(&self.entry(key, at), problem, "a text");
                }
            }
        }
        Some(texts)
    }

    /// A map of texts to texts; absent = empty.
    pub fn text_map(&self, key: &'static str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let map = match self.value(key) {
            None => return texts,
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.wrong(key, format!("it is {}", kind(other)), "an object of texts");
                return texts;
            }
        };
        if map.len() > MOST_ENTRIES {
            let problem = format!("it has {} entries", map.len());
            self.wrong(key, problem, format!("at most {MOST_ENTRIES}"));
            return texts;
        }
        for (name, value) in map {
            let field = format!("{}.{name}", self.name(key));
            match value {
                Value::String(text) if text.len() <= LONGEST_TEXT => {
                    texts.insert(name.clone(), text.clone());
                }
                Value::String(_) => self.problems.note(
                    &field,
                    "the text is too long",
                    format!("at most {LONGEST_TEXT} bytes"),
                ),
                other => {
                    let problem = format!("it is {}", kind(other));
                    self.problems.note(&field, problem, "a text (numbers in quotes)");
                }
            }
        }
        texts
    }

    /// One word of a closed list. `words` pairs a name with its protobuf number and its meaning.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, u64, T)]) -> Option<T> {
        let value = self.value(key)?;
        self.word_of(&self.name(key), value, words)
    }

    /// The same for a value that stands elsewhere, such as in a list.
    pub fn word_of<T: Copy>(
        &self,
        field: &str,
        value: &Value,
        words: &[(&str, u64, T)],
    ) -> Option<T> {
        let found = match value {
            Value::String(text) => words.iter().find(|(name, _, _)| name == text),
            Value::Number(number) => words.iter().find(|(_, n, _)| number.as_u64() == Some(*n)),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(name, _, _)| *name).collect();
            self.problems.note(field, format!("it is {}", shown(value)), names.join(", "));
        }
        found.map(|(_, _, meaning)| *meaning)
    }

    /// The name of one entry of a list.
    pub fn entry(&self, key: &str, at: usize) -> String {
        format!("{}[{at}]", self.name(key))
    }

    /// Names every key that was not asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, value) in self.map {
            let known = asked.iter().any(|known| *known == key || snake(known) == *key);
            let harmless = self.unknown == Unknown::IgnoreEmpty && is_default(value);
            if !known && !harmless {
                let mut names: Vec<&str> = asked.clone();
                names.sort_unstable();
                names.dedup();
                let accepted = match names.as_slice() {
                    [] => "no fields: `{}`".to_owned(),
                    names => names.join(", "),
                };
                self.wrong(key, "no such field", accepted);
            }
        }
    }
}

/// `gatewayIds` -> `gateway_ids`.
fn snake(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Whether a value is what its field has when it is not set.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        // Protobuf's word for an enum that is not set.
        Value::String(text) => text.is_empty() || text.ends_with("_UNSPECIFIED"),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_default),
    }
}

/// What kind of JSON value it is, for sentences.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as a sentence shows it, shortened.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", text.chars().take(64).collect::<String>()),
        Value::Number(number) => number.to_string(),
        other => kind(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every problem of a small reader, one a line.
    fn read(body: &Value, unknown: Unknown) -> String {
        let problems = Problems::default();
        let map = body.as_object().expect("the cases are objects");
        let fields = Fields::new(map, unknown, &problems);
        fields.required_text("name", "a name");
        fields.whole("count", 1..=8);
        fields.texts("gatewayIds");
        if let Some(inner) = fields.object("inner") {
            inner.flag("on");
            inner.word("class", &[("RED", 1, ()), ("BLUE", 2, ())]);
            inner.finish();
        }
        fields.text_map("labels");
        fields.finish();
        let wrongs = problems.take().err().unwrap_or_default();
        wrongs
            .iter()
            .map(|w| format!("{}: {}", w.field, w.sentence()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_mistake_is_named_in_one_answer() {
        let body = serde_json::json!({
            "count": 9, "gatewayIds": ["a", "", 3], "inner": {"on": "yes", "class": 7, "x": 1},
            "labels": {"a": 1}, "colour": "blue",
        });
        let expected = "name: it is missing; accepted: a name\n\
            count: it is 9; accepted: a whole number from 1 to 8\n\
            gatewayIds[1]: it is empty; accepted: a text\n\
            gatewayIds[2]: it is a number; accepted: a text\n\
            inner.on: it is a text; accepted: true or false\n\
            inner.class: it is 7; accepted: RED, BLUE\n\
            inner.x: no such field; accepted: class, on\n\
            labels.a: it is a number; accepted: a text (numbers in quotes)\n\
            colour: no such field; accepted: count, gatewayIds, inner, labels, name";
        assert_eq!(read(&body, Unknown::Refuse), expected);
    }

    #[test]
    fn unknown_keys_without_a_value_are_harmless_only_where_that_is_the_rule() {
        let body = serde_json::json!({
            "name": "n", "a": null, "b": 0, "c": "", "d": [], "e": {"f": false}, "gateway_ids": [],
            "g": "MODE_UNSPECIFIED",
        });
        assert_eq!(read(&body, Unknown::IgnoreEmpty), "");
        assert_eq!(read(&body, Unknown::Refuse).lines().count(), 6);
    }

    #[test]
    fn numbers_that_are_not_whole_or_too_large_are_refused() {
        for text in ["-1", "1.5", "1e3", "18446744073709551616", "4294967296", "1.0"] {
            let body: Value = serde_json::from_str(&format!(r#"{{"name":"n","count":{text}}}"#))
                .expect("the cases are JSON");
            assert!(read(&body, Unknown::Refuse).starts_with("count: it is"), "{text}");
        }
    }
}
