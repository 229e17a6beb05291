//! What facts about contracts, prices and invoices do to the fleet.

use std::sync::Arc;

use wharfage_shared::ids::ContractId;
use wharfage_shared::time::Timestamp;

use crate::fleet::{ContractRow, Fleet};
use crate::words::contract::Contract;
use crate::words::event::money::Event;

pub(super) fn apply(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Signed { contract, at } => {
            sign(fleet, contract, *at, None);
        }
        Event::Amended { contract, by, at } => {
            sign(fleet, by, *at, Some(contract.clone()));
            if let Some(row) = fleet.contracts.get_mut(contract) {
                Arc::make_mut(row).amended = Some((by.id.clone(), by.start));
            }
        }
        Event::ContractStarted { contract, .. } => set_in_force(fleet, contract, true),
        Event::ContractEnded { contract, .. } => set_in_force(fleet, contract, false),
        Event::PriceSet { price, .. } => Arc::make_mut(&mut fleet.prices).push(price.clone()),
        Event::InvoiceDrafted { invoice } => {
            fleet.invoices.insert(invoice.id.clone(), Arc::new((**invoice).clone()));
        }
    }
}

fn sign(fleet: &mut Fleet, contract: &Contract, at: Timestamp, amends: Option<ContractId>) {
    let contract = contract.clone();
    let id = contract.id.clone();
    let row = ContractRow { contract, signed_at: at, in_force: false, amends, amended: None };
    fleet.contracts.insert(id, Arc::new(row));
}

fn set_in_force(fleet: &mut Fleet, id: &ContractId, in_force: bool) {
    let Some(row) = fleet.contracts.get_mut(id) else { return };
    if row.in_force == in_force {
        return;
    }
    Arc::make_mut(row).in_force = in_force;
    let contract = row.contract.clone();
    let (sku, organization) = (&contract.sku, &contract.organization);
    fleet.index.change_shares(contract.region.clone(), sku, organization, |shares| {
        if in_force {
            shares.guaranteed += contract.instances;
        } else {
            shares.guaranteed -= contract.instances;
        }
    });
}
