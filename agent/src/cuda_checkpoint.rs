//! Puts the GPU memory of processes into the host's memory and back, by CUDA's driver.
//!
//! A call into a broken driver may never return, and ending its process inside the call has frozen
//! real GPUs. So a process of its own asks, which is left alone when it hangs. Whatever fails on the
//! way is undone: no process stays locked that ran before.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use wharfage_agent_sys::cuda::{Checkpoints, Error, Library, ProcessState};
use wharfage_shared::time::Millis;

use crate::config::Config;

/// What a process does not give back within this time it does not give back soon: its own work is
/// longer, or somebody else holds it.
const LONGEST_LOCK: Duration = Duration::from_secs(10);

/// The process that asks is let go this long after its time: it undoes what it began.
const UNDOING: Duration = Duration::from_secs(30);

/// The longest answer.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What is asked of the process of its own.
#[derive(clap::Args, Debug)]
pub struct Asked {
    /// What to do.
    #[arg(value_enum)]
    act: Act,
    /// The library's path.
    #[arg(long, value_name = "PATH")]
    library: Option<OsString>,
    /// Nothing further is begun after this long.
    #[arg(long, value_name = "MS")]
    within_ms: u64,
    /// The processes; those that use no CUDA are passed over.
    #[arg(required = true)]
    pids: Vec<u32>,
}

/// Into the host's memory, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Lock them and put their GPU memory into the host's.
    Save,
    /// Put it back and let them go on.
    BringBack,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::BringBack => "bring-back",
        }
    }
}

/// What came of it: one line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// It was done to these, and their states were read back.
    Done(Vec<u32>),
    /// It was not: one sentence.
    Failed(String),
}

/// The process that is asked.
pub fn answer(asked: &Asked) -> io::Result<()> {
    let said = match carry_out(asked) {
        Ok(processes) => Said::Done(processes),
        Err(because) => Said::Failed(because),
    };
    let mut line = serde_json::to_vec(&said)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn carry_out(asked: &Asked) -> Result<Vec<u32>, String> {
    let until = Instant::now() + Duration::from_millis(asked.within_ms);
    let library = Library::load(asked.library.as_deref());
    let calls = library.and_then(Library::checkpoints).map_err(|error| error.to_string())?;
    let users = users_of_cuda(&calls, &asked.pids)?;
    match asked.act {
        Act::Save => save(&calls, &users, until)?,
        Act::BringBack => bring_back(&calls, &users)?,
    }
    Ok(users)
}

/// Those that use CUDA.
fn users_of_cuda(calls: &Checkpoints, pids: &[u32]) -> Result<Vec<u32>, String> {
    let (mut users, mut refused) = (Vec::new(), None);
    for pid in pids {
        match calls.state(*pid) {
            Ok(_) => users.push(*pid),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if users.is_empty() => {
            Err(format!("the driver knows none of its processes as CUDA's: {error}"))
        }
        Some(_) | None => Ok(users),
    }
}

fn save(calls: &Checkpoints, pids: &[u32], until: Instant) -> Result<(), String> {
    must_all_be(calls, pids, ProcessState::Running)
        .map_err(|why| format!("{why}: somebody else holds it"))?;
    let mut touched = Vec::new();
    let saved = lock_and_save(calls, pids, until, &mut touched);
    saved.map_err(|why| match bring_back(calls, &touched) {
        Ok(()) => format!("{why}; it goes on as before"),
        Err(left) => format!("{why}; {left}"),
    })
}

/// All are locked before the first is saved: they talk to each other.
fn lock_and_save(
    calls: &Checkpoints,
    pids: &[u32],
    until: Instant,
    touched: &mut Vec<u32>,
) -> Result<(), String> {
    for pid in pids {
        let patience = left(until)?.min(LONGEST_LOCK);
        calls.lock(*pid, patience).map_err(|error| of(*pid, &error))?;
        touched.push(*pid);
    }
    for pid in pids {
        left(until)?;
        calls.checkpoint(*pid).map_err(|error| of(*pid, &error))?;
    }
    must_all_be(calls, pids, ProcessState::Checkpointed)
}

/// A call about one process.
type Step = fn(&Checkpoints, u32) -> Result<(), Error>;

/// Whatever state they are in, they run afterwards, or it is said which do not.
fn bring_back(calls: &Checkpoints, pids: &[u32]) -> Result<(), String> {
    let mut wrong = Ok(());
    let steps: [(ProcessState, Step); 2] = [
        (ProcessState::Checkpointed, Checkpoints::restore),
        (ProcessState::Locked, Checkpoints::unlock),
    ];
    for (from, step) in steps {
        for pid in pids {
            let done = calls.state(*pid).and_then(|state| match state == from {
                true => step(calls, *pid),
                false => Ok(()),
            });
            // The others are brought back all the same.
            wrong = wrong.and(done.map_err(|error| format!("{} is not back", of(*pid, &error))));
        }
    }
    wrong?;
    must_all_be(calls, pids, ProcessState::Running)
}

fn must_all_be(calls: &Checkpoints, pids: &[u32], wanted: ProcessState) -> Result<(), String> {
    for pid in pids {
        let state = calls.state(*pid).map_err(|error| of(*pid, &error))?;
        if state != wanted {
            let (state, wanted) = (state.word(), wanted.word());
            return Err(format!("process {pid} reads as {state}, not as {wanted}"));
        }
    }
    Ok(())
}

fn left(until: Instant) -> Result<Duration, String> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err("its time was up".to_owned()) } else { Ok(left) }
}

fn of(pid: u32, error: &Error) -> String {
    format!("process {pid}: {error}")
}

/// Asks a process of its own; how many processes it was done to.
pub async fn ask(config: &Config, act: Act, within: Millis, pids: &[u32]) -> Result<usize, String> {
    let program = std::env::current_exe().map_err(|error| format!("its own program: {error}"))?;
    let mut command = Command::new(program);
    command.arg("cuda-checkpoint").arg(act.word()).envs(&config.env);
    command.arg("--within-ms").arg(within.0.to_string());
    if let Some(library) = &config.nvml.cuda_library {
        command.arg("--library").arg(library);
    }
    command.args(pids.iter().map(u32::to_string));
    // A group of its own: an interrupt at the terminal must not end it inside the driver.
    command.process_group(0).kill_on_drop(false);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("it cannot be asked: {error}"))?;
    let Some(out) = child.stdout.take() else {
        return Err("its answer cannot be read".to_owned());
    };
    let mut answer = String::new();
    let mut reading = out.take(ANSWER_BYTES);
    let limit = Duration::from_millis(within.0).saturating_add(UNDOING);
    match tokio::time::timeout(limit, reading.read_to_string(&mut answer)).await {
        Err(_) => {
            return Err("the driver does not answer: its processes may stay locked".to_owned());
        }
        Ok(Err(error)) => return Err(format!("its answer cannot be read: {error}")),
        Ok(Ok(_)) => {}
    }
    // It has closed its output: only waiting for it leaves nothing behind.
    drop(tokio::time::timeout(UNDOING, child.wait()).await);
    match serde_json::from_str(&answer) {
        Ok(Said::Done(processes)) => Ok(processes.len()),
        Ok(Said::Failed(because)) => Err(because),
        Err(_) => Err("the process that asks the driver ended without a word".to_owned()),
    }
}
