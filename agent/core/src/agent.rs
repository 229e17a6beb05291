//! The node's decisions as one state that is stepped: each step hears one thing, then brings
//! everything on the host up to what is wanted, by the rules of the rooms beside this one.
//!
//! Guards S9 (an older order never undoes a newer one) and S12 (absence kills nothing).

mod answer;
mod leaving;
mod meter_view;
mod orders;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

use wharfage_shared::health::GateId;
use wharfage_shared::ids::{BootId, GpuUuid, NodeId, ReplicaId};
use wharfage_shared::order::{Desired, RunOrder};
use wharfage_shared::replica::{Gone, HookKind};
use wharfage_shared::segment::Segment;
use wharfage_shared::time::{Boottime, Timestamp};
use wharfage_shared::version::{Epoch, Term};

use crate::clock::SchedulerClock;
use crate::config::Config;
use crate::effect::Effect;
use crate::estimates::Estimates;
use crate::evacuation::Evacuation;
use crate::health::{Evidence, Judge, Saw};
use crate::history::{History, Start};
use crate::input::{Found, FoundReplica, Input};
use crate::lease::Leases;
use crate::meter::Meter;
use crate::notices::{Heard, Notices};
use crate::out::Out;
use crate::replica::{Fact, Learned, Replica};

/// Decides for one node.
#[derive(Clone, Debug)]
pub struct Agent {
    config: Config,
    node: NodeId,
    boot: BootId,
    now: Boottime,
    started: bool,
    /// A newer start of this node exists: nothing is decided here any more.
    abdicated: bool,
    epoch: Option<Epoch>,
    /// Heartbeats sent before this instant did not carry the epoch: they renew nothing.
    epoch_at: Boottime,
    term: Term,
    desired: Desired,
    clock: SchedulerClock,
    leases: Leases,
    lease_end_noted: bool,
    notices: Notices,
    replicas: BTreeMap<ReplicaId, Replica>,
    departed: BTreeMap<ReplicaId, Departed>,
    /// They stand here and nobody can tend them: they are neither begun, stopped nor called gone.
    left_alone: BTreeSet<ReplicaId>,
    /// Ids that were here and were forgotten: never begun again.
    retired: BTreeSet<ReplicaId>,
    /// Deadlines of stop orders on the host's clock, mapped once per wording.
    stop_deadlines: BTreeMap<ReplicaId, (Timestamp, Boottime)>,
    estimates: Estimates,
    /// What the plan of leaving was made from.
    planned: BTreeMap<ReplicaId, Fact>,
    evacuation: Option<Evacuation>,
    gpus: Vec<GpuUuid>,
    gpu_names: BTreeMap<GpuUuid, String>,
    gpu_trouble: BTreeMap<GpuUuid, String>,
    judge: Judge,
    meter: Meter,
}

/// A replica that is gone; its proof is repeated until the scheduler knows.
#[derive(Clone, Debug)]
struct Departed {
    gone: Gone,
    since: Boottime,
    /// It is forgotten only when its last hook has ended.
    post_hook_runs: bool,
}

impl Agent {
    /// Takes over what an earlier agent left: adopts replicas, closes its open segment.
    pub fn new(found: Found, config: Config) -> (Agent, Vec<Effect>) {
        let mut out = Out::new(Boottime(0));
        let meter = Meter::new(&found, &mut out);
        let desired = found.desired.unwrap_or_default();
        let adopted = found.replicas.into_iter();
        let replicas: BTreeMap<ReplicaId, Replica> =
            adopted.map(|left| (left.order.replica, Replica::adopted(left))).collect();
        for (id, replica) in &replicas {
            let text = if replica.phase.is_leaving() {
                "found ended: its guard recorded the end while no agent was there"
            } else {
                "adopted from an earlier agent, not started again"
            };
            out.note(Some(*id), text);
        }
        let gpu_names = names(&found.inventory);
        let slots = found.inventory.gpus;
        let agent = Agent {
            judge: Judge::new(&config.health, found.health, &found.boot, &slots),
            config,
            node: found.node,
            boot: found.boot,
            now: Boottime(0),
            started: false,
            abdicated: false,
            epoch: None,
            epoch_at: Boottime(0),
            term: desired.version.term,
            desired,
            clock: SchedulerClock::default(),
            leases: Leases::default(),
            lease_end_noted: false,
            notices: Notices::default(),
            replicas,
            departed: BTreeMap::new(),
            left_alone: BTreeSet::new(),
            retired: BTreeSet::new(),
            stop_deadlines: BTreeMap::new(),
            estimates: Estimates::default(),
            planned: BTreeMap::new(),
            evacuation: None,
            gpu_names,
            gpus: slots.into_iter().map(|gpu| gpu.uuid).collect(),
            gpu_trouble: BTreeMap::new(),
            meter,
        };
        (agent, out.finish())
    }

