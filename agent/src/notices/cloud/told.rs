//! From what a source says is in force to what the node's decisions hear: ids, deadlines on the
//! clock that never steps, withdrawals.
//!
//! Guards the rules that a deadline is mapped once, when it is first seen; that it only moves
//! earlier; and that what cannot be so is taken for the safest that it can mean.

use std::collections::BTreeMap;

use wharfage_agent_core::input::Input;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeSource};
use wharfage_shared::time::{Boottime, ClockOffset, Timestamp};

use super::source::{Event, Gone};

/// What one question of a source has said so far.
pub struct Told {
    source: NoticeSource,
    known: BTreeMap<String, Known>,
}

struct Known {
    notice: Notice,
    /// The earliest deadline that was stated.
    stated: Option<Timestamp>,
    /// Right answers in a row that did not name it.
    absent: u32,
    withdrawn_after: Option<u32>,
}

/// One instant by the host's clock that never steps and by the source's own.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// On the host.
    pub now: Boottime,
    /// At the source.
    pub there: Timestamp,
}

/// What follows from an answer.
#[derive(Debug, Default)]
pub struct News {
    /// For the node's decisions.
    pub inputs: Vec<Input>,
    /// What cannot be as it was said, one sentence each.
    pub odd: Vec<String>,
}

impl Told {
    /// Nothing was said yet.
    pub fn new(source: NoticeSource) -> Self {
        Self { source, known: BTreeMap::new() }
    }

    /// The events that an answer says are in force, all of them.
    pub fn hear(&mut self, events: &[Event], at: Instant) -> News {
        let mut news = News::default();
        for event in events {
            match self.known.get_mut(&event.key) {
                Some(known) => {
                    known.absent = 0;
                    if known.again(event, at) {
                        news.inputs.push(Input::NoticeHeard(known.notice.clone()));
                    }
                }
                None => {
                    let known = self.first(event, at, &mut news.odd);
                    news.inputs.push(Input::NoticeHeard(known.notice.clone()));
                    self.known.insert(event.key.clone(), known);
                }
            }
        }
        for (key, known) in &mut self.known {
            if !events.iter().any(|event| event.key == *key) {
                known.absent += 1;
            }
        }
        self.known.retain(|_, known| {
            let is_over = known.withdrawn_after.is_some_and(|after| known.absent >= after);
            if is_over {
                news.inputs.push(Input::NoticeWithdrawn(known.notice.id.clone()));
            }
            !is_over
        });
        news
    }

    /// The key of a notice that this question heard of.
    pub fn key_of(&self, id: &NoticeId) -> Option<&str> {
        let found = self.known.iter().find(|(_, known)| known.notice.id == *id);
        found.map(|(key, _)| key.as_str())
    }

    fn first(&self, event: &Event, at: Instant, odd: &mut Vec<String>) -> Known {
        let stated = match event.gone {
            Gone::At { at, .. } => Some(at),
            Gone::Within(_) => None,
        };
        odd.extend(event.odd.clone());
        let gone_at = believed(event, at, odd);
        let source = word(self.source);
        let id = match (event.is_unique, stated) {
            (true, _) => format!("{source}-{}", event.key),
            (false, Some(stated)) => format!("{source}-{}-{}", event.key, stated.0 / 1000),
            (false, None) => format!("{source}-{}-{}", event.key, at.now.0),
        };
        let notice = Notice {
            id: NoticeId::new(id),
            kind: event.kind,
            source: self.source,
            leaves: Leaves::Node,
            gone_at,
            heard_at: at.now,
            certainty: certainty(event, gone_at, at.now),
            can_acknowledge: event.can_acknowledge,
            can_be_withdrawn: event.withdrawn_after.is_some(),
        };
        Known { notice, stated, absent: 0, withdrawn_after: event.withdrawn_after }
    }
}

