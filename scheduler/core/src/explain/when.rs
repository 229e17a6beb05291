//! When something that is known ends and makes a node feasible.

use std::collections::BTreeSet;

use serde::Serialize;
use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::NodeId;
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::{Millis, Timestamp};

use super::Candidates;
use crate::capacity::ask::Ask;
use crate::capacity::lending::awaited;
use crate::fleet::Fleet;
use crate::fleet::index::Dearness;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::reclaim;
use crate::words::because::placement::Rejection;
use crate::words::policy::Policy;
use crate::words::replica::Phase;

/// When something that is known ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Earliest {
    /// When; absent where nobody knows the moment.
    pub at: Option<Timestamp>,
    /// What ends then, or has to happen, as one sentence.
    pub because: String,
}

/// The earliest event that makes a node feasible; absent = nothing that is known does, or a node is
/// feasible now.
pub(super) fn earliest(
    fleet: &Fleet,
    row: &DeploymentRow,
    ask: &Ask,
    candidates: &Candidates,
    now: Timestamp,
) -> Option<Earliest> {
    if let Some(at) = row.backoff_until.filter(|until| *until > now) {
        let failures = row.failures;
        let wait = at.since(now);
        let because = format!("after {failures} failed starts the next is tried in {wait}");
        return Some(Earliest { at: Some(at), because });
    }
    if candidates.has_option() {
        return None;
    }
    let left = left(fleet, &ask.sku);
    let events = candidates.iter().filter_map(|candidate| {
        let rejection = candidate.rejection()?;
        let waits_for_leavers =
            matches!(rejection, Rejection::NotEnoughGpus { .. } | Rejection::ServesAnother);
        if waits_for_leavers && !left.contains(candidate.node) {
            return None;
        }
        of_node(fleet, ask, fleet.node(candidate.node)?, rejection, now)
    });
    events.min_by(|a, b| a.at.cmp(&b.at).then_with(|| a.because.cmp(&b.because)))
}

/// When the seat that is kept for a replica is vacant at the latest: everybody there leaves.
pub(super) fn vacant(fleet: &Fleet, row: &ReplicaRow, now: Timestamp) -> Option<Earliest> {
    let Phase::Promised { seat, .. } = &row.phase else { return None };
    if let Some(load) = row.moves.iter().map(|of| of.load).max() {
        let at = row.since() + load;
        let wait = at.since(now);
        let from = &seat.node;
        let because = format!("what moves from {from} starts elsewhere within {wait} or so");
        return (at > now).then_some(Earliest { at: Some(at), because });
    }
    let nodes = seat.nodes().filter_map(|node| fleet.node(node));
    let slots = nodes.flat_map(|node| &node.slots).filter(|slot| slot.promised == Some(row.id));
    let holders = slots.filter_map(|slot| fleet.replica(slot.holder?));
    let deadlines = holders.filter_map(|holder| holder.phase.leaving());
    let at = deadlines.map(|leaving| leaving.deadline).max()?;
    let because = format!("its seat on {} is vacant within {}", seat.node, at.since(now));
    Some(Earliest { at: Some(at), because })
}

/// The nodes of a type that replicas leave.
fn left<'a>(fleet: &'a Fleet, sku: &Sku) -> BTreeSet<&'a NodeId> {
    let leaving = fleet.organizations().flat_map(|row| {
        let spares = fleet.index.spares.of(sku, &row.id);
        spares.take_while(|spare| spare.dearness == Dearness::Leaving)
    });
    let leaving = leaving.filter_map(|spare| fleet.replica(spare.replica));
    leaving.flat_map(|row| row.nodes()).collect()
}

/// When the node that is called back from spot for a pending replica is free at the latest.
pub(super) fn called_back(fleet: &Fleet, row: &ReplicaRow) -> Option<Earliest> {
    let at = awaited(fleet, row)?.reclaim()?.gone_at;
    Some(Earliest { at: Some(at), because: row.because()? })
}

