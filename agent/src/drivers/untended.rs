//! Replicas of an earlier agent that nobody tends: their records cannot be read, or only their unit
//! is left. They are left alone, told for as long as something of them is there, and hold their
//! slots.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use wharfage_shared::ids::ReplicaId;

use super::Driver;

/// Between two looks whether something of them is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who they are, with the sentence that an operator needs.
pub(super) type Untended = BTreeMap<ReplicaId, String>;

impl Driver {
    /// One sentence for each replica that nobody tends.
    pub fn untended(&self) -> Vec<String> {
        self.of_nobody().values().cloned().collect()
    }

    pub(super) fn leave_alone(&self, replica: ReplicaId, because: String) {
        tracing::warn!(replica.id = %replica, "{because}");
        self.of_nobody().insert(replica, because);
    }

    /// Its folder is there and does not say what it is.
    pub(super) fn leave_unread(&self, replica: ReplicaId, why: &str) {
        let at = self.folder(replica).path().display().to_string();
        self.leave_alone(
            replica,
            format!(
                "{replica} of an earlier agent is left alone and holds its GPUs: {why}; the next \
                 start of the agent reads it again, and once nothing of it lives `rm -r {at}` \
                 frees them"
            ),
        );
    }

    /// Forgets those of which nothing is left, until there are none.
    pub(super) fn watch_untended(self: &Arc<Self>) {
        if self.of_nobody().is_empty() {
            return;
        }
        let driver = Arc::clone(self);
        tokio::spawn(async move {
            while !driver.of_nobody().is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
                // What cannot be listed now is looked at again.
                let Ok((known, strays)) = driver.list().await else { continue };
                driver
                    .of_nobody()
                    .retain(|replica, _| known.contains(replica) || strays.contains(replica));
            }
        });
    }

    fn of_nobody(&self) -> std::sync::MutexGuard<'_, Untended> {
        self.untended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
