//! The step that brings contracts into force and ends them: their starts and ends are facts.

use wharfage_shared::ids::ContractId;

use super::plan::Plan;
use crate::words::event::money::Event;

pub(super) fn contract(plan: &mut Plan<'_>, id: &ContractId) {
    let Some(row) = plan.fleet.contract(id) else { return };
    let (contract, at) = (id.clone(), plan.now);
    let in_force = row.contract.start <= at && at < row.end();
    if in_force && !row.in_force {
        plan.record(Event::ContractStarted { contract, at });
    } else if !in_force && row.in_force {
        plan.record(Event::ContractEnded { contract, at });
    }
}
