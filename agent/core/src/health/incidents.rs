//! Incidents: XIDs that belong together, what becomes of them, and what closes them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wharfage_shared::health::{Action, Ask, Asked, Incident, Repair};
use wharfage_shared::ids::{BootId, GpuUuid};
use wharfage_shared::time::{Boottime, Millis};

use super::policy::{Scope, XidPolicy, named_action};

/// XIDs that follow each other within this long are one incident.
const BURST_GAP: Millis = Millis::from_seconds(180);

/// So many resets or reboots for the same XID have not helped: the hardware is replaced.
const REPAIRS_TO_REPLACE: usize = 2;

/// Incidents that are closed and still shown.
const CLOSED_KEPT: usize = 16;

/// So many XIDs are told of one incident; of more the first that did not decide is left out.
const MOST_XIDS: usize = 32;

/// Repairs and mild incidents that are remembered.
const REMEMBERED: usize = 128;

/// Who heard an XID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XidSource {
    /// NVML's events.
    Nvml,
    /// The kernel's log.
    Kmsg,
    /// An operator's drill.
    Injected,
}

/// One XID as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidSeen {
    /// When.
    pub at: Boottime,
    /// On which GPU of this node, if the one that the kernel names is one; it may be an instance.
    pub gpu: Option<GpuUuid>,
    /// The instances of that GPU that it is of; none = the GPU, whole.
    pub parts: Vec<GpuUuid>,
    /// The PCI address that was named.
    pub pci: Option<String>,
    /// Its number.
    pub xid: u32,
    /// The message.
    pub text: String,
    /// Who heard it.
    pub source: XidSource,
    /// The record's number in the kernel's log: what was heard before is not heard again.
    pub sequence: Option<u64>,
}

/// What of incidents outlives the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The boot that instants belong to.
    pub boot: Option<BootId>,
    /// The number of the last incident.
    pub last: u64,
    /// The last record of the kernel's log that was heard.
    #[serde(default)]
    pub sequence: u64,
    /// When the newest of its records was written.
    #[serde(default = "unknown")]
    pub written: Boottime,
    /// Open incidents and the last closed ones, oldest first.
    pub incidents: Vec<Kept>,
    /// Resets and reboots, oldest first: a GPU and the XID that they were for.
    #[serde(default)]
    pub repairs: Vec<(Option<GpuUuid>, u32)>,
}

/// A file of an earlier release does not say it: what it has heard is not heard again.
fn unknown() -> Boottime {
    Boottime(u64::MAX)
}

/// An incident with what decides about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What is shown.
    pub incident: Incident,
    /// The XID that decided.
    pub decided_by: u32,
    /// Whom the action is about.
    #[serde(default)]
    pub on_node: bool,
    /// Replicas on one GPU may stay.
    #[serde(default)]
    pub only_multi_gpu: bool,
    /// What runs there is ended at once.
    #[serde(default)]
    pub ends_now: bool,
    /// Only on these instances of the GPU; none = on all of it.
    #[serde(default)]
    pub ends_on: Vec<GpuUuid>,
    /// XIDs of which only instances were named each time, with those.
    #[serde(default)]
    pub parts: BTreeMap<u32, BTreeSet<GpuUuid>>,
    /// The model that ran there when it began.
    #[serde(default)]
    pub model: Option<String>,
    /// The driver's own words for what the GPU needs, the worst of them.
    #[serde(default)]
    pub named: Option<Action>,
}

impl Kept {
    /// Whether nothing new may be placed because of it.
    pub fn closes(&self) -> bool {
        self.incident.closed.is_none() && self.incident.action >= Action::CordonGpu
    }

    /// Whether it is about this GPU, whole.
    pub fn is_on(&self, gpu: &GpuUuid) -> bool {
        self.on_node || self.incident.gpu.as_ref() == Some(gpu)
    }

    /// `XID 79`.
    pub fn rule(&self) -> String {
        format!("XID {}", self.decided_by)
    }

