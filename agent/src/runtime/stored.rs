//! Checkpoints and the object store: a push after a checkpoint is complete here, a pull before one
//! is restored. Each is a process of its own, kept and cut off like a hook.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::Boottime;

use crate::drivers::Driver;
use crate::hooks::Definition;
use crate::hooks::checkpoint::Checkpoints;
use crate::hooks::run::{self, Run};
use crate::hooks::store::asked::{Act, Move};
use crate::users::User;

/// The caller's deadline limits it; a day is the longest that anything may take.
const LONGEST_SECONDS: u32 = 86_400;

/// A move of one replica's checkpoint.
pub(super) struct Moving<'a> {
    pub(super) driver: &'a Driver,
    pub(super) order: &'a RunOrder,
    pub(super) deadline: Boottime,
    pub(super) cut: &'a CancellationToken,
}

impl Moving<'_> {
    /// Puts a complete checkpoint into the store, where the owner has named one.
    pub(super) async fn push(&self, attempt: &std::path::Path) -> Result<bool, String> {
        self.carry_out(Act::Push, attempt, None).await
    }

    /// Brings the newest one here, for a hook of this user.
    pub(super) async fn pull(
        &self,
        checkpoints: &Checkpoints,
        user: Option<&User>,
    ) -> Result<bool, String> {
        let give_to = user.map(|user| (user.id, user.group));
        self.carry_out(Act::Pull, checkpoints.folder(), give_to).await
    }

    async fn carry_out(
        &self,
        act: Act,
        folder: &std::path::Path,
        give_to: Option<(u32, u32)>,
    ) -> Result<bool, String> {
        let config = self.driver.config();
        let Some(store) = &config.checkpoints.store else { return Ok(false) };
        let replica = self.order.replica;
        let kind = match act {
            Act::Push => HookKind::Checkpoint,
            Act::Pull => HookKind::Restore,
        };
        let moved = Move {
            act,
            store,
            place: &place(self.order),
            folder,
            replica,
            keep: config.checkpoints.keep,
            give_to,
            owner: config.trusted_owner(),
        };
        let program = self.driver.program.display().to_string();
        let command = [program].into_iter().chain(moved.arguments()).collect();
        let asked = Run {
            definition: Definition {
                command,
                timeout_seconds: LONGEST_SECONDS,
                expected_seconds: None,
                user: None,
                gpu_checkpoint: false,
            },
            keeper: self.driver.program.clone(),
            name: format!("wharfage-store-{replica}-{kind}"),
            user: None,
            env: BTreeMap::new(),
            log: config.state_dir.join("hook-logs").join(format!("{replica}-{kind}-store.log")),
            deadline: self.deadline,
        };
        let inputs = self.driver.inputs.clone();
        let mut progress = move |permille| {
            // A word of progress is not worth waiting for.
            drop(inputs.try_send(Input::HookProgress { replica, kind, permille }));
        };
        let ending = run::run(&asked, self.cut, &mut progress).await;
        match ending.outcome {
            HookOutcome::Done => Ok(true),
            _ => Err(ending.detail.unwrap_or_else(|| "it ended without a word".to_owned())),
        }
    }
}

/// The folder of the replica's checkpoints in the store: members of one replica on several nodes
/// keep a part each.
fn place(order: &RunOrder) -> String {
    let deployment = Checkpoints::of(std::path::Path::new(""), &order.deployment);
    let name = deployment.folder().display().to_string();
    match &order.gang {
        Some(gang) => format!("{name}-rank-{}", gang.rank),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use wharfage_shared::order::Gang;

    use super::*;
    use crate::testing::order;

    #[test]
    fn members_of_one_replica_keep_a_part_each() {
        let gang = Gang {
            rank: 1,
            world_size: 2,
            gpus: 16,
            leader_host: "node-1.internal".to_owned(),
            leader_port: 12_007,
        };
        let alone = RunOrder { deployment: "chat".into(), ..order(7) };
        assert_eq!(place(&alone), "chat");
        assert_eq!(place(&RunOrder { gang: Some(gang), ..alone }), "chat-rank-1");
        let odd = RunOrder { deployment: "a/../b".into(), ..order(7) };
        assert!(place(&odd).bytes().all(|c| c.is_ascii_hexdigit()), "{}", place(&odd));
    }
}
