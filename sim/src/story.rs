//! Facts as lines for people: what a timeline tells. Facts of bookkeeping have no line.

use std::collections::BTreeMap;

use wharfage_scheduler_core::words::drill::Fired;
use wharfage_scheduler_core::words::event::{
    claim, deployment, drill, gateway, meter, money, node, replica,
};
use wharfage_scheduler_core::words::node::{Doubt, Hardware, Health, Intent, Reach};
use wharfage_scheduler_core::{Event, Fleet};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::replica::{Ended, ReportedPhase};

type Line = Option<(Option<NodeId>, String)>;

/// The line of a fact that has just been applied.
pub(crate) fn line(fleet: &Fleet, event: &Event) -> Line {
    match event {
        Event::Node(event) => of_node(event),
        Event::Replica(event) => of_replica(fleet, event),
        Event::Deployment(event) => of_deployment(fleet, event).map(|text| (None, text)),
        Event::Gateway(gateway::Event::Lapsed { name, .. }) => {
            Some((None, format!("gateway {name} is not heard any more")))
        }
        Event::Money(money::Event::ContractStarted { contract, .. }) => {
            Some((None, format!("contract {contract} is in force")))
        }
        Event::Money(money::Event::Amended { contract, by, .. }) => {
            Some((None, format!("contract {contract} goes on as {}, Reserved", by.id)))
        }
        Event::Money(money::Event::ContractEnded { contract, .. }) => {
            Some((None, format!("contract {contract} is over")))
        }
        Event::Claim(event) => of_claim(event),
        Event::Drill(event) => of_drill(event),
        Event::Meter(meter::Event::Incident { description, key, .. }) => {
            Some((Some(key.node.clone()), format!("incident: {description}")))
        }
        Event::Term { .. }
        | Event::Gateway(_)
        | Event::Money(_)
        | Event::Access(_)
        | Event::Meter(_)
        | Event::Request(_) => None,
    }
}

fn of_claim(event: &claim::Event) -> Line {
    match event {
        claim::Event::Created { claim, spec, .. } => {
            let (count, sku, zone) = (spec.instances, &spec.sku, &spec.zone);
            Some((None, format!("{claim} claims {count} {sku} in {zone}")))
        }
        claim::Event::Granted { claim, instances, .. } => {
            Some((None, format!("{claim} is to hold {instances}")))
        }
        claim::Event::Bound { claim, node, .. } => {
            Some((Some(node.clone()), format!("is set aside for {claim}")))
        }
        claim::Event::Released { claim, node, .. } => {
            Some((Some(node.clone()), format!("{claim} gives it back")))
        }
        claim::Event::Filled { claim, .. } => Some((None, format!("{claim} has all it asks for"))),
        claim::Event::Deleted { claim, .. } => Some((None, format!("{claim} is deleted"))),
        claim::Event::Resized { .. } | claim::Event::QuotaSet { .. } => None,
    }
}

fn of_drill(event: &drill::Event) -> Line {
    let text = match event {
        drill::Event::Begun { drill, .. } => format!("drill {drill} begins"),
        drill::Event::Skipped { drill, because, .. } => format!("drill {drill}: {because}"),
        drill::Event::CapacityBack { drill, .. } => format!("drill {drill}: the capacity is back"),
        drill::Event::Ended { drill, outcome, .. } => {
            format!("drill {drill}: {}", outcome.as_str())
        }
        drill::Event::Worsened { drill, than, because, .. } => {
            return Some((None, format!("drill {drill} went worse than {than}: {because}")));
        }
        drill::Event::Fired { drill, what: Fired::Missed(because), .. } => {
            return Some((None, format!("schedule {drill}: no drill begins: {because}")));
        }
        drill::Event::Aborted { drill, because, .. } => {
            return Some((None, format!("drill {drill} is given up: {because}")));
        }
        drill::Event::Created { .. }
        | drill::Event::Scheduled { .. }
        | drill::Event::Unscheduled { .. }
        | drill::Event::Fired { .. }
        | drill::Event::Heard { .. }
        | drill::Event::Told { .. }
        | drill::Event::HookRan { .. }
        | drill::Event::Requests { .. }
        | drill::Event::Holds { .. }
        | drill::Event::Withdrawn { .. }
        | drill::Event::Finished { .. }
        | drill::Event::Forgotten { .. } => return None,
    };
    event.node().map(|node| (Some(node.clone()), text))
}