    /// An XID was heard: which, and whether only of instances. Heard of the whole GPU once, it is
    /// the whole GPU's.
    fn place(&mut self, seen: &XidSeen) {
        let is_new = !self.incident.xids.contains(&seen.xid);
        if is_new {
            if self.incident.xids.len() == MOST_XIDS
                && let Some(at) = self.incident.xids.iter().position(|xid| *xid != self.decided_by)
            {
                let left_out = self.incident.xids.remove(at);
                self.parts.remove(&left_out);
            }
            self.incident.xids.push(seen.xid);
        }
        if seen.parts.is_empty() {
            self.parts.remove(&seen.xid);
        } else if is_new || self.parts.contains_key(&seen.xid) {
            self.parts.entry(seen.xid).or_default().extend(seen.parts.iter().cloned());
        }
    }

    /// What it asks of the scheduler while it is open.
    pub fn asks(&self) -> Vec<Ask> {
        if self.incident.closed.is_some() {
            return Vec::new();
        }
        let mut what: Vec<Asked> = Vec::new();
        if self.ends_now {
            what.push(Asked::RestartReplica);
        }
        match self.incident.action {
            Action::Record | Action::RestartReplica | Action::CordonGpu => {}
            Action::ResetWhenIdle => what.push(Asked::Reset),
            Action::Drain => what.push(Asked::Drain),
            Action::Reset => what.extend([Asked::Drain, Asked::Reset]),
            Action::Reboot => what.extend([Asked::Drain, Asked::Reboot]),
            Action::Replace => what.extend([Asked::Drain, Asked::Replace]),
        }
        let ask = |what: Asked| Ask {
            incident: self.incident.number,
            what,
            // Only what ran on the GPU itself is ended at once.
            gpu: match what {
                Asked::RestartReplica => self.incident.gpu.clone(),
                Asked::Drain | Asked::Reset | Asked::Reboot | Asked::Replace => {
                    self.incident.gpu.clone().filter(|_| !self.on_node)
                }
            },
            only_multi_gpu: self.only_multi_gpu,
            rule: self.rule(),
            because: self.incident.because.clone(),
            injected: self.incident.injected,
        };
        what.into_iter().map(ask).collect()
    }
}

/// What XIDs of an incident ask for.
#[derive(Clone, Copy, Debug)]
struct Judgement<'policy> {
    action: Action,
    /// The XID behind the action, and what it means.
    decided_by: u32,
    what: &'policy str,
    scope: Scope,
    reach: Reach,
    trust: Trust,
}

/// Which replicas must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Those that stand on more than one GPU.
    SeveralGpus,
    /// All of them.
    All,
}

/// Whether what runs there may run on until it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Kept,
    /// It is ended at once.
    Lost,
}

impl Judgement<'_> {
    /// Both together: the worse action decides, of equal ones the first; whomever one of them means
    /// is meant.
    fn worse(self, other: Self) -> Self {
        let (scope, reach) = match (self.scope, other.scope) {
            (Scope::Node, Scope::Gpu) => (Scope::Node, self.reach),
            (Scope::Gpu, Scope::Node) => (Scope::Node, other.reach),
            (Scope::Node, Scope::Node) | (Scope::Gpu, Scope::Gpu) => {
                (self.scope, self.reach.max(other.reach))
            }
        };
        let trust = self.trust.max(other.trust);
        let decides = if other.action > self.action { other } else { self };
        Self { scope, reach, trust, ..decides }
    }
}

fn named(parts: &[GpuUuid]) -> String {
    parts.iter().map(GpuUuid::text).collect::<Vec<_>>().join(", ")
}

/// The node's incidents.
#[derive(Clone, Debug)]
pub(crate) struct Incidents {
    policy: XidPolicy,
    memory: Memory,
}