    /// From now on these lengths and limits count; what was planned is planned anew at the next
    /// step.
    pub fn reconfigure(&mut self, config: Config) {
        self.judge.reconfigure(&config.health);
        self.config = config;
    }

    /// Hears one thing and answers what to do, in order.
    ///
    /// Time never goes back: an earlier `now` counts as the last one.
    pub fn step(&mut self, now: Boottime, input: Input) -> Vec<Effect> {
        if self.abdicated {
            return Vec::new();
        }
        self.now = self.now.max(now);
        let mut out = Out::new(self.now);
        if !std::mem::replace(&mut self.started, true) {
            self.resume_metering(&mut out);
        }
        self.meter.prove(self.now);
        self.hear(input, &mut out);
        if self.abdicated {
            return out.finish();
        }
        self.judge.pass(&mut out);
        self.reconcile(&mut out);
        out.finish()
    }

    /// When `step` must be called again with `Input::Wake` if nothing else happens before.
    pub fn next_wake(&self) -> Option<Boottime> {
        if self.abdicated {
            return None;
        }
        let unanswered = self.config.unanswered_after;
        let replicas = self.replicas.values().flat_map(|replica| replica.wakes(unanswered));
        let others = [self.meter.wake(&self.config), self.notices.wake(), self.judge.wake()];
        let lease = self.leases.control_until();
        let all = replicas.chain(others.into_iter().flatten()).chain(lease);
        // What was due up to now was decided in the last step.
        all.filter(|at| *at > self.now).min()
    }

    /// Closed segments that are not yet acknowledged, in order. Read it after the effects of the
    /// last step were carried out: only then they are in the log.
    pub fn closed_segments(&self) -> &[Segment] {
        self.meter.closed()
    }

