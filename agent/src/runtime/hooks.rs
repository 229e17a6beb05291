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
use super::stored::Moving;
use crate::drivers::Driver;
use crate::hooks::Definition;
use crate::hooks::builtin::{self, Step};
use crate::hooks::checkpoint::{self, Checkpoints};
use crate::hooks::gpu_checkpoint;
use crate::hooks::run::{self, Ending, Run};
use crate::hooks::user;
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
            let (ending, wrote) = match order {
                Some(order) => {
                    let asked = Asked { order, kind, hook, reason, deadline };
                    carry_out(&driver, asked, &cut).await
                }
                None => (failed("the replica's order is not known here".to_owned()), None),
            };
            cut.cancel();
            if let Some(bytes) = wrote {
                driver.say(Input::HookWrote { replica, kind, bytes }).await;
            }
            let Ending { outcome, detail } = ending;
            driver.say(Input::HookEnded { replica, kind, outcome, detail }).await;
        });
    }
}

impl Runtime {
    /// A drain hook was for nothing: what it put to sleep goes on.
    pub(super) fn wake(&mut self, replica: ReplicaId) {
        let order = self.parts.orders.get(&replica);
        let hook = order.and_then(|order| order.hooks.get(&HookKind::Drain));
        let Some(step) = hook.and_then(Step::of) else { return };
        let driver = Arc::clone(&self.parts.driver);
        tokio::spawn(async move {
            // Its probes say that it does not serve, until somebody ends it.
            if let Err(why) = builtin::wake(step, &driver, replica).await {
                tracing::warn!(replica.id = %replica, "it does not go on: {why}");
            }
        });
    }
}

/// How it ended, and how much a checkpoint that is complete has.
async fn carry_out(
    driver: &Arc<Driver>,
    asked: Asked,
    cut: &CancellationToken,
) -> (Ending, Option<u64>) {
    if let Some(step) = Step::of(&asked.hook) {
        let (kind, deadline) = (asked.kind, asked.deadline);
        return (builtin::run(step, driver, &asked.order, kind, deadline, cut).await, None);
    }
    let config = driver.config();
    let checkpoints_dir = config.checkpoints.folder(&config.state_dir);
    let checkpoints = Checkpoints::of(&checkpoints_dir, &asked.order.deployment);
    if asked.kind != HookKind::Checkpoint {
        return (run_it(driver, &asked, &checkpoints, None, cut).await, None);
    }
    let attempt = match checkpoints.begin(asked.order.replica) {
        Ok(attempt) => attempt,
        Err(error) => return (failed(format!("no folder for the checkpoint: {error}")), None),
    };
    let ending = run_it(driver, &asked, &checkpoints, Some(&attempt), cut).await;
    if ending.outcome != HookOutcome::Done {
        // What it wrote may be much: not on a thread that others need.
        drop(tokio::task::spawn_blocking(move || checkpoint::give_up(&attempt)).await);
        return (ending, None);
    }
    let (replica, most) = (asked.order.replica, config.checkpoints.keep);
    let complete = attempt.clone();
    // Every file of a checkpoint is hashed.
    let kept = tokio::task::spawn_blocking(move || checkpoints.keep(&attempt, replica, most));
    let kept = kept.await.unwrap_or_else(|_| Err("it cannot be verified".to_owned()));
    let bytes = match kept {
        Ok(bytes) => bytes,
        Err(why) => return (failed(format!("its checkpoint is not complete: {why}")), None),
    };
    let detail = format!("checkpoint of {bytes} bytes is complete");
    match moving(driver, &asked, cut).push(&complete).await {
        Ok(is_pushed) => {
            let where_to = if is_pushed { ", here and in the store" } else { "" };
            let detail = Some(format!("{detail}{where_to}"));
            (Ending { outcome: HookOutcome::Done, detail }, Some(bytes))
        }
        // A replacement elsewhere would not find it.
        Err(why) => (failed(format!("{detail} on this host alone, not in the store: {why}")), None),
    }
}

fn moving<'a>(driver: &'a Driver, asked: &'a Asked, cut: &'a CancellationToken) -> Moving<'a> {
    Moving { driver, order: &asked.order, deadline: asked.deadline, cut }
}