impl Incidents {
    /// Goes on with what an earlier agent knew. A new boot closes what was open before it; the GPUs
    /// of which that was are answered, with why they must qualify anew.
    pub fn new(
        policy: XidPolicy,
        memory: Memory,
        boot: &BootId,
    ) -> (Self, Vec<(Option<GpuUuid>, String)>) {
        let mut incidents = Self { policy, memory };
        let mut anew = Vec::new();
        if incidents.memory.boot.as_ref() != Some(boot) {
            incidents.memory.boot = Some(boot.clone());
            incidents.memory.sequence = 0;
            incidents.memory.written = Boottime(0);
            // Instants of another boot cannot be compared: what was over then is not counted now.
            incidents.memory.incidents.retain(|kept| kept.incident.closed.is_none());
            for at in 0..incidents.memory.incidents.len() {
                let closed = incidents.memory.incidents[at].closes();
                incidents.close(at, Repair::Reboot);
                if closed {
                    let kept = &incidents.memory.incidents[at];
                    let because = format!("{} before the node booted anew", kept.rule());
                    anew.push((kept.incident.gpu.clone().filter(|_| !kept.on_node), because));
                }
            }
        }
        (incidents, anew)
    }

    /// Another policy counts for what is heard from now on.
    pub fn set_policy(&mut self, policy: &XidPolicy) {
        self.policy.clone_from(policy);
    }

    /// What must outlive the agent.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Everything that is kept, oldest first.
    pub fn all(&self) -> &[Kept] {
        &self.memory.incidents
    }

    /// Takes an XID in; `model` is what ran on the GPU. What is answered is for the journal, if it
    /// is news.
    pub fn hear(&mut self, seen: &XidSeen, model: Option<String>) -> Option<String> {
        if let Some(sequence) = seen.sequence {
            // A log that was begun anew counts from the beginning: its records are younger.
            let is_known = sequence <= self.memory.sequence && seen.at <= self.memory.written;
            if is_known {
                return None;
            }
            self.memory.sequence = sequence;
            self.memory.written = self.memory.written.max(seen.at);
        }
        let injected = seen.source == XidSource::Injected;
        let belongs = |kept: &Kept| {
            let incident = &kept.incident;
            incident.closed.is_none()
                && incident.gpu == seen.gpu
                && incident.injected == injected
                && seen.at.since(incident.last_at) <= BURST_GAP
        };
        let at = match self.memory.incidents.iter().rposition(belongs) {
            Some(at) => at,
            None => self.begin(seen, model, injected),
        };
        let before = self.memory.incidents[at].incident.clone();
        let kept = &mut self.memory.incidents[at];
        kept.incident.last_at = kept.incident.last_at.max(seen.at);
        let ended_on = kept.ends_on.clone();
        kept.place(seen);
        if self.policy.rule(seen.xid).named {
            kept.named = kept.named.max(named_action(&seen.text));
        }
        self.judge(at);
        let kept = &self.memory.incidents[at];
        let now = &kept.incident;
        let is_same = before.xids == now.xids && before.action == now.action;
        (!is_same || ended_on != kept.ends_on).then(|| now.because.clone())
    }

    fn begin(&mut self, seen: &XidSeen, model: Option<String>, injected: bool) -> usize {
        self.memory.last += 1;
        self.memory.incidents.push(Kept {
            incident: Incident {
                number: self.memory.last,
                gpu: seen.gpu.clone(),
                xids: Vec::new(),
                action: Action::Record,
                first_at: seen.at,
                last_at: seen.at,
                because: String::new(),
                injected,
                closed: None,
            },
            decided_by: seen.xid,
            on_node: false,
            only_multi_gpu: false,
            ends_now: false,
            ends_on: Vec::new(),
            parts: BTreeMap::new(),
            model,
            named: None,
        });
        self.memory.incidents.len() - 1
    }

