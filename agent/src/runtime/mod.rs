//! One task owns the node's decisions: it tells them what happened, carries out what they answer
//! and makes the reports. Everything else only sends it words.

mod effects;
mod engines;
mod exit;
mod health;
mod hooks;
mod reload;
mod reports;
mod stored;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::Agent;
use wharfage_agent_core::health::policy::XidPolicy;
use wharfage_agent_core::health::{Memory, XidSeen};
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_link::Decoder;
use wharfage_shared::health::Health;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{GpuUuid, NodeId, NoticeId, ReplicaId, SegmentLogId};
use wharfage_shared::notice::NoticeSource;
use wharfage_shared::order::{Desired, RunOrder};
use wharfage_shared::replica::HookKind;
use wharfage_shared::segment::{Segment, SegmentBatch};
use wharfage_shared::time::{Boottime, Millis};
use wharfage_shared::version::DesiredVersion;

use self::exit::Leaving;
pub use self::reload::core_config;
use crate::config::Config;
use crate::drivers::Driver;
use crate::gpu::Gpus;
use crate::health::evidence::gpu;
use crate::health::kmsg::Said;
use crate::health::policy::load as health_policy;
use crate::inventory::{self, Definitions};
use crate::journal::desired::DesiredFile;
use crate::journal::health::HealthFile;
use crate::journal::history::HistoryFile;
use crate::journal::segments::SegmentLog;
use crate::notices::hearing::Hearing;
use crate::notices::{Alarm, Matter};
use crate::status::Shown;
use crate::supervised::Pulse;
use crate::uplink::Output;

/// The owner's definitions are read again this often.
const RELOAD_DEFINITIONS: Duration = Duration::from_secs(30);

/// Engines' metrics are read this often: as often as a heartbeat tells them.
const MEASURE_ENGINES: Duration = Duration::from_secs(5);

/// Gates that readings show are looked at this often.
const LOOK_AT_GPUS: Duration = Duration::from_secs(10);

/// The boot-time clock runs on through suspend and tokio's does not: no sleep is longer. Longer than
/// GPUs are read apart: while they are, nobody wakes up for this.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// Notes kept for the status page.
const NOTES_KEPT: usize = 200;

/// What others ask of the runtime.
pub enum Ask {
    /// The next report.
    Heartbeat {
        /// Whether the scheduler shall not hold it open.
        answer_at_once: bool,
        /// Where it goes.
        reply: oneshot::Sender<Heartbeat>,
    },
    /// The scheduler answered this report.
    Answered {
        /// What was sent.
        sent: Box<Heartbeat>,
        /// What came back.
        answer: Box<HeartbeatAnswer>,
    },
    /// Segments to be sent now, if any.
    Segments {
        /// Where they go.
        reply: oneshot::Sender<Option<SegmentBatch>>,
    },
    /// Segments up to this number were taken; their acknowledgement is to come.
    SegmentsSent {
        /// Of which log.
        log: SegmentLogId,
        /// The last number.
        up_to: u64,
    },
    /// What the status page shows.
    Status {
        /// Where it goes.
        reply: oneshot::Sender<Shown>,
    },
    /// The configuration was read again: the new one, or one sentence why the old one stays.
    Reload(Result<Box<Config>, String>),
}

/// Why the runtime ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// A newer start of this node exists.
    Superseded,
}

/// A line of the journal, kept for the status page.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KeptNote {
    /// When.
    pub at: Boottime,
    /// About which replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// The sentence.
    pub text: String,
}

/// What the runtime is made of.
pub struct Parts {
    /// The node's name.
    pub node: NodeId,
    /// Names this start.
    pub nonce: String,
    /// The decisions, as they came out of what was found.
    pub agent: Agent,
    /// Runs replicas.
    pub driver: Arc<Driver>,
    /// The owner's definitions.
    pub definitions: Definitions,
    /// The desired state on disk.
    pub desired_file: DesiredFile,
    /// What was learned of engines and models, on disk.
    pub history: HistoryFile,
    /// What becomes of each XID.
    pub policy: XidPolicy,
    /// What is known of incidents, on disk.
    pub health_file: HealthFile,
    /// The version that is on disk.
    pub stored: DesiredVersion,
    /// The segment log.
    pub log: SegmentLog,
    /// A closed segment that it has no room for yet.
    pub unsaved: Option<Segment>,
    /// Rung when a report must not wait.
    pub report_now: Arc<Notify>,
    /// Rung when a closed segment may be sent.
    pub segment_closed: Arc<Notify>,
    /// Reads the scheduler's answers.
    pub decoder: Decoder,
    /// What replicas print.
    pub output: Output,
    /// Orders of the replicas that were found.
    pub orders: BTreeMap<ReplicaId, RunOrder>,
    /// What is wrong with files of the state folder, for the operator.
    pub troubles: Vec<String>,
    /// Beaten at every turn: the node's decisions go on.
    pub pulse: Pulse,
    /// Where sources hear that the node is done with a notice.
    pub done_with: broadcast::Sender<NoticeId>,
    /// When each source of notices was last heard.
    pub hearing: Arc<Hearing>,
    /// How long a shutdown of this host waits for its replicas.
    pub shutdown_delay: watch::Receiver<Option<Millis>>,
}