/// Which lent node would be called back for one more, and when that is over.
pub(super) fn would_call(
    fleet: &Fleet,
    policy: &Policy,
    ask: &Ask,
    candidates: &Candidates,
    now: Timestamp,
) -> Option<Earliest> {
    if candidates.has_option() || !reclaim::is_worth_asking(fleet, ask) {
        return None;
    }
    let node = reclaim::cheapest(fleet, ask, now)?;
    let wait = Millis::from_seconds(policy.reclaim_gone_seconds.into());
    let because = format!("reclaims {node}, which is lent as spot, within {wait}");
    Some(Earliest { at: Some(now + wait), because })
}

fn of_node(
    fleet: &Fleet,
    ask: &Ask,
    node: &NodeRow,
    rejection: &Rejection,
    now: Timestamp,
) -> Option<Earliest> {
    match rejection {
        Rejection::NotEnoughGpus { needed, free } => {
            let at = freed(fleet, node, usize::from(*needed) - usize::from(*free))?;
            let because = format!("a replica on {} leaves within {}", node.id, at.since(now));
            Some(Earliest { at: Some(at), because })
        }
        Rejection::ServesAnother => {
            let all: Option<Vec<Timestamp>> = fleet
                .replicas_on(&node.id)
                .map(|row| row.phase.leaving().map(|leaving| leaving.deadline))
                .collect();
            let at = all?.into_iter().max()?;
            let because = format!("{} is given back within {}", node.id, at.since(now));
            Some(Earliest { at: Some(at), because })
        }
        Rejection::Noticed { gone_at } => {
            let stays = node.notices.values().all(|notice| notice.leaves == Leaves::Replicas);
            let because = format!("the notice on {} ends in {}", node.id, gone_at.since(now));
            stays.then_some(Earliest { at: Some(*gone_at), because })
        }
        Rejection::Guaranteed { .. } => contract(fleet, ask, node, now),
        _ => None,
    }
}

/// When so many more GPUs of a node are free, by the deadlines of what leaves.
fn freed(fleet: &Fleet, node: &NodeRow, missing: usize) -> Option<Timestamp> {
    let mut leaving: Vec<(Timestamp, usize)> = fleet
        .replicas_on(&node.id)
        .filter_map(|row| match &row.phase {
            Phase::Leaving { seat, leaving, .. } => {
                Some((leaving.deadline, seat.gpus_on(&node.id).len()))
            }
            Phase::Pending { .. }
            | Phase::Promised { .. }
            | Phase::Placed { .. }
            | Phase::Stopped { .. } => None,
        })
        .collect();
    leaving.sort_unstable();
    let mut gained = 0;
    leaving.into_iter().find_map(|(at, gpus)| {
        gained += gpus;
        (gained >= missing).then_some(at)
    })
}

/// The organization's own contract starts, or somebody's guarantee ends.
fn contract(fleet: &Fleet, ask: &Ask, node: &NodeRow, now: Timestamp) -> Option<Earliest> {
    let here = fleet.contracts().map(|row| &row.contract);
    let here = here.filter(|of| of.region == node.region() && of.sku == node.sku);
    let events = here.filter_map(|of| {
        let own = of.organization == ask.organization;
        match (own, of.start > now, of.end > now) {
            (true, true, _) => {
                let because = format!("the contract {} starts in {}", of.id, of.start.since(now));
                Some(Earliest { at: Some(of.start), because })
            }
            (false, false, true) => {
                let wait = of.end.since(now);
                let because = format!("a guarantee of another organization ends in {wait}");
                Some(Earliest { at: Some(of.end), because })
            }
            _ => None,
        }
    });
    events.min_by(|a, b| a.at.cmp(&b.at).then_with(|| a.because.cmp(&b.because)))
}

/// What would help where no such event is known.
pub(super) fn unknown(ask: &Ask) -> String {
    let (gpus, sku) = (ask.gpus, &ask.sku);
    match ask.members {
        1 => format!("unknown: it runs once {gpus} GPUs of one {sku} that it may use are free"),
        nodes => format!(
            "unknown: it runs once {nodes} nodes of {sku} that it may use together are free"
        ),
    }
}
