//! The step that makes as many replicas as are wanted, and lets go of those that others stand in
//! for.

use wharfage_shared::ids::{DeploymentId, ReplicaId};
use wharfage_shared::order::StopCause;

use super::leaving::{back_off, end, leave};
use super::plan::Plan;
use crate::capacity::standing::{Standing, may_still_run, standing};
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::policies::evacuation::{self, Leaver};
use crate::policies::relief;
use crate::policies::rollout::{self, Progress};
use crate::policies::surplus;
use crate::words::deployment::Rollout;
use crate::words::event::replica::Event;

/// What the step decided before it changed anything.
#[derive(Default)]
struct Changes {
    leavers: Vec<Leaver>,
    replaced: Vec<ReplicaId>,
    given_up: Vec<ReplicaId>,
    surplus: Vec<(ReplicaId, StopCause)>,
    create: u32,
}

pub(super) fn deployment(plan: &mut Plan<'_>, id: &DeploymentId) {
    let Some(row) = plan.fleet.deployment(id) else { return };
    let revision = row.revision;
    let changes = decide(plan, row);
    for leaver in changes.leavers {
        leave(plan, leaver.replica, leaver.because, leaver.deadline);
    }
    let replaced = changes.replaced.into_iter().map(|id| (id, StopCause::Replaced));
    for (replica, because) in replaced.chain(changes.surplus) {
        if let Some(row) = plan.fleet.replica(replica).cloned() {
            end(plan, &row, because);
        }
    }
    for replica in changes.given_up {
        if let Some(row) = plan.fleet.replica(replica).cloned() {
            end(plan, &row, StopCause::Degraded);
            back_off(plan, &row);
        }
    }
    for _ in 0..changes.create {
        let replica = ReplicaId(plan.fleet.last_replica + 1);
        let (deployment, at) = (id.clone(), plan.now);
        plan.record(Event::Created { replica, deployment, revision, at });
    }
}

fn decide(plan: &Plan<'_>, row: &DeploymentRow) -> Changes {
    let fleet = &*plan.fleet;
    let (mut wanted, mut old, mut stayers) = (Vec::new(), Vec::new(), Vec::new());
    let mut lapsed = Vec::new();
    let mut may_run = 0;
    for replica in fleet.replicas_of(&row.id) {
        let may_still_run = may_still_run(fleet, plan.policy, replica, plan.now);
        may_run += u32::from(may_still_run);
        match standing(fleet, row, replica) {
            Standing::Wanted => wanted.push(replica),
            Standing::Outdated => old.push(replica),
            Standing::Evacuating => stayers.push(replica),
            // What was started without a lease runs on, whatever its deployment says today.
            Standing::Lost if !may_still_run => lapsed.push(replica.id),
            Standing::Lost | Standing::Failing | Standing::Over => {}
        }
    }
    let single = row.spec.extension.single_copy;
    let patience = plan.policy.give_up_degraded_after();
    let counts = relief::Counts { desired: row.desired, max: row.spec.scaling.bounds.max() };
    let relief = relief::decide(&wanted, counts, patience, plan.now);
    wanted.retain(|replica| !relief.given_up.contains(&replica.id));
    let ready = |rows: &[&ReplicaRow]| rows.iter().filter(|r| r.phase.is_ready()).count() as u32;
    let desired = row.desired;
    // Of a single copy no two may run: the old one goes first.
    let rollout = match row.spec.extension.rollout {
        _ if single => Rollout { max_surge: 0, max_unavailable: desired.max(1) },
        // With neither room nor a gap a rollout could never begin.
        Rollout { max_surge: 0, max_unavailable: 0 } => {
            Rollout { max_surge: 1, max_unavailable: 0 }
        }
        rollout => rollout,
    };
    let progress = Progress { desired, new_ready: ready(&wanted), old: old.len() as u32 };
    let target = if old.is_empty() { desired } else { rollout::new_allowed(rollout, progress) };
    let mut changes = Changes {
        replaced: rollout::leavers(rollout, progress, &old),
        given_up: relief.leave,
        leavers: evacuees(plan, row, &stayers, ready(&wanted) + ready(&old)),
        ..Changes::default()
    };
    let counted = wanted.len() as u32;
    // Old ones may have come back meanwhile: what is nowhere yet waits for its turn again.
    let waiting = wanted.iter().filter(|replica| replica.phase.holds().is_none()).count() as u32;
    let beyond_target = counted.saturating_sub(target).min(waiting);
    let surplus = counted.saturating_sub(desired).max(beyond_target);
    if surplus > 0 {
        changes.surplus = surplus::decide(fleet, &wanted, surplus as usize);
    } else if row.backoff_until.is_none_or(|until| until <= plan.now)
        && !rollout::is_stopped(fleet, row)
    {
        let given_up = (relief.given_up.len() - changes.given_up.len()) as u32;
        let room = match (single, given_up) {
            (true, _) => desired.saturating_sub(may_run),
            (false, 0) => u32::MAX,
            // They still count against the max until they leave.
            (false, _) => {
                let old = (old.len() - changes.replaced.len()) as u32;
                let all = counted + given_up + old;
                row.spec.scaling.bounds.max().saturating_sub(all)
            }
        };
        changes.create = target.saturating_sub(counted).min(room);
        if single && changes.create > 0 {
            // Their leases are over: when their node is heard again they must not start or stay
            // beside the successor.
            let (because, deadline) = (StopCause::NodeLost, plan.now);
            changes.leavers.extend(lapsed.into_iter().map(|replica| Leaver {
                replica,
                because,
                deadline,
            }));
        }
    }
    changes
}

/// A single copy's successor starts only when it is gone: by an operator's drain it goes at once,
/// under a notice it serves to the last moment that its agent finds.
fn evacuees(
    plan: &Plan<'_>,
    row: &DeploymentRow,
    stayers: &[&ReplicaRow],
    ready: u32,
) -> Vec<Leaver> {
    let fleet = &*plan.fleet;
    let patience = plan.policy.give_up_degraded_after();
    // One that has long served nobody is not worth waiting for.
    let (hung, stayers): (Vec<&ReplicaRow>, Vec<&ReplicaRow>) = stayers
        .iter()
        .copied()
        .partition(|replica| relief::is_hopeless(replica, patience, plan.now));
    let hung = hung.into_iter().map(|replica| evacuation::leaver(fleet, replica, plan.now));
    if !row.spec.extension.single_copy {
        let relieved = evacuation::decide(fleet, &stayers, ready, row.desired, plan.now);
        return hung.chain(relieved).collect();
    }
    let noticed = |replica: &&ReplicaRow| {
        let mut nodes = replica.nodes().filter_map(|node| fleet.node(node));
        nodes.any(|node| node.notice().is_some())
    };
    let going: Vec<&ReplicaRow> =
        stayers.iter().copied().filter(|replica| !noticed(replica)).collect();
    hung.chain(evacuation::decide(fleet, &going, row.desired, row.desired, plan.now)).collect()
}
