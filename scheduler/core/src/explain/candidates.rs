//! Every node's case. A large fleet has thousands of nodes and few cases: each is kept, counted,
//! and written down once, and a node is its name and the number of its case.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use wharfage_shared::ids::{NodeId, OrganizationId};

use super::candidate::{Candidate, Case, Verdict};
use crate::fleet::rows::node::NodeRow;
use crate::words::because::placement::{Rejection, Score};

/// Every node's case: options first, best first, then the others by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    cases: Vec<Case>,
    /// Nodes, each with the place of its case.
    nodes: Vec<(NodeId, usize)>,
}

impl Candidates {
    /// Of what a scan finds, the nodes in the order of their names.
    pub(super) fn of<'a>(
        scan: impl Iterator<Item = (&'a NodeRow, Result<Score, Rejection>)>,
        count: usize,
    ) -> Self {
        let mut found = Found::default();
        let mut options = Vec::new();
        let mut nodes = Vec::with_capacity(count);
        for (node, verdict) in scan {
            let kind = if verdict.is_ok() { &mut options } else { &mut nodes };
            kind.push((node.id.clone(), found.place_of(node, verdict)));
        }
        let cases = found.into_cases();
        if !options.is_empty() {
            // Of nodes that rank alike the name decides, which is the order that they are in.
            options.sort_by(|(_, a), (_, b)| cases[*a].terms().cmp(&cases[*b].terms()));
            options.append(&mut nodes);
            nodes = options;
        }
        Self { cases, nodes }
    }

    /// One after another.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.nodes.iter().map(|(node, at)| Candidate { node, case: &self.cases[*at] })
    }

    /// The best option; where there is none, the first node.
    pub fn first(&self) -> Option<Candidate<'_>> {
        self.iter().next()
    }

    /// Whether a node is an option.
    pub(super) fn has_option(&self) -> bool {
        self.first().is_some_and(|first| first.case.terms().is_some())
    }

    /// The cases, each with the number of its nodes.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&Case, u32)> {
        let mut counts = vec![0; self.cases.len()];
        for (_, at) in &self.nodes {
            counts[*at] += 1;
        }
        self.cases.iter().zip(counts)
    }

    /// Without what another organization must not learn: whom nodes serve, and what an operator
    /// said of them.
    pub(super) fn keep_to(&mut self, organization: &OrganizationId) {
        for case in &mut self.cases {
            case.serves = case.serves.take().filter(|serves| serves == organization);
            if let Verdict::Rejected(rejection) = &mut case.verdict {
                rejection.keep_to_the_provider();
            }
        }
    }

    /// Only nodes whose owner, if they have one, may be seen.
    pub fn retain(&mut self, sees: impl Fn(&OrganizationId) -> bool) {
        let seen = |case: &Case| case.owner.as_ref().is_none_or(&sees);
        let seen: Vec<bool> = self.cases.iter().map(seen).collect();
        if seen.contains(&false) {
            self.nodes.retain(|(_, at)| seen[*at]);
        }
    }

    /// Writes an object of JSON with the nodes' cases as its last field.
    pub fn write_within(&self, object: &impl Serialize, into: &mut Vec<u8>) {
        let written = serde_json::to_writer(&mut *into, object);
        written.expect("what is told has only texts as keys, and memory takes it");
        // The object goes on.
        into.pop();
        into.extend_from_slice(br#","candidates":"#);
        self.write_list(into);
        into.push(b'}');
    }

    fn write_list(&self, into: &mut Vec<u8>) {
        let sheet = |(case, count)| if count > 1 { Sheet::of(case) } else { None };
        let sheets: Vec<Option<Sheet>> = self.counted().map(sheet).collect();
        let length = |(sheet, (_, count)): (&Option<Sheet>, (&Case, u32))| {
            sheet.as_ref().map_or(0, Sheet::length) * count as usize
        };
        into.reserve(sheets.iter().zip(self.counted()).map(length).sum());
        into.push(b'[');
        for (number, (node, at)) in self.nodes.iter().enumerate() {
            if number > 0 {
                into.push(b',');
            }
            match &sheets[*at] {
                Some(sheet) => sheet.write(node, into),
                None => {
                    let candidate = Candidate { node, case: &self.cases[*at] };
                    let written = serde_json::to_writer(&mut *into, &candidate);
                    written.expect("a case has only texts as keys, and memory takes it");
                }
            }
        }
        into.push(b']');
    }
}

