//! What nodes offer to run, each list once: most nodes of a fleet offer the same engines, so that
//! one list in memory serves them all, and whoever asks all nodes reads it once. The name of a
//! host's GPUs is kept once likewise.

use std::sync::Arc;

use wharfage_shared::telemetry::{EngineOffer, GpuIdentity, Inventory};

use crate::fleet::Fleet;
use crate::fleet::rows::node::NodeRow;
use crate::fleet::table::Table;

/// The lists, each with how many nodes have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offers {
    lists: Table<Arc<[EngineOffer]>, u32>,
}

impl Offers {
    /// The list as others have it already: one more node has it.
    fn take(&mut self, list: &Arc<[EngineOffer]>) -> Arc<[EngineOffer]> {
        let known = self.lists.next_from(list).filter(|(known, _)| *known == list);
        let (shared, nodes) = known.map_or((Arc::clone(list), 0), |(known, n)| (known.clone(), *n));
        self.lists.insert(Arc::clone(&shared), nodes + 1);
        shared
    }

    /// One node less has it.
    fn give_back(&mut self, list: &Arc<[EngineOffer]>) {
        match self.lists.get(list).copied() {
            None => {}
            Some(0 | 1) => drop(self.lists.remove(list)),
            Some(nodes) => drop(self.lists.insert(Arc::clone(list), nodes - 1)),
        }
    }

    /// The inventory that a node has from now on, in place of the one before.
    pub(in crate::fleet) fn exchange(&mut self, old: &Inventory, new: &Inventory) -> Inventory {
        let engines = self.take(&new.engines);
        self.give_back(&old.engines);
        let mut inventory = Inventory { engines, ..new.clone() };
        share_names(&mut inventory.gpus);
        inventory
    }

    /// A node's row is another one.
    pub(super) fn row_put(&mut self, old: Option<&NodeRow>, new: &NodeRow) {
        self.take(&new.inventory.engines);
        if let Some(old) = old {
            self.give_back(&old.inventory.engines);
        }
    }
}

/// GPUs of one host are alike: the next one shares the name of the one before it.
fn share_names(gpus: &mut [GpuIdentity]) {
    for at in 1..gpus.len() {
        if is_told_apart(&gpus[at - 1..=at]) {
            gpus[at].name = Arc::clone(&gpus[at - 1].name);
        }
    }
}

/// Whether two GPUs have one name twice.
fn is_told_apart(two: &[GpuIdentity]) -> bool {
    let [one, next] = two else { return false };
    one.name == next.name && !Arc::ptr_eq(&one.name, &next.name)
}

impl Fleet {
    /// The lists anew, and each node's its own no more: after a snapshot was read.
    pub(super) fn share_offers_anew(&mut self) {
        let mut offers = Offers::default();
        let mut changed = Vec::new();
        for row in self.nodes.values() {
            let engines = offers.take(&row.inventory.engines);
            let told_apart = row.inventory.gpus.windows(2).any(is_told_apart);
            if told_apart || !Arc::ptr_eq(&engines, &row.inventory.engines) {
                changed.push((row.id.clone(), engines));
            }
        }
        for (id, engines) in changed {
            if let Some(row) = self.nodes.get_mut(&id) {
                let row = Arc::make_mut(row);
                let inventory = Arc::make_mut(&mut row.inventory);
                inventory.engines = engines;
                share_names(&mut inventory.gpus);
            }
        }
        self.index.offers = offers;
    }
}
