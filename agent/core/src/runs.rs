//! What hooks took and wrote on this host, how long its engines live on after SIGKILL, and what
//! its disk carries: kept across restarts of the agent, since a plan is only as good as its figures.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{DeploymentId, HookId};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::{Boottime, Millis};

/// Runs kept of one kind: the longest of few counts, so that a change of the host shows soon.
const KEPT_OF_ONE: usize = 5;

/// Fewer ends than this tell nothing of the next one.
const TELLING_STOPS: usize = 2;

/// Kinds kept: the one that was seen longest ago is forgotten first.
const MOST_KINDS: usize = 200;

/// A checkpoint was held up by others when it took longer than this many quarters of what it takes
/// alone.
const HELD_UP_QUARTERS: u64 = 5;

/// Everything measured, as it lies on the disk and stands on the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runs {
    /// Kinds of runs, the one that was seen last at the end.
    hooks: VecDeque<Seen>,
    /// From SIGTERM to the end, by engine, the one that was seen last at the end.
    stops: VecDeque<Stops>,
    /// From traffic off to nothing in flight, by deployment, the one that was seen last at the end.
    quiets: VecDeque<Quiets>,
    /// From SIGKILL to the engine's end, the last ones.
    kills: VecDeque<Millis>,
    /// Bytes a second that went through when checkpoints held one another up.
    carries: Option<u64>,
    /// Checkpoints under way together.
    #[serde(skip)]
    burst: Option<Burst>,
}

/// What a run is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKind {
    /// The hook.
    pub hook: HookId,
    /// When it runs.
    pub kind: HookKind,
    /// The model's bucket and folder.
    pub model: String,
    /// The replica's GPUs: `8x NVIDIA H100 80GB HBM3`.
    pub hardware: String,
}

/// One run that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// How long it took.
    pub took: Millis,
    /// How much it wrote, where it wrote anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Other checkpoints were written at the same time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub beside_others: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    #[serde(flatten)]
    kind: RunKind,
    ran: VecDeque<Ran>,
}

/// How long one engine took to end by SIGTERM, the last times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stops {
    engine: String,
    took: VecDeque<Millis>,
}

/// How long the requests of one deployment took to come to their end, the last times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Quiets {
    deployment: DeploymentId,
    took: VecDeque<Millis>,
}

/// Checkpoints that overlap, from the first one's beginning to the last one's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Burst {
    since: Boottime,
    begun: u32,
    done: u32,
    bytes: u64,
    held_up: bool,
}

impl Runs {
    /// A checkpoint begins; `runs` says whether another one runs already.
    pub(crate) fn checkpoint_begins(&mut self, now: Boottime, runs: bool) {
        let fresh = Burst { since: now, begun: 0, done: 0, bytes: 0, held_up: false };
        let burst = self.burst.filter(|_| runs).unwrap_or(fresh);
        self.burst = Some(Burst { begun: burst.begun.saturating_add(1), ..burst });
    }

    /// A hook was done.
    pub(crate) fn hook_ran(&mut self, kind: RunKind, took: Millis, bytes: Option<u64>) {
        let is_checkpoint = kind.kind == HookKind::Checkpoint;
        let beside_others = is_checkpoint && self.burst.is_some_and(|burst| burst.begun > 1);
        if beside_others {
            let alone = self.longest(&kind, |ran| !ran.beside_others);
            let held_up = alone
                .is_some_and(|alone| took.0 * 4 > alone.took.0.saturating_mul(HELD_UP_QUARTERS));
            if let Some(burst) = &mut self.burst {
                burst.held_up |= held_up;
                burst.done = burst.done.saturating_add(u32::from(bytes.is_some()));
                burst.bytes = burst.bytes.saturating_add(bytes.unwrap_or(0));
            }
        }
        let known = self.hooks.iter().position(|seen| seen.kind == kind);
        let known = known.and_then(|at| self.hooks.remove(at));
        let mut seen = known.unwrap_or(Seen { kind, ran: VecDeque::new() });
        push(&mut seen.ran, Ran { took, bytes, beside_others });
        self.hooks.push_back(seen);
        while self.hooks.len() > MOST_KINDS {
            self.hooks.pop_front();
        }
    }