impl Known {
    /// Takes the same event in again; whether anything changed.
    fn again(&mut self, event: &Event, at: Instant) -> bool {
        let before = self.notice.clone();
        if let Gone::At { at: stated, .. } = event.gone {
            match self.stated {
                // What was mapped is moved by what the source itself moved it: no step of a clock
                // between the two answers has a part in it.
                Some(first) if stated < first => {
                    self.notice.gone_at = self.notice.gone_at.minus(first.since(stated));
                    self.stated = Some(stated);
                }
                Some(_) => {}
                None => {
                    let mapped = believed(event, at, &mut Vec::new());
                    self.notice.gone_at = self.notice.gone_at.min(mapped);
                    self.stated = Some(stated);
                }
            }
        }
        if certainty(event, self.notice.gone_at, at.now) == Certainty::Certain {
            self.notice.certainty = Certainty::Certain;
        }
        self.notice.can_acknowledge = event.can_acknowledge;
        self.notice != before
    }
}

/// The deadline on the host's clock, as far as it can be believed.
fn believed(event: &Event, at: Instant, odd: &mut Vec<String>) -> Boottime {
    match event.gone {
        Gone::Within(window) => at.now + window,
        Gone::At { at: stated, usual, furthest } => {
            let key = &event.key;
            let mapped = ClockOffset::between(at.there, at.now).boottime(stated);
            if mapped <= at.now {
                let past = at.there.since(stated);
                odd.push(format!(
                    "`{key}` states a deadline that passed {past} ago: it is taken for now"
                ));
                at.now
            } else if mapped.since(at.now) > furthest {
                let ahead = mapped.since(at.now).0 / 1000;
                odd.push(format!(
                    "`{key}` states a deadline {ahead} s ahead, which this source never gives: it \
                     is taken for the usual {usual}"
                ));
                at.now + usual
            } else {
                mapped
            }
        }
    }
}

fn certainty(event: &Event, gone_at: Boottime, now: Boottime) -> Certainty {
    match event.certain_within {
        Some(lead) if gone_at.since(now) <= lead => Certainty::Certain,
        Some(_) | None => event.certainty,
    }
}

