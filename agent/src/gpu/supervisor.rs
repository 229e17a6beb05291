//! Watches the helper: a GPU that falls silent is marked, its helper is abandoned and another one
//! tried, at most three alive; the agent itself never waits for the driver.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::GpuProcess;
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::{GpuIdentity, GpuReading};
use wharfage_shared::time::{Boottime, Millis};

use super::words::Line;

/// A GPU must be read within this long (its call's deadline of 2 s and the pause before it).
const SILENT_AFTER: Millis = Millis(2500);

/// NVML must initialise within this long.
const INIT_DEADLINE: Millis = Millis::from_seconds(10);

/// So many helpers may live at once: each abandoned one sits in a call of its own.
const MOST_ALIVE: usize = 3;

/// The first pause before another helper is tried; doubled up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause before another helper is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A helper that worked for so long was no failed attempt.
const WORKED_FOR: Millis = Millis::from_seconds(60);

/// How often silence is looked for: a tenth of what makes a GPU silent.
const SILENCE_LOOK: Duration = Duration::from_millis(250);

/// What an unanswered GPU is called.
pub const DOES_NOT_ANSWER: &str = "the driver does not answer";

/// How helpers are started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's own program.
    pub program: PathBuf,
    /// NVML's path (default: the system's).
    pub library: Option<PathBuf>,
    /// Extra environment of the helper.
    pub env: BTreeMap<String, String>,
}

/// What is known of the GPUs at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Whether each GPU was read once (or it was said why not) since the agent started.
    pub is_settled: bool,
    /// Who they are, in NVML's order: what was once seen stays until another list comes.
    pub identities: Vec<GpuIdentity>,
    /// The driver's version.
    pub driver_version: Option<String>,
    /// Why they cannot be read, as one sentence.
    pub trouble: Option<String>,
    /// The last word on each.
    pub seen: BTreeMap<GpuUuid, Seen>,
    /// Helpers alive, the abandoned ones included.
    pub helpers_alive: usize,
}

/// The last word on one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was last read (or the helper began).
    pub at: Boottime,
    /// What was read.
    pub reading: GpuReading,
    /// Who held it.
    pub processes: Vec<GpuProcess>,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

impl Seen {
    /// A GPU of which nothing was read yet.
    fn never(gpu: &GpuUuid, at: Boottime) -> Self {
        Self { at, reading: unread(gpu, None), processes: Vec::new(), trouble: None }
    }
}

impl Gpus {
    /// Readings as a heartbeat carries them, in NVML's order.
    pub fn readings(&self, now: Boottime) -> Vec<GpuReading> {
        let identities = self.identities.iter();
        identities
            .map(|identity| match self.seen.get(&identity.uuid) {
                Some(seen) => GpuReading {
                    age_ms: now.since(seen.at).0,
                    trouble: seen.trouble.clone().or_else(|| self.trouble.clone()),
                    ..seen.reading.clone()
                },
                None => unread(&identity.uuid, self.trouble.clone()),
            })
            .collect()
    }

    /// What is wrong with each GPU that cannot be trusted now.
    pub fn troubles(&self) -> BTreeMap<GpuUuid, String> {
        let of = |gpu: &GpuIdentity| {
            let own = self.seen.get(&gpu.uuid).and_then(|seen| seen.trouble.clone());
            own.or_else(|| self.trouble.clone()).map(|trouble| (gpu.uuid.clone(), trouble))
        };
        self.identities.iter().filter_map(of).collect()
    }
}

/// Starts watching; the receiver always holds the newest state.
pub fn start(settings: Settings, stop: CancellationToken) -> watch::Receiver<Arc<Gpus>> {
    let (sender, receiver) = watch::channel(Arc::new(Gpus::default()));
    tokio::spawn(async move {
        let mut supervisor = Supervisor { settings, gpus: Gpus::default(), sender };
        supervisor.run(stop).await;
    });
    receiver
}

struct Supervisor {
    settings: Settings,
    gpus: Gpus,
    sender: watch::Sender<Arc<Gpus>>,
}

/// Why a helper is no longer listened to.
enum Parted {
    /// It ended.
    Ended,
    /// It hangs in a call and is left to itself.
    Hangs(Child),
    /// The agent ends.
    Stopped,
}

