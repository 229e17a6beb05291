//! G15: CUDA starts on each GPU, asked from a process of its own for each. A GPU whose process hangs
//! is not asked again until that process has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_core::input::Input;
use wharfage_shared::health::GateId;
use wharfage_shared::ids::GpuUuid;

use crate::config::Config;
use crate::cuda::{LIMIT, Seen, Unanswered, ask};
use crate::drivers::Driver;
use crate::gpu::Gpus;

/// A GPU fails when so many starts in a row did: some fail once and never again.
const TRIES: u32 = 3;

/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// How often it is looked whether a GPU is due.
const PAUSE: Duration = Duration::from_secs(2);

/// A GPU on which CUDA starts is asked again after this long.
const AGAIN: Duration = Duration::from_secs(600);

/// One on which it did not, or that was not read: three of these are the minute after which a gate
/// may return.
const SOON: Duration = Duration::from_secs(30);

/// So many passes after a failure are told soon after each other.
const PASSES_TOLD_SOON: u32 = 4;

/// One GPU or MIG instance.
struct Asked {
    due: Instant,
    /// Passes since it failed last, up to as many as are told soon.
    passes: u32,
    /// A process that has not answered.
    hangs: Option<Child>,
}

/// What came of asking.
struct Outcome {
    saw: Saw,
    said: String,
    hangs: Option<Child>,
}

/// Asks until `stop` and tells what was seen.
pub async fn watch(
    driver: Arc<Driver>,
    gpus: watch::Receiver<Arc<Gpus>>,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let gate = GateId::CUDA;
    let mut asked: BTreeMap<GpuUuid, Asked> = BTreeMap::new();
    let mut look = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let config = driver.config();
        // What its owner switched off is not done either.
        if config.health.off.contains_key(&gate) {
            continue;
        }
        let known = Arc::clone(&gpus.borrow());
        asked.retain(|gpu, _| known.identities.iter().any(|known| known.uuid == *gpu));
        let mut asking = JoinSet::new();
        for gpu in known.identities.iter().map(|gpu| &gpu.uuid) {
            let fresh = || Asked { due: Instant::now(), passes: PASSES_TOLD_SOON, hangs: None };
            let one = asked.entry(gpu.clone()).or_insert_with(fresh);
            if one.due > Instant::now() {
                continue;
            }
            let (gpu, config) = (gpu.clone(), Arc::clone(&config));
            let (trouble, hangs) = (known.trouble_of(&gpu), one.hangs.take());
            asking.spawn(async move {
                let outcome = look_at(&gpu, &config, trouble, hangs).await;
                (gpu, outcome)
            });
        }
        while let Some(joined) = asking.join_next().await {
            // Nothing in it panics, and the set is not ended before its tasks.
            let Ok((gpu, outcome)) = joined else { continue };
            let Some(one) = asked.get_mut(&gpu) else { continue };
            one.take(outcome.saw, Instant::now());
            let Outcome { saw, said: evidence, hangs } = outcome;
            one.hangs = hangs;
            let evidence = vec![Evidence { gate, gpu: Some(gpu), saw, evidence }];
            if inputs.send(Input::Evidence(evidence)).await.is_err() {
                return;
            }
        }
    }
}

impl Asked {
    /// When it is asked again.
    fn take(&mut self, saw: Saw, now: Instant) {
        let wait = match saw {
            Saw::Pass | Saw::NotApplicable if self.passes >= PASSES_TOLD_SOON => AGAIN,
            Saw::Pass | Saw::NotApplicable => {
                self.passes += 1;
                SOON
            }
            Saw::Fail | Saw::Unknown => {
                self.passes = 0;
                SOON
            }
        };
        self.due = now + wait;
    }
}

/// One look at one GPU.
async fn look_at(
    gpu: &GpuUuid,
    config: &Config,
    trouble: Option<String>,
    hangs: Option<Child>,
) -> Outcome {
    let outcome = |saw, said: String| Outcome { saw, said, hangs: None };
    if let Some(mut child) = hangs
        && matches!(child.try_wait(), Ok(None))
    {
        let said = "a process that started CUDA still hangs in the driver".to_owned();
        return Outcome { saw: Saw::Fail, said, hangs: Some(child) };
    }
    if let Some(trouble) = trouble {
        return outcome(Saw::Unknown, format!("CUDA is not tried: {trouble}"));
    }
    let mut last = String::new();
    for attempt in 1..=TRIES {
        match ask(config, Some(gpu)).await {
            Ok(Seen::Absent(why)) => return outcome(Saw::NotApplicable, why),
            Ok(Seen::Loaded { devices: Ok(devices), .. }) if is_among(gpu, &devices) => {
                return outcome(Saw::Pass, "CUDA starts".to_owned());
            }
            Ok(Seen::Loaded { devices: Ok(_), .. }) => {
                "CUDA starts and does not show this GPU".clone_into(&mut last)
            }
            Ok(Seen::Loaded { devices: Err(why), .. }) => last = why,
            Err(Unanswered::Hangs(child)) => {
                let said = format!("CUDA has not started within {} s", LIMIT.as_secs());
                return Outcome { saw: Saw::Fail, said, hangs: Some(child) };
            }
            Err(Unanswered::Nothing(why)) => {
                let said = format!("the process that starts CUDA: {why}");
                return outcome(Saw::Unknown, said);
            }
        }
        if attempt < TRIES {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }
    outcome(Saw::Fail, format!("{last} ({TRIES} tries)"))
}

/// CUDA prints a UUID without the prefix that NVML gives it.
fn is_among(gpu: &GpuUuid, devices: &[String]) -> bool {
    let gpu = gpu.text().to_ascii_lowercase();
    devices.iter().any(|device| !device.is_empty() && gpu.ends_with(device.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_to_cuda_by_its_uuid_without_nvmls_prefix() {
        let uuid = GpuUuid::from("GPU-AABBCCDD-0000-0000-0000-000000000001");
        let own = "aabbccdd-0000-0000-0000-000000000001".to_owned();
        assert!(is_among(&uuid, &["x".to_owned(), own]));
        assert!(!is_among(&uuid, &["aabbccdd-0000-0000-0000-000000000002".to_owned()]));
        assert!(!is_among(&uuid, &[String::new()]), "no name names nobody");
    }

    #[test]
    fn what_failed_is_asked_soon_until_a_gate_may_return_and_what_is_well_seldom() {
        let now = Instant::now();
        let mut asked = Asked { due: now, passes: PASSES_TOLD_SOON, hangs: None };
        let mut wait = |saw| {
            asked.take(saw, now);
            asked.due - now
        };
        assert_eq!(wait(Saw::Pass), AGAIN);
        assert_eq!(wait(Saw::Fail), SOON);
        for _ in 0..PASSES_TOLD_SOON {
            assert_eq!(wait(Saw::Pass), SOON);
        }
        assert_eq!(wait(Saw::Pass), AGAIN);
        assert_eq!(wait(Saw::Unknown), SOON, "what could not be asked is asked again");
    }
}