    fn hear(&mut self, input: Input, out: &mut Out) {
        match input {
            Input::Wake => {}
            Input::LeftAlone(replicas) => self.left_alone.extend(replicas),
            Input::Adopted(found) => self.adopt(*found, out),
            Input::NothingLeft(replica) => {
                if self.left_alone.remove(&replica) {
                    out.note(Some(replica), "nothing is left of it: its GPUs are free");
                    // Its id is used up; an order that still names it is told so.
                    self.retired.insert(replica);
                }
            }
            Input::Answer { sent_at, answer } => self.hear_answer(sent_at, *answer, out),
            Input::Inventory(inventory) => {
                self.gpu_names = names(&inventory);
                self.judge.set_gpus(&inventory.gpus, self.now);
                self.gpus = inventory.gpus.into_iter().map(|gpu| gpu.uuid).collect();
            }
            Input::GpuTrouble { gpu, trouble } => self.hear_trouble(gpu, trouble, out),
            Input::Evidence(evidence) => self.judge.hear(&evidence, out),
            Input::Xid(seen) => {
                let on = seen.parts.first().or(seen.gpu.as_ref());
                let model = on.and_then(|gpu| self.model_on(gpu));
                self.judge.hear_xid(seen, model, out);
            }
            Input::Repaired { gpu, by } => self.judge.repaired(gpu.as_ref(), by, out),
            Input::NoticeHeard(notice) => self.hear_notice(notice, out),
            Input::NoticeWithdrawn(id) => {
                if self.notices.withdraw(&id) {
                    out.note(None, format!("notice `{id}` withdrawn"));
                    out.report_now();
                }
            }
            Input::Drill { window } => {
                let id = self.notices.drill(self.now, window);
                out.note(None, format!("drill `{id}`: everything leaves within {window}"));
                out.report_now();
            }
            Input::FetchProgress { replica, done, total } => {
                self.with(replica, |replica| replica.fetch_progress(done, total, out));
            }
            Input::Fetched { replica } => self.with(replica, Replica::model_fetched),
            Input::LoadProgress { replica, done, total } => {
                self.with(replica, |replica| replica.load_progress(done, total, out));
            }
            Input::Started { replica, outcome } => {
                self.with(replica, |replica| replica.started(outcome, out));
            }
            Input::Exited { replica, ended } => {
                self.measure_end(replica);
                self.with(replica, |replica| replica.ended(ended, out));
            }
            Input::LoadMeasured { replica, done, total } => {
                self.with(replica, |replica| replica.load_measured(done, total, out));
            }
            Input::LastWords { replica, because } => {
                self.with(replica, |replica| replica.last_words(because));
            }
            Input::HookProgress { replica, kind, permille } => {
                let now = self.now;
                self.with(replica, |replica| replica.hook_progress(kind, permille, now));
            }
            Input::HookWrote { replica, kind, bytes } => {
                self.with(replica, |replica| replica.hook_wrote(kind, bytes));
            }
            Input::InFlight { replica, requests } => {
                self.with(replica, |replica| replica.in_flight = Some(requests));
            }
            Input::FetchFailed { replica, because } => {
                let gone = self.ask(replica, |replica| replica.fetch_failed(because, out));
                self.depart(gone, out);
            }
            Input::Release { replica, saw } => {
                let known = self.replicas.get_mut(&replica);
                let gone = known.and_then(|replica| replica.looked(saw, &self.config, out));
                self.depart(gone, out);
            }
            Input::Probed { replica, saw } => {
                let Some(known) = self.replicas.get_mut(&replica) else { return };
                let learned = known.probed(saw, &self.config, out);
                self.learn(replica, learned, out);
            }
            Input::HookEnded { replica, kind, outcome, detail } => {
                if let Some(departed) = self.departed.get_mut(&replica)
                    && kind == HookKind::Post
                {
                    departed.post_hook_runs = false;
                    out.note(Some(replica), "post hook ended");
                    if let Some(story) = &mut self.evacuation {
                        story.post_hook_ended(replica, outcome, detail.clone(), self.now);
                    }
                }
                let ran =
                    self.ask(replica, |replica| replica.hook_ended(kind, outcome, detail, out));
                self.measure_hook(replica, kind, ran);
            }
        }
    }

    /// One that was left alone goes on as it is; one that is tended is.
    fn adopt(&mut self, found: FoundReplica, out: &mut Out) {
        let id = found.order.replica;
        if self.left_alone.remove(&id) && !self.replicas.contains_key(&id) {
            out.note(Some(id), "its records can be read again: adopted, not started again");
            out.report_now();
            self.replicas.insert(id, Replica::adopted(found));
        }
    }

