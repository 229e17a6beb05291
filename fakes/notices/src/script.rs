//! A script: statements with the moment at which each takes effect, counted from the start.

use std::path::Path;
use std::time::Duration;

use crate::announce::{Ahead, Announcement, Cloud, KINDS, Kind};

/// The most statements of one script.
const MOST_STATEMENTS: usize = 10_000;

/// Ten years: nothing lies further ahead or back.
const FURTHEST_MS: u64 = 10 * 366 * 24 * 3_600_000;

/// A script that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {expected}")]
pub struct BadScript {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What was wrong and what was expected.
    pub expected: String,
}

/// What happens when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub(crate) statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub at: Duration,
    pub act: Act,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Something is announced from now on.
    Announce(Announcement),
    /// What has this word or id is taken back; absent = everything.
    Cancel(Option<String>),
    /// Every request fails in this way, for so long or until `heal`.
    Fail { fault: Fault, lasts: Option<Duration> },
    /// Nothing fails any more.
    Heal,
    /// No token that was given out is good any more.
    ExpireToken,
    /// Stated times lie as far ahead of each call as of the first.
    ShiftTimes,
    /// The service's clock differs from this host's by so many milliseconds.
    Clock(i64),
    /// One path answers this, whatever is announced; absent = as it would again.
    Answer { path: String, with: Option<(u16, String)> },
}

/// How every request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error of this status.
    Status(u16),
    /// No answer.
    Hang,
    /// The connection is reset.
    Reset,
    /// The answer comes, but late.
    Slow(Duration),
    /// Half of the answer comes.
    Truncate,
    /// A page for people, with status 200.
    Html,
    /// Ten megabytes.
    Oversize,
    /// A redirect.
    Redirect(String),
}

impl Script {
    /// Reads a script from its file.
    pub fn load(path: &Path, clouds: &[Cloud]) -> Result<Self, BadScript> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| BadScript {
            file: file.clone(),
            line: 0,
            expected: format!("cannot be read: {error}"),
        })?;
        Self::parse(&text, &file, clouds)
    }

    /// Reads a script; the first line that cannot be read is the error. `file` names it there.
    pub fn parse(text: &str, file: &str, clouds: &[Cloud]) -> Result<Self, BadScript> {
        let mut statements = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let bad = |expected| BadScript { file: file.to_owned(), line: index + 1, expected };
            let line = raw.split('#').next().unwrap_or_default();
            // What a path answers may hold any character.
            let parts: Vec<&str> =
                if line.contains("answer ") { vec![line] } else { line.split(';').collect() };
            for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
                statements.push(statement(part, clouds).map_err(bad)?);
            }
            if statements.len() > MOST_STATEMENTS {
                return Err(bad(format!("at most {MOST_STATEMENTS} statements are accepted")));
            }
        }
        // In the order of their moments; of one moment, as they were written.
        statements.sort_by_key(|statement| statement.at);
        Ok(Self { statements })
    }
}

fn statement(text: &str, clouds: &[Cloud]) -> Result<Statement, String> {
    let mut words = Words { rest: text };
    let mut at = Duration::ZERO;
    if words.takes("at") {
        at = words.length("a time from the start such as 5s")?;
    }
    let act = act(&mut words, clouds)?;
    match words.rest.trim() {
        "" => Ok(Statement { at, act }),
        rest => Err(format!("`{rest}` where the end of the statement was expected")),
    }
}