fn of_node(event: &node::Event) -> Line {
    let text = match event {
        node::Event::ReachChanged { reach, .. } => match reach {
            Reach::Joining => "joining".to_owned(),
            Reach::Connected => "connected".to_owned(),
            Reach::Silent => "silent".to_owned(),
            Reach::Lost => "lost".to_owned(),
        },
        node::Event::HealthChanged { health, .. } => match health {
            Health::Qualifying => "qualifying".to_owned(),
            Health::Fit => "fit".to_owned(),
            Health::Unfit { because } => format!("unfit: {because}"),
        },
        node::Event::HardwareJudged { hardware, .. } => of_hardware(hardware),
        node::Event::Doubted { doubt, .. } => of_doubt(doubt)?,
        node::Event::BrakePulled { rule, nodes, of, .. } => {
            format!("{rule} hit {nodes} of {of} nodes: nothing is emptied by itself any more")
        }
        node::Event::BrakeReleased { rule, because, .. } => {
            format!("the brake of {rule} is released: {because}")
        }
        node::Event::IntentChanged { intent, .. } => match intent {
            Intent::Open => "open".to_owned(),
            Intent::Cordoned { reason } => format!("cordoned: {reason}"),
            Intent::Draining { reason } => format!("draining: {reason}"),
            Intent::Retired => "retired".to_owned(),
        },
        node::Event::Noticed { notice, .. } => {
            let window = notice.gone_at.since(notice.heard_at);
            format!("noticed: {:?} leaves {window} after it was heard", notice.leaves)
        }
        node::Event::Called { organization, .. } => format!("called back for {organization}"),
        node::Event::CallEnded { .. } => "called back for nobody any more".to_owned(),
        node::Event::Lendable { .. } => "may be lent as spot again".to_owned(),
        node::Event::NoticeEnded { .. } => "its notice is over".to_owned(),
        node::Event::Departed { .. } => "departed".to_owned(),
        node::Event::Held { held_for: Some(held), .. } => {
            format!("serves {} as {}", held.organization, held.compute_class)
        }
        node::Event::Held { held_for: None, .. } => "serves nobody".to_owned(),
        node::Event::OrphanFound { replica, .. } => format!("{replica} is an orphan there"),
        node::Event::OrphanGone { replica, .. } => format!("{replica} is an orphan no more"),
        node::Event::PoolCreated { .. }
        | node::Event::PoolSized { .. }
        | node::Event::PoolCounted { .. }
        | node::Event::Enrolled { .. }
        | node::Event::RejoinAllowed { .. }
        | node::Event::EpochIssued { .. }
        | node::Event::InventoryReported { .. } => return None,
    };
    Some((event.node().cloned(), text))
}

fn of_doubt(doubt: &Doubt) -> Option<String> {
    Some(match doubt {
        Doubt::ClockOff { ahead_ms } => {
            let where_to = if *ahead_ms < 0 { "behind" } else { "ahead" };
            format!("its clock is {} s {where_to}", ahead_ms.unsigned_abs() / 1000)
        }
        Doubt::ClockRight => "its clock is right again".to_owned(),
        // The incident itself has its own line.
        Doubt::Incident { .. } => return None,
        Doubt::Repeated { incidents, days } => format!("{incidents} incidents within {days} days"),
        Doubt::RepairBegun { incident } => {
            format!("it is its turn to be repaired (incident {incident})")
        }
        Doubt::Hinted { hint } => format!("it may be taken away soon (`{}`)", hint.id),
        Doubt::HintOver => "nobody says any more that it may be taken away".to_owned(),
        Doubt::LeavesEarly => "it is emptied before it may be taken away".to_owned(),
        Doubt::RepairEnded { incident } => {
            format!("its turn to be repaired is over (incident {incident})")
        }
        Doubt::Forgiven { because } => format!("its incidents are forgiven: {because}"),
    })
}

fn of_hardware(hardware: &Hardware) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (gpu, because) in &hardware.unfit {
        by.entry(because.as_str()).or_default().push(gpu.to_string());
    }
    for (because, gpus) in by {
        parts.push(format!("{} unfit: {because}", gpus.join(", ")));
    }
    for ask in &hardware.asks {
        let of = ask.gpu.as_ref().map_or_else(String::new, |gpu| format!(" of {gpu}"));
        parts.push(format!("asks for {}{of} because of {}", ask.what, ask.rule));
    }
    if parts.is_empty() { "every GPU is fit".to_owned() } else { parts.join("; ") }
}

