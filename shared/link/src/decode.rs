//! The one place where a program reads what another of our programs sent.
//!
//! The rule it guards: releases N and N-1 work together. A field that this release does not know is
//! ignored, and nothing is ignored silently: each is counted, and the first of its kind is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{DeserializeOwned, Error};
use serde_ignored::Path;

/// Fields that are remembered as said: the next release adds a handful, and a sender that makes
/// names up must not fill memory or the journal. Beyond them fields are only counted.
const MOST_SAID: usize = 256;

/// The longest name of a field that is said, in bytes.
const LONGEST_PATH: usize = 200;

/// Reads messages and remembers what it did not know in them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: BTreeMap<String, u64>,
    said: BTreeSet<(String, String)>,
}

impl Decoder {
    /// Reads a message. `kind` is what it is counted under: `heartbeat`, `routes_answer`, ...
    pub fn read<T: DeserializeOwned>(
        &self,
        kind: &str,
        body: &[u8],
    ) -> Result<T, serde_json::Error> {
        // Checked once as a whole: no text in it is checked again.
        let text = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let (mut count, mut paths) = (0, Vec::new());
        let message = serde_ignored::deserialize(&mut json, |path| {
            // A caller who wants nothing of an answer ignores all of it: that is no field.
            if matches!(path, Path::Root) {
                return;
            }
            count += 1;
            if paths.len() < MOST_SAID {
                paths.push(written(&path));
            }
        })?;
        json.end()?;
        if count > 0 {
            self.note(kind, count, paths);
        }
        Ok(message)
    }

    /// How many unknown fields came, by kind of message. Kinds that brought none are absent.
    pub fn unknown_fields(&self) -> BTreeMap<String, u64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    fn note(&self, kind: &str, count: u64, paths: Vec<String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.counts.entry(kind.to_owned()).or_default() += count;
        for path in paths {
            if seen.said.len() >= MOST_SAID || !seen.said.insert((kind.to_owned(), path.clone())) {
                continue;
            }
            tracing::info!(
                message.kind = kind,
                field.path = ?path,
                "the other side sends a field that this release does not know and ignores: it \
                 runs a newer release"
            );
        }
    }
}

/// What an answer is counted under: the last part of its request's path, `heartbeat_answer`.
pub(crate) fn answer_kind(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    format!("{}_answer", path.rsplit('/').next().unwrap_or_default())
}

/// `readings[].clock`: one name for all elements of a list.
fn written(path: &Path<'_>) -> String {
    let mut text = String::new();
    write_path(path, &mut text);
    if text.len() > LONGEST_PATH {
        let end = (0..=LONGEST_PATH).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn write_path(path: &Path<'_>, text: &mut String) {
    match path {
        Path::Root => {}
        Path::Seq { parent, .. } => {
            write_path(parent, text);
            text.push_str("[]");
        }
        Path::Map { parent, key } => {
            write_path(parent, text);
            let dot = if text.is_empty() { "" } else { "." };
            // Writing into a string cannot fail.
            let _ = write!(text, "{dot}{key}");
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => write_path(parent, text),
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;
    use wharfage_shared::heartbeat::HeartbeatAnswer;
    use wharfage_shared::order::Order;

    use super::*;

    /// An answer with a stop order, and with `further` fields in it and in the order.
    fn answer(in_answer: &str, in_order: &str) -> String {
        format!(
            r#"{{"term":7,"epoch":1,"lease":30000,"next_in":0,"now":5{in_answer},"desired":
               {{"version":{{"term":7,"generation":2}},"orders":[{{"order":"stop","replica":"r-1",
               "because":"orphan","deadline":9,"quiet":true{in_order}}}]}}}}"#
        )
    }

    #[test]
    fn unknown_fields_are_ignored_and_counted_at_every_depth() {
        let decoder = Decoder::default();
        let plain = answer("", "");
        let known: HeartbeatAnswer = decoder.read("answer", plain.as_bytes()).expect("read");
        assert!(decoder.unknown_fields().is_empty(), "what is known is not counted");

        let newer = answer(r#","mood":{"calm":[1]}"#, r#","gently":true,"after":[{"x":1}]"#);
        let read: HeartbeatAnswer = decoder.read("answer", newer.as_bytes()).expect("understood");
        assert_eq!(read, known);
        assert!(matches!(read.desired.expect("desired").orders[..], [Order::Stop(_)]));
        let counted = decoder.unknown_fields();
        assert_eq!(counted, [("answer".to_owned(), 3)].into());
        let said: Vec<_> = decoder.seen.lock().expect("whole").said.iter().cloned().collect();
        let said: Vec<_> = said.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(said, ["desired.orders[].after", "desired.orders[].gently", "mood"]);
    }

    #[test]
    fn a_sender_that_makes_names_up_fills_no_memory() {
        let decoder = Decoder::default();
        for number in 0..2 * MOST_SAID {
            let long = "ü".repeat(LONGEST_PATH);
            let field = format!(r#","made-up-{number}-{long}":1"#);
            let body = answer(&field, "");
            let _: HeartbeatAnswer = decoder.read("answer", body.as_bytes()).expect("understood");
        }
        let seen = decoder.seen.lock().expect("whole");
        assert_eq!(seen.counts["answer"], 2 * MOST_SAID as u64);
        assert_eq!(seen.said.len(), MOST_SAID);
        assert!(seen.said.iter().all(|(_, path)| path.len() <= LONGEST_PATH));
    }

    #[test]
    fn what_is_not_looked_at_and_what_is_no_message_are_not_counted() {
        let decoder = Decoder::default();
        let _: IgnoredAny = decoder.read("report_answer", br#"{"a":1}"#).expect("ignored");
        decoder.read::<HeartbeatAnswer>("answer", br#"{"mood":1,"term":"x"}"#).expect_err("bad");
        decoder.read::<HeartbeatAnswer>("answer", b"{} {}").expect_err("more than a message");
        decoder.read::<IgnoredAny>("answer", b"{\"a\":\"\xff\"}").expect_err("no text");
        assert!(decoder.unknown_fields().is_empty());
    }

    #[test]
    fn an_answer_is_counted_under_the_end_of_its_path() {
        assert_eq!(answer_kind("/agent/v1/heartbeat"), "heartbeat_answer");
        assert_eq!(answer_kind("/gateway/v1/routes?term=1&number=2"), "routes_answer");
    }
}