fn act(words: &mut Words<'_>, clouds: &[Cloud]) -> Result<Act, String> {
    let word = words.word("a statement")?;
    if let Some(kind) = KINDS.iter().find(|kind| kind.word == word) {
        if !clouds.contains(&kind.cloud) {
            let named: Vec<&str> = clouds.iter().map(|cloud| cloud.word()).collect();
            return Err(format!("`{word}` is not said by {}", named.join(", ")));
        }
        return announcement(kind, words).map(Act::Announce);
    }
    let fault = match word {
        "cancel" => return Ok(Act::Cancel(words.next().map(str::to_owned))),
        "heal" => return Ok(Act::Heal),
        "expire" => return words.must("token").map(|()| Act::ExpireToken),
        "shift" => return words.must("times").map(|()| Act::ShiftTimes),
        "clock" => return words.ahead().map(Act::Clock),
        "answer" => return answer(words),
        "inject" => Fault::Status(words.status()?),
        "hang" => Fault::Hang,
        "reset" => {
            words.takes("connections");
            Fault::Reset
        }
        "slow" => Fault::Slow(words.length("how late answers come, such as 900ms")?),
        "truncate" => Fault::Truncate,
        "html" => Fault::Html,
        "oversize" => Fault::Oversize,
        "redirect" => match words.takes("to") {
            true => Fault::Redirect(words.word("an address")?.to_owned()),
            false => Fault::Redirect("/elsewhere".to_owned()),
        },
        word => return Err(unknown(word, clouds)),
    };
    let lasts = match words.takes("for") {
        true => Some(words.length("how long, such as 3s")?),
        false => None,
    };
    Ok(Act::Fail { fault, lasts })
}

fn unknown(word: &str, clouds: &[Cloud]) -> String {
    let kinds = KINDS.iter().filter(|kind| clouds.contains(&kind.cloud));
    let kinds: String = kinds.map(|kind| format!("{}, ", kind.word)).collect();
    format!(
        "`{word}` where {kinds}cancel, inject, hang, reset, slow, truncate, html, oversize, \
         redirect, heal, expire, shift, clock or answer was expected"
    )
}

fn announcement(kind: &'static Kind, words: &mut Words<'_>) -> Result<Announcement, String> {
    let asked = words.peek().map(str::to_ascii_lowercase).unwrap_or_default();
    let option = kind.options.iter().find(|option| option.to_ascii_lowercase() == asked);
    if option.is_some() {
        words.next();
    }
    let mut said = Announcement {
        kind,
        option: option.or(kind.options.first()).copied().unwrap_or_default(),
        ahead_ms: match kind.ahead {
            Ahead::Default(ms) => Some(ms),
            Ahead::Never => None,
        },
        id: None,
        on: Vec::new(),
        is_started: false,
    };
    while let Some(word) = words.next() {
        match word {
            "in" if kind.ahead != Ahead::Never => said.ahead_ms = Some(words.ahead()?),
            "id" if kind.is_event => said.id = Some(words.word("an id")?.to_owned()),
            "on" if kind.is_event => {
                let named = words.word("names of machines, `me` for this one")?;
                said.on = named.split(',').map(str::to_owned).collect();
            }
            "started" if kind.is_event => said.is_started = true,
            word => return Err(format!("`{word}` where {} was expected", may_follow(kind))),
        }
    }
    Ok(said)
}

fn may_follow(kind: &Kind) -> String {
    let options = kind.options.iter().map(|option| (*option).to_owned());
    let ahead = (kind.ahead != Ahead::Never).then(|| "in LENGTH".to_owned());
    let event = ["id ID", "on NAME,NAME", "started"].map(str::to_owned);
    let event = event.into_iter().filter(|_| kind.is_event);
    let all: Vec<String> = options.chain(ahead).chain(event).collect();
    if all.is_empty() { "the end of the statement".to_owned() } else { all.join(", ") }
}

fn answer(words: &mut Words<'_>) -> Result<Act, String> {
    let path = words.word("a path")?.to_owned();
    if !path.starts_with('/') {
        return Err(format!("`{path}` where a path that begins with / was expected"));
    }
    if words.takes("normally") {
        return Ok(Act::Answer { path, with: None });
    }
    let status = words.status()?;
    let body = std::mem::take(&mut words.rest).trim().to_owned();
    Ok(Act::Answer { path, with: Some((status, body)) })
}

