//! Heartbeats that are held open: each node's newest one waits for news of that node.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use wharfage_shared::ids::NodeId;

/// Parts that can be used at the same time.
const SHARDS: usize = 16;

/// The nodes that have spoken since the start.
#[derive(Debug, Default)]
pub(super) struct Beats {
    shards: [Mutex<HashMap<NodeId, Arc<Bell>>>; SHARDS],
}

/// Rung when something about one node is new.
#[derive(Debug, Default)]
struct Bell {
    newest: AtomicU64,
    notify: Notify,
}

/// One heartbeat among those of its node.
#[derive(Debug)]
pub struct Beat {
    bell: Arc<Bell>,
    number: u64,
}

/// What ended a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<T> {
    /// What was waited for.
    Arrived(T),
    /// A newer heartbeat of the same node came.
    Overtaken,
}

impl Beats {
    fn bell(&self, node: &NodeId) -> Arc<Bell> {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let shard = &self.shards[hasher.finish() as usize % SHARDS];
        let mut bells = shard.lock().unwrap_or_else(PoisonError::into_inner);
        match bells.get(node) {
            Some(bell) => Arc::clone(bell),
            None => Arc::clone(bells.entry(node.clone()).or_default()),
        }
    }

    pub(super) fn begin(&self, node: &NodeId) -> Beat {
        let bell = self.bell(node);
        let number = bell.newest.fetch_add(1, Ordering::AcqRel) + 1;
        bell.notify.notify_waiters();
        Beat { bell, number }
    }

    /// Wakes the heartbeat that `node` has waiting, if it has one.
    pub(super) fn ring(&self, node: &NodeId) {
        self.bell(node).notify.notify_waiters();
    }
}

impl Beat {
    /// Waits until `look` finds something; looked for at once and after each change of the node.
    pub async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> News<T> {
        loop {
            // Registered before looking: what changes in between is not missed.
            let mut rung = std::pin::pin!(self.bell.notify.notified());
            rung.as_mut().enable();
            if let Some(found) = look() {
                return News::Arrived(found);
            }
            if self.bell.newest.load(Ordering::Acquire) != self.number {
                return News::Overtaken;
            }
            rung.await;
        }
    }
}
