//! Whether CUDA starts on this host, and on which GPUs.
//!
//! A started library stays in its process, and a call into a broken driver may never return; ending
//! its process inside the call has frozen real GPUs. So a process of its own asks, which is left
//! alone when it hangs.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use wharfage_agent_sys::cuda::{Error, Library};
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::GpuUuid;

use crate::config::Config;

/// An answer that takes longer does not come. A healthy host with eight GPUs takes a few seconds.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The longest answer of a process that was asked.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What the process saw: one line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// There is no library to load.
    Absent(String),
    /// It is there.
    Loaded {
        /// The newest CUDA that it runs, or why it does not say.
        version: Result<String, String>,
        /// Whether it has the calls that checkpoint a process.
        can_checkpoint: bool,
        /// The devices that it shows once started, by their UUIDs without NVML's prefix, or why it
        /// does not start.
        devices: Result<Vec<String>, String>,
    },
}

/// Why nothing was answered.
#[derive(Debug)]
pub enum Unanswered {
    /// It has said nothing within [`LIMIT`] and may never.
    Hangs(Child),
    /// It could not be asked, or ended without a word.
    Nothing(String),
}

/// The process that is asked: starts CUDA, says what came of it and ends.
pub fn answer(library: Option<OsString>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&look(library))?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn look(library: Option<OsString>) -> Seen {
    let said = |error: Error| with_causes(&error);
    let library = match Library::load(library.as_deref()) {
        Ok(library) => library,
        Err(error) if error.is_absent() => return Seen::Absent(said(error)),
        Err(error) => {
            let (version, devices) = (Err(said(error.clone())), Err(said(error)));
            return Seen::Loaded { version, can_checkpoint: false, devices };
        }
    };
    let (version, can_checkpoint) = (library.version().map_err(said), library.can_checkpoint());
    let devices = library.start().and_then(|cuda| cuda.devices()).map_err(said);
    Seen::Loaded { version, can_checkpoint, devices }
}

/// Asks one process, which sees all GPUs or only this one.
pub async fn ask(config: &Config, gpu: Option<&GpuUuid>) -> Result<Seen, Unanswered> {
    let nothing = |what: &str, error: io::Error| Unanswered::Nothing(format!("{what}: {error}"));
    let program = std::env::current_exe();
    let mut command = Command::new(program.map_err(|error| nothing("the agent's program", error))?);
    command.arg("cuda-probe").envs(&config.env);
    if let Some(gpu) = gpu {
        command.env("CUDA_VISIBLE_DEVICES", &*gpu.text());
    }
    if let Some(library) = &config.nvml.cuda_library {
        command.arg("--library").arg(library);
    }
    // A group of its own: an interrupt at the terminal must not end it inside the driver.
    command.process_group(0).kill_on_drop(false);
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
    let ended = match tokio::time::timeout(LIMIT, child.wait()).await {
        Err(_) => return Err(Unanswered::Hangs(child)),
        Ok(ended) => ended.map_err(|error| nothing("its end cannot be seen", error))?,
    };
    serde_json::from_str(&answer)
        .map_err(|_| Unanswered::Nothing(format!("it ended without a word ({ended})")))
}
