//! Calls of the helper beside its readings: NVML's count and the waits for XIDs. No reading shows
//! that one of them hangs, so the beginning of each is kept and looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::GpuUuid;

/// Such a call comes back within this long: a wait for an XID lasts 2 s.
const LIMIT: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// How many GPUs there are.
    Count,
    /// Whether this GPU has an XID to tell.
    Xids(GpuUuid),
}

/// Those that this helper makes.
#[derive(Default)]
pub struct Calls(Mutex<BTreeMap<Call, Made>>);

#[derive(Clone, Copy, Default)]
struct Made {
    /// Since when it is under way.
    since: Option<Instant>,
    /// It came back before.
    has_returned: bool,
}

impl Calls {
    /// Makes a call that may hang.
    pub fn make<T>(&self, call: &Call, ask: impl FnOnce() -> T) -> T {
        self.made().entry(call.clone()).or_default().since = Some(Instant::now());
        let answer = ask();
        self.made().insert(call.clone(), Made { since: None, has_returned: true });
        answer
    }

    /// It is made no more.
    pub fn forget(&self, call: &Call) {
        self.made().remove(call);
    }

    /// Those that hang; nothing as long as one was never seen to come back and may yet.
    pub fn hanging(&self, now: Instant) -> Option<Vec<Call>> {
        let mut hanging = Vec::new();
        for (call, made) in self.made().iter() {
            let is_late = made.since.is_some_and(|since| now.duration_since(since) > LIMIT);
            match (is_late, made.has_returned) {
                (true, _) => hanging.push(call.clone()),
                (false, true) => {}
                (false, false) => return None,
            }
        }
        Some(hanging)
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<Call, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Calls, LIMIT};
    use std::time::{Duration, Instant};

    #[test]
    fn a_call_hangs_when_it_is_late_and_nothing_is_said_before_each_had_its_time() {
        let calls = Calls::default();
        let (soon, late) = (Duration::from_millis(1), LIMIT * 2);
        calls.make(&Call::Xids("GPU-b".into()), || ());
        let seen = calls.make(&Call::Count, || {
            let now = Instant::now();
            [soon, late].map(|after| calls.hanging(now + after))
        });
        assert_eq!(seen, [None, Some(vec![Call::Count])]);
        assert_eq!(calls.hanging(Instant::now() + late), Some(Vec::new()), "all came back");
        calls.make(&Call::Xids("GPU-a".into()), || {
            let now = Instant::now() + late;
            assert_eq!(calls.hanging(now), Some(vec![Call::Xids("GPU-a".into())]));
            calls.forget(&Call::Xids("GPU-a".into()));
            assert_eq!(calls.hanging(now), Some(Vec::new()));
        });
    }
}
