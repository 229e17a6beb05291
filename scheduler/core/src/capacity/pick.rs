//! Which GPUs of a node a replica takes: those that are near each other, and such that others stay
//! near each other too.
//!
//! What is not told, NVLinks or the nearest memory of the host, tells nothing apart. A plain search
//! over all sets must give the same answer, and a property holds that it does.

use std::collections::BTreeMap;

use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::GpuIdentity;

use crate::fleet::rows::node::{NodeRow, Slot};
use crate::words::gpus::Gpus;

/// The GPUs and how near they are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// In the node's order.
    pub gpus: Gpus,
    /// Half a sentence; absent where the node tells nothing of it or one GPU is taken.
    pub nearness: Option<String>,
}

/// Where a GPU is: its NVLink group and its memory node.
type Place = (Option<u32>, Option<u32>);

/// Less is better, from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// NVLink groups that it reaches into; a GPU without links is alone.
    islands: u32,
    /// Memory nodes likewise.
    numas: u32,
    /// Groups that were wholly free and are not any more, with something left.
    broken_islands: u32,
    /// Memory nodes likewise.
    broken_numas: u32,
    /// What stays free in the groups that it reaches into.
    left_in_islands: u32,
    /// And in the memory nodes.
    left_in_numas: u32,
}

/// The best `count` of the usable GPUs, or all of them where there are fewer.
pub fn pick(node: &NodeRow, count: u8) -> Picked {
    among(node, count, Slot::is_usable)
}

/// The same among others than those that are usable now.
pub fn among(node: &NodeRow, count: u8, is_usable: impl Fn(&Slot) -> bool) -> Picked {
    let usable: Vec<usize> =
        (0..node.slots.len()).filter(|at| is_usable(&node.slots[*at])).collect();
    let places = Places::of(node);
    let count = usize::from(count).min(usable.len());
    let chosen = if count == usable.len() || places.are_alike() {
        usable[..count].to_vec()
    } else {
        places.best(&usable, count)
    };
    let gpus = chosen.iter().map(|at| node.slots[*at].gpu.clone()).collect();
    Picked { gpus, nearness: places.nearness(&chosen) }
}

/// Where the GPUs of one node are, by slot.
struct Places {
    of: Vec<Place>,
}

impl Places {
    fn of(node: &NodeRow) -> Self {
        let known = &node.inventory.gpus;
        let place = |(at, gpu): (usize, &GpuUuid)| {
            // Slots follow the inventory, as long as nothing is held that it does not name.
            let here = known.get(at).filter(|identity| identity.uuid == *gpu);
            let found = || known.iter().find(|identity| identity.uuid == *gpu);
            let told = |identity: &GpuIdentity| (identity.nvlink, identity.numa);
            here.or_else(found).map_or((None, None), told)
        };
        let slots = node.slots.iter().map(|slot| &slot.gpu).enumerate();
        Self { of: slots.map(place).collect() }
    }

    /// Whether nothing tells one GPU from another.
    fn are_alike(&self) -> bool {
        self.of.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// GPUs of one place are alike, so that only how many are taken of each place matters, and of
    /// each place the first.
    fn best(&self, usable: &[usize], count: usize) -> Vec<usize> {
        let mut classes: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for at in usable {
            classes.entry(self.of[*at]).or_default().push(*at);
        }
        let classes: Vec<Vec<usize>> = classes.into_values().collect();
        let (mut islands, mut numas) = (BTreeMap::new(), BTreeMap::new());
        for (nvlink, numa) in &self.of {
            for (sizes, group) in [(&mut islands, nvlink), (&mut numas, numa)] {
                if let Some(group) = group {
                    *sizes.entry(*group).or_default() += 1;
                }
            }
        }
        let (places, classes) = (self, classes.as_slice());
        let mut search = Search { places, islands, numas, usable, classes, best: None };
        search.go(0, count, &mut Vec::new());
        search.best.map_or_else(Vec::new, |(_, chosen)| chosen)
    }

    fn nearness(&self, chosen: &[usize]) -> Option<String> {
        let [first, _, ..] = chosen else { return None };
        let (nvlink, numa) = self.of[*first];
        let same = |of: fn(&Place) -> Option<u32>| {
            let first = of(&self.of[*first]);
            chosen.iter().all(|at| of(&self.of[*at]) == first)
        };
        let has_links = chosen.iter().any(|at| self.of[*at].0.is_some());
        let links = match (nvlink, same(|place| place.0)) {
            (Some(_), true) => Some("share NVLinks".to_owned()),
            _ if has_links => Some("do not all share NVLinks".to_owned()),
            _ => None,
        };
        let has_numa = chosen.iter().any(|at| self.of[*at].1.is_some());
        let memory = match (numa, same(|place| place.1)) {
            (Some(numa), true) => Some(format!("are near memory node {numa}")),
            _ if has_numa => Some("are near several memory nodes".to_owned()),
            _ => None,
        };
        let said: Vec<String> = links.into_iter().chain(memory).collect();
        (!said.is_empty()).then(|| format!("its GPUs {}", said.join(" and ")))
    }
}

/// How many groups the chosen ones reach into, how many of them were wholly free and keep some, and
/// what stays free in them.
fn reach(
    sizes: &BTreeMap<u32, u32>,
    usable: &[usize],
    chosen: &[usize],
    of: impl Fn(&usize) -> Option<u32>,
) -> (u32, u32, u32) {
    let (mut reached, mut broken, mut left) = (0, 0, 0);
    for (group, size) in sizes {
        let count = |all: &[usize]| all.iter().filter(|at| of(at) == Some(*group)).count() as u32;
        let taken = count(chosen);
        if taken > 0 {
            let free = count(usable);
            reached += 1;
            broken += u32::from(free == *size && taken < free);
            left += free - taken;
        }
    }
    (reached, broken, left)
}

/// All ways to take so many, place by place.
struct Search<'a> {
    places: &'a Places,
    /// How many slots each NVLink group and each memory node has.
    islands: BTreeMap<u32, u32>,
    numas: BTreeMap<u32, u32>,
    usable: &'a [usize],
    classes: &'a [Vec<usize>],
    best: Option<(Cost, Vec<usize>)>,
}

impl Search<'_> {
    fn go(&mut self, class: usize, missing: usize, taken: &mut Vec<usize>) {
        let Some(here) = self.classes.get(class) else {
            let mut chosen = taken.clone();
            chosen.sort_unstable();
            let found = (self.cost(&chosen), chosen);
            if self.best.as_ref().is_none_or(|best| found < *best) {
                self.best = Some(found);
            }
            return;
        };
        let beyond: usize = self.classes[class + 1..].iter().map(Vec::len).sum();
        for count in missing.saturating_sub(beyond)..=missing.min(here.len()) {
            taken.extend(&here[..count]);
            self.go(class + 1, missing - count, taken);
            taken.truncate(taken.len() - count);
        }
    }

    fn cost(&self, chosen: &[usize]) -> Cost {
        let island = |at: &usize| self.places.of[*at].0;
        let numa = |at: &usize| self.places.of[*at].1;
        let alone = chosen.iter().filter(|at| island(at).is_none()).count() as u32;
        let (islands, broken_islands, left_in_islands) =
            reach(&self.islands, self.usable, chosen, island);
        let (numas, broken_numas, left_in_numas) = reach(&self.numas, self.usable, chosen, numa);
        Cost {
            islands: islands + alone,
            numas,
            broken_islands,
            broken_numas,
            left_in_islands,
            left_in_numas,
        }
    }
}
