//! Short texts that are copied and compared all the time: ids and names.
//!
//! Up to `N` bytes stand in the value itself, so that a copy is a move of bytes and a comparison
//! follows no pointer; longer ones share their storage. Which of the two holds a text depends on
//! its length alone, so that equal texts are equal values.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that does not change.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text<const N: usize>(Held<N>);

#[derive(Clone, PartialEq, Eq)]
enum Held<const N: usize> {
    /// The rest of `bytes` is zero.
    Here {
        bytes: [u8; N],
        length: u8,
    },
    Shared(Arc<str>),
}

impl<const N: usize> Text<N> {
    /// A length within the value is one byte.
    const MOST: usize = if N < 255 { N } else { 255 };

    pub fn new(text: &str) -> Self {
        if text.len() > Self::MOST {
            return Self(Held::Shared(text.into()));
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(Held::Here { bytes, length: text.len() as u8 })
    }

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Here { .. } => {
                std::str::from_utf8(self.as_bytes()).expect("it was made from a text")
            }
            Held::Shared(text) => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Here { bytes, length } => &bytes[..usize::from(*length)],
            Held::Shared(text) => text.as_bytes(),
        }
    }
}

/// The order of the texts themselves. The zeros behind a short one come before every byte that
/// another may have there, and where that byte is a zero too the length decides.
impl<const N: usize> Ord for Text<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (
                Held::Here { bytes: mine, length: my_length },
                Held::Here { bytes: theirs, length: their_length },
            ) => by_words(mine, theirs).then(my_length.cmp(their_length)),
            (Held::Here { .. } | Held::Shared(_), Held::Here { .. } | Held::Shared(_)) => {
                self.as_bytes().cmp(other.as_bytes())
            }
        }
    }
}

/// Compares eight bytes at a time: their order is that of the big-endian numbers that they are.
/// The last eight may overlap with those before, which are equal then.
fn by_words<const N: usize>(mine: &[u8; N], theirs: &[u8; N]) -> Ordering {
    let word = |bytes: &[u8; N], at: usize| match bytes[at..].first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => 0,
    };
    if N < 8 {
        return mine.cmp(theirs);
    }
    let mut at = 0;
    loop {
        let (a, b) = (word(mine, at), word(theirs, at));
        if a != b {
            return a.cmp(&b);
        }
        if at + 8 == N {
            return Ordering::Equal;
        }
        at = (at + 8).min(N - 8);
    }
}

impl<const N: usize> PartialOrd for Text<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<const N: usize>;

        impl<const N: usize> Visitor<'_> for Read<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<N>, E> {
                Ok(Text::new(text))
            }
        }

        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    /// Around the length at which storage changes, with zeros and bytes above ASCII among them.
    const TEXTS: [&str; 12] =
        ["", "\0", "a", "a\0", "a\0b", "ab", "abcd", "abcd\0", "abcde", "abce", "é", "ééé"];

    fn compares_like_strings<const N: usize>(a: &str, b: &str) {
        let (left, right) = (Text::<N>::new(a), Text::<N>::new(b));
        assert_eq!(left.cmp(&right), a.cmp(b), "{a:?} and {b:?}");
        assert_eq!(left == right, a == b, "{a:?} and {b:?}");
    }

    #[test]
    fn texts_compare_as_their_strings_do_wherever_they_are_held() {
        // Behind a common start a difference stands in each of the words that are compared.
        for start in ["", "1234567", "12345678", "123456789012", "12345678901234567890"] {
            for a in TEXTS {
                for b in TEXTS {
                    let (a, b) = (format!("{start}{a}"), format!("{start}{b}"));
                    compares_like_strings::<4>(&a, &b);
                    compares_like_strings::<8>(&a, &b);
                    compares_like_strings::<22>(&a, &b);
                }
            }
        }
    }

    #[test]
    fn a_text_reads_and_writes_as_the_string_that_it_was_made_from() {
        for text in TEXTS {
            let held = Text::<4>::new(text);
            assert_eq!(held.as_str(), text);
            assert_eq!(format!("{held:?} {held:>6}"), format!("{text:?} {text:>6}"));
            let written = serde_json::to_string(&held).expect("a string is JSON");
            assert_eq!(written, serde_json::to_string(text).expect("a string is JSON"));
            let read: Text<4> = serde_json::from_str(&written).expect("it was just written");
            assert_eq!(read, held);
        }
    }
}