/// What is left of a statement.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.rest.split_whitespace().next()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.rest = self.rest.trim_start().get(word.len()..).unwrap_or_default();
        Some(word)
    }

    fn word(&mut self, expected: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("the end where {expected} was expected"))
    }

    fn takes(&mut self, word: &str) -> bool {
        let takes = self.peek() == Some(word);
        if takes {
            self.next();
        }
        takes
    }

    fn must(&mut self, word: &str) -> Result<(), String> {
        if self.takes(word) {
            return Ok(());
        }
        let there = self.peek().map_or("the end".to_owned(), |there| format!("`{there}`"));
        Err(format!("{there} where `{word}` was expected"))
    }

    fn status(&mut self) -> Result<u16, String> {
        let word = self.word("a status such as 503")?;
        let status = word.parse().ok().filter(|status| (200..=599).contains(status));
        status.ok_or_else(|| format!("`{word}` where a status from 200 to 599 was expected"))
    }

    fn length(&mut self, expected: &str) -> Result<Duration, String> {
        let word = self.word(expected)?;
        let millis = millis(word);
        let bad = || format!("`{word}` where {expected} was expected (units: ms, s, m, h, d)");
        millis.map(Duration::from_millis).ok_or_else(bad)
    }

    /// A length that may lie back: `-1h`.
    fn ahead(&mut self) -> Result<i64, String> {
        let word = self.word("how far ahead, such as 120s")?;
        let (sign, size) = word.strip_prefix('-').map_or((1, word), |size| (-1, size));
        let millis = millis(size).and_then(|millis| i64::try_from(millis).ok());
        millis.map(|millis| sign * millis).ok_or_else(|| {
            format!("`{word}` where a length such as 120s or -1h was expected (ms, s, m, h, d)")
        })
    }
}

/// A whole number with its unit, within [`FURTHEST_MS`].
fn millis(word: &str) -> Option<u64> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at(digits);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (millis <= FURTHEST_MS).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Script, String> {
        Script::parse(text, "a.script", &[Cloud::Aws, Cloud::Azure])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_script_is_read_in_the_order_of_its_moments() {
        let script = read(
            "# what happens to node-1\n\
             at 6s azure.preempt in 30s id E-1 on me,other started\n\
             aws.spot; at 5s aws.spot hibernate in -1h ; inject 503 for 3s\n\
             at 7s answer /a/b 200 {\"a\": 1; \"b\": 2}\n",
        );
        let statements = script.expect("it is read").statements;
        let at: Vec<u64> = statements.iter().map(|statement| statement.at.as_secs()).collect();
        assert_eq!(at, [0, 0, 5, 6, 7]);
        let Act::Announce(first) = &statements[0].act else { panic!("{statements:?}") };
        assert_eq!((first.option, first.ahead_ms), ("terminate", Some(120_000)));
        let lasts = Some(Duration::from_secs(3));
        assert_eq!(statements[1].act, Act::Fail { fault: Fault::Status(503), lasts });
        let Act::Announce(past) = &statements[2].act else { panic!("{statements:?}") };
        assert_eq!((past.option, past.ahead_ms), ("hibernate", Some(-3_600_000)));
        let Act::Announce(event) = &statements[3].act else { panic!("{statements:?}") };
        assert!(event.is_started && event.on == ["me", "other"]);
        let with = Some((200, "{\"a\": 1; \"b\": 2}".to_owned()));
        assert_eq!(statements[4].act, Act::Answer { path: "/a/b".to_owned(), with });
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line_and_what_was_expected() {
        for (text, said) in [
            ("aws.spot\nboom", "a.script:2: `boom` where aws.spot, "),
            ("gcp.preempted", "a.script:1: `gcp.preempted` is not said by aws, azure"),
            ("at soon aws.spot", "`soon` where a time from the start such as 5s was expected"),
            ("aws.spot in 5", "`5` where a length such as 120s or -1h was expected"),
            ("aws.spot explode", "`explode` where terminate, stop, hibernate, in LENGTH was"),
            ("aws.rebalance in 5s", "`in` where the end of the statement was expected"),
            ("azure.preempt on", "the end where names of machines"),
            ("inject 99", "`99` where a status from 200 to 599 was expected"),
            ("hang for 3s please", "`please` where the end of the statement was expected"),
            ("expire tokens", "`tokens` where `token` was expected"),
            ("at 99999999999999999999d aws.spot", "where a time from the start"),
            ("answer a 200", "`a` where a path that begins with / was expected"),
            ("slow", "the end where how late answers come"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
