//! When each source was last heard, and whether the node is blind to its end.
//!
//! Blind is who could be taken away without a warning: what is asked all the time and has not
//! answered rightly for longer than [`SILENCE`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::clock;
use wharfage_shared::notice::{NoticeSource, SourceHeard};
use wharfage_shared::time::{Boottime, Millis};

use super::Alarm;
use super::cloud::told::word;

/// A source that is silent for longer is not heard any more.
pub const SILENCE: Millis = Millis::from_seconds(10);

/// How often it is looked for silence.
const LOOK: Duration = Duration::from_secs(1);

/// A source and one of its questions.
type Key = (NoticeSource, &'static str);

/// Who was heard when; everybody who listens writes here.
#[derive(Debug, Default)]
pub struct Hearing(Mutex<BTreeMap<Key, Line>>);

#[derive(Clone, Debug)]
struct Line {
    is_vital: bool,
    /// So long it may be silent now.
    patience: Millis,
    begun: Boottime,
    last: Option<Boottime>,
    trouble: Option<String>,
}

/// How well a source that is asked is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ear {
    /// All that is vital was heard a moment ago.
    Heard,
    /// It was never heard yet, and may still be starting.
    Waiting,
    /// It is silent: one sentence.
    Blind(String),
}

impl Hearing {
    /// A question is asked from now on. Its first answer may take `first`, if that is longer than
    /// the silence that is borne later.
    pub fn begin(&self, key: Key, is_vital: bool, first: Option<Millis>, now: Boottime) {
        let patience = first.unwrap_or(SILENCE).max(SILENCE);
        let line = Line { is_vital, patience, begun: now, last: None, trouble: None };
        self.lines().insert(key, line);
    }

    /// It was answered rightly. Whether that is the first time.
    pub fn heard(&self, key: Key, now: Boottime) -> bool {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(&key) else { return false };
        line.patience = SILENCE;
        line.trouble = None;
        line.last.replace(now).is_none()
    }

    /// It was not, and why.
    pub fn trouble(&self, key: Key, why: String) {
        if let Some(line) = self.lines().get_mut(&key) {
            line.trouble = Some(why);
        }
    }

    /// For the status page and the scheduler.
    pub fn shown(&self, now: Boottime) -> Vec<SourceHeard> {
        let lines = self.lines();
        let shown = lines.iter().map(|((source, question), line)| SourceHeard {
            source: *source,
            question: (*question).to_owned(),
            vital: line.is_vital,
            last_heard_ago: line.last.map(|last| now.since(last)),
            trouble: line.trouble.clone(),
        });
        shown.collect()
    }

    /// Each source that is asked, as well as it is heard.
    pub fn ears(&self, now: Boottime) -> BTreeMap<NoticeSource, Ear> {
        let mut sources: BTreeMap<NoticeSource, Ear> = BTreeMap::new();
        for ((source, question), line) in self.lines().iter().filter(|(_, line)| line.is_vital) {
            let ear = sources.entry(*source).or_insert(Ear::Heard);
            let is_silent = now.since(line.last.unwrap_or(line.begun)) > line.patience;
            match ear {
                Ear::Blind(_) => {}
                Ear::Heard | Ear::Waiting if is_silent => {
                    let why = line.trouble.as_deref().unwrap_or("it does not answer");
                    *ear = Ear::Blind(format!(
                        "blind to preemption: `{question}` of {}'s metadata service has not been \
                         heard for more than {SILENCE}: {why}",
                        word(*source)
                    ));
                }
                Ear::Heard | Ear::Waiting if line.last.is_none() => *ear = Ear::Waiting,
                Ear::Heard | Ear::Waiting => {}
            }
        }
        sources
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Key, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the alarm when a source falls silent, until `stop`.
pub async fn watch(
    hearing: std::sync::Arc<Hearing>,
    alarms: mpsc::Sender<Alarm>,
    stop: CancellationToken,
) {
    let mut said: BTreeMap<NoticeSource, String> = BTreeMap::new();
    let mut due = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        for (source, ear) in hearing.ears(clock::boottime()) {
            let text = match ear {
                Ear::Blind(text) => Some(text),
                Ear::Heard | Ear::Waiting => None,
            };
            if said.get(&source) == text.as_ref() {
                continue;
            }
            match &text {
                Some(text) => drop(said.insert(source, text.clone())),
                None => drop(said.remove(&source)),
            }
            if alarms.send(Alarm::deaf(source, text)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOT: Key = (NoticeSource::Aws, "spot");
    const HINT: Key = (NoticeSource::Aws, "hint");

    fn at(seconds: u64) -> Boottime {
        Boottime(seconds * 1000)
    }

    #[test]
    fn ten_seconds_of_silence_make_the_node_blind_until_it_hears_again() {
        let hearing = Hearing::default();
        hearing.begin(SPOT, true, None, at(0));
        hearing.begin(HINT, false, None, at(0));
        let ear = |second| hearing.ears(at(second)).remove(&NoticeSource::Aws).expect("asked");
        let blind = |why: &str| {
            Ear::Blind(format!(
                "blind to preemption: `spot` of aws's metadata service has not been heard for more \
                 than 10s: {why}"
            ))
        };
        assert_eq!(ear(10), Ear::Waiting, "it may still be starting");
        assert_eq!(ear(11), blind("it does not answer"));
        assert!(hearing.heard(SPOT, at(12)), "heard for the first time");
        hearing.trouble(SPOT, "503".to_owned());
        assert_eq!(ear(22), Ear::Heard);
        assert_eq!(ear(23), blind("503"));
        assert!(!hearing.heard(SPOT, at(24)));
        assert_eq!(ear(30), Ear::Heard, "what only hints makes nobody blind");
        let shown = hearing.shown(at(30));
        assert_eq!(shown[1].last_heard_ago, Some(Millis::from_seconds(6)));
        assert_eq!((shown[0].question.as_str(), shown[0].last_heard_ago), ("hint", None));
    }

    #[test]
    fn a_service_that_starts_slowly_has_longer_for_its_first_answer_only() {
        let hearing = Hearing::default();
        hearing.begin(SPOT, true, Some(Millis::from_seconds(130)), at(0));
        let is_blind =
            |second| matches!(hearing.ears(at(second))[&NoticeSource::Aws], Ear::Blind(_));
        assert!(!is_blind(130) && is_blind(131));
        hearing.heard(SPOT, at(140));
        assert!(!is_blind(150) && is_blind(151));
    }
}