    /// No checkpoint runs any more: what went through tells what the disk carries, when all that
    /// were begun came to their end and held one another up; more than what was believed is news
    /// in any case.
    pub(crate) fn checkpoints_end(&mut self, now: Boottime) {
        let Some(burst) = self.burst.take() else { return };
        let whole = burst.begun > 1 && burst.done == burst.begun;
        let span = now.since(burst.since).0;
        let Some(rate) = burst.bytes.saturating_mul(1000).checked_div(span).filter(|_| whole)
        else {
            return;
        };
        if burst.held_up {
            self.carries = Some(rate.max(1));
        } else {
            self.carries = self.carries.map(|known| known.max(rate));
        }
    }

    /// An engine ended so long after SIGKILL.
    pub(crate) fn kill_took(&mut self, took: Millis) {
        push(&mut self.kills, took);
    }

    /// An engine ended so long after SIGTERM, by itself.
    pub(crate) fn stop_took(&mut self, engine: &str, took: Millis) {
        let known = self.stops.iter().position(|stops| stops.engine == engine);
        let known = known.and_then(|at| self.stops.remove(at));
        let fresh = || Stops { engine: engine.to_owned(), took: VecDeque::new() };
        let mut stops = known.unwrap_or_else(fresh);
        push(&mut stops.took, took);
        self.stops.push_back(stops);
        while self.stops.len() > MOST_KINDS {
            self.stops.pop_front();
        }
    }

    /// The requests that a replica of this deployment had in flight came to their end so long after
    /// its traffic went off; or had not by then.
    pub(crate) fn quiet_took(&mut self, deployment: &DeploymentId, took: Millis) {
        let known = self.quiets.iter().position(|quiets| quiets.deployment == *deployment);
        let known = known.and_then(|at| self.quiets.remove(at));
        let fresh = || Quiets { deployment: deployment.clone(), took: VecDeque::new() };
        let mut quiets = known.unwrap_or_else(fresh);
        push(&mut quiets.took, took);
        self.quiets.push_back(quiets);
        while self.quiets.len() > MOST_KINDS {
            self.quiets.pop_front();
        }
    }

    /// The longest that requests of a deployment took to come to their end lately, once that was
    /// seen often enough.
    pub(crate) fn longest_quiet(&self, deployment: &DeploymentId) -> Option<Millis> {
        let quiets = self.quiets.iter().find(|quiets| quiets.deployment == *deployment)?;
        let longest = quiets.took.iter().copied().max();
        longest.filter(|_| quiets.took.len() >= TELLING_STOPS)
    }

    /// The longest that an engine took to end by SIGTERM lately, once that was seen often enough.
    pub(crate) fn longest_stop(&self, engine: &str) -> Option<Millis> {
        let stops = self.stops.iter().find(|stops| stops.engine == engine)?;
        let longest = stops.took.iter().copied().max();
        longest.filter(|_| stops.took.len() >= TELLING_STOPS)
    }

    /// What such a run is expected to be: the longest of the last ones, of this kind where there
    /// were any, else of the same hook on such GPUs, else of the same hook. Where the disk's rate is known a checkpoint's own length
    /// is the one that it has alone.
    pub(crate) fn expected(&self, kind: &RunKind) -> Option<Ran> {
        let alone = self.carries.and_then(|_| self.longest(kind, |ran| !ran.beside_others));
        alone.or_else(|| self.longest(kind, |_| true)).or_else(|| {
            let same = |seen: &&Seen| (&seen.kind.hook, seen.kind.kind) == (&kind.hook, kind.kind);
            let such = |seen: &&Seen| same(seen) && seen.kind.hardware == kind.hardware;
            let on_such = longest(self.hooks.iter().filter(such).flat_map(|seen| &seen.ran));
            on_such.or_else(|| longest(self.hooks.iter().filter(same).flat_map(|seen| &seen.ran)))
        })
    }

