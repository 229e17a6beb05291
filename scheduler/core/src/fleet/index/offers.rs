//! What nodes offer to run, each list once: most nodes of a fleet offer the same engines, so that
//! one list in memory serves them all, and whoever asks all nodes reads it once.

use std::sync::Arc;

use wharfage_shared::telemetry::{EngineOffer, Inventory};

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
        Inventory { engines, ..new.clone() }
    }

    /// A node's row is another one.
    pub(super) fn row_put(&mut self, old: Option<&NodeRow>, new: &NodeRow) {
        self.take(&new.inventory.engines);
        if let Some(old) = old {
            self.give_back(&old.inventory.engines);
        }
    }
}

impl Fleet {
    /// The lists anew, and each node's its own no more: after a snapshot was read.
    pub(super) fn share_offers_anew(&mut self) {
        let mut offers = Offers::default();
        let mut changed = Vec::new();
        for row in self.nodes.values() {
            let engines = offers.take(&row.inventory.engines);
            if !Arc::ptr_eq(&engines, &row.inventory.engines) {
                changed.push((row.id.clone(), engines));
            }
        }
        for (id, engines) in changed {
            if let Some(row) = self.nodes.get_mut(&id) {
                let row = Arc::make_mut(row);
                Arc::make_mut(&mut row.inventory).engines = engines;
            }
        }
        self.index.offers = offers;
    }
}
