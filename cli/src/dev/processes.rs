//! The installation's daemons as real processes of the real binaries.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::exit::Failure;

/// Where the real binaries and the fake GPU library are: beside this program.
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds them all, or names the one that is missing (69).
    pub fn beside_this_one() -> Result<Self, Failure> {
        let me = std::env::current_exe()
            .map_err(|error| Failure::unavailable(format!("cannot find myself: {error}")))?;
        let folder = me.parent().unwrap_or(Path::new("/")).to_owned();
        for name in ["wharfage-scheduler", "wharfage-agent", "wharfage-gateway", FAKE_NVML] {
            if !folder.join(name).is_file() {
                return Err(Failure::unavailable(format!(
                    "{} is missing; `wharfage dev` finds the other programs beside itself: build \
                     them all with `cargo build --locked --workspace`",
                    folder.join(name).display()
                )));
            }
        }
        Ok(Self { folder })
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The fake NVML library's file name.
pub const FAKE_NVML: &str = "libwharfage_fake_nvml.so";

/// A daemon ended although nobody ended it.
#[derive(Debug)]
pub struct Died {
    /// Which, and how.
    pub sentence: String,
    /// Where its log is.
    pub log: PathBuf,
    /// What starts it again.
    pub command: String,
}

/// Deaths that nobody asked for.
pub type Deaths = mpsc::UnboundedReceiver<Died>;

/// Running daemons by name.
#[derive(Clone)]
pub struct Daemons {
    running: Arc<Mutex<BTreeMap<String, i32>>>,
    died: mpsc::UnboundedSender<Died>,
}

impl Daemons {
    /// None yet; deaths that nobody asked for come through the channel.
    pub fn new() -> (Self, Deaths) {
        let (died, deaths) = mpsc::unbounded_channel();
        (Self { running: Arc::default(), died }, deaths)
    }

    /// Starts one, its output appended to `log`.
    pub fn start(&self, name: &str, command: &mut Command, log: &Path) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| {
            Failure::unavailable(format!("cannot start {name} (log {}): {error}", log.display()))
        };
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(cannot)?;
        let errors = output.try_clone().map_err(cannot)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let pid = child.id().unwrap_or_default() as i32;
        self.table().insert(name.to_owned(), pid);
        let (running, died) = (Arc::clone(&self.running), self.died.clone());
        let (name, log) = (name.to_owned(), log.to_owned());
        let command = words(command);
        tokio::spawn(async move {
            let ended = child.wait().await;
            let mut table = running.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever ends a daemon on purpose takes it off the table first.
            if table.get(&name) == Some(&pid) {
                table.remove(&name);
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                let sentence = format!("{name} ended by itself ({how})");
                // Nobody listens any more when `dev` is ending.
                let _ = died.send(Died { sentence, log, command });
            }
        });
        Ok(())
    }

    /// Ends one on purpose with this signal.
    pub fn end(&self, name: &str, signal: Signal) -> Option<i32> {
        let pid = self.table().remove(name)?;
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended by itself in between.
            let _ = kill_process(pid, signal);
        }
        Some(pid)
    }

    /// Asks all to end.
    pub fn end_all(&self) {
        let names: Vec<String> = self.table().keys().cloned().collect();
        for name in names {
            self.end(&name, Signal::TERM);
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command as a person would type it.
fn words(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
