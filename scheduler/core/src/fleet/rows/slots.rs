//! A node's GPUs, counted: whoever looks at thousands of nodes asks how many are free, not which.

use std::ops::Deref;
use std::slice;

use serde::{Deserialize, Serialize, Serializer};

use super::node::Slot;

/// The slots of one node. Invariant: the counts are those of the list, and no slot keeps rare
/// fields that are empty.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Vec<Slot>")]
pub struct Slots {
    list: Vec<Slot>,
    usable: u16,
    idle: u16,
    kept: u16,
}

impl Slots {
    /// Those that nobody holds and that may be used.
    pub fn usable(&self) -> u8 {
        u8::try_from(self.usable).unwrap_or(u8::MAX)
    }

    /// The same with those that may not be used.
    pub fn idle(&self) -> u8 {
        u8::try_from(self.idle).unwrap_or(u8::MAX)
    }

    /// Whether all of them are usable.
    pub fn are_whole(&self) -> bool {
        usize::from(self.usable) == self.list.len()
    }

    /// Whether some are kept for somebody.
    pub fn are_kept(&self) -> bool {
        self.kept > 0
    }

    /// Changes each of them.
    pub fn change(&mut self, change: impl FnMut(&mut Slot)) {
        self.list.iter_mut().for_each(change);
        self.count();
    }

    /// The list, to be made anew.
    pub fn into_list(self) -> Vec<Slot> {
        self.list
    }

    fn count(&mut self) {
        (self.usable, self.idle, self.kept) = (0, 0, 0);
        for slot in &mut self.list {
            slot.rare.tidy();
            self.usable = self.usable.saturating_add(slot.is_usable().into());
            self.idle = self.idle.saturating_add(slot.is_free().into());
            self.kept = self.kept.saturating_add(slot.promised.is_some().into());
        }
    }
}

impl From<Vec<Slot>> for Slots {
    fn from(list: Vec<Slot>) -> Self {
        let mut slots = Self { list, ..Self::default() };
        slots.count();
        slots
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.list
    }
}

impl<'a> IntoIterator for &'a Slots {
    type Item = &'a Slot;
    type IntoIter = slice::Iter<'a, Slot>;

    fn into_iter(self) -> slice::Iter<'a, Slot> {
        self.list.iter()
    }
}

/// In a snapshot the list alone.
impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharfage_shared::ids::ReplicaId;

    use super::{Slot, Slots};
    use crate::fleet::rows::rarely::Rarely;

    proptest! {
        #[test]
        fn the_counts_are_those_of_the_list_whatever_changes(
            steps in prop::collection::vec((0usize..8, 0u8..4, any::<bool>()), 0..40),
        ) {
            let gpu = |number: usize| format!("GPU-{number}").as_str().into();
            let slot = |at| Slot { gpu: gpu(at), holder: None, rare: Rarely::default() };
            let mut slots = Slots::from((0..8).map(slot).collect::<Vec<_>>());
            for (at, field, is_set) in steps {
                let somebody = is_set.then_some(ReplicaId(1));
                slots.change(|slot| match field {
                    _ if slot.gpu != gpu(at) => {}
                    0 => slot.holder = somebody,
                    1 => slot.promised = somebody,
                    2 => slot.orphan = somebody,
                    _ => slot.unfit = is_set.then(|| "XID 79".into()),
                });
                let count = |is: fn(&Slot) -> bool| slots.iter().filter(|slot| is(slot)).count();
                prop_assert_eq!(usize::from(slots.usable()), count(Slot::is_usable));
                prop_assert_eq!(usize::from(slots.idle()), count(Slot::is_free));
                prop_assert_eq!(slots.are_whole(), count(Slot::is_usable) == 8);
                prop_assert_eq!(slots.are_kept(), count(|slot| slot.promised.is_some()) > 0);
            }
            let written = serde_json::to_string(&slots).expect("slots are JSON");
            let read: Slots = serde_json::from_str(&written).expect("they were written");
            prop_assert_eq!(read, slots);
        }
    }
}
