//! One node's case. Its sentence follows from the rest and is put into words where it is read: a
//! large fleet has thousands of cases, most of which are only counted.

use std::fmt;

use serde::{Serialize, Serializer};
use wharfage_shared::capacity::{ComputeClass, Zone};
use wharfage_shared::ids::{NodeId, OrganizationId};

use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Rejection, Score};
use crate::words::because::sentence::Site;

/// Whether a node is an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is, with its rank.
    Feasible(Score),
    /// It is not: the first rule that fails.
    Rejected(Rejection),
}

/// What is said of a node, its name apart: many nodes of a fleet have the same case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    /// Whether they are an option. A rank of several nodes names none of them.
    pub verdict: Verdict,
    /// GPUs that are free there.
    pub free: u8,
    /// Where.
    pub zone: Zone,
    /// How they are sold.
    pub compute_class: ComputeClass,
    /// They are standard and serve somebody as spot.
    pub is_lent: bool,
    /// Whom they serve now; only the provider and that organization are told.
    pub serves: Option<OrganizationId>,
    /// Whose they are; absent = the provider's.
    pub owner: Option<OrganizationId>,
}

impl Case {
    pub fn new(node: &NodeRow, verdict: Verdict) -> Self {
        Self {
            verdict,
            free: node.free(),
            zone: node.zone.clone(),
            compute_class: node.compute_class,
            is_lent: node.is_lent(),
            serves: serves(node).cloned(),
            owner: node.owner.clone(),
        }
    }

    /// Whether this is the node's case too.
    pub fn is_of(&self, node: &NodeRow, verdict: &Verdict) -> bool {
        self.verdict == *verdict
            && self.free == node.free()
            && self.serves.as_ref() == serves(node)
            && self.zone == node.zone
            && self.compute_class == node.compute_class
            && self.is_lent == node.is_lent()
            && self.owner == node.owner
    }

    /// The terms of the rank, but for the node, if it is an option.
    pub fn terms(&self) -> Option<&Score> {
        match &self.verdict {
            Verdict::Feasible(terms) => Some(terms),
            Verdict::Rejected(_) => None,
        }
    }
}

fn serves(node: &NodeRow) -> Option<&OrganizationId> {
    node.held_for.as_ref().map(|held| &held.organization)
}

/// One node's case.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub node: &'a NodeId,
    pub(super) case: &'a Case,
}

impl Candidate<'_> {
    /// Its rank, if it is an option.
    pub fn rank(&self) -> Option<Score> {
        self.case.terms().map(|terms| Score { node: self.node.clone(), ..terms.clone() })
    }

    /// The first rule that it fails, if it is none.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.case.verdict {
            Verdict::Feasible(_) => None,
            Verdict::Rejected(rejection) => Some(rejection),
        }
    }

    /// The verdict as one sentence.
    pub fn sentence(&self) -> impl fmt::Display + '_ {
        Sentence(self)
    }
}

struct Sentence<'a>(&'a Candidate<'a>);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { node, case } = self.0;
        match &case.verdict {
            Verdict::Feasible(_) => {
                let Case { zone, compute_class, is_lent, .. } = case;
                let site = Site { zone, compute_class: *compute_class, is_lent: *is_lent };
                self.0.rank().map_or(Ok(()), |rank| f.write_str(&site.of(&rank)))
            }
            Verdict::Rejected(rejection) => {
                f.write_str(node.as_str())?;
                f.write_str(": ")?;
                rejection.fmt(f)
            }
        }
    }
}

/// As it is read: with its rank and its sentence.
impl Serialize for Candidate<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Read<'a> {
            node: &'a NodeId,
            zone: &'a Zone,
            compute_class: ComputeClass,
            free: u8,
            serves: &'a Option<OrganizationId>,
            verdict: &'a Verdict,
            #[serde(serialize_with = "in_words")]
            sentence: Sentence<'a>,
        }

        fn in_words<S: Serializer>(
            sentence: &Sentence<'_>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_str(sentence)
        }

        let Candidate { node, case } = *self;
        let Case { zone, compute_class, free, serves, .. } = case;
        let ranked = self.rank().map(Verdict::Feasible);
        let verdict = ranked.as_ref().unwrap_or(&case.verdict);
        let (compute_class, free, sentence) = (*compute_class, *free, Sentence(self));
        Read { node, zone, compute_class, free, serves, verdict, sentence }.serialize(serializer)
    }
}
