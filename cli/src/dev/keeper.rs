//! Ends everything that an installation started, however `dev` itself ended.
//!
//! Guards and engines outlive agents by design, and `dev` may be killed without a chance to clean
//! up. So a small second process holds the reading end of a pipe: when `dev` is gone, for whatever
//! reason, the pipe ends, and the keeper ends the installation's processes and removes its files.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;

/// How long processes are given to be gone after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// So many looks in a row must find nothing: one may pass over a process that was just started.
const ENOUGH: u32 = 2;

/// `wharfage dev-keeper`: waits for the end of standard input, then cleans up.
#[derive(Debug, clap::Args)]
pub struct KeeperArgs {
    /// The installation's folder.
    #[arg(long)]
    dir: PathBuf,
    /// Remove the folder too.
    #[arg(long)]
    remove: bool,
}

/// The keeper's main function.
pub fn run(args: &KeeperArgs) -> Result<(), Failure> {
    let mut nothing = [0; 64];
    // Any end of the pipe, an error included, means that `dev` is gone.
    while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
    let left = sweep(&args.dir);
    if args.remove && args.dir.join(MARKER).exists() {
        std::fs::remove_dir_all(&args.dir).map_err(|error| {
            Failure::check(format!("{}: cannot be removed: {error}", args.dir.display()))
        })?;
    }
    if left.is_empty() { Ok(()) } else { Err(Failure::check(format!("still alive: {left:?}"))) }
}

/// A file that says that a folder is an installation of `dev`: only such a folder is ever removed.
pub const MARKER: &str = "wharfage-dev.json";

/// The running keeper as `dev` holds it.
pub struct Keeper {
    child: Child,
}

impl Keeper {
    /// Starts the keeper of this folder, out of reach of a terminal's Ctrl-C.
    pub fn start(dir: &Path, remove: bool) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::unavailable(format!("cannot find myself: {error}")))?;
        let mut command = Command::new(program);
        command.arg("dev-keeper").arg("--dir").arg(dir);
        if remove {
            command.arg("--remove");
        }
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().map_err(
                |error| Failure::unavailable(format!("cannot start the keeper: {error}")),
            )?;
        Ok(Self { child })
    }

    /// Lets the keeper clean up and waits until it has.
    pub fn clean_up(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::check(format!("the clean-up ended with {status}"))),
            Err(error) => Err(Failure::check(format!("the clean-up cannot be awaited: {error}"))),
        }
    }
}

/// Ends every process of the installation; what is still alive after a while is returned.
fn sweep(dir: &Path) -> BTreeSet<i32> {
    let deadline = Instant::now() + GONE_WITHIN;
    let mut empty_looks = 0;
    loop {
        let Found { alive, starting } = processes_of(dir);
        let is_empty = alive.is_empty() && !starting;
        empty_looks = if is_empty { empty_looks + 1 } else { 0 };
        if empty_looks == ENOUGH || Instant::now() > deadline {
            return alive;
        }
        for pid in &alive {
            if let Some(pid) = Pid::from_raw(*pid) {
                // It may have ended by itself in between.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What one look at the process table found.
#[derive(Default)]
struct Found {
    /// Processes of the installation.
    alive: BTreeSet<i32>,
    /// A program of ours is just being started: its arguments, and so whose it is, come later.
    starting: bool,
}

/// Our own programs that were started on this folder, and the scripts in it.
fn processes_of(dir: &Path) -> Found {
    let mut found = Found::default();
    let Some(programs) = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.to_owned()))
    else {
        return found;
    };
    let scripts = dir.join("bin");
    let Ok(entries) = std::fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == std::process::id() as i32 || is_zombie(&entry.path()) {
            continue;
        }
        let arguments = arguments(&entry.path());
        let names = |folder: &Path| arguments.iter().any(|a| names_below(a, folder));
        let is_ours = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| {
            // A rebuilt binary reads as "... (deleted)" and is still ours.
            exe.parent() == Some(&programs)
                && exe
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("wharfage"))
        });
        let is_front = arguments.get(1).is_some_and(|verb| verb == "dev" || verb == "demo");
        // The GPUs' helpers say only by their environment whose they are.
        let is_named = names(dir) || is_for(&entry.path(), dir);
        if (is_ours && !is_front && is_named) || names(&scripts) {
            found.alive.insert(pid);
        }
        found.starting |= is_ours && arguments.is_empty();
    }
    found
}

fn names_below(argument: &str, folder: &Path) -> bool {
    argument.find('/').is_some_and(|at| Path::new(&argument[at..]).starts_with(folder))
}

fn arguments(process: &Path) -> Vec<String> {
    let raw = std::fs::read(process.join("cmdline")).unwrap_or_default();
    raw.split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Whether the process reads the fake GPUs of this installation.
fn is_for(process: &Path, dir: &Path) -> bool {
    let raw = std::fs::read(process.join("environ")).unwrap_or_default();
    let mut values = raw
        .split(|byte| *byte == 0)
        .filter_map(|part| part.strip_prefix(b"WHARFAGE_FAKE_GPUS="))
        .map(|value| String::from_utf8_lossy(value).into_owned());
    values.any(|value| Path::new(&value).starts_with(dir))
}

fn is_zombie(process: &Path) -> bool {
    std::fs::read_to_string(process.join("stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}