fn of_replica(fleet: &Fleet, event: &replica::Event) -> Line {
    let id = event.replica();
    let who = named(fleet, id);
    let row = fleet.replica(id);
    let node = row.and_then(|row| row.node()).cloned();
    let text = match event {
        replica::Event::Placed { because, .. } => {
            let class = format!("{:?}", because.class).to_lowercase();
            format!("{who} is placed ({class})")
        }
        replica::Event::Promised { victims, .. } => {
            let leaves: Vec<String> = victims.iter().map(ToString::to_string).collect();
            format!("a seat is kept for {who} while {} leaves", leaves.join(", "))
        }
        replica::Event::RoomMade { moves, .. } => {
            let each = moves.iter().map(|of| {
                format!("{} moves to {} as {}", named(fleet, of.replica), of.to, of.successor)
            });
            format!("a seat is kept for {who}: {}", each.collect::<Vec<_>>().join(", "))
        }
        replica::Event::GoesBack { to, successor, .. } => {
            format!("{who} goes back to spot: to {to} as {successor}")
        }
        replica::Event::Stays { .. } => format!("{who} stays where it is"),
        replica::Event::PromiseWithdrawn { .. } => {
            format!("the seat of {who} is not kept any more")
        }
        replica::Event::Awaits { node, .. } => format!("{who} waits for {node} to come back"),
        replica::Event::Blocked { because, .. } => format!("{who} is pending: {because}"),
        replica::Event::Seen { seen, .. } => match seen.phase {
            ReportedPhase::Fetching
            | ReportedPhase::Loading
            | ReportedPhase::Warming
            | ReportedPhase::Draining
            | ReportedPhase::Stopping => return None,
            ReportedPhase::Ready => format!("{who} is ready"),
            ReportedPhase::Degraded => format!("{who} is degraded"),
            ReportedPhase::Quarantined => format!("{who} is gone, its slots are held"),
        },
        replica::Event::Leaving { because, deadline, at, .. } => {
            format!("{who} leaves within {}: {because}", deadline.since(*at))
        }
        replica::Event::Hastened { because, .. } => format!("{who} must leave earlier: {because}"),
        replica::Event::Quiet { .. } => format!("{who} is quiet"),
        replica::Event::Gone { ended, because, .. } => {
            format!("{who} is gone ({}): {because}", how(ended))
        }
        replica::Event::Closed { because, .. } => format!("{who} is closed: {because}"),
        replica::Event::MemberGone { node, ended, .. } => {
            return (Some(node.clone()), format!("a member of {who} is gone ({})", how(ended)))
                .into();
        }
        replica::Event::MemberSeen { .. }
        | replica::Event::Created { .. }
        | replica::Event::Dropped { .. } => return None,
    };
    Some((node, text))
}

fn how(ended: &Ended) -> String {
    match ended {
        Ended::Exited { code } => format!("exit {code}"),
        Ended::Signaled { signal } => format!("signal {signal}"),
        Ended::NeverStarted { because } => format!("never started: {because}"),
        Ended::Unknown => "nobody saw how".to_owned(),
    }
}

fn named(fleet: &Fleet, id: ReplicaId) -> String {
    let deployment = fleet.replica(id).map(|row| row.deployment.to_string());
    deployment.map_or(id.to_string(), |deployment| format!("{deployment} {id}"))
}

fn of_deployment(fleet: &Fleet, event: &deployment::Event) -> Option<String> {
    let id: &DeploymentId = event.deployment();
    Some(match event {
        deployment::Event::Scaled { desired, because, .. } => {
            format!("{id} is to have {desired}: {because}")
        }
        deployment::Event::BackedOff { failures, .. } => {
            format!("{id} waits after {failures} failed starts")
        }
        deployment::Event::Removed { .. } => format!("{id} is removed"),
        deployment::Event::Replaced { .. } => {
            let revision = fleet.deployment(id).map(|row| row.revision).unwrap_or_default();
            format!("{id} is replaced, revision {revision}")
        }
        deployment::Event::Created { .. }
        | deployment::Event::SettingsChanged { .. }
        | deployment::Event::Deleted { .. } => return None,
    })
}