    /// The worst of what the burst's XIDs ask for.
    fn judge(&mut self, at: usize) {
        let kept = &self.memory.incidents[at];
        let xids = kept.incident.xids.clone();
        let counts = |xid: &&u32| {
            let alone = xids.iter().all(|other| self.policy.rule(*other).attach);
            alone || !self.policy.rule(**xid).attach
        };
        let judged = xids.iter().filter(counts).map(|xid| self.judge_xid(kept, *xid));
        let Some(judged) = judged.reduce(Judgement::worse) else { return };
        let Judgement { action, decided_by, scope, reach, trust, .. } = judged;
        let ends_on = self.ends_on(kept, xids.iter().filter(counts));
        // A GPU that nobody can name may be any of the node's.
        let unnamed = kept.incident.gpu.is_none() && action >= Action::CordonGpu;
        let drill = if kept.incident.injected { " (injected)" } else { "" };
        let closes = if action >= Action::CordonGpu { "cordoned by " } else { "" };
        let on =
            if ends_on.is_empty() { String::new() } else { format!(" on {}", named(&ends_on)) };
        let because = format!("{closes}XID {decided_by}{drill}{on}: {}", judged.what);
        let kept = &mut self.memory.incidents[at];
        kept.incident.action = action;
        kept.incident.because = because;
        kept.decided_by = decided_by;
        kept.on_node = scope == Scope::Node || unnamed;
        let moves_only = action <= Action::Drain && scope == Scope::Node;
        kept.only_multi_gpu = moves_only && reach == Reach::SeveralGpus;
        kept.ends_now = trust == Trust::Lost;
        kept.ends_on = ends_on;
    }

