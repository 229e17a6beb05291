//! Carrying out what the agent core asks, with the time that such things take.

use wharfage_agent_core::{Effect, Input};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::{Desired, Gang, RunOrder};
use wharfage_shared::replica::{Ended, HookKind, HookOutcome};
use wharfage_shared::segment::Segment;
use wharfage_shared::time::{Boottime, Millis};

use super::process::{End, Process};
use super::{Host, HostNotice};
use crate::checks::stops;
use crate::stage::{AtHost, Happening, Stage};

/// A model that lies on the host is there at once.
const FETCH: Millis = Millis(10);

/// A guard of a replica of which two must never run ends it unless it hears within this time how
/// long it may serve.
const FIRST_WORD: Millis = Millis::from_seconds(5);

impl Host {
    /// In order; the agent may die in between.
    pub(super) fn carry_out(&mut self, stage: &mut Stage, effects: Vec<Effect>) {
        let mortal = stage.habits.dies_amid_effects_permille;
        let dies_before = (mortal > 0 && stage.rng.chance(mortal))
            .then(|| stage.rng.between(0, effects.len() as u64) as usize);
        for (number, effect) in effects.into_iter().enumerate() {
            if dies_before == Some(number) {
                let pause = stage.habits.agent_restart;
                return self.agent_dies(stage, pause);
            }
            self.effect(stage, effect);
        }
    }

    fn effect(&mut self, stage: &mut Stage, effect: Effect) {
        match effect {
            Effect::Persist(desired) => self.persist(stage, *desired),
            Effect::AppendSegment(segment) => self.append(stage, *segment),
            Effect::NoteOpenSegment(open) => self.disk.open = Some(*open),
            Effect::Fetch(order) => {
                let replica = order.replica;
                self.later(stage, FETCH, Input::Fetched { replica });
            }
            Effect::Start(order) => self.start(stage, *order),
            Effect::Probe { replica, prove } => self.probe(stage, replica, prove),
            Effect::ServeUntil { replica, until } => self.serve_until(stage, replica, until),
            Effect::RunHook { replica, kind, hook, deadline, .. } => {
                let alone = stage.hooks.get(&hook).copied().unwrap_or(Millis(100));
                let habit = stage.hook_habits.get(&hook).copied().unwrap_or_default();
                let (alone, ended, said) = habit.ends(alone);
                let takes = self.beside_others(stage.now, kind, alone);
                let end = self.clock.when(deadline).max(stage.now) - stage.now;
                let cut_off = (HookOutcome::CutOff, None);
                let (outcome, detail) = if takes <= end { (ended, said) } else { cut_off };
                let process = self.processes.get_mut(&replica);
                if let Some(process) = process.filter(|_| kind == HookKind::Checkpoint)
                    && outcome == HookOutcome::Done
                {
                    process.saved = Some((stage.now, stage.now + takes));
                }
                let input = Input::HookEnded { replica, kind, outcome, detail };
                self.later(stage, takes.min(end), input);
            }
            // Hooks of the simulated host put nothing to sleep.
            Effect::Wake { .. } => {}
            Effect::CutHook { replica, kind } => self.cut_hook(stage, replica, kind),
            Effect::Terminate { replica } => self.terminate(stage, replica),
            Effect::Kill { replica } => self.kill(stage, replica),
            Effect::CheckRelease { replica } => {
                let saw = self.look(stage, replica);
                self.later(stage, stage.habits.look, Input::Release { replica, saw });
            }
            Effect::Forget { replica } => {
                self.processes.remove(&replica);
                self.ordered.remove(&replica);
            }
            Effect::AcknowledgeNotice(id) => {
                let text = format!("done with notice {id}");
                stage.trace.detail(stage.now, self.node.clone(), text);
            }
            Effect::KeepHealth(memory) => self.disk.health = *memory,
            Effect::ReportNow => self.report_now(stage),
            Effect::Note(note) => {
                if stage.trace.keeps_lines() {
                    let of = note.replica.map(|id| format!("{id} ")).unwrap_or_default();
                    let text = format!("{of}{}", note.text);
                    stage.trace.detail(stage.now, self.node.clone(), text);
                }
            }
            Effect::Abdicate => {
                let text = "the agent gives way to a newer start of this node".to_owned();
                stage.trace.line(stage.now, Some(self.node.clone()), text);
                let pause = stage.habits.agent_restart;
                self.agent_dies(stage, pause);
            }
        }
    }

