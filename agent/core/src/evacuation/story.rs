//! The story of one evacuation: its timeline and the share of the window that was used.
//!
//! Guards the definition: (end of the last useful step - heard) / (deadline - margin - heard), where
//! serving, a checkpoint and a drain hook are useful.

use wharfage_shared::drill::{Evacuated, PastHook};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::replica::{HookKind, HookOutcome, HookReport};
use wharfage_shared::time::{Boottime, Millis};

use crate::notices::Binding;
use crate::out::Told;
use crate::status::{EvacuationStatus, Moment};

/// The most lines that are kept: a node with eight replicas writes about ten for each.
const MOST_MOMENTS: usize = 2_000;

/// So long after its end the scheduler is told of it: it has heard it by then.
const TOLD_FOR: Millis = Millis::from_seconds(60);

/// The most hooks of replicas that are gone: eight replicas with all of theirs, tried again.
const MOST_HOOKS: usize = 100;

/// An evacuation under way, or the last one.
#[derive(Clone, Debug)]
pub(crate) struct Evacuation {
    status: EvacuationStatus,
    /// What stood at the deadline was told.
    open_told: bool,
    /// Hooks of replicas that are gone.
    hooks: Vec<PastHook>,
}

impl Evacuation {
    pub fn begin(binding: &Binding, margin: Millis) -> Self {
        Self {
            status: EvacuationStatus {
                notice: binding.id.clone(),
                heard_at: binding.heard_at,
                gone_at: binding.gone_at,
                margin,
                useful_until: None,
                share_permille: None,
                ended_at: None,
                timeline: Vec::new(),
            },
            open_told: false,
            hooks: Vec::new(),
        }
    }

    /// Another deadline binds, or the same one moved; the beginning stays.
    pub fn follow(&mut self, binding: &Binding) {
        self.open_told &= self.status.gone_at >= binding.gone_at;
        self.status.notice = binding.id.clone();
        self.status.gone_at = binding.gone_at;
    }

    /// Whether the deadline has passed since this was asked last.
    pub fn deadline_passes(&mut self, now: Boottime) -> bool {
        let passed = self.is_under_way() && now >= self.status.gone_at;
        passed && !std::mem::replace(&mut self.open_told, passed)
    }

    pub fn is_under_way(&self) -> bool {
        self.status.ended_at.is_none()
    }

    /// Whether this is the story of the notice.
    pub fn is_of(&self, binding: &Binding) -> bool {
        self.status.notice == binding.id
    }

    /// Takes what a step told.
    pub fn hear(&mut self, told: Told) {
        self.status.useful_until = self.status.useful_until.max(told.useful_until);
        let room = MOST_MOMENTS.saturating_sub(self.status.timeline.len());
        self.status.timeline.extend(told.moments.into_iter().take(room));
    }

    pub fn end(&mut self, now: Boottime) {
        self.status.ended_at = Some(now);
        self.status.share_permille = self.share(self.status.useful_until);
    }

    /// The sentence that closes the timeline.
    pub fn summary(&self) -> String {
        match self.share(self.status.useful_until) {
            Some(share) => format!("{}.{} % of the window was used", share / 10, share % 10),
            None => "no useful work stood on the node".to_owned(),
        }
    }

    pub fn add(&mut self, moment: Moment) {
        self.hear(Told { moments: vec![moment], useful_until: None });
    }

    /// For the status page; while replicas still serve the share grows.
    pub fn shown(&self, now: Boottime, still_serving: bool) -> EvacuationStatus {
        let mut status = self.status.clone();
        if self.is_under_way() {
            let serving = still_serving.then_some(now);
            status.useful_until = status.useful_until.max(serving);
            status.share_permille = self.share(status.useful_until);
        }
        status
    }

    /// For the heartbeat, while somebody may want to hear it.
    pub fn told(&self, now: Boottime) -> Option<Evacuated> {
        let status = &self.status;
        if status.ended_at.is_some_and(|ended_at| now.since(ended_at) > TOLD_FOR) {
            return None;
        }
        let first = status.timeline.iter().find(|moment| moment.replica.is_some());
        Some(Evacuated {
            notice: status.notice.clone(),
            heard_at: status.heard_at,
            first_action_at: first.map(|moment| moment.at),
            ended_at: status.ended_at,
            share_permille: status.share_permille,
            hooks: self.hooks.clone(),
        })
    }

    /// A replica is gone: what its hooks did since the notice is kept.
    pub fn keep(&mut self, replica: ReplicaId, runs: &[HookReport]) {
        let since = runs.iter().filter(|run| run.started_at >= self.status.heard_at);
        let room = MOST_HOOKS.saturating_sub(self.hooks.len());
        self.hooks.extend(since.take(room).map(|run| PastHook { replica, run: run.clone() }));
    }

    /// The hook that runs after the end of a replica is over too.
    pub fn post_hook_ended(
        &mut self,
        of: ReplicaId,
        outcome: HookOutcome,
        detail: Option<String>,
        now: Boottime,
    ) {
        let mut runs = self.hooks.iter_mut().filter(|past| past.replica == of);
        if let Some(past) = runs.find(|past| past.run.kind == HookKind::Post) {
            past.run = HookReport { outcome, ended_at: Some(now), detail, ..past.run.clone() };
        }
    }

    fn share(&self, useful_until: Option<Boottime>) -> Option<u64> {
        let status = &self.status;
        let used = useful_until?.since(status.heard_at);
        let window = status.gone_at.minus(status.margin).since(status.heard_at);
        used.0.saturating_mul(1000).checked_div(window.0)
    }
}