/// The ears of the runtime.
pub struct Ears {
    /// What happened on the host.
    pub inputs: mpsc::Receiver<Input>,
    /// What others ask.
    pub asks: mpsc::Receiver<Ask>,
    /// What is wrong with a source of notices, or that it is over.
    pub alarms: mpsc::Receiver<Alarm>,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// XIDs, from wherever they are told.
    pub xids: mpsc::Receiver<XidSeen>,
    /// The kernel's log.
    pub kernel: mpsc::Receiver<Said>,
}

/// The runtime.
pub struct Runtime {
    parts: Parts,
    number: u64,
    inventory: Arc<wharfage_shared::telemetry::Inventory>,
    inventory_hash: String,
    /// The inventory that the scheduler is known to have.
    known_inventory: Option<String>,
    health_hash: String,
    health: Arc<Health>,
    /// The health report that the scheduler is known to have.
    known_health: Option<String>,
    gpus: Arc<Gpus>,
    gpu_troubles: BTreeMap<GpuUuid, String>,
    gpu_past: gpu::History,
    /// What could not be written yet (a full disk) and is tried again.
    unsaved_desired: Option<Desired>,
    unsaved_health: Option<Memory>,
    unsaved_segments: VecDeque<Segment>,
    segments_sent: Option<(u64, Boottime)>,
    last_answer_at: Option<Boottime>,
    /// The newest report that the scheduler answered.
    answered: u64,
    loads: engines::Loads,
    running_hooks: BTreeMap<(ReplicaId, HookKind), CancellationToken>,
    notes: VecDeque<KeptNote>,
    /// What cannot be written, by what it was.
    disk_alarms: BTreeMap<&'static str, String>,
    notice_alarms: BTreeMap<(NoticeSource, Matter), String>,
    config_alarm: Option<String>,
    leaving: Option<Leaving>,
    kernel_alarm: Option<String>,
    policy_alarm: Option<String>,
    end: Option<End>,
}

impl Runtime {
    /// Around these parts.
    pub fn new(parts: Parts, gpus: Arc<Gpus>) -> Self {
        let models = parts.driver.weights().cached();
        let inventory = parts.definitions.inventory(&gpus, parts.agent.history(), models);
        Self {
            number: 0,
            inventory_hash: inventory::hash(&inventory),
            inventory: Arc::new(inventory),
            known_inventory: None,
            health_hash: inventory::hash(&Health::default()),
            health: Arc::default(),
            known_health: None,
            gpus,
            gpu_troubles: BTreeMap::new(),
            gpu_past: gpu::History::default(),
            unsaved_desired: None,
            unsaved_health: None,
            unsaved_segments: parts.unsaved.iter().cloned().collect(),
            segments_sent: None,
            last_answer_at: None,
            answered: 0,
            loads: engines::Loads::default(),
            running_hooks: BTreeMap::new(),
            notes: VecDeque::new(),
            disk_alarms: BTreeMap::new(),
            notice_alarms: BTreeMap::new(),
            config_alarm: None,
            leaving: None,
            kernel_alarm: None,
            policy_alarm: None,
            end: None,
            parts,
        }
    }

    /// Runs until `stop` or until a newer start of this node exists.
    pub async fn run(
        mut self,
        first: Vec<wharfage_agent_core::Effect>,
        mut ears: Ears,
        stop: CancellationToken,
    ) -> End {
        for trouble in std::mem::take(&mut self.parts.troubles) {
            self.note(None, trouble);
        }
        self.carry_out(first);
        self.step(Input::LeftAlone(self.parts.driver.left_alone()));
        self.hear_gpus(Arc::clone(&self.gpus));
        let mut reload = tokio::time::interval(RELOAD_DEFINITIONS);
        reload.reset();
        let mut measure = tokio::time::interval(MEASURE_ENGINES);
        let mut look = tokio::time::interval(LOOK_AT_GPUS);
        loop {
            self.parts.pulse.beat();
            if stop.is_cancelled() && self.may_end() {
                self.end.get_or_insert(End::Stopped);
            }
            if let Some(end) = self.end {
                // Nobody would hear how they end, and they must not run on unwatched.
                self.running_hooks.values().for_each(CancellationToken::cancel);
                self.last_try_to_save();
                return end;
            }
            tokio::select! {
                () = stop.cancelled(), if self.leaving.is_none() => {}
                Some(input) = ears.inputs.recv() => self.step(input),
                Some(ask) = ears.asks.recv() => self.answer(ask),
                Some(alarm) = ears.alarms.recv() => self.notice_alarm(alarm),
                Ok(()) = ears.gpus.changed() => {
                    let gpus = Arc::clone(&ears.gpus.borrow_and_update());
                    self.hear_gpus(gpus);
                }
                _ = measure.tick() => self.measure_engines(),
                Some(seen) = ears.xids.recv() => self.step(Input::Xid(seen)),
                Some(said) = ears.kernel.recv() => self.hear_kernel(said),
                _ = look.tick() => self.look_at_gpus(),
                _ = reload.tick() => self.reload_definitions(),
                () = tokio::time::sleep(self.until_wake()) => self.step(Input::Wake),
            }
        }
    }

