//! Records in one file: each with its length, a check of the length and a hash of its bytes.
//!
//! A record that was cut off at the end (the process died while writing) is dropped; anything
//! else that does not match is damage and is told apart, because a number that was lost with a
//! damaged record must never be given out again.

use sha2::{Digest, Sha256};

/// Length (4), check of the length (4), SHA-256 of the payload (32).
const HEADER: usize = 40;

/// The most that one record may hold: a flipped length cannot ask for more.
pub const LARGEST_RECORD: usize = 1024 * 1024;

/// What a file of records holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The good records from the beginning.
    pub records: Vec<Vec<u8>>,
    /// How many bytes they take: a torn tail is cut off here.
    pub good_bytes: usize,
    /// What follows them.
    pub end: End,
}

/// What follows the last good record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing.
    Clean,
    /// A record whose writing was cut off.
    Torn,
    /// Bytes that were once good and are not now.
    Damaged,
}

/// One record as it stands in the file.
pub fn encode(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&Sha256::digest(length)[..4]);
    frame.extend_from_slice(&Sha256::digest(payload));
    frame.extend_from_slice(payload);
    frame
}

/// Reads as many good records as there are.
pub fn decode(bytes: &[u8]) -> Read {
    let mut records = Vec::new();
    let mut at = 0;
    let end = loop {
        let rest = &bytes[at..];
        if rest.is_empty() {
            break End::Clean;
        }
        if rest.len() < HEADER {
            break End::Torn;
        }
        let (length, check) = (&rest[..4], &rest[4..8]);
        let count = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if Sha256::digest(length)[..4] != *check || count > LARGEST_RECORD {
            break End::Damaged;
        }
        let Some(payload) = rest.get(HEADER..HEADER + count) else { break End::Torn };
        if Sha256::digest(payload)[..] != rest[8..HEADER] {
            break End::Damaged;
        }
        records.push(payload.to_vec());
        at += HEADER + count;
    };
    Read { records, good_bytes: at, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        [b"first".as_slice(), b"", b"the third record"].iter().flat_map(|p| encode(p)).collect()
    }

    #[test]
    fn a_file_that_is_cut_anywhere_keeps_every_whole_record() {
        let whole = file();
        let borders = [0, 45, 85, whole.len()];
        for cut in 0..=whole.len() {
            let read = decode(&whole[..cut]);
            let kept = borders.iter().filter(|border| **border <= cut).count() - 1;
            assert_eq!(read.records.len(), kept, "cut at {cut}");
            let clean = borders.contains(&cut);
            assert_eq!(read.end, if clean { End::Clean } else { End::Torn }, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let whole = file();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&flipped);
            assert_eq!(read.end, End::Damaged, "bit {bit}");
            assert!(read.records.len() < 3, "bit {bit}");
        }
    }
}
