//! Replicas of an earlier agent that nobody tends: their records cannot be read, or only their unit
//! is left. They are left alone, told for as long as something of them is there, and hold their
//! slots. One whose records can be read again is adopted.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use wharfage_agent_core::input::Input;
use wharfage_shared::ids::ReplicaId;

use super::{Driver, release};

/// Between two looks whether something of them is still there, and can be read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who they are, with the sentence that an operator needs.
pub(super) type Untended = BTreeMap<ReplicaId, String>;

impl Driver {
    /// One sentence for each replica that nobody tends.
    pub fn untended(&self) -> Vec<String> {
        self.of_nobody().values().cloned().collect()
    }

    /// The replicas that nobody tends.
    pub fn left_alone(&self) -> Vec<ReplicaId> {
        self.of_nobody().keys().copied().collect()
    }

    pub(super) fn leave_alone(&self, replica: ReplicaId, because: String) {
        let before = self.of_nobody().insert(replica, because.clone());
        if before.as_ref() != Some(&because) {
            tracing::warn!(replica.id = %replica, "{because}");
        }
    }

    /// Its folder is there and does not say what it is.
    pub(super) fn leave_unread(&self, replica: ReplicaId, why: &io::Error) {
        let at = self.folder(replica).path().display().to_string();
        self.leave_alone(
            replica,
            format!(
                "{replica} of an earlier agent is left alone and holds its GPUs: {why}; it is \
                 adopted as soon as that can be read, and once nothing of it lives `rm -r {at}` \
                 frees them"
            ),
        );
    }

    /// Adopts those that can be read and forgets those of which nothing is left, until there are
    /// none.
    pub(super) fn watch_untended(self: &Arc<Self>) {
        if self.of_nobody().is_empty() {
            return;
        }
        let driver = Arc::clone(self);
        tokio::spawn(async move {
            while !driver.inputs.is_closed() && !driver.of_nobody().is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
                // What cannot be listed now is looked at again.
                let Ok((known, strays)) = driver.list().await else { continue };
                for replica in driver.left_alone() {
                    if known.contains(&replica) {
                        driver.read_again(replica).await;
                    } else if !strays.contains(&replica) {
                        driver.nothing_left(replica).await;
                    }
                }
            }
        });
    }

    async fn read_again(self: &Arc<Self>, replica: ReplicaId) {
        match self.adopt_one(replica).await {
            Ok((found, kept)) => {
                self.of_nobody().remove(&replica);
                // Before its keeper can tell anything of it.
                self.say(Input::Adopted(Box::new(found))).await;
                self.take_over(kept);
            }
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && release::is_nothing_left(self, replica).await =>
            {
                if self.folder(replica).remove().is_ok() {
                    self.nothing_left(replica).await;
                }
            }
            Err(error) => self.leave_unread(replica, &error),
        }
    }

    async fn nothing_left(&self, replica: ReplicaId) {
        self.of_nobody().remove(&replica);
        self.say(Input::NothingLeft(replica)).await;
    }

    fn of_nobody(&self) -> std::sync::MutexGuard<'_, Untended> {
        self.untended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
