//! Why a replica stands where it stands, in words.
//!
//! What follows from the rank is put into words where somebody reads it: a large fleet keeps a
//! hundred thousand reasons, and few of them are ever read.

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{ComputeClass, Zone};

use super::placement::Score;

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// It follows from the rank, and from what was true of the node then.
    Ranked(Ranked),
    /// As it was written.
    Told(Box<str>),
}

impl From<&str> for Sentence {
    fn from(text: &str) -> Self {
        Sentence::Told(text.into())
    }
}

impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Sentence::Told(text.into())
    }
}

impl Sentence {
    /// The words; `score` is the rank that they speak of.
    pub fn of(&self, score: &Score) -> String {
        match self {
            Sentence::Ranked(ranked) => ranked.of(score),
            Sentence::Told(text) => text.to_string(),
        }
    }
}

/// What a sentence says beside the rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// Where the node is.
    pub zone: Zone,
    /// What the node is by its pool.
    pub compute_class: ComputeClass,
    /// It is standard and serves somebody as spot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_lent: bool,
    /// What the seconds until it is ready rest on; absent where nothing was known of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Half a sentence more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<Box<str>>,
}

impl Ranked {
    fn of(&self, score: &Score) -> String {
        let site =
            Site { zone: &self.zone, compute_class: self.compute_class, is_lent: self.is_lent };
        let mut words = site.of(score);
        if let Some(start) = self.start {
            words += "; ";
            words += &start.of(score.seconds_to_ready);
        }
        if let Some(more) = &self.more {
            words += "; ";
            words += more;
        }
        words
    }
}

/// What a start rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Other starts; whether the model lies in the cache makes no difference that is known.
    History,
    /// Other starts with the model in the cache, where it lies.
    Cached,
    /// Other starts without, as here.
    Fetched,
}

impl Start {
    /// `ready in about 40 s, its model must be fetched`
    pub fn of(self, seconds: u32) -> String {
        let cache = match self {
            Start::History => "",
            Start::Cached => ", its model lies in the cache",
            Start::Fetched => ", its model must be fetched",
        };
        format!("ready in about {seconds} s{cache}")
    }
}

/// What the sentence of a rank says of its node.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Where.
    pub zone: &'a Zone,
    /// What it is by its pool.
    pub compute_class: ComputeClass,
    /// It is standard and serves somebody as spot.
    pub is_lent: bool,
}

impl Site<'_> {
    /// The rank as one sentence.
    pub fn of(&self, score: &Score) -> String {
        let left = score.gpus_left.to_string();
        let (room, left, free) = match (score.breaks_whole_node, score.gpus_left) {
            (true, _) => ("no node in use had room, ", left.as_str(), " GPUs stay free"),
            (false, 0) => ("it fits exactly", "", ""),
            (false, _) => ("the fullest node with room, ", left.as_str(), " GPUs stay free"),
        };
        let serves =
            if score.opens_node { "; it was idle" } else { "; it serves the organization already" };
        let (id, zone) = (score.node.as_str(), self.zone.as_str());
        let (how, sold) = match score.lends || self.is_lent {
            true => (", standard and lent as ", ComputeClass::Spot.word()),
            false => (", sold as ", self.compute_class.word()),
        };
        [id, " in ", zone, how, sold, ": ", room, left, free, serves].concat()
    }
}

#[cfg(test)]
mod tests {
    use wharfage_shared::capacity::{CapacityClass, ComputeClass, Zone};

    use super::{Ranked, Sentence, Start};
    use crate::words::because::placement::{Placement, Score};

    #[test]
    fn a_reason_reads_alike_when_it_is_given_in_the_log_and_from_a_log_of_before() {
        let score = Score {
            lends: false,
            class: 0,
            breaks_whole_node: false,
            crowding: 0,
            gpus_left: 3,
            opens_node: true,
            seconds_to_ready: 40,
            siblings: 0,
            node: "node-1".into(),
        };
        let sentence = Sentence::Ranked(Ranked {
            zone: Zone::new("US-EAST-04A"),
            compute_class: ComputeClass::Standard,
            is_lent: false,
            start: Some(Start::Cached),
            more: Some("its GPUs share NVLinks".into()),
        });
        let given = Placement { class: CapacityClass::OnDemand, score, sentence };
        let said = "node-1 in US-EAST-04A, sold as standard: the fullest node with room, 3 GPUs \
                    stay free; it was idle; ready in about 40 s, its model lies in the cache; its \
                    GPUs share NVLinks";
        assert_eq!(given.said(), said);
        let mut written = serde_json::to_value(&given).expect("a placement is JSON");
        assert_eq!(written["sentence"], said);
        let read: Placement = serde_json::from_value(written.clone()).expect("it was written");
        assert_eq!(read, given);
        written.as_object_mut().expect("an object").remove("ranked");
        let of_before: Placement = serde_json::from_value(written).expect("as logs had it");
        assert_eq!(of_before.said(), said);
        assert_eq!(of_before.sentence, Sentence::from(said));
    }
}
