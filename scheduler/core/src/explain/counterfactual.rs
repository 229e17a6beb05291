//! What would be placed now if one thing were otherwise: asked of the same decisions.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use wharfage_shared::capacity::{CapacityClass, Zone};

use crate::capacity::ask::Ask;
use crate::fleet::Fleet;
use crate::fleet::index::Dearness;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::policies::{placement, preemption};
use crate::words::deployment::{Priority, Spec};
use crate::words::policy::Policy;

/// Priorities and zones that are tried: beyond them nobody reads on.
const MOST_TRIED: usize = 16;

/// One thing that would have to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counterfactual {
    /// Which: `priority`, `zone`, `class` or `gpus`.
    pub change: String,
    /// To what.
    pub to: String,
    /// The whole as one sentence.
    pub sentence: String,
}

const WOULD: &str = "would run now ";

fn would(change: &str, to: String, with: &str) -> Counterfactual {
    let sentence = format!("{WOULD}{with}");
    Counterfactual { change: change.to_owned(), to, sentence }
}

/// All of them in one sentence: `would run now with priority 640, or in US-EAST-06A`.
pub(super) fn sentence(all: &[Counterfactual]) -> String {
    let with = all.iter().map(|one| one.sentence.trim_start_matches(WOULD));
    format!("{WOULD}{}", with.collect::<Vec<_>>().join(", or "))
}

/// Single changes with which a replica that waits would run now.
pub(super) fn all(
    fleet: &Fleet,
    policy: &Policy,
    row: &DeploymentRow,
    ask: &Ask,
) -> Vec<Counterfactual> {
    let fits = |ask: &Ask| placement::decide(fleet, policy, row, ask).is_ok();
    let mut found: Vec<Counterfactual> = priority(fleet, policy, row, ask).into_iter().collect();
    for zone in other_zones(fleet, ask).into_iter().take(MOST_TRIED) {
        let zones = Some(BTreeSet::from([zone.clone()]));
        if fits(&Ask { zones, ..ask.clone() }) {
            found.push(would("zone", zone.to_string(), &format!("in {zone}")));
        }
    }
    for (class, word) in [(CapacityClass::OnDemand, "ON_DEMAND"), (CapacityClass::Spot, "SPOT")] {
        if ask.classes.contains(&class) {
            continue;
        }
        if fits(&Ask { classes: vec![class], ..ask.clone() }) {
            let with = format!("with {word} among its capacity classes");
            found.push(would("class", word.to_owned(), &with));
        }
    }
    let fewer =
        [8u8, 4, 2, 1].into_iter().filter(|gpus| *gpus < ask.gpus.saturating_mul(ask.members));
    if let Some(gpus) =
        fewer.into_iter().find(|gpus| fits(&Ask { gpus: *gpus, members: 1, ..ask.clone() }))
    {
        found.push(would("gpus", gpus.to_string(), &format!("with {gpus} GPUs a replica")));
    }
    found
}

/// The lowest priority with which it would take somebody's place.
fn priority(
    fleet: &Fleet,
    policy: &Policy,
    row: &DeploymentRow,
    ask: &Ask,
) -> Option<Counterfactual> {
    if !preemption::is_needed(fleet, row) {
        return None;
    }
    let held = fleet.index.spares.of(&ask.sku, &ask.organization);
    let held: BTreeSet<Priority> = held
        .filter_map(|spare| match spare.dearness {
            Dearness::Placed { priority, .. } => Some(priority),
            Dearness::Leaving => None,
        })
        .filter(|priority| *priority >= row.spec.priority)
        .collect();
    for theirs in held.into_iter().take(MOST_TRIED) {
        let Some(priority) = Priority::new(u32::from(theirs) + 1) else { continue };
        let spec = Arc::new(Spec { priority, ..(*row.spec).clone() });
        let raised = DeploymentRow { spec, ..row.clone() };
        let decision = preemption::decide(fleet, policy.priority_scope, &raised, ask);
        if decision.is_some_and(|decision| !decision.victims.is_empty()) {
            let priority = priority.get().to_string();
            let with = format!("with priority {priority}");
            return Some(would("priority", priority, &with));
        }
    }
    None
}

/// Zones with nodes of the type that the ask does not name.
fn other_zones(fleet: &Fleet, ask: &Ask) -> Vec<Zone> {
    let from = (ask.sku.clone(), Zone::new(""));
    let zones = fleet.index.zones.from(&from).map(|(key, _)| key);
    let zones = zones.take_while(|(sku, _)| *sku == ask.sku);
    zones.filter(|(_, zone)| !ask.admits_zone(zone)).map(|(_, zone)| zone.clone()).collect()
}
