//! What is announced now, and which answer follows from it.

use std::collections::BTreeMap;

use crate::announce::{Announcement, Cloud};
use crate::http::{Answer, Request};
use crate::moments::now_ms;
use crate::script::Act;
use crate::{aws, azure, gcp, others};

/// The name of the imitated machine.
pub const OWN_NAME: &str = "vm-0";

/// An announcement in force.
#[derive(Clone, Debug)]
pub struct Said {
    pub what: Announcement,
    pub id: String,
    since_ms: i64,
}

/// What the services know.
#[derive(Debug)]
pub struct World {
    pub clouds: Vec<Cloud>,
    pub said: Vec<Said>,
    pub shifts: bool,
    /// How far the services' clock is ahead of this host's.
    pub clock_ms: i64,
    /// Announcements and withdrawals so far.
    pub changes: u64,
    /// Tokens of this age are good.
    pub token_age: u64,
    pub tokens_given: u64,
    answers: BTreeMap<String, (u16, String)>,
}

impl World {
    pub fn new(clouds: &[Cloud]) -> Self {
        Self {
            clouds: clouds.to_vec(),
            said: Vec::new(),
            shifts: false,
            clock_ms: 0,
            changes: 0,
            token_age: 0,
            tokens_given: 0,
            answers: BTreeMap::new(),
        }
    }

    /// Takes a statement in, unless it is about the connections.
    pub fn take(&mut self, act: &Act) {
        self.changes += 1;
        match act {
            Act::Announce(what) => {
                let id = what.id.clone().unwrap_or_else(|| format!("event-{}", self.changes));
                self.said.retain(|known| known.id != id);
                self.said.push(Said { what: what.clone(), id, since_ms: now_ms() });
            }
            Act::Cancel(None) => self.said.clear(),
            Act::Cancel(Some(word)) => {
                self.said.retain(|known| known.what.kind.word != word && known.id != *word);
            }
            Act::ExpireToken => self.token_age += 1,
            Act::ShiftTimes => self.shifts = true,
            Act::Clock(ahead) => self.clock_ms = *ahead,
            Act::Answer { path, with: Some(with) } => {
                self.answers.insert(path.clone(), with.clone());
            }
            Act::Answer { path, with: None } => {
                self.answers.remove(path);
            }
            Act::Fail { .. } | Act::Heal => {}
        }
    }

    /// The newest announcement of this word.
    pub fn newest(&self, word: &str) -> Option<&Said> {
        self.said.iter().rev().find(|said| said.what.kind.word == word)
    }

    /// The time that an announcement states.
    pub fn stated_ms(&self, said: &Said) -> i64 {
        let from = if self.shifts { now_ms() } else { said.since_ms };
        from.saturating_add(said.what.ahead_ms.unwrap_or(0)).saturating_add(self.clock_ms)
    }

    /// What is answered.
    pub fn answer(&mut self, request: &Request) -> Answer {
        if let Some((status, body)) = self.answers.get(&request.path) {
            let metadata = ("Metadata-Flavor", "Google".to_owned());
            let mut answer = Answer::of(*status, "text/plain", unescaped(body));
            answer.headers.extend(self.clouds.contains(&Cloud::Gcp).then_some(metadata));
            return answer;
        }
        for cloud in self.clouds.clone() {
            let answer = match cloud {
                Cloud::Aws => aws::answer(self, request),
                Cloud::Gcp => gcp::answer(self, request),
                Cloud::Azure => azure::answer(self, request),
                Cloud::Alibaba => others::alibaba(self, request),
                Cloud::Tencent => others::tencent(self, request),
                Cloud::Oci => others::oci(request),
                Cloud::Nebius => None,
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
        not_found()
    }
}

/// `\n`, `\r` and `\u{feff}` (a byte order mark) of a script's line.
fn unescaped(text: &str) -> String {
    text.replace("\\u{feff}", "\u{feff}").replace("\\r", "\r").replace("\\n", "\n")
}

/// As the services that come from EC2's say that there is nothing.
pub fn not_found() -> Answer {
    let page = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \
                \"-//W3C//DTD XHTML 1.0 Transitional//EN\" \
                \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html>\n <head>\n  \
                <title>404 - Not Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n \
                </body>\n</html>\n";
    Answer::of(404, "text/html", page)
}