    fn step(&mut self, input: Input) {
        self.retry_unsaved();
        if let Input::Adopted(found) = &input {
            self.parts.orders.insert(found.order.replica, found.order.clone());
        }
        if matches!(input, Input::Started { .. }) {
            self.parts.output.begin();
        }
        let caches = matches!(input, Input::Fetched { .. });
        let effects = self.parts.agent.step(clock::boottime(), input);
        self.carry_out(effects);
        self.keep_history();
        if caches {
            self.compare_inventory();
        }
    }

    fn until_wake(&self) -> Duration {
        let now = clock::boottime();
        let wake = self.parts.agent.next_wake().map(|at| Duration::from_millis(at.since(now).0));
        wake.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }

    fn hear_gpus(&mut self, gpus: Arc<Gpus>) {
        let read_before = self.gpus.sections_read();
        let is_same_inventory = self.gpus.is_same_inventory(&gpus);
        self.gpus = gpus;
        self.gpu_past.note(&self.gpus, clock::boottime());
        let troubles = self.gpus.troubles();
        let before = std::mem::replace(&mut self.gpu_troubles, troubles.clone());
        for (gpu, trouble) in &troubles {
            if before.get(gpu) != Some(trouble) {
                self.step(Input::GpuTrouble { gpu: gpu.clone(), trouble: Some(trouble.clone()) });
            }
        }
        for gpu in before.keys().filter(|gpu| !troubles.contains_key(*gpu)) {
            self.step(Input::GpuTrouble { gpu: gpu.clone(), trouble: None });
        }
        // What is read for the first time decides whether a GPU may be used at all.
        if before != troubles || read_before != self.gpus.sections_read() {
            self.look_at_gpus();
        }
        // Readings come every moment; the inventory is made anew when it may be another one.
        if !is_same_inventory {
            self.compare_inventory();
        }
    }

    fn reload_definitions(&mut self) {
        let definitions =
            tokio::task::block_in_place(|| Definitions::load(&self.parts.driver.config()));
        for refused in &definitions.refused {
            if !self.parts.definitions.refused.contains(refused) {
                self.note(None, refused.clone());
            }
        }
        self.parts.definitions = definitions;
        let config = self.parts.driver.config();
        let before = self.policy_alarm.take();
        match health_policy(config.health.xid_policy.as_deref()) {
            Ok(policy) => self.parts.policy = policy,
            Err(why) => self.policy_alarm = Some(format!("{why}; the policy before it counts")),
        }
        if let Some(alarm) =
            self.policy_alarm.clone().filter(|alarm| before.as_ref() != Some(alarm))
        {
            self.note(None, alarm);
        }
        let policy = self.parts.policy.clone();
        let config = core_config(&config, &self.parts.definitions, policy);
        self.parts.agent.reconfigure(config);
        self.compare_inventory();
    }

    fn compare_inventory(&mut self) {
        let models = tokio::task::block_in_place(|| self.parts.driver.weights().cached());
        let history = self.parts.agent.history();
        let inventory = self.parts.definitions.inventory(&self.gpus, history, models);
        if inventory == *self.inventory {
            return;
        }
        self.inventory_hash = inventory::hash(&inventory);
        self.inventory = Arc::new(inventory.clone());
        self.step(Input::Inventory(inventory));
        self.look_at_gpus();
        self.parts.report_now.notify_one();
    }

    fn notice_alarm(&mut self, alarm: Alarm) {
        let about = (alarm.source, alarm.matter);
        let Some(text) = alarm.text else {
            self.notice_alarms.remove(&about);
            return;
        };
        if self.notice_alarms.get(&about) != Some(&text) {
            self.note(None, text.clone());
        }
        self.notice_alarms.insert(about, text);
    }

    fn note(&mut self, replica: Option<ReplicaId>, text: String) {
        match replica {
            Some(replica) => tracing::info!(replica.id = %replica, "{text}"),
            None => tracing::info!("{text}"),
        }
        if self.notes.len() == NOTES_KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back(KeptNote { at: clock::boottime(), replica, text });
    }
}
