//! Nodes by the first rule that they fail, in people's words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::Candidates;
use super::candidate::Verdict;

/// Nodes that fail the same rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub nodes: u32,
    /// The rule.
    pub because: String,
}

/// How many nodes fail which rule, the most frequent first.
pub(super) fn of(candidates: &Candidates) -> Vec<Group> {
    let mut rules: BTreeMap<Cow<'static, str>, u32> = BTreeMap::new();
    for (case, nodes) in candidates.counted() {
        if let Verdict::Rejected(rejection) = &case.verdict {
            *rules.entry(rejection.in_general()).or_default() += nodes;
        }
    }
    let group = |(because, nodes): (Cow<'static, str>, u32)| {
        let because = because.into_owned();
        Group { nodes, because }
    };
    let mut groups: Vec<Group> = rules.into_iter().map(group).collect();
    groups.sort_by(|a, b| b.nodes.cmp(&a.nodes).then_with(|| a.because.cmp(&b.because)));
    groups
}

/// The groups as one sentence: `412 nodes: not enough free GPUs; 3: cordoned by XID 79`.
pub(super) fn sentence(groups: &[Group]) -> String {
    let text = |(at, group): (usize, &Group)| match (at, group.nodes) {
        (0, 1) => format!("1 node: {}", group.because),
        (0, nodes) => format!("{nodes} nodes: {}", group.because),
        (_, nodes) => format!("{nodes}: {}", group.because),
    };
    groups.iter().enumerate().map(text).collect::<Vec<_>>().join("; ")
}
