//! What will happen, in the order of virtual time; things due at one instant happen in the order in
//! which they were planned, so that a run is decided by its seed alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wharfage_shared::time::Millis;

/// Everything planned.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    planned: u64,
}

#[derive(Clone, Debug)]
struct Planned<T> {
    at: Millis,
    number: u64,
    what: T,
}

impl<T> Planned<T> {
    fn key(&self) -> (Millis, u64) {
        (self.at, self.number)
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }
}

impl<T> Queue<T> {
    /// Plans something.
    pub fn plan(&mut self, at: Millis, what: T) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, number: self.planned, what }));
    }

    /// When the next thing is due.
    pub fn next_at(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    /// The next thing.
    pub fn pop(&mut self) -> Option<(Millis, T)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_things_come_first_and_equal_ones_as_planned() {
        let mut queue = Queue::default();
        for (at, what) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            queue.plan(Millis(at), what);
        }
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop().map(|(_, what)| what)).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
