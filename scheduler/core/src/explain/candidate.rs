//! One node's case. Its sentence follows from the rest and is put into words where it is read: a
//! large fleet has thousands of cases, most of which are only counted.

use std::fmt;

use serde::{Serialize, Serializer};
use wharfage_shared::capacity::{ComputeClass, Zone};
use wharfage_shared::ids::{NodeId, OrganizationId};

use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Rejection, Score};
use crate::words::because::sentence::Site;

/// One node's case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Where.
    pub zone: Zone,
    /// How it is sold.
    pub compute_class: ComputeClass,
    /// It is standard and serves somebody as spot.
    pub is_lent: bool,
    /// GPUs that are free there.
    pub free: u8,
    /// Whom it serves now; only the provider and that organization are told.
    pub serves: Option<OrganizationId>,
    /// Whether it is an option.
    pub verdict: Verdict,
}

/// Whether a node is an option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is, with its rank.
    Feasible(Score),
    /// It is not: the first rule that fails.
    Rejected(Rejection),
}

impl Candidate {
    pub(super) fn new(node: &NodeRow, verdict: Result<Score, Rejection>) -> Self {
        Self {
            node: node.id.clone(),
            zone: node.zone.clone(),
            compute_class: node.compute_class,
            is_lent: node.is_lent(),
            free: node.free(),
            serves: node.held_for.as_ref().map(|held| held.organization.clone()),
            verdict: verdict.map_or_else(Verdict::Rejected, Verdict::Feasible),
        }
    }

    /// Its rank, if it is an option.
    pub fn rank(&self) -> Option<&Score> {
        match &self.verdict {
            Verdict::Feasible(score) => Some(score),
            Verdict::Rejected(_) => None,
        }
    }

    /// The verdict as one sentence.
    pub fn sentence(&self) -> impl fmt::Display + '_ {
        Sentence(self)
    }
}

struct Sentence<'a>(&'a Candidate);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { node, zone, compute_class, is_lent, .. } = self.0;
        match &self.0.verdict {
            Verdict::Feasible(score) => {
                let (compute_class, is_lent) = (*compute_class, *is_lent);
                f.write_str(&Site { zone, compute_class, is_lent }.of(score))
            }
            Verdict::Rejected(rejection) => {
                f.write_str(node.as_str())?;
                f.write_str(": ")?;
                rejection.fmt(f)
            }
        }
    }
}

/// As it is read: with its sentence.
impl Serialize for Candidate {
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

        let Candidate { node, zone, compute_class, is_lent: _, free, serves, verdict } = self;
        let (compute_class, free, sentence) = (*compute_class, *free, Sentence(self));
        Read { node, zone, compute_class, free, serves, verdict, sentence }.serialize(serializer)
    }
}
