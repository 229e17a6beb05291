//! The specs that a deployment's replicas run: one as a rule, a few while it is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::deployment::Spec;

/// Specs by revision, in order; in a snapshot a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Revisions(Vec<(u32, Arc<Spec>)>);

impl Revisions {
    /// A deployment's first.
    pub fn first(spec: Arc<Spec>) -> Self {
        Self(vec![(1, spec)])
    }

    /// One of them.
    pub fn get(&self, revision: &u32) -> Option<&Arc<Spec>> {
        self.0.iter().find(|(known, _)| known == revision).map(|(_, spec)| spec)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&u32, &Arc<Spec>)> {
        self.0.iter().map(|(revision, spec)| (revision, spec))
    }

    /// The newest number.
    pub fn newest(&self) -> u32 {
        self.0.last().map_or(0, |(revision, _)| *revision)
    }

    /// Puts one in, in place of what it was.
    pub fn insert(&mut self, revision: u32, spec: Arc<Spec>) {
        match self.0.binary_search_by_key(&revision, |(known, _)| *known) {
            Ok(at) => self.0[at].1 = spec,
            Err(at) => self.0.insert(at, (revision, spec)),
        }
    }

    /// Keeps those that are still run.
    pub fn retain(&mut self, is_run: impl Fn(u32) -> bool) {
        self.0.retain(|(revision, _)| is_run(*revision));
    }
}

impl Serialize for Revisions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Revisions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_number = BTreeMap::<u32, Arc<Spec>>::deserialize(deserializer)?;
        Ok(Self(by_number.into_iter().collect()))
    }
}
