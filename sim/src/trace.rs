//! What happened, for people (lines) and for machines (one hash over everything, which two runs of
//! one seed must share).

use wharfage_shared::ids::NodeId;
use wharfage_shared::time::Millis;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, since the world's beginning.
    pub at: Millis,
    /// Where, if on one node.
    pub node: Option<NodeId>,
    /// What.
    pub text: String,
    /// A detail of the node's own story, left out of the common timeline.
    pub is_detail: bool,
}

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct Trace {
    entries: Vec<Entry>,
    hash: u64,
    keeps_lines: bool,
}

impl Trace {
    /// Nothing yet. Without lines only the hash is kept.
    pub fn new(keeps_lines: bool) -> Self {
        Self { entries: Vec::new(), hash: 0xcbf2_9ce4_8422_2325, keeps_lines }
    }

    /// Whether lines are worth making.
    pub fn keeps_lines(&self) -> bool {
        self.keeps_lines
    }

    /// Adds a line.
    pub fn line(&mut self, at: Millis, node: Option<NodeId>, text: String) {
        self.push(Entry { at, node, text, is_detail: false });
    }

    /// Adds a line of one node's own story.
    pub fn detail(&mut self, at: Millis, node: NodeId, text: String) {
        self.push(Entry { at, node: Some(node), text, is_detail: true });
    }

    fn push(&mut self, entry: Entry) {
        self.mix(&entry.at.0.to_le_bytes());
        self.mix(entry.text.as_bytes());
        if self.keeps_lines {
            self.entries.push(entry);
        }
    }

    /// Mixes bytes into the hash (FNV-1a).
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Mixes a number in: one step of the world.
    pub fn mix_number(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