    /// The instances on which what runs is ended; none = the whole GPU. What is not to be trusted,
    /// or is the node's, is the whole GPU's whichever instance was named.
    fn ends_on<'a>(&self, kept: &Kept, xids: impl Iterator<Item = &'a u32>) -> Vec<GpuUuid> {
        let mut on = BTreeSet::new();
        for xid in xids {
            let rule = self.policy.rule(*xid);
            let is_parts_own = !rule.distrust && rule.scope == Scope::Gpu;
            match kept.parts.get(xid).filter(|_| is_parts_own) {
                _ if rule.action != Action::RestartReplica && !rule.distrust => {}
                Some(parts) => on.extend(parts.iter().cloned()),
                None => return Vec::new(),
            }
        }
        on.into_iter().collect()
    }

    /// What one XID of an incident asks for.
    fn judge_xid(&self, kept: &Kept, xid: u32) -> Judgement<'_> {
        let rule = self.policy.rule(xid);
        let mut action = rule.action;
        let mut what = rule.what.as_str();
        if rule.named {
            action = action.max(kept.named.unwrap_or(Action::CordonGpu));
        }
        if let Some(repeated) = self.repeated(kept, xid) {
            action = action.max(repeated);
            what = "it came again and again";
        }
        if self.was_repaired(kept, xid, action) {
            action = Action::Replace;
            what = "it came back after two resets or reboots";
        }
        // Whoever runs beside it would be ended by a reboot unasked.
        let scope = if action == Action::Reboot { Scope::Node } else { rule.scope };
        let ends = rule.action == Action::RestartReplica || rule.distrust;
        Judgement {
            action,
            decided_by: xid,
            what,
            scope,
            reach: if rule.only_multi_gpu { Reach::SeveralGpus } else { Reach::All },
            trust: if ends { Trust::Lost } else { Trust::Kept },
        }
    }

    /// What an XID becomes that came so often on this GPU.
    fn repeated(&self, kept: &Kept, xid: u32) -> Option<Action> {
        let repeat = self.policy.rule(xid).repeat?;
        let span = Millis::from_seconds(u64::from(repeat.within_hours) * 3600);
        let recent = self.memory.incidents.iter().filter(|other| {
            let incident = &other.incident;
            let same_rule = |of: &u32| self.policy.rule(*of) == self.policy.rule(xid);
            incident.gpu == kept.incident.gpu
                && incident.injected == kept.incident.injected
                && incident.closed != Some(Repair::Reboot)
                && incident.xids.iter().any(same_rule)
                && kept.incident.first_at.since(incident.first_at) <= span
        });
        let recent: Vec<&Kept> = recent.collect();
        let models: BTreeSet<&Option<String>> = recent.iter().map(|other| &other.model).collect();
        let differ = !repeat.different_models || models.len() > 1;
        (recent.len() >= repeat.count as usize && differ).then_some(repeat.action)
    }

    /// Whether resets and reboots were tried for it already.
    fn was_repaired(&self, kept: &Kept, xid: u32, action: Action) -> bool {
        let on = (kept.incident.gpu.clone(), xid);
        let tries = self.memory.repairs.iter().filter(|repair| **repair == on).count();
        matches!(action, Action::Reset | Action::Reboot) && tries >= REPAIRS_TO_REPLACE
    }

    /// Closes mild incidents whose burst is over; whether anything changed.
    pub fn pass(&mut self, now: Boottime) -> bool {
        let mut changed = false;
        for at in 0..self.memory.incidents.len() {
            let kept = &self.memory.incidents[at];
            let is_over = now.since(kept.incident.last_at) > BURST_GAP;
            let open = kept.incident.closed.is_none();
            if open && is_over && kept.incident.action < Action::ResetWhenIdle {
                self.close(at, Repair::Passed);
                changed = true;
            }
        }
        changed
    }

    /// When an open mild incident is over.
    pub fn wake(&self) -> Option<Boottime> {
        let mild = self.memory.incidents.iter().filter(|kept| {
            kept.incident.closed.is_none() && kept.incident.action < Action::ResetWhenIdle
        });
        mild.map(|kept| kept.incident.last_at + BURST_GAP + Millis(1)).min()
    }

    /// Somebody says that a GPU (or the whole node) is well again; how many incidents it closed.
    pub fn repaired(&mut self, gpu: Option<&GpuUuid>, by: Repair) -> usize {
        let mut closed = 0;
        for at in 0..self.memory.incidents.len() {
            let kept = &self.memory.incidents[at];
            let meant = gpu.is_none() || kept.incident.gpu.as_ref() == gpu;
            if meant && kept.incident.closed.is_none() {
                self.close(at, by);
                closed += 1;
            }
        }
        closed
    }

    fn close(&mut self, at: usize, by: Repair) {
        let kept = &mut self.memory.incidents[at];
        kept.incident.closed = Some(by);
        let was_tried = matches!(by, Repair::Reset | Repair::Reboot) && !kept.incident.injected;
        if was_tried && kept.incident.action >= Action::CordonGpu {
            let repair = (kept.incident.gpu.clone(), kept.decided_by);
            self.memory.repairs.push(repair);
            let beyond = self.memory.repairs.len().saturating_sub(REMEMBERED);
            self.memory.repairs.drain(..beyond);
        }
    }

    /// Forgets closed incidents that nobody counts any more.
    pub fn tidy(&mut self) {
        let beyond = self.memory.incidents.len().saturating_sub(REMEMBERED);
        let mut left = beyond;
        self.memory.incidents.retain(|kept| {
            let goes = left > 0 && kept.incident.closed.is_some();
            left -= usize::from(goes);
            !goes
        });
    }

    /// Open incidents and the last closed ones, as they are shown.
    pub fn shown(&self) -> Vec<Incident> {
        let closed = self.all().iter().filter(|kept| kept.incident.closed.is_some()).count();
        let mut hidden = closed.saturating_sub(CLOSED_KEPT);
        let shows = |kept: &&Kept| {
            let hide = hidden > 0 && kept.incident.closed.is_some();
            hidden -= usize::from(hide);
            !hide
        };
        self.all().iter().filter(shows).map(|kept| kept.incident.clone()).collect()
    }
}
