//! What the index holds of replicas: who waits, for whom a seat is kept, who leaves, who has ended,
//! whose place may become free.
//!
//! A replica's entries follow from its row and its deployment's, and change only with them, through
//! `change_replica` and `put_replica`. `placed` of a deployment's row counts those of its replicas
//! that are placed.

use std::sync::Arc;

use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{DeploymentId, ReplicaId};
use wharfage_shared::time::Timestamp;

use super::{Index, Spare, put};
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::rows::replica::ReplicaRow;
use crate::words::replica::Phase;

impl Fleet {
    /// The only way to change a replica's row.
    pub(in crate::fleet) fn change_replica(
        &mut self,
        id: ReplicaId,
        change: impl FnOnce(&mut ReplicaRow),
    ) {
        let Some(row) = self.replicas.get_mut(&id) else { return };
        let of = self.deployments.get(&row.deployment).map(|of| &**of);
        let before = ReplicaEntries::of(of, row);
        let row = Arc::make_mut(row);
        change(row);
        row.rare.tidy();
        let now_placed = is_placed(row);
        if before.is_placed == now_placed {
            let after = ReplicaEntries::of(of, row);
            return self.index.replica_changed(before, after);
        }
        let placed = of.map(|of| of.placed_after(now_placed));
        if let (Some(of), Some(placed)) = (of, placed)
            && of.is_above_min() == of.would_be_above_min(placed)
        {
            // The usual case: only this one's entries change.
            let after = ReplicaEntries::of(Some(of), row);
            if let Some(of) = self.deployments.get_mut(&row.deployment) {
                Arc::make_mut(of).placed = placed;
            }
            return self.index.replica_changed(before, after);
        }
        // The deployment comes above its `min` or back, which counts for all its replicas.
        let of = row.deployment.clone();
        self.index.replica_changed(before, ReplicaEntries::default());
        self.count_placed(&of, !now_placed, now_placed);
        self.put_replica_in(id);
    }

    /// The only way to put a replica's row in or to take it out.
    pub(in crate::fleet) fn put_replica(&mut self, id: ReplicaId, row: Option<ReplicaRow>) {
        let old = self.replica(id);
        let before = old.map(|row| self.entries_of(row)).unwrap_or_default();
        let (was_placed, will_be_placed) = (before.is_placed, row.as_ref().is_some_and(is_placed));
        let of = row.as_ref().or(old).map(|row| row.deployment.clone());
        if !was_placed && !will_be_placed {
            let after = row.as_ref().map(|row| self.entries_of(row)).unwrap_or_default();
            match row {
                Some(row) => drop(self.replicas.insert(id, Arc::new(row))),
                None => drop(self.replicas.remove(&id)),
            }
            return self.index.replica_changed(before, after);
        }
        self.index.replica_changed(before, ReplicaEntries::default());
        match row {
            Some(row) => drop(self.replicas.insert(id, Arc::new(row))),
            None => drop(self.replicas.remove(&id)),
        }
        if let Some(of) = of {
            self.count_placed(&of, was_placed, will_be_placed);
        }
        self.put_replica_in(id);
    }

    /// Puts in what the index is to hold of a replica of which it holds nothing.
    fn put_replica_in(&mut self, id: ReplicaId) {
        let after = self.replica(id).map(|row| self.entries_of(row)).unwrap_or_default();
        self.index.replica_changed(ReplicaEntries::default(), after);
    }

    pub(super) fn entries_of(&self, row: &ReplicaRow) -> ReplicaEntries {
        ReplicaEntries::of(self.deployment(&row.deployment), row)
    }
}

impl Index {
    /// Moves a replica's entries from what it was to what it is.
    pub(super) fn replica_changed(&mut self, before: ReplicaEntries, after: ReplicaEntries) {
        if before.spare != after.spare {
            self.spares.put(before.spare, false);
            self.spares.put(after.spare, true);
        }
        if before.entry != after.entry {
            self.put_entry(before.entry, false);
            self.put_entry(after.entry, true);
        }
    }

    /// Puts a replica's entry in or takes it out.
    fn put_entry(&mut self, entry: Option<ReplicaEntry>, is_in: bool) {
        match entry {
            Some(ReplicaEntry::Pending(key)) => put(&mut self.pending, key, is_in),
            Some(ReplicaEntry::Promised(key)) => put(&mut self.promised, key, is_in),
            Some(ReplicaEntry::Leaving(id)) => put(&mut self.leaving, id, is_in),
            Some(ReplicaEntry::Stopped(key)) => put(&mut self.stopped, key, is_in),
            None => {}
        }
    }
}

/// What the index holds of a replica.
#[derive(Default)]
pub(super) struct ReplicaEntries {
    entry: Option<ReplicaEntry>,
    spare: Option<Spare>,
    is_placed: bool,
}

impl ReplicaEntries {
    /// As its row and its deployment's are at this moment.
    fn of(of: Option<&DeploymentRow>, row: &ReplicaRow) -> Self {
        // What waits does so by the type that its own spec asks for.
        let key = || {
            let sku = &of?.revisions.get(&row.revision)?.sku;
            Some((sku.clone(), row.deployment.clone(), row.id))
        };
        let entry = match &row.phase {
            Phase::Pending { .. } => key().map(ReplicaEntry::Pending),
            Phase::Promised { .. } => key().map(ReplicaEntry::Promised),
            Phase::Leaving { leaving, .. } => {
                (!leaving.quiet).then_some(ReplicaEntry::Leaving(row.id))
            }
            Phase::Stopped { at, .. } => {
                row.phase.is_over().then_some(ReplicaEntry::Stopped((*at, row.id)))
            }
            Phase::Placed { .. } => None,
        };
        let spare = of.and_then(|of| Spare::of(of, row));
        Self { entry, spare, is_placed: is_placed(row) }
    }
}

/// In which list it is.
#[derive(PartialEq, Eq)]
enum ReplicaEntry {
    Pending((Sku, DeploymentId, ReplicaId)),
    Promised((Sku, DeploymentId, ReplicaId)),
    Leaving(ReplicaId),
    Stopped((Timestamp, ReplicaId)),
}

/// Whether it is placed and has not been told to leave.
pub(super) fn is_placed(row: &ReplicaRow) -> bool {
    match &row.phase {
        Phase::Placed { .. } => true,
        Phase::Pending { .. }
        | Phase::Promised { .. }
        | Phase::Leaving { .. }
        | Phase::Stopped { .. } => false,
    }
}
