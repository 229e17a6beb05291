//! The hash chain of the scheduler's log: each record carries the hash of the one before, so that
//! no record can be changed, dropped or moved unseen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 digest; 64 hexadecimal digits outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first record of a log follows.
    pub const GENESIS: Self = Self([0; 32]);

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest that was stored as bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The hash of one record: of the record before it, its number, its term, its instant in Unix
/// milliseconds and its payload. The numbers are eight bytes each, big end first, so no two
/// records share an encoding.
pub fn link(prev: &Hash, seq: u64, term: u64, ts_ms: i64, payload: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(prev.0);
    digest.update(seq.to_be_bytes());
    digest.update(term.to_be_bytes());
    digest.update(ts_ms.to_be_bytes());
    digest.update(payload);
    Hash(digest.finalize().into())
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// A text that is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no hash; accepted: 64 hexadecimal digits in lower case")]
pub struct NotAHash(pub String);

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let wrong = || NotAHash(text.to_owned());
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(wrong)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256_and_reads_back() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(Hash::of(b"abc")));
        for wrong in ["", "ba78", &abc.to_uppercase(), &abc.replace('b', "ä")] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash(wrong.to_owned())));
        }
    }

    #[test]
    fn every_part_of_a_record_changes_its_hash() {
        let hash = link(&Hash::GENESIS, 1, 2, 3, b"payload");
        let others = [
            link(&Hash::of(b""), 1, 2, 3, b"payload"),
            link(&Hash::GENESIS, 2, 2, 3, b"payload"),
            link(&Hash::GENESIS, 1, 3, 3, b"payload"),
            link(&Hash::GENESIS, 1, 2, 4, b"payload"),
            link(&Hash::GENESIS, 1, 2, 3, b"payloae"),
        ];
        assert!(others.iter().all(|other| *other != hash));
        assert_eq!(
            hash.to_string(),
            "74d452e2de3a860da68484358f497f2768d4f492e36085fff8030021634b6d34",
            "the encoding is part of every log ever written"
        );
    }
}