impl Supervisor {
    async fn run(&mut self, stop: CancellationToken) {
        let mut abandoned: Vec<Child> = Vec::new();
        let mut pause = FIRST_PAUSE;
        loop {
            abandoned.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            self.gpus.helpers_alive = abandoned.len();
            if abandoned.len() < MOST_ALIVE {
                let listened_since = clock::boottime();
                match self.listen(&stop, abandoned.len()).await {
                    Parted::Stopped => return,
                    Parted::Ended => {}
                    Parted::Hangs(child) => abandoned.push(child),
                }
                if clock::boottime().since(listened_since) > WORKED_FOR {
                    pause = FIRST_PAUSE;
                }
            }
            self.publish();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Starts one helper and takes its words until it ends, hangs or the agent ends.
    async fn listen(&mut self, stop: &CancellationToken, others: usize) -> Parted {
        let (mut child, input) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => {
                self.no_helper(format!("the GPU helper cannot be started: {error}"));
                return Parted::Ended;
            }
        };
        self.gpus.helpers_alive = others + 1;
        let mut lines = read_lines(&mut child);
        let started = clock::boottime();
        let mut answered = false;
        let mut look = tokio::time::interval(SILENCE_LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    drop(input);
                    return Parted::Stopped;
                }
                line = lines.recv() => match line {
                    Some(line) => answered |= self.hear(line),
                    None => {
                        if answered {
                            self.no_helper("the GPU helper ended; another one starts".to_owned());
                        } else if self.gpus.trouble.is_none() {
                            self.no_helper("the GPU helper ended without a word".to_owned());
                        }
                        // The exit status says nothing that its last line did not.
                        drop(child.wait().await);
                        return Parted::Ended;
                    }
                },
                _ = look.tick() => {
                    let now = clock::boottime();
                    let hangs = if answered {
                        self.mark_silent(now, started)
                    } else {
                        now.since(started) > INIT_DEADLINE
                    };
                    if hangs && !answered {
                        self.no_helper(format!("{DOES_NOT_ANSWER}: NVML does not initialise"));
                    }
                    // Closing its input asks it to end once its calls have returned. With the
                    // last helper allowed it is kept: the other GPUs still answer.
                    if hangs && (others + 1 < MOST_ALIVE || !answered) {
                        drop(input);
                        return Parted::Hangs(child);
                    }
                }
            }
        }
    }

    fn spawn(&self) -> std::io::Result<(Child, Option<ChildStdin>)> {
        let mut command = Command::new(&self.settings.program);
        command.arg("nvml-helper");
        if let Some(library) = &self.settings.library {
            command.arg("--library").arg(library);
        }
        // A group of its own: a Ctrl-C at the agent's terminal must not end it inside a call.
        command.envs(&self.settings.env).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null()).process_group(0).kill_on_drop(false);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        Ok((child, input))
    }

    /// Takes one line; whether it says that NVML works.
    fn hear(&mut self, line: Line) -> bool {
        let works = match line {
            Line::Gpus { gpus, driver_version } => {
                // A GPU that hung before stays marked until it was read again.
                self.gpus.trouble = None;
                self.gpus.driver_version = driver_version;
                self.gpus.identities = gpus;
                true
            }
            Line::Unusable { because } => {
                self.no_helper(because);
                return false;
            }
            Line::Reading { at, reading, processes } => {
                let uuid = reading.uuid.clone();
                self.gpus.seen.insert(uuid, Seen { at, reading, processes, trouble: None });
                true
            }
            Line::Trouble { at, gpu, because } => {
                let seen =
                    self.gpus.seen.entry(gpu.clone()).or_insert_with(|| Seen::never(&gpu, at));
                seen.at = at;
                seen.trouble = Some(because);
                true
            }
        };
        if self.gpus.identities.iter().all(|gpu| self.gpus.seen.contains_key(&gpu.uuid)) {
            self.gpus.is_settled = true;
        }
        self.publish();
        works
    }

    /// Marks GPUs that were not read for too long; whether there are any.
    fn mark_silent(&mut self, now: Boottime, started: Boottime) -> bool {
        let mut any = false;
        let mut changed = false;
        for gpu in &self.gpus.identities {
            let never = || Seen::never(&gpu.uuid, started);
            let seen = self.gpus.seen.entry(gpu.uuid.clone()).or_insert_with(never);
            // Each helper has its own chance to read a GPU.
            if now.since(seen.at.max(started)) > SILENT_AFTER {
                any = true;
                changed |= seen.trouble.as_deref() != Some(DOES_NOT_ANSWER);
                seen.trouble = Some(DOES_NOT_ANSWER.to_owned());
            }
        }
        if changed {
            self.gpus.is_settled = true;
            self.publish();
        }
        any
    }

    fn no_helper(&mut self, because: String) {
        self.gpus.trouble = Some(because);
        self.gpus.is_settled = true;
        self.publish();
    }

    fn publish(&self) {
        self.sender.send_replace(Arc::new(self.gpus.clone()));
    }
}

fn unread(uuid: &GpuUuid, trouble: Option<String>) -> GpuReading {
    GpuReading {
        uuid: uuid.clone(),
        memory_used_mib: None,
        memory_reserved_mib: None,
        utilization: None,
        temperature_c: None,
        power_mw: None,
        age_ms: 0,
        trouble,
    }
}

/// The helper's words; the channel ends when the helper does.
fn read_lines(child: &mut Child) -> mpsc::Receiver<Line> {
    // The helper speaks at most a few lines a tick; a full channel only slows it down.
    let (sender, receiver) = mpsc::channel(64);
    if let Some(output) = child.stdout.take() {
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(text)) = lines.next_line().await {
                // A line of another version of the helper is skipped, not trusted.
                if let Ok(line) = serde_json::from_str(&text)
                    && sender.send(line).await.is_err()
                {
                    return;
                }
            }
        });
    }
    receiver
}
