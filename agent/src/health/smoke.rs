//! G15: CUDA starts on each GPU, asked from a process of its own for each.
//!
//! A call into a broken driver may never return, and ending its process inside the call has frozen
//! real GPUs: such a process is left alone, and its GPU is not asked again until it has ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::cuda::{Error, Library};
use wharfage_shared::health::GateId;
use wharfage_shared::ids::GpuUuid;

use crate::config::Config;
use crate::drivers::Driver;
use crate::gpu::Gpus;

/// An answer that takes longer does not come. Starting CUDA on a host with many GPUs takes seconds.
const LIMIT: Duration = Duration::from_secs(20);

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

/// The longest answer of a process that was asked.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What the process answers, as one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// CUDA started and shows these devices, without NVML's prefix.
    Devices(Vec<String>),
    /// There is no library to start.
    Absent(String),
    /// It did not start.
    Failed(String),
}

/// Starts CUDA in this process, says what came of it, and ends.
pub fn run(library: Option<OsString>) -> u8 {
    let started = Library::load(library.as_deref());
    let started = started.and_then(Library::start).and_then(|cuda| cuda.devices());
    let answer = match started {
        Ok(devices) => Answer::Devices(devices),
        Err(error @ Error::Library { .. }) => Answer::Absent(error.to_string()),
        Err(error) => Answer::Failed(error.to_string()),
    };
    // An agent that is gone needs no answer.
    if let Ok(text) = serde_json::to_string(&answer) {
        drop(writeln!(std::io::stdout(), "{text}"));
    }
    0
}

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
    let Some(gate) = GateId::new(15) else { return };
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
        match ask(gpu, config).await {
            Ok(Answer::Devices(devices)) if is_among(gpu, &devices) => {
                return outcome(Saw::Pass, "CUDA starts".to_owned());
            }
            Ok(Answer::Devices(_)) => {
                "CUDA starts and does not show this GPU".clone_into(&mut last)
            }
            Ok(Answer::Absent(why)) => return outcome(Saw::NotApplicable, why),
            Ok(Answer::Failed(why)) => last = why,
            Err(Unanswered::Hangs(child)) => {
                let said = format!("CUDA has not started within {} s", LIMIT.as_secs());
                return Outcome { saw: Saw::Fail, said, hangs: Some(child) };
            }
            Err(Unanswered::Nothing(why)) => return outcome(Saw::Unknown, why),
        }
        if attempt < TRIES {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }
    outcome(Saw::Fail, format!("{last} ({TRIES} tries)"))
}

/// CUDA prints a UUID without the prefix that NVML gives it.
fn is_among(gpu: &GpuUuid, devices: &[String]) -> bool {
    let gpu = gpu.as_str().to_ascii_lowercase();
    devices.iter().any(|device| !device.is_empty() && gpu.ends_with(device.as_str()))
}

/// Why nothing was answered.
enum Unanswered {
    /// It may never be.
    Hangs(Child),
    /// The process could not be asked, or ended without a word.
    Nothing(String),
}

/// Asks one process, which sees only this GPU.
async fn ask(gpu: &GpuUuid, config: &Config) -> Result<Answer, Unanswered> {
    let nothing =
        |what: &str, error: std::io::Error| Unanswered::Nothing(format!("{what}: {error}"));
    let program = std::env::current_exe();
    let mut command = Command::new(program.map_err(|error| nothing("the agent's program", error))?);
    command.arg("cuda-smoke").envs(&config.env).env("CUDA_VISIBLE_DEVICES", gpu.as_str());
    if let Some(library) = &config.nvml.cuda_library {
        command.arg("--library").arg(library);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| nothing("it cannot be asked", error))?;
    let Some(out) = child.stdout.take() else {
        return Err(Unanswered::Nothing("its answer cannot be read".to_owned()));
    };
    let mut answer = String::new();
    let mut reading = out.take(ANSWER_BYTES);
    match tokio::time::timeout(LIMIT, reading.read_to_string(&mut answer)).await {
        Err(_) => return Err(Unanswered::Hangs(child)),
        Ok(Err(error)) => return Err(nothing("its answer cannot be read", error)),
        Ok(Ok(_)) => {}
    }
    // It has closed its output: its end is near, and only waiting for it leaves nothing behind.
    if tokio::time::timeout(LIMIT, child.wait()).await.is_err() {
        return Err(Unanswered::Hangs(child));
    }
    serde_json::from_str(&answer).map_err(|_| {
        Unanswered::Nothing("the process that starts CUDA ended without a word".into())
    })
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
