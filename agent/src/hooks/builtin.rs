//! Steps that need no file of the node's owner, each as a drain hook: `builtin-engine-drain`,
//! `builtin-vllm-sleep`, `builtin-sigterm`, `builtin-gpu-checkpoint`.
//!
//! Guards that no file takes one of these names: an id means one thing on every host.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::Boottime;

use super::gpu_checkpoint::{self, Saved};
use super::run::Ending;
use crate::drivers::Driver;
use crate::gpu::MIB;
use crate::guard::record::Command;
use crate::probe::{self, Target};

/// What every id of ours begins with.
const PREFIX: &str = "builtin-";

/// How often it is looked whether a step is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The engine takes nothing more (where its definition says how to ask), and what it has comes
    /// to its end.
    EngineDrain,
    /// vLLM gives its GPU memory back and keeps its process.
    VllmSleep,
    /// The engine is asked to end and given the hook's time to do so, longer than a stop's.
    Sigterm,
    /// The engine's GPU memory goes into the host's memory, and its GPUs are given back.
    GpuCheckpoint,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::EngineDrain, Self::VllmSleep, Self::Sigterm, Self::GpuCheckpoint];

    /// Its id in the API.
    pub fn id(self) -> HookId {
        HookId::from(match self {
            Self::EngineDrain => "builtin-engine-drain",
            Self::VllmSleep => "builtin-vllm-sleep",
            Self::Sigterm => "builtin-sigterm",
            Self::GpuCheckpoint => "builtin-gpu-checkpoint",
        })
    }

    /// The step of this id.
    pub fn of(id: &HookId) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.id() == *id)
    }
}

/// Whether an id is one that only the product gives.
pub fn is_reserved(id: &HookId) -> bool {
    id.as_str().starts_with(PREFIX)
}

/// Does one step for a replica, until it is done, cut off, or out of time.
pub async fn run(
    step: Step,
    driver: &Arc<Driver>,
    order: &RunOrder,
    kind: HookKind,
    deadline: Boottime,
    cut: &CancellationToken,
) -> Ending {
    if kind != HookKind::Drain {
        let why = format!("`{}` is a drain hook; a {kind} hook needs a file", step.id());
        return Ending { outcome: HookOutcome::Failed, detail: Some(why) };
    }
    let replica = order.replica;
    let left = deadline.since(clock::boottime());
    let limit = Duration::from_millis(left.0);
    let done = async {
        match step {
            Step::EngineDrain => engine_drain(driver, replica).await,
            Step::VllmSleep => vllm_sleep(driver, replica).await,
            Step::Sigterm => sigterm(driver, replica).await,
            Step::GpuCheckpoint => gpu_checkpoint(driver, order, deadline).await,
        }
    };
    let (outcome, detail) = tokio::select! {
        // Nothing is left to be done for an engine that has ended.
        () = cut.cancelled() => match step {
            Step::Sigterm if has_ended(driver, replica) => {
                (HookOutcome::Done, "the engine ended by SIGTERM".to_owned())
            }
            Step::EngineDrain | Step::VllmSleep | Step::Sigterm | Step::GpuCheckpoint => {
                (HookOutcome::CutOff, "it was cut off".to_owned())
            }
        },
        () = tokio::time::sleep(limit) => (HookOutcome::CutOff, "it was cut off at its limit".to_owned()),
        done = done => match done {
            Ok(said) => (HookOutcome::Done, said),
            Err(why) => (HookOutcome::Failed, why),
        },
    };
    Ending { outcome, detail: Some(detail) }
}

fn target(driver: &Arc<Driver>, replica: ReplicaId) -> Result<Target, String> {
    let params = driver.folder(replica).params();
    params.map(Target::from).map_err(|error| format!("its records cannot be read: {error}"))
}

async fn engine_drain(driver: &Arc<Driver>, replica: ReplicaId) -> Result<String, String> {
    let target = target(driver, replica)?;
    probe::drain(&target).await;
    loop {
        let Some(load) = probe::measure(&target).await else {
            return Ok("the engine does not tell what it has in flight".to_owned());
        };
        let (running, queued) = (load.running.unwrap_or(0), load.queued.unwrap_or(0));
        if running == 0 && queued == 0 {
            return Ok("nothing is in flight".to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn vllm_sleep(driver: &Arc<Driver>, replica: ReplicaId) -> Result<String, String> {
    probe::sleep(&target(driver, replica)?).await?;
    Ok("the engine sleeps: its GPU memory is given back".to_owned())
}

async fn sigterm(driver: &Arc<Driver>, replica: ReplicaId) -> Result<String, String> {
    driver.command(replica, Command::Terminate);
    while !has_ended(driver, replica) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok("the engine ended by SIGTERM".to_owned())
}

/// By its guard's word; records that cannot be read tell of no end.
fn has_ended(driver: &Arc<Driver>, replica: ReplicaId) -> bool {
    let record = driver.folder(replica).started();
    record.is_ok_and(|record| record.is_none_or(|record| record.ended.is_some()))
}

async fn gpu_checkpoint(
    driver: &Arc<Driver>,
    order: &RunOrder,
    deadline: Boottime,
) -> Result<String, String> {
    let Saved { bytes, processes, took } = gpu_checkpoint::save(driver, order, deadline).await?;
    let (replica, kind) = (order.replica, HookKind::Drain);
    driver.say(Input::HookWrote { replica, kind, bytes }).await;
    let mib = bytes / MIB;
    Ok(format!("{mib} MiB of {processes} processes lie in the host's memory, read back, in {took}"))
}

/// What a step has put to sleep goes on; of the others nothing sleeps.
pub async fn wake(step: Step, driver: &Arc<Driver>, replica: ReplicaId) -> Result<(), String> {
    match step {
        Step::EngineDrain | Step::Sigterm => Ok(()),
        Step::VllmSleep => probe::wake(&target(driver, replica)?).await,
        Step::GpuCheckpoint => gpu_checkpoint::bring_back(driver, replica).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_an_id_that_the_api_accepts_and_that_no_file_may_take() {
        for step in Step::ALL {
            let id = step.id();
            assert!(HookId::parse(id.as_str()).is_some(), "{id}");
            assert!(is_reserved(&id));
            assert_eq!(Step::of(&id), Some(step));
        }
        assert_eq!(Step::of(&"builtin-none".into()), None);
    }
}