/// A source's name as it stands in messages.
pub fn word(source: NoticeSource) -> &'static str {
    match source {
        NoticeSource::Aws => "aws",
        NoticeSource::Gcp => "gcp",
        NoticeSource::Azure => "azure",
        NoticeSource::Alibaba => "alibaba",
        NoticeSource::Tencent => "tencent",
        NoticeSource::File => "file",
        NoticeSource::Socket => "socket",
        NoticeSource::Scheduler => "scheduler",
        NoticeSource::Provider => "provider",
        NoticeSource::Drill => "drill",
        NoticeSource::Logind => "logind",
        NoticeSource::Agent => "agent",
        NoticeSource::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use wharfage_shared::notice::NoticeKind;
    use wharfage_shared::time::Millis;

    use super::*;

    /// 2026-01-01T00:00:00Z at the source is second 100 of the host.
    const THEN: i64 = 1_767_225_600;

    struct Story(Told);

    impl Story {
        fn new() -> Self {
            Self(Told::new(NoticeSource::Aws))
        }

        /// What is heard at a second of the host, one line for each input and each oddity; `clock`
        /// is how many seconds the source's clock is believed to be off.
        fn hear(&mut self, second: u64, clock: i64, events: &[Event]) -> Vec<String> {
            let there = Timestamp((THEN + second as i64 - 100 + clock) * 1000);
            let news = self.0.hear(events, Instant { now: Boottime(second * 1000), there });
            let inputs = news.inputs.into_iter().map(|input| match input {
                Input::NoticeHeard(notice) => {
                    let certainty = format!("{:?}", notice.certainty).to_lowercase();
                    format!("{certainty} {} gone at {}", notice.id, notice.gone_at.0 / 1000)
                }
                Input::NoticeWithdrawn(id) => format!("withdrawn {id}"),
                other => panic!("{other:?}"),
            });
            inputs.chain(news.odd).collect()
        }
    }

    fn stated(in_seconds: i64) -> Event {
        let at = Timestamp((THEN + in_seconds) * 1000);
        let (usual, furthest) = (Millis::from_seconds(120), Millis::from_seconds(900));
        Event::certain("spot", NoticeKind::Preempt, Gone::At { at, usual, furthest })
    }

    #[test]
    fn a_deadline_is_mapped_once_and_only_moves_earlier() {
        let mut story = Story::new();
        assert_eq!(story.hear(100, 0, &[stated(120)]), ["certain aws-spot-1767225720 gone at 220"]);
        assert!(story.hear(101, 0, &[stated(120)]).is_empty());
        assert!(story.hear(102, 0, &[stated(122)]).is_empty(), "it moves with each call");
        assert!(story.hear(103, 3600, &[stated(120)]).is_empty(), "a clock stepped");
        assert!(story.hear(104, -3600, &[stated(120)]).is_empty(), "and back");
        let earlier = story.hear(105, 3600, &[stated(90)]);
        assert_eq!(earlier, ["certain aws-spot-1767225720 gone at 190"]);
        assert!(story.hear(106, 0, &[stated(120)]).is_empty(), "never later again");
    }

    #[test]
    fn what_cannot_be_so_is_taken_for_the_safest_that_it_can_mean() {
        let past = Story::new().hear(100, 0, &[stated(-3600)]);
        assert_eq!(past[0], "certain aws-spot-1767222000 gone at 100");
        assert!(past[1].contains("passed 3600s ago: it is taken for now"), "{past:?}");
        let far = Story::new().hear(100, 0, &[stated(365 * 86_400)]);
        assert_eq!(far[0], "certain aws-spot-1798761600 gone at 220");
        assert!(far[1].contains("31536000 s ahead") && far[1].contains("usual 120s"), "{far:?}");
    }

    #[test]
    fn it_is_taken_back_when_enough_right_answers_do_not_name_it() {
        let mut story = Story::new();
        let event = Event { withdrawn_after: Some(3), ..stated(120) };
        story.hear(100, 0, std::slice::from_ref(&event));
        assert!(story.hear(101, 0, &[]).is_empty());
        assert!(story.hear(102, 0, &[]).is_empty());
        assert!(story.hear(103, 0, std::slice::from_ref(&event)).is_empty(), "it only flapped");
        for second in [104, 105] {
            assert!(story.hear(second, 0, &[]).is_empty());
        }
        assert_eq!(story.hear(106, 0, &[]), ["withdrawn aws-spot-1767225720"]);
        let other = story.hear(200, 0, &[stated(220)]);
        assert_eq!(other, ["certain aws-spot-1767225820 gone at 320"], "another event");
        let mut story = Story::new();
        story.hear(100, 0, &[Event { withdrawn_after: None, ..stated(120) }]);
        assert!((101..200).all(|second| story.hear(second, 0, &[]).is_empty()), "final");
    }

    #[test]
    fn a_hint_becomes_certain_when_it_is_near() {
        let mut story = Story::new();
        let hint = Event {
            certainty: Certainty::Likely,
            certain_within: Some(Millis::from_seconds(60)),
            ..stated(600)
        };
        let near = std::slice::from_ref(&hint);
        assert_eq!(story.hear(100, 0, near), ["likely aws-spot-1767226200 gone at 700"]);
        assert!(story.hear(639, 0, near).is_empty());
        assert_eq!(story.hear(640, 0, near), ["certain aws-spot-1767226200 gone at 700"]);
    }

    #[test]
    fn an_event_that_has_begun_keeps_the_deadline_that_is_known() {
        let mut story = Story::new();
        let event = Event { is_unique: true, ..stated(30) };
        assert_eq!(
            story.hear(100, 0, std::slice::from_ref(&event)),
            ["certain aws-spot gone at 130"]
        );
        let begun = Event { gone: Gone::Within(Millis(0)), ..event };
        assert!(story.hear(110, 0, std::slice::from_ref(&begun)).is_empty());
        assert_eq!(Story::new().hear(110, 0, &[begun]), ["certain aws-spot gone at 110"]);
    }
}
