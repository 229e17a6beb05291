//! Ids that are UUIDs as a rule: 16 bytes are held of the 36 that are read.
//!
//! A fleet keeps each GPU's and each deployment's id many times over. Whether a text is held as a
//! number depends on the text alone, so that equal texts are equal values, and their order is that
//! of the texts.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::Text;

/// Bytes of a text that is no UUID and stands in the value itself: it is no larger for it.
const HERE: usize = 22;
/// The longest text of a number.
const LONGEST: usize = 40;
/// Where a UUID has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// A text that does not change.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Compact(Held);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Held {
    Uuid { word: Word, bytes: [u8; 16] },
    Other(Text<HERE>),
}

/// What stands before a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Word {
    Nothing,
    Gpu,
    Mig,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Word::Nothing => "",
            Word::Gpu => "GPU-",
            Word::Mig => "MIG-",
        }
    }
}

/// The text of a number while somebody reads it.
struct Spelled {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Spelled {
    fn of(word: Word, number: &[u8; 16]) -> Self {
        let mut spelled = Self { bytes: [0; LONGEST], length: 0 };
        spelled.push(word.text().as_bytes());
        for (at, byte) in number.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                spelled.push(b"-");
            }
            let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
            spelled.push(&[digit(byte >> 4), digit(byte & 15)]);
        }
        spelled
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("digits and dashes are ASCII")
    }
}

/// The number of a UUID, if the text is one as we would write it: what is spelled otherwise is
/// another text.
fn number(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || DASHES.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = (0..36).filter(|at| !DASHES.contains(at)).map(|at| text[at]);
    for byte in &mut bytes {
        *byte = (digit(digits.next()?)? << 4) | digit(digits.next()?)?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _other => None,
    }
}

impl Compact {
    pub fn new(text: &str) -> Self {
        let (word, rest) = match text.as_bytes() {
            [b'G', b'P', b'U', b'-', rest @ ..] => (Word::Gpu, rest),
            [b'M', b'I', b'G', b'-', rest @ ..] => (Word::Mig, rest),
            all => (Word::Nothing, all),
        };
        Self(match number(rest) {
            Some(bytes) => Held::Uuid { word, bytes },
            None => Held::Other(Text::new(text)),
        })
    }

    /// The text; made anew of a number.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Held::Uuid { word, bytes } => Spelled::of(*word, bytes).as_str().to_owned().into(),
            Held::Other(text) => text.as_str().into(),
        }
    }

    pub fn is(&self, text: &str) -> bool {
        self.read(|own| own == text)
    }

    fn read<T>(&self, by: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Held::Uuid { word, bytes } => by(Spelled::of(*word, bytes).as_str()),
            Held::Other(text) => by(text.as_str()),
        }
    }
}

/// The order of the texts: digits ascend as what they stand for.
impl Ord for Compact {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (
                Held::Uuid { word: mine, bytes: my_bytes },
                Held::Uuid { word: theirs, bytes: their_bytes },
            ) if mine == theirs => {
                u128::from_be_bytes(*my_bytes).cmp(&u128::from_be_bytes(*their_bytes))
            }
            (Held::Other(mine), Held::Other(theirs)) => mine.cmp(theirs),
            (Held::Uuid { .. } | Held::Other(_), Held::Uuid { .. } | Held::Other(_)) => {
                self.read(|mine| other.read(|theirs| mine.cmp(theirs)))
            }
        }
    }
}

impl PartialOrd for Compact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|text| fmt::Debug::fmt(text, f))
    }
}

impl fmt::Display for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|text| f.pad(text))
    }
}

impl Serialize for Compact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.read(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Compact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Compact;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Compact, E> {
                Ok(Compact::new(text))
            }
        }

        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::{Compact, Held};

    const UUID: &str = "0123abcd-4567-89ef-fedc-ba9876543210";

    /// UUIDs with and without words, what is nearly one, and anything.
    fn texts() -> Vec<String> {
        let mut texts: Vec<String> =
            ["", "GPU-", "GPU-1", "MIG-2", "d-chat", "gpu-0", "0", "zz"].map(str::to_owned).into();
        let last = UUID.replace("43210", "43211");
        let upper = UUID.to_uppercase();
        let short = UUID[..35].to_owned();
        let wrong = UUID.replace("-4567", "_4567");
        for uuid in [UUID, &last, &upper, &short, &wrong, &format!("{UUID}0")] {
            texts.extend(["", "GPU-", "MIG-", "gpu-", "é"].map(|word| format!("{word}{uuid}")));
        }
        texts
    }

    #[test]
    fn they_read_write_and_compare_as_their_texts_do() {
        for a in texts() {
            let held = Compact::new(&a);
            assert_eq!(held.text(), a);
            assert_eq!(format!("{held:?} {held} {held:>44}"), format!("{a:?} {a} {a:>44}"));
            let written = serde_json::to_string(&held).expect("a string is JSON");
            assert_eq!(written, serde_json::to_string(&a).expect("a string is JSON"));
            let read: Compact = serde_json::from_str(&written).expect("it was just written");
            assert_eq!(read, held);
            for b in texts() {
                let other = Compact::new(&b);
                assert_eq!(held.cmp(&other), a.cmp(&b), "{a:?} and {b:?}");
                assert_eq!(held == other, a == b, "{a:?} and {b:?}");
                assert_eq!(held.is(&b), a == b, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_uuid_is_held_as_a_number_where_it_is_spelled_as_we_would() {
        for (text, expected) in [
            (UUID.to_owned(), true),
            (format!("GPU-{UUID}"), true),
            (format!("MIG-{UUID}"), true),
            (UUID.to_uppercase(), false),
            (format!("{UUID}0"), false),
            ("GPU-1".to_owned(), false),
        ] {
            let held = Compact::new(&text);
            assert_eq!(matches!(held.0, Held::Uuid { .. }), expected, "{text}");
        }
        assert_eq!(size_of::<Compact>(), 24);
    }
}