    /// The hands report to this very start of the agent, so long later.
    fn later(&self, stage: &mut Stage, length: Millis, input: Input) {
        let Some(agent) = &self.agent else { return };
        let what = AtHost::Did { start: agent.start, input: Box::new(input) };
        stage.plan_in(length, Happening::Host(self.index, what));
    }

    fn persist(&mut self, stage: &mut Stage, desired: Desired) {
        if let Some(known) = &self.disk.desired
            && desired.version < known.version
        {
            let found = format!(
                "{} put desired state {} in the place of the newer {}",
                self.node, desired.version, known.version
            );
            stage.broken("S9", found);
        }
        for order in &desired.orders {
            self.ordered.entry(order.replica()).or_insert(stage.now);
        }
        self.disk.desired = Some(desired);
    }

    fn append(&mut self, stage: &mut Stage, segment: Segment) {
        if segment.key.number != self.disk.last_segment + 1 {
            let found = format!(
                "{} appends segment {} after {}",
                self.node, segment.key.number, self.disk.last_segment
            );
            stage.broken("metering", found);
        }
        self.disk.last_segment = segment.key.number;
        self.disk.segments.push(segment);
        self.disk.open = None;
    }

    fn start(&mut self, stage: &mut Stage, order: RunOrder) {
        let replica = order.replica;
        stops::judge_start(self, stage, &order);
        if self.processes.contains_key(&replica) {
            return;
        }
        if let Some(gpu) = order.gpus.iter().find(|gpu| !self.gpus.contains(gpu)) {
            let outcome = Err(format!("{gpu} is not on this host"));
            return self.later(stage, stage.habits.look, Input::Started { replica, outcome });
        }
        let broken = order.gpus.iter().find_map(|gpu| self.gpu_trouble.get(gpu).cloned());
        let broken =
            broken.filter(|_| !order.gpus.iter().any(|gpu| self.silent_gpus.contains(gpu)));
        let load = stage.loads.get(&order.deployment).copied().unwrap_or(Millis(1000));
        let address = format!("{}:{}", self.node, 20_000 + replica.0 % 40_000);
        let is_stubborn = stage.rng.chance(stage.habits.stubborn_permille);
        if self.processes.values().all(|process| !process.runs()) {
            // Metered from the moment the guard is up.
            self.engine_time.push((stage.now + stage.habits.start, None));
        }
        if order.gang.is_some() {
            *stage.members.entry(replica).or_default() += 1;
        }
        if order.gang.as_ref().is_none_or(Gang::leads) {
            stage.engines.insert(replica, order.deployment.clone());
        }
        let process = Process {
            address: address.clone(),
            started_at: self.clock.at(stage.now),
            started: stage.now,
            loaded: stage.now + load,
            was_ready: false,
            serve_until: None,
            terminated: None,
            saved: None,
            is_stubborn,
            hangs: false,
            broken,
            end: None,
            order,
        };
        let first_word = process.order.single_copy.then(|| {
            let up = stage.now + stage.habits.start;
            self.clock.at(up) + FIRST_WORD
        });
        self.processes.insert(replica, process);
        self.serve_until(stage, replica, first_word);
        self.later(stage, stage.habits.start, Input::Started { replica, outcome: Ok(address) });
    }

    fn probe(&mut self, stage: &mut Stage, replica: ReplicaId, prove: bool) {
        let Some(process) = self.processes.get(&replica) else { return };
        let members = stage.members.get(&replica).copied().unwrap_or_default();
        let saw = process.probed(stage.now, prove, members);
        self.later(stage, stage.habits.look, Input::Probed { replica, saw });
    }

    fn look(&self, stage: &Stage, replica: ReplicaId) -> wharfage_agent_core::input::Release {
        match self.processes.get(&replica) {
            Some(process) => {
                let mut gpus = process.order.gpus.iter();
                let silent = gpus.find(|gpu| self.silent_gpus.contains(gpu));
                process.looked_at(stage.now, silent, |at| self.clock.at(at))
            }
            None => wharfage_agent_core::input::Release::Free {
                processes_gone_at: self.clock.at(stage.now),
                memory_back_at: self.clock.at(stage.now),
                memory: Vec::new(),
            },
        }
    }

    /// The input reaches the agent; the guard notes a proof in its record.
    pub(super) fn did(&mut self, stage: &mut Stage, input: Input) {
        if let Input::Probed { replica, saw: wharfage_agent_core::input::Probe::Proven } = &input
            && let Some(process) = self.processes.get_mut(replica)
        {
            process.was_ready = true;
        }
        self.step(stage, input);
    }

