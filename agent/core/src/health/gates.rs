//! Gates: what was seen of each, and when one that failed counts as passed again.
//!
//! Unknown never counts as a pass. After a failure three passes over a minute bring a gate back, so
//! that what flaps stays closed; the first qualification needs one.

use wharfage_shared::health::GateState;
use wharfage_shared::time::{Boottime, Millis};

/// What one look at a gate saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// It is well.
    Pass,
    /// It is not.
    Fail,
    /// It could not be looked at.
    Unknown,
    /// What it looks at is not there.
    NotApplicable,
}

/// So many passes bring a gate back.
const PASSES_TO_RETURN: u32 = 3;

/// Over at least this long.
const TIME_TO_RETURN: Millis = Millis::from_seconds(60);

/// While a gate stands as it stood its words change at most this often: numbers in them move all
/// the time, and each change is sent.
const WORDS_KEPT: Millis = Millis::from_seconds(300);

/// One gate's record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    stand: Stand,
    since: Boottime,
    evidence: String,
    evidence_at: Boottime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Nobody has looked yet.
    Never,
    /// The last look saw this, which is no failure.
    As(Saw),
    /// It failed; so many passes were seen since, the first at this instant.
    Failed { passes: u32, first: Option<Boottime> },
}

impl Record {
    /// A gate that nobody has looked at.
    pub fn never(now: Boottime) -> Self {
        let evidence = "it was not looked at yet".to_owned();
        Self { stand: Stand::Never, since: now, evidence, evidence_at: now }
    }

    /// A gate that must qualify anew.
    pub fn failed(now: Boottime, evidence: String) -> Self {
        let stand = Stand::Failed { passes: 0, first: None };
        Self { stand, since: now, evidence, evidence_at: now }
    }

    /// Takes a look in.
    pub fn hear(&mut self, saw: Saw, evidence: &str, now: Boottime) {
        let before = self.state();
        self.stand = match (self.stand, saw) {
            (_, Saw::Fail) | (Stand::Failed { .. }, Saw::Unknown) => {
                Stand::Failed { passes: 0, first: None }
            }
            (Stand::Failed { passes, first }, Saw::Pass | Saw::NotApplicable) => {
                let first = first.unwrap_or(now);
                let enough = passes + 1 >= PASSES_TO_RETURN && now.since(first) >= TIME_TO_RETURN;
                if enough {
                    Stand::As(saw)
                } else {
                    Stand::Failed { passes: passes + 1, first: Some(first) }
                }
            }
            (Stand::Never | Stand::As(_), Saw::Pass | Saw::Unknown | Saw::NotApplicable) => {
                Stand::As(saw)
            }
        };
        let changed = before != self.state();
        if changed {
            self.since = now;
        }
        // A gate that is on its way back keeps saying why it failed.
        let returns = matches!(self.stand, Stand::Failed { passes: 1.., .. });
        if changed || (!returns && now.since(self.evidence_at) >= WORDS_KEPT) {
            evidence.clone_into(&mut self.evidence);
            self.evidence_at = now;
        }
    }

    /// Whether somebody has looked.
    pub fn was_looked_at(&self) -> bool {
        self.stand != Stand::Never
    }

    /// How it stands.
    pub fn state(&self) -> GateState {
        match self.stand {
            Stand::Never | Stand::As(Saw::Unknown) => GateState::Unknown,
            Stand::As(Saw::Pass) => GateState::Pass,
            Stand::As(Saw::NotApplicable) => GateState::NotApplicable,
            Stand::As(Saw::Fail) | Stand::Failed { .. } => GateState::Fail,
        }
    }

    /// Since when.
    pub fn since(&self) -> Boottime {
        self.since
    }

    /// What was seen.
    pub fn evidence(&self) -> &str {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(looks: &[(u64, Saw)]) -> Vec<GateState> {
        let mut record = Record::never(Boottime(0));
        let mut states = vec![record.state()];
        for (second, saw) in looks {
            record.hear(*saw, "seen", Boottime(second * 1000));
            states.push(record.state());
        }
        states
    }

    #[test]
    fn the_first_qualification_needs_one_pass() {
        assert_eq!(story(&[(1, Saw::Pass)]), [GateState::Unknown, GateState::Pass]);
    }

    #[test]
    fn after_a_failure_three_passes_over_a_minute_bring_it_back() {
        let looks = [(0, Saw::Fail), (20, Saw::Pass), (40, Saw::Pass), (60, Saw::Pass)];
        assert_eq!(story(&looks).last(), Some(&GateState::Fail), "three, but not over a minute");
        let looks = [(0, Saw::Fail), (20, Saw::Pass), (80, Saw::Pass)];
        assert_eq!(story(&looks).last(), Some(&GateState::Fail), "a minute, but not three");
        let looks = [(0, Saw::Fail), (20, Saw::Pass), (50, Saw::Pass), (80, Saw::Pass)];
        assert_eq!(story(&looks).last(), Some(&GateState::Pass));
    }

    #[test]
    fn what_is_unknown_on_the_way_back_starts_the_way_anew() {
        let looks = [
            (0, Saw::Fail),
            (20, Saw::Pass),
            (50, Saw::Unknown),
            (60, Saw::Pass),
            (90, Saw::Pass),
            (100, Saw::Pass),
        ];
        assert_eq!(story(&looks).last(), Some(&GateState::Fail));
    }
}