/// The cases while nodes are looked at.
#[derive(Default)]
struct Found {
    places: BTreeMap<Case, usize>,
    /// That of the node before: the next one has it more often than not.
    last: Option<(Case, usize)>,
}

impl Found {
    fn place_of(&mut self, node: &NodeRow, verdict: Result<Score, Rejection>) -> usize {
        let verdict = match verdict {
            Ok(rank) => Verdict::Feasible(Score { node: NodeId::new(""), ..rank }),
            Err(rejection) => Verdict::Rejected(rejection),
        };
        if let Some((case, at)) = &self.last
            && case.is_of(node, &verdict)
        {
            return *at;
        }
        let case = Case::new(node, verdict);
        let next = self.places.len();
        let at = *self.places.entry(case.clone()).or_insert(next);
        self.last = Some((case, at));
        at
    }

    fn into_cases(self) -> Vec<Case> {
        let mut cases: Vec<(usize, Case)> =
            self.places.into_iter().map(|(case, at)| (at, case)).collect();
        cases.sort_unstable_by_key(|(at, _)| *at);
        cases.into_iter().map(|(_, case)| case).collect()
    }
}

/// Stands where a node's name will.
const GAP: &str = "\0";

/// A case as JSON, cut where the names of its nodes stand.
struct Sheet(Vec<String>);

impl Sheet {
    /// None where the case has a text that looks like a gap.
    fn of(case: &Case) -> Option<Self> {
        let node = NodeId::new(GAP);
        let text = serde_json::to_string(&Candidate { node: &node, case }).ok()?;
        let gap = serde_json::to_string(GAP).ok()?;
        let parts: Vec<String> = text.split(gap.trim_matches('"')).map(str::to_owned).collect();
        // The node itself, its sentence, and in a rank the node once more.
        let gaps = 2 + usize::from(case.terms().is_some());
        (parts.len() == gaps + 1).then_some(Self(parts))
    }

    /// Bytes that this will take as a rule, with a comma.
    fn length(&self) -> usize {
        let words: usize = self.0.iter().map(String::len).sum();
        words + (self.0.len() - 1) * size_of::<NodeId>() + 1
    }

    fn write(&self, node: &NodeId, into: &mut Vec<u8>) {
        let name = written(node.as_str());
        for (number, part) in self.0.iter().enumerate() {
            if number > 0 {
                into.extend_from_slice(name.as_bytes());
            }
            into.extend_from_slice(part.as_bytes());
        }
    }
}

/// A name as it stands between quotes.
fn written(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    let quoted = Value::from(name).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use wharfage_shared::capacity::{ComputeClass, Zone};

    use super::{Candidates, Case, GAP, Verdict};
    use crate::words::because::placement::{Rejection, Score};

    fn case(verdict: Verdict) -> Case {
        Case {
            verdict,
            free: 3,
            zone: Zone::new("US-EAST-04A"),
            compute_class: ComputeClass::Standard,
            is_lent: false,
            serves: Some("acme".into()),
            owner: None,
        }
    }

    #[test]
    fn what_nodes_have_in_common_reads_as_if_each_were_written_alone() {
        let rank = Score {
            lends: false,
            class: 0,
            breaks_whole_node: true,
            crowding: 0,
            gpus_left: 2,
            opens_node: true,
            seconds_to_ready: 40,
            siblings: 0,
            node: "".into(),
        };
        let full = Rejection::NotEnoughGpus { needed: 8, free: 3 };
        let odd = Rejection::Cordoned { reason: format!("a \"word\" and {GAP}, twice {GAP}") };
        let verdicts = [Verdict::Feasible(rank), Verdict::Rejected(full), Verdict::Rejected(odd)];
        let cases = verdicts.map(case).to_vec();
        let nodes = ["node-1", "a-node-with-a-name-that-is-long", "n\"o\\d\ne\u{e9}", "node-2"];
        for each in 1..=nodes.len() {
            let named = nodes.iter().take(each).map(|node| (*node).into());
            let of_each = named.flat_map(|node| [0, 1, 2].map(|at| (Clone::clone(&node), at)));
            let candidates = Candidates { cases: cases.clone(), nodes: of_each.collect() };
            let mut written = Vec::new();
            candidates.write_list(&mut written);
            let alone: Vec<_> = candidates.iter().collect();
            let alone = serde_json::to_string(&alone).expect("a case is JSON");
            assert_eq!(String::from_utf8(written).expect("text"), alone);
        }
    }
}
