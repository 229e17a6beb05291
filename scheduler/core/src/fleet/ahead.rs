//! Nodes for those who look at every one of them.
//!
//! The rows of a large fleet lie scattered in memory, and a look at one costs less than the wait for
//! it. So some are touched before their turn, all at once: their waits overlap.

use std::hint::black_box;

use super::Fleet;
use super::rows::node::NodeRow;
use crate::words::node::{Health, Intent, Reach};

/// Rows that are touched at once: few enough that the first is still near when the last has come.
const AT_ONCE: usize = 64;

/// Rows in the order of an iterator over them, touched before their turn.
struct Ahead<'a, I> {
    rest: I,
    near: Vec<&'a NodeRow>,
    next: usize,
}

impl<'a, I: Iterator<Item = &'a NodeRow>> Iterator for Ahead<'a, I> {
    type Item = &'a NodeRow;

    fn next(&mut self) -> Option<&'a NodeRow> {
        if self.next == self.near.len() {
            self.next = 0;
            self.near.clear();
            self.near.extend(self.rest.by_ref().take(AT_ONCE));
            // Nobody needs the sums: they cannot be told without reading. One after the other,
            // since where the inventory lies is known once the row is there.
            let first = self.near.first().copied()?;
            black_box(self.near.iter().map(|row| of_row(row, first)).sum::<usize>());
            black_box(self.near.iter().map(|row| of_inventory(row)).sum::<usize>());
        }
        let row = self.near.get(self.next)?;
        self.next += 1;
        Some(row)
    }
}

/// Reads the row itself, from its beginning to its end.
fn of_row(row: &NodeRow, other: &NodeRow) -> usize {
    let flags = [
        row.sku == other.sku,
        row.zone == other.zone,
        row.compute_class == other.compute_class,
        row.owner.is_some(),
        row.held_for.is_some(),
        row.held_since.is_some(),
        row.start.is_some(),
        row.reach == Reach::Connected,
        row.health == Health::Fit,
        row.intent == Intent::Open,
    ];
    row.slots.len() + row.replicas.len() + flags.into_iter().map(usize::from).sum::<usize>()
}

fn of_inventory(row: &NodeRow) -> usize {
    row.inventory.hooks.len() + row.inventory.engines.len()
}

impl Fleet {
    /// Nodes in the order of their names, for who looks at most of them.
    pub fn every_node(&self) -> impl Iterator<Item = &NodeRow> {
        Ahead { rest: self.nodes(), near: Vec::with_capacity(AT_ONCE), next: 0 }
    }
}
