//! Answers: what is said, cut into tokens, at the speed that was asked for.
//!
//! A token is a word with the space before it. Dropping a generation, finished or not, gives its
//! turn to the next; so a client that goes away cancels it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::meter::{Finish, Meter};

/// Prompt and answer together are at most this long.
pub const CONTEXT_TOKENS: u32 = 32_768;

/// What follows when an answer has to go on.
const FILLER: [&str; 7] = [" wharf", " quay", " pier", " berth", " crane", " tide", " rope"];

/// A piece of text as it is sent.
pub type Token = Cow<'static, str>;

/// What a generation is to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The whole answer.
    pub tokens: Vec<Token>,
    /// How it ends if nobody cancels it.
    pub finish: Finish,
}

/// What bounds an answer.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// At most this many tokens.
    pub max_tokens: Option<u32>,
    /// Whether to go on after the text until `max_tokens` is reached.
    pub goes_on: bool,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
}

impl Script {
    /// Cuts the text into tokens within the bounds.
    pub fn new(prompt: &str, text: &str, bounds: &Bounds) -> Self {
        let prompt_tokens = count(prompt);
        let room = CONTEXT_TOKENS.saturating_sub(prompt_tokens);
        let most = bounds.max_tokens.unwrap_or(room).min(room) as usize;
        let cut = bounds.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        let mut tokens: Vec<Token> = pieces(&text[..cut.unwrap_or(text.len())])
            .take(most)
            .map(|t| t.to_owned().into())
            .collect();
        if bounds.goes_on && cut.is_none() {
            let filler = FILLER.iter().cycle();
            let filler =
                filler.take_while(|word| !bounds.stop.iter().any(|s| word.contains(s.as_str())));
            let missing = most - tokens.len();
            tokens.extend(filler.take(missing).map(|word| Cow::Borrowed(*word)));
        }
        let finish = if tokens.len() == most { Finish::Length } else { Finish::Stop };
        Self { prompt_tokens, tokens, finish }
    }
}

/// Tokens of a text.
pub fn count(text: &str) -> u32 {
    u32::try_from(pieces(text).count()).unwrap_or(u32::MAX)
}

/// Words with the whitespace before them; together they are the text again.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(|c: char| !c.is_whitespace())?;
        let after = rest[word..].find(char::is_whitespace).map_or(rest.len(), |end| word + end);
        let (piece, left) = rest.split_at(after);
        rest = left;
        Some(piece)
    })
}

/// Who may generate: so many at once, each at the same speed.
pub struct Stage {
    turns: Arc<Semaphore>,
    between_tokens: Duration,
    meter: Arc<Meter>,
}

impl Stage {
    /// Room for `at_once` generations.
    pub fn new(at_once: u32, tokens_per_second: f64, meter: Arc<Meter>) -> Self {
        let turns = Arc::new(Semaphore::new(at_once as usize));
        Self { turns, between_tokens: Duration::from_secs_f64(1.0 / tokens_per_second), meter }
    }

    /// Waits for a turn and begins.
    pub async fn begin(&self, script: Script) -> Generation {
        let waiting = self.meter.wait();
        // The semaphore is never closed; without a turn one would only generate too early.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        drop(waiting);
        self.meter.begin(u64::from(script.prompt_tokens));
        Generation {
            script,
            said: 0,
            started: Instant::now(),
            between_tokens: self.between_tokens,
            meter: Arc::clone(&self.meter),
            _turn: turn,
        }
    }
}

/// A generation that runs.
pub struct Generation {
    script: Script,
    said: usize,
    started: Instant,
    between_tokens: Duration,
    meter: Arc<Meter>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Generation {
    /// The next token at its time, or `None` after the last.
    pub async fn next(&mut self) -> Option<Token> {
        let token = self.script.tokens.get(self.said)?.clone();
        let order = u32::try_from(self.said + 1).unwrap_or(u32::MAX);
        // Counted from the start, so that a late wake-up does not slow the rest.
        tokio::time::sleep_until(self.started + self.between_tokens.saturating_mul(order)).await;
        self.said += 1;
        self.meter.token();
        Some(token)
    }

    /// How it ends.
    pub fn finish(&self) -> Finish {
        self.script.finish
    }

    /// Tokens of prompt and of what was said so far.
    pub fn usage(&self) -> (u32, u32) {
        (self.script.prompt_tokens, u32::try_from(self.said).unwrap_or(u32::MAX))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let is_done = self.said == self.script.tokens.len();
        let finish = if is_done { self.script.finish } else { Finish::Abort };
        self.meter.end(u64::from(self.script.prompt_tokens) + self.said as u64, finish);
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Script};
    use crate::meter::Finish;

    fn story(text: &str, bounds: &Bounds) -> (String, Finish) {
        let script = Script::new("two words", text, bounds);
        assert_eq!(script.prompt_tokens, 2);
        (script.tokens.join("|"), script.finish)
    }

    #[test]
    fn an_answer_ends_by_itself_or_at_the_limit() {
        let whole = story("one two\n three", &Bounds::default());
        assert_eq!(whole, ("one| two|\n three".to_owned(), Finish::Stop));
        let bounds = Bounds { max_tokens: Some(2), ..Bounds::default() };
        assert_eq!(story("one two three", &bounds), ("one| two".to_owned(), Finish::Length));
    }

    #[test]
    fn an_answer_that_goes_on_has_exactly_the_tokens_asked_for() {
        let bounds = Bounds { max_tokens: Some(4), goes_on: true, ..Bounds::default() };
        assert_eq!(story("one two", &bounds), ("one| two| wharf| quay".to_owned(), Finish::Length));
    }

    #[test]
    fn a_stop_word_ends_the_answer_before_it() {
        let bounds = Bounds { stop: vec!["three".to_owned()], ..Bounds::default() };
        assert_eq!(story("one two three four", &bounds), ("one| two".to_owned(), Finish::Stop));
        let stop = vec!["pier".to_owned()];
        let bounds = Bounds { max_tokens: Some(9), goes_on: true, stop };
        assert_eq!(story("one", &bounds), ("one| wharf| quay".to_owned(), Finish::Stop));
    }
}