    /// How long a hook takes that takes so long alone: on a disk that carries one checkpoint at a
    /// time each one under way costs as much again.
    fn beside_others(&mut self, now: Millis, kind: HookKind, alone: Millis) -> Millis {
        if kind != HookKind::Checkpoint || self.config.checkpoints_carry.is_none() {
            return alone;
        }
        self.writing.retain(|ends| *ends > now);
        let takes = Millis(alone.0 * (1 + self.writing.len() as u64));
        self.writing.push(now + takes);
        takes
    }

    fn cut_hook(&mut self, stage: &mut Stage, replica: ReplicaId, kind: HookKind) {
        let process = self.processes.get_mut(&replica);
        if let Some(process) = process.filter(|_| kind == HookKind::Checkpoint) {
            process.saved.take_if(|(_, whole)| *whole > stage.now);
        }
        let outcome = HookOutcome::CutOff;
        let input = Input::HookEnded { replica, kind, outcome, detail: None };
        self.later(stage, Millis(2), input);
    }

    fn terminate(&mut self, stage: &mut Stage, replica: ReplicaId) {
        stops::judge_terminate(self, stage, replica);
        let (life, stop) = (self.life, stage.habits.stop);
        let Some(process) = self.processes.get_mut(&replica) else { return };
        process.terminated.get_or_insert(stage.now);
        if !process.is_stubborn && !process.hangs {
            let ended = Ended::Exited { code: 0 };
            self.plan(stage, stop, AtHost::EngineEnds { life, replica, ended });
        }
    }

    fn kill(&mut self, stage: &mut Stage, replica: ReplicaId) {
        stops::judge_kill(self, stage, replica);
        let (life, kill) = (self.life, stage.habits.kill);
        let ended = Ended::Signaled { signal: 9 };
        self.plan(stage, kill, AtHost::EngineEnds { life, replica, ended });
    }

    /// The last process of a replica is gone.
    pub fn end_engine(&mut self, stage: &mut Stage, replica: ReplicaId, ended: Ended) {
        let Some(process) = self.processes.get_mut(&replica) else { return };
        if !process.runs() {
            return;
        }
        self.lost_work = self.lost_work + process.unsaved(stage.now);
        let memory_back = stage.now + stage.habits.memory_back;
        process.end = Some(End { ended: ended.clone(), at: stage.now, memory_back });
        if let Some(members) = stage.members.get_mut(&replica) {
            *members = members.saturating_sub(1);
        }
        if process.order.gang.as_ref().is_none_or(Gang::leads) {
            stage.engines.remove(&replica);
            stage.ended.push(replica);
        }
        if self.processes.values().all(|process| !process.runs())
            && let Some((_, end)) = self.engine_time.last_mut()
        {
            end.get_or_insert(stage.now);
        }
        self.later(stage, Millis(2), Input::Exited { replica, ended });
    }

    fn serve_until(&mut self, stage: &mut Stage, replica: ReplicaId, until: Option<Boottime>) {
        let (life, index) = (self.life, self.index);
        let Some(process) = self.processes.get_mut(&replica) else { return };
        process.serve_until = until;
        if let Some(until) = until {
            let at = self.clock.when(until).max(stage.now);
            stage.queue.plan(at, Happening::Host(index, AtHost::LeaseEnds { life, replica }));
        }
    }

    /// The guard ends a replica whose serving lease is over, agent or no agent.
    pub(super) fn lease_ends(&mut self, stage: &mut Stage, replica: ReplicaId) {
        let now = self.clock.at(stage.now);
        let Some(process) = self.processes.get(&replica) else { return };
        let is_over = process.serve_until.is_some_and(|until| until <= now);
        if is_over && process.runs() {
            let text = format!("{replica} is ended by its guard: its serving lease is over");
            stage.trace.line(stage.now, Some(self.node.clone()), text);
            self.end_engine(stage, replica, Ended::Signaled { signal: 9 });
        }
    }

    /// The host's source tells the agent a notice.
    pub(super) fn tell_notice(&mut self, stage: &mut Stage, id: &wharfage_shared::ids::NoticeId) {
        use wharfage_shared::notice::{Certainty, Notice, NoticeKind, NoticeSource};
        let Some(HostNotice { gone_at, heard_at, leaves }) = self.notices.get(id).cloned() else {
            return;
        };
        let notice = Notice {
            id: id.clone(),
            kind: NoticeKind::Preempt,
            source: NoticeSource::File,
            leaves,
            gone_at: self.clock.at(gone_at),
            heard_at,
            certainty: Certainty::Certain,
            can_acknowledge: false,
            can_be_withdrawn: true,
        };
        self.step(stage, Input::NoticeHeard(notice));
    }
}