/// Runs it; a checkpoint into `attempt`, every other with the newest complete one.
async fn run_it(
    driver: &Arc<Driver>,
    asked: &Asked,
    checkpoints: &Checkpoints,
    attempt: Option<&PathBuf>,
    cut: &CancellationToken,
) -> Ending {
    let replica = asked.order.replica;
    let kind = asked.kind;
    let config = driver.config();
    let found = Definition::load(&config.hooks_dir, &asked.hook, config.trusted_owner());
    let definition = match found {
        Ok(definition) => definition,
        Err(why) => return failed(why),
    };
    let logs = config.state_dir.join("hook-logs");
    if let Err(error) = std::fs::create_dir_all(&logs) {
        return failed(format!("no folder for what it prints: {error}"));
    }
    if kind == HookKind::Restore && config.checkpoints.store.is_some() {
        let user = user::of(&definition, &config, Some(&checkpoints.folder().join("any")));
        // Whether there is a newer one is not known then: what is here may be long past.
        let pulled = match &user {
            Ok(user) => moving(driver, asked, cut).pull(checkpoints, user.as_ref()).await,
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = pulled {
            return failed(format!("the store's checkpoints cannot be had: {why}"));
        }
    }
    let previous = {
        let checkpoints = checkpoints.clone();
        let newest = move || match kind {
            HookKind::Restore => checkpoints.newest(),
            HookKind::Checkpoint | HookKind::Drain | HookKind::Post => checkpoints.newest_by_size(),
        };
        // It reads many files: not on a thread that others need.
        tokio::task::spawn_blocking(newest).await.unwrap_or(None)
    };
    if kind == HookKind::Restore && previous.is_none() {
        let detail = Some("there is no complete checkpoint".to_owned());
        return Ending { outcome: HookOutcome::Skipped, detail };
    }
    let folder = attempt.cloned().or_else(|| previous.clone());
    let user = match user::of(&definition, &config, folder.as_deref()) {
        Ok(user) => user,
        Err(why) => return failed(why),
    };
    if let Err(why) = hand_over(user.as_ref(), attempt) {
        return failed(why);
    }
    let engine = driver.folder(replica).params().ok();
    let url = engine.map(|params| format!("http://127.0.0.1:{}", params.engine_port));
    let url = url.unwrap_or_default();
    let env = environment(asked, url, folder.as_ref(), previous.as_ref());
    let name = format!("wharfage-hook-{replica}-{kind}");
    let log = logs.join(format!("{replica}-{kind}.log"));
    let keeper = driver.program.clone();
    let around = definition.gpu_checkpoint;
    if around && kind != HookKind::Checkpoint {
        return failed(format!("`gpu_checkpoint` is for checkpoint hooks, this is a {kind} hook"));
    }
    let mut run = Run { definition, keeper, name, user, env, log, deadline: asked.deadline };
    let inputs = driver.inputs.clone();
    let mut progress = move |permille| {
        // A word of progress is not worth waiting for.
        drop(inputs.try_send(Input::HookProgress { replica, kind, permille }));
    };
    if !around {
        return run::run(&run, cut, &mut progress).await;
    }
    let saved = gpu_checkpoint::save(driver, &asked.order, asked.deadline).await;
    let ending = match saved {
        Err(why) => return failed(why),
        Ok(_) => {
            let pids = gpu_checkpoint::processes(driver, replica).unwrap_or_default();
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            run.env.insert("WHARFAGE_ENGINE_PIDS".to_owned(), pids.join(" "));
            run::run(&run, cut, &mut progress).await
        }
    };
    match gpu_checkpoint::bring_back(driver, replica).await {
        Ok(()) => ending,
        // What was saved is whole; the replica's probes tell that it serves no more.
        Err(why) => {
            let detail = ending.detail.unwrap_or_default();
            Ending {
                detail: Some(format!("{detail}; its GPU memory is not back: {why}")),
                ..ending
            }
        }
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
fn hand_over(user: Option<&User>, folder: Option<&PathBuf>) -> Result<(), String> {
    let (Some(user), Some(folder)) = (user, folder) else { return Ok(()) };
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
