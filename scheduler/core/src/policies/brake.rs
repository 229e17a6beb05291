//! Health rules that hit many nodes at once: a wrong rule must not empty the fleet.

use std::collections::BTreeMap;

use wharfage_shared::time::{Millis, Timestamp};

use crate::fleet::Fleet;
use crate::words::node::{Intent, Reach};
use crate::words::policy::Policy;

/// What becomes of the brakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Rules whose brake is pulled, with the nodes that they hit lately.
    pub pulled: Vec<(String, u32)>,
    /// Rules whose brake is released: they hit fewer again.
    pub released: Vec<String>,
    /// Nodes in all.
    pub of: u32,
}

/// The brake of a rule is pulled where it hit more than a fifth of the nodes, and at least three,
/// within ten minutes; it is released once it stands at fewer than that.
pub fn decide(fleet: &Fleet, policy: &Policy, now: Timestamp) -> Decision {
    let window = Millis::from_seconds(policy.brake_window_seconds.into());
    let mut lately: BTreeMap<&str, u32> = BTreeMap::new();
    let mut standing: BTreeMap<&str, u32> = BTreeMap::new();
    let of = fleet.index.standing;
    let ruled = fleet.index.ruled.keys().filter_map(|node| fleet.node(node));
    for node in ruled.filter(|node| node.reach != Reach::Joining && node.intent != Intent::Retired)
    {
        for (rule, since) in &node.rules {
            *standing.entry(rule).or_default() += 1;
            let released = fleet.brakes.get(rule).and_then(|brake| brake.released_at);
            let is_new = released.is_none_or(|released| *since > released);
            if is_new && now.since(*since) <= window {
                *lately.entry(rule).or_default() += 1;
            }
        }
    }
    let many = |nodes: u32| {
        let share = u64::from(nodes) * 100 > u64::from(of) * u64::from(policy.brake_percent);
        share && nodes >= policy.brake_nodes
    };
    let is_on = |rule: &str| fleet.brakes().any(|(on, _)| on == rule);
    let pulled = lately.iter().filter(|(rule, nodes)| many(**nodes) && !is_on(rule));
    let stands = |rule: &str| standing.get(rule).copied().unwrap_or(0);
    let released = fleet.brakes().filter(|(rule, _)| !many(stands(rule)));
    Decision {
        pulled: pulled.map(|(rule, nodes)| ((*rule).to_owned(), *nodes)).collect(),
        released: released.map(|(rule, _)| rule.to_owned()).collect(),
        of,
    }
}