    /// Tells a replica that is on the host; one that is not is old news.
    fn with(&mut self, id: ReplicaId, tell: impl FnOnce(&mut Replica)) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            tell(replica);
        }
    }

    fn ask<T>(&mut self, id: ReplicaId, ask: impl FnOnce(&mut Replica) -> Option<T>) -> Option<T> {
        self.replicas.get_mut(&id).and_then(ask)
    }

    /// What this host has learned of its engines and models, to be kept on the disk.
    pub fn history(&self) -> &History {
        &self.estimates.history
    }

    /// Takes over what an earlier agent learned.
    pub fn remember(&mut self, history: History) {
        self.estimates.history = history;
    }

    fn learn(&mut self, id: ReplicaId, learned: Option<Learned>, out: &mut Out) {
        let Some(replica) = self.replicas.get(&id) else { return };
        let history = &mut self.estimates.history;
        match learned {
            Some(Learned::Ready(Some(took))) => {
                history.took(start_of(replica, &self.gpu_names), took);
            }
            Some(Learned::WasNotReady) => {
                let (engine, version) = (&replica.order.engine, &replica.order.engine_version);
                let count = history.was_not_ready(engine, version);
                out.note(
                    Some(id),
                    format!(
                        "`{engine}` {version} said that it is ready and failed the generation \
                         (starts at which this version did so here: {count})"
                    ),
                );
            }
            Some(Learned::Ready(None)) | None => {}
        }
    }

    fn hear_notice(&mut self, notice: wharfage_shared::notice::Notice, out: &mut Out) {
        let said = format!("notice `{}`: gone in {}", notice.id, notice.gone_at.since(self.now));
        let heard = self.notices.hear(notice);
        match heard {
            Heard::Same => {}
            Heard::New => out.note(None, format!("heard {said}")),
            Heard::Changed => out.note(None, format!("heard again, changed: {said}")),
        }
        if heard != Heard::Same {
            out.report_now();
        }
    }

    fn hear_trouble(&mut self, gpu: GpuUuid, trouble: Option<String>, out: &mut Out) {
        let (saw, evidence) = match &trouble {
            Some(trouble) => (Saw::Fail, trouble.clone()),
            None => (Saw::Pass, "it answers".to_owned()),
        };
        let look = Evidence { gate: GateId::ANSWERS, gpu: Some(gpu.clone()), saw, evidence };
        self.judge.hear(&[look], out);
        let before = self.gpu_trouble.get(&gpu);
        if before == trouble.as_ref() {
            return;
        }
        out.report_now();
        match trouble {
            Some(trouble) => {
                out.note(None, format!("{gpu}: {trouble}"));
                self.gpu_trouble.insert(gpu, trouble);
            }
            None => {
                out.note(None, format!("{gpu} answers again"));
                self.gpu_trouble.remove(&gpu);
            }
        }
    }

    /// What runs on a GPU, or on an instance of it: an incident remembers it.
    fn model_on(&self, gpu: &GpuUuid) -> Option<String> {
        let slots = self.judge.slots_of(gpu);
        let is_on = |replica: &&Replica| replica.order.gpus.iter().any(|gpu| slots.contains(gpu));
        self.replicas.values().find(is_on).map(|replica| replica.order.model_name.clone())
    }

    /// A replica is gone for good: its proof is kept until the scheduler knows.
    fn depart(&mut self, gone: Option<Gone>, out: &mut Out) {
        let Some(gone) = gone else { return };
        let left = self.replicas.remove(&gone.replica);
        if let Some((story, left)) = self.evacuation.as_mut().zip(left.as_ref()) {
            story.keep(gone.replica, left.hooks());
        }
        let post_hook_runs = left.is_some_and(|replica| replica.hook_runs(HookKind::Post));
        out.report_now();
        let departed = Departed { since: self.now, post_hook_runs, gone };
        self.departed.insert(departed.gone.replica, departed);
    }
}

/// What the next start of this replica's kind is known by.
pub(crate) fn start_of(replica: &Replica, names: &BTreeMap<GpuUuid, String>) -> Start {
    replica.start_on(hardware_of(&replica.order, names))
}

/// The GPUs of an order, by count and name.
fn hardware_of(order: &RunOrder, names: &BTreeMap<GpuUuid, String>) -> String {
    let name = order.gpus.first().and_then(|gpu| names.get(gpu));
    format!("{}x {}", order.gpus.len(), name.map_or("unknown", String::as_str))
}

fn names(inventory: &wharfage_shared::telemetry::Inventory) -> BTreeMap<GpuUuid, String> {
    inventory.gpus.iter().map(|gpu| (gpu.uuid.clone(), gpu.name.to_string())).collect()
}
