//! One recorded request after another, each at its time, through the gateway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::load::{Arrival, Recording};
use super::tally::{Outcome, Tally};
use crate::exit::Failure;

/// An answer that takes longer is cut.
const LONGEST_ANSWER: Duration = Duration::from_secs(600);

/// Bytes of one event of an answer; more without an end of line is no answer of an engine.
const LONGEST_EVENT: usize = 1 << 20;

/// Where requests go.
pub struct Door {
    http: reqwest::Client,
    url: String,
    token: String,
    model: String,
}

/// How the recording is played.
pub struct Pace {
    /// When it began.
    pub began: Instant,
    /// So many times faster than it was recorded.
    pub speed: f64,
    /// Nothing is sent after so long.
    pub length: Duration,
    /// Requests at a time.
    pub at_once: u32,
}

impl Door {
    /// The model behind a gateway.
    pub fn new(url: &str, token: String, model: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Failure::check(format!("cannot set up HTTP: {error}")))?;
        let url = format!("{}/v1/chat/completions", url.trim_end_matches('/'));
        Ok(Self { http, url, token, model })
    }

    /// Sends one and reads its answer to the end.
    async fn ask(&self, arrival: Arrival) -> Outcome {
        let sent = Instant::now();
        let body = json!({
            "model": self.model,
            "max_tokens": arrival.output_tokens.max(1),
            // Engines that would stop earlier by themselves are asked not to.
            "ignore_eos": true,
            "stream": true,
            "messages": [{"role": "user", "content": "a ".repeat(arrival.prompt_tokens as usize)}],
        });
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(&body);
        let answer = match request.timeout(LONGEST_ANSWER).send().await {
            Ok(answer) if answer.status().is_success() => answer,
            Ok(answer) => return Outcome::Failed(format!("HTTP {}", answer.status().as_u16())),
            Err(error) if error.is_connect() => return Outcome::Failed("no connection".to_owned()),
            Err(error) if error.is_timeout() => return Outcome::Failed("no answer".to_owned()),
            Err(_) => return Outcome::Failed("the connection broke".to_owned()),
        };
        let mut frames = answer.bytes_stream();
        let (mut first_byte, mut buffer) = (None, Vec::new());
        while let Some(Ok(frame)) = frames.next().await {
            first_byte.get_or_insert_with(|| sent.elapsed());
            buffer.extend_from_slice(&frame);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match event(&line) {
                    Event::Piece => {}
                    Event::Broken => return Outcome::Cut,
                    Event::Done => {
                        let total = sent.elapsed();
                        let first_byte = first_byte.unwrap_or(total);
                        return Outcome::Completed { first_byte, total };
                    }
                }
            }
            if buffer.len() > LONGEST_EVENT {
                return Outcome::Cut;
            }
        }
        Outcome::Cut
    }
}

/// What a line of an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Piece,
    Done,
    /// It will not come to its end.
    Broken,
}

fn event(line: &[u8]) -> Event {
    let line = String::from_utf8_lossy(line);
    let Some(said) = line.trim().strip_prefix("data:").map(str::trim_start) else {
        return Event::Piece;
    };
    if said == "[DONE]" {
        return Event::Done;
    }
    let said: Value = serde_json::from_str(said).unwrap_or(Value::Null);
    if said.get("error").is_some() { Event::Broken } else { Event::Piece }
}

/// Sends every request at its time until the recording, the time or somebody's patience ends; then
/// waits for the answers, at most so long.
pub async fn play(
    door: Arc<Door>,
    mut recording: Recording,
    pace: &Pace,
    tally: &Arc<Mutex<Tally>>,
    stop: &CancellationToken,
    patience: Duration,
) -> Result<(), Failure> {
    let permits = Arc::new(Semaphore::new(pace.at_once as usize));
    let (tracker, abandoned) = (TaskTracker::new(), CancellationToken::new());
    while let Some(arrival) = recording.next()? {
        let due = Duration::try_from_secs_f64(arrival.at / pace.speed).unwrap_or(Duration::MAX);
        if due > pace.length {
            break;
        }
        let wait = async {
            tokio::time::sleep_until((pace.began + due).into()).await;
            permits.clone().acquire_owned().await
        };
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = wait => permit,
        };
        let Ok(permit) = permit else { break };
        let at = pace.began.elapsed();
        of(tally).send(at, at.saturating_sub(due));
        let (door, tally, abandoned) = (door.clone(), tally.clone(), abandoned.clone());
        tracker.spawn(async move {
            // Held until the answer has come to its end.
            let _permit = permit;
            tokio::select! {
                () = abandoned.cancelled() => {}
                outcome = door.ask(arrival) => of(&tally).end(at, &outcome),
            }
        });
    }
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = tokio::time::sleep(patience) => {}
        () = stop.cancelled() => {}
    }
    abandoned.cancel();
    tracker.wait().await;
    Ok(())
}

/// What is counted; a task that panicked has counted what it had.
pub fn of(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Event, event};

    #[test]
    fn an_answer_ends_with_its_last_word_or_an_error() {
        let cases = [
            ("data: [DONE]\n", Event::Done),
            ("data:[DONE]\r\n", Event::Done),
            (": a comment\n", Event::Piece),
            ("\n", Event::Piece),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"[DONE]\"}}]}\n", Event::Piece),
            ("data: {\"error\":{\"message\":\"the replica is gone\"}}\n", Event::Broken),
            ("data: {half\n", Event::Piece),
        ];
        for (line, expected) in cases {
            assert_eq!(event(line.as_bytes()), expected, "{line}");
        }
    }
}