    /// Bytes a second that checkpoints of this host share.
    pub(crate) fn carries(&self) -> Option<u64> {
        self.carries
    }

    /// The longest that an engine lived on after SIGKILL lately.
    pub(crate) fn longest_kill(&self) -> Option<Millis> {
        self.kills.iter().copied().max()
    }

    fn longest(&self, kind: &RunKind, counts: impl Fn(&Ran) -> bool) -> Option<Ran> {
        let seen = self.hooks.iter().find(|seen| seen.kind == *kind)?;
        longest(seen.ran.iter().filter(|ran| counts(ran)))
    }
}

fn longest<'a>(runs: impl Iterator<Item = &'a Ran> + Clone) -> Option<Ran> {
    let took = runs.clone().map(|ran| ran.took).max()?;
    let bytes = runs.clone().filter_map(|ran| ran.bytes).max();
    let beside_others = runs.clone().any(|ran| ran.beside_others);
    Some(Ran { took, bytes, beside_others })
}

fn push<T>(runs: &mut VecDeque<T>, ran: T) {
    runs.push_back(ran);
    while runs.len() > KEPT_OF_ONE {
        runs.pop_front();
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(model: &str) -> RunKind {
        RunKind {
            hook: "save".into(),
            kind: HookKind::Checkpoint,
            model: model.to_owned(),
            hardware: "1x H100".to_owned(),
        }
    }

    /// One checkpoint alone: so many seconds for 1,000 bytes.
    fn alone(runs: &mut Runs, seconds: u64) {
        runs.checkpoint_begins(Boottime(0), false);
        runs.hook_ran(save("chat"), Millis::from_seconds(seconds), Some(1_000));
        runs.checkpoints_end(Boottime(seconds * 1000));
    }

    /// Two at once, each so many seconds.
    fn together(runs: &mut Runs, seconds: u64) {
        runs.checkpoint_begins(Boottime(0), false);
        runs.checkpoint_begins(Boottime(0), true);
        for _ in 0..2 {
            runs.hook_ran(save("chat"), Millis::from_seconds(seconds), Some(1_000));
        }
        runs.checkpoints_end(Boottime(seconds * 1000));
    }

    #[test]
    fn the_disk_carries_what_went_through_when_checkpoints_held_one_another_up() {
        let mut runs = Runs::default();
        alone(&mut runs, 10);
        together(&mut runs, 11);
        assert_eq!(runs.carries(), None, "they did not hold one another up");
        together(&mut runs, 20);
        assert_eq!(runs.carries(), Some(100), "2,000 bytes in 20 s");
        let expected = runs.expected(&save("chat")).expect("measured");
        assert_eq!(expected.took, Millis::from_seconds(10), "alone, since the rate is known");
        together(&mut runs, 10);
        assert_eq!(runs.carries(), Some(200), "more went through than was believed");
    }

    #[test]
    fn another_model_is_expected_like_the_hook_that_is_known_and_the_disk_keeps_all() {
        let mut runs = Runs::default();
        alone(&mut runs, 10);
        let other = runs.expected(&save("other")).expect("the same hook");
        assert_eq!((other.took, other.bytes), (Millis::from_seconds(10), Some(1_000)));
        let large = RunKind { hardware: "8x H100".to_owned(), ..save("large") };
        runs.hook_ran(large.clone(), Millis::from_seconds(90), None);
        let other = runs.expected(&save("other")).expect("the same hook on such a GPU");
        assert_eq!(other.took, Millis::from_seconds(10), "what eight GPUs take is another thing");
        let other = runs.expected(&RunKind { model: "other".to_owned(), ..large });
        assert_eq!(other.map(|ran| ran.took), Some(Millis::from_seconds(90)));
        for count in 0..300 {
            runs.hook_ran(save(&format!("m-{count}")), Millis(1), None);
            runs.kill_took(Millis(count));
        }
        assert_eq!(runs.longest_kill(), Some(Millis(299)));
        let text = serde_json::to_string(&runs).expect("JSON");
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Runs>(&text).expect("read again"), runs);
    }
}
