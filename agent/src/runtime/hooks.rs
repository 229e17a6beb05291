//! Hooks as the node's decisions ask for them: definition, environment, run, and for a checkpoint
//! the proof that it is complete.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::Boottime;

use super::Runtime;
use crate::drivers::Driver;
use crate::hooks::Definition;
use crate::hooks::checkpoint::{self, Checkpoints};
use crate::hooks::run::{self, Ending, Run};
use crate::users::User;

/// One hook as it was asked for.
struct Asked {
    order: RunOrder,
    kind: HookKind,
    hook: HookId,
    reason: String,
    deadline: Boottime,
}

impl Runtime {
    pub(super) fn run_hook(
        &mut self,
        replica: ReplicaId,
        kind: HookKind,
        hook: HookId,
        reason: String,
        deadline: Boottime,
    ) {
        let driver = Arc::clone(&self.parts.driver);
        let order = self.parts.orders.get(&replica).cloned();
        let cut = CancellationToken::new();
        self.running_hooks.retain(|_, running| !running.is_cancelled());
        self.running_hooks.insert((replica, kind), cut.clone());
        tokio::spawn(async move {
            let ending = match order {
                Some(order) => {
                    let asked = Asked { order, kind, hook, reason, deadline };
                    carry_out(&driver, asked, &cut).await
                }
                None => failed("the replica's order is not known here".to_owned()),
            };
            cut.cancel();
            let Ending { outcome, detail } = ending;
            driver.say(Input::HookEnded { replica, kind, outcome, detail }).await;
        });
    }
}

async fn carry_out(driver: &Arc<Driver>, asked: Asked, cut: &CancellationToken) -> Ending {
    let replica = asked.order.replica;
    let kind = asked.kind;
    let config = driver.config();
    let found = Definition::load(&config.hooks_dir, &asked.hook, config.trusted_owner());
    let definition = match found {
        Ok(definition) => definition,
        Err(why) => return failed(why),
    };
    let checkpoints = Checkpoints::of(&config.state_dir, &asked.order.deployment);
    let previous = {
        let checkpoints = checkpoints.clone();
        // Every file of a checkpoint is hashed: not on a thread that others need.
        tokio::task::spawn_blocking(move || checkpoints.newest()).await.unwrap_or(None)
    };
    if kind == HookKind::Restore && previous.is_none() {
        let detail = Some("there is no complete checkpoint on this host".to_owned());
        return Ending { outcome: HookOutcome::Skipped, detail };
    }
    let folder = match kind {
        HookKind::Checkpoint => match checkpoints.begin(replica) {
            Ok(folder) => Some(folder),
            Err(error) => return failed(format!("no folder for the checkpoint: {error}")),
        },
        HookKind::Drain | HookKind::Restore | HookKind::Post => previous.clone(),
    };
    if kind == HookKind::Checkpoint
        && let Err(why) = hand_over(&definition, folder.as_ref())
    {
        return failed(why);
    }
    let logs = config.state_dir.join("hook-logs");
    if let Err(error) = std::fs::create_dir_all(&logs) {
        return failed(format!("no folder for what it prints: {error}"));
    }
    let engine = driver.folder(replica).params().ok();
    let url = engine.map(|params| format!("http://127.0.0.1:{}", params.engine_port));
    let url = url.unwrap_or_default();
    let env = environment(&asked, url, folder.as_ref(), previous.as_ref());
    let log = logs.join(format!("{replica}-{kind}.log"));
    let run = Run { definition, env, log, deadline: asked.deadline };
    let inputs = driver.inputs.clone();
    let mut progress = move |permille| {
        // A word of progress is not worth waiting for.
        drop(inputs.try_send(Input::HookProgress { replica, kind, permille }));
    };
    let ending = run::run(&run, cut, &mut progress).await;
    match (kind, folder) {
        (HookKind::Checkpoint, Some(folder)) if ending.outcome == HookOutcome::Done => {
            let verified = tokio::task::spawn_blocking(move || checkpoint::verify(&folder)).await;
            match verified {
                Ok(Ok(bytes)) => {
                    let detail = Some(format!("checkpoint of {bytes} bytes is complete"));
                    Ending { outcome: HookOutcome::Done, detail }
                }
                Ok(Err(why)) => failed(format!("its checkpoint is not complete: {why}")),
                Err(_) => failed("its checkpoint cannot be verified".to_owned()),
            }
        }
        _ => ending,
    }
}

/// What the hook is told; a gang's member also which part of it this is.
fn environment(
    asked: &Asked,
    engine_url: String,
    folder: Option<&PathBuf>,
    previous: Option<&PathBuf>,
) -> BTreeMap<String, String> {
    let path = |path: Option<&PathBuf>| path.map(|p| p.display().to_string()).unwrap_or_default();
    let always = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("WHARFAGE_REPLICA", asked.order.replica.to_string()),
        ("WHARFAGE_MODEL", asked.order.model_name.clone()),
        ("WHARFAGE_HOOK", asked.kind.to_string()),
        ("WHARFAGE_REASON", asked.reason.clone()),
        ("WHARFAGE_CHECKPOINT_DIR", path(folder)),
        ("WHARFAGE_PREVIOUS_CHECKPOINT", path(previous)),
        ("WHARFAGE_ENGINE_URL", engine_url),
    ];
    let of_gang = asked.order.gang.iter().flat_map(|gang| {
        let (rank, members) = (gang.rank.to_string(), gang.world_size.to_string());
        [("WHARFAGE_RANK", rank), ("WHARFAGE_WORLD_SIZE", members)]
    });
    let all = always.into_iter().chain(of_gang);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A hook that runs as another user must be able to write its checkpoint.
fn hand_over(definition: &Definition, folder: Option<&PathBuf>) -> Result<(), String> {
    let (Some(user), Some(folder)) = (&definition.user, folder) else { return Ok(()) };
    let user = User::named(user)?;
    std::os::unix::fs::chown(folder, Some(user.id), Some(user.group))
        .map_err(|error| format!("cannot give `{}` to its user: {error}", folder.display()))
}

fn failed(why: String) -> Ending {
    Ending { outcome: HookOutcome::Failed, detail: Some(why) }
}

#[cfg(test)]
mod tests {
    use wharfage_shared::order::Gang;

    use super::*;
    use crate::testing::order;

    fn names(gang: Option<Gang>) -> Vec<String> {
        let asked = Asked {
            order: RunOrder { gang, ..order(7) },
            kind: HookKind::Drain,
            hook: HookId::from("bye"),
            reason: "a drain".to_owned(),
            deadline: Boottime(1),
        };
        let told = environment(&asked, String::new(), None, None).into_iter();
        let told = told.filter(|(name, _)| name.ends_with("RANK") || name.ends_with("SIZE"));
        told.map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_member_of_a_gang_is_told_which_part_it_is_and_nobody_else() {
        let gang = Gang {
            rank: 1,
            world_size: 2,
            gpus: 16,
            leader_host: "node-1.internal".to_owned(),
            leader_port: 12_007,
        };
        assert_eq!(names(Some(gang)), ["WHARFAGE_RANK=1", "WHARFAGE_WORLD_SIZE=2"]);
        assert_eq!(names(None), Vec::<String>::new());
    }
}
