//! Requests through the gateway, as a client of the model sends them.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Stage;
use crate::exit::Failure;

/// Asks once and returns the whole answer's text.
pub async fn ask(
    stage: &Stage,
    model: &str,
    question: &str,
    tokens: u32,
) -> Result<String, Failure> {
    let asker = Asker::of(stage)?;
    asker.ask(model, question, tokens).await
}

/// A client of the gateway that can be moved into a task.
#[derive(Clone)]
pub struct Asker {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// What came of a stream.
#[derive(Debug)]
pub struct Streamed {
    /// Pieces of text.
    pub pieces: u32,
    /// Whether it ended with `[DONE]`.
    pub done: bool,
    /// The text so far.
    pub text: String,
    /// The longest time between two pieces.
    pub longest_gap: Duration,
    /// When its last piece came.
    pub ended_at: Instant,
}

impl Asker {
    /// For the installation on stage.
    pub fn of(stage: &Stage) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Failure::check(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { http, url: stage.up().gateway_url.clone(), token: stage.up().token.clone() })
    }

    fn chat(
        &self,
        model: &str,
        question: &str,
        tokens: u32,
        stream: bool,
    ) -> reqwest::RequestBuilder {
        let body = json!({
            "model": model, "max_tokens": tokens, "stream": stream,
            "messages": [{ "role": "user", "content": question }],
        });
        let url = format!("{}/v1/chat/completions", self.url);
        self.http.post(url).bearer_auth(&self.token).json(&body)
    }

    /// Asks once and returns the whole answer's text.
    pub async fn ask(&self, model: &str, question: &str, tokens: u32) -> Result<String, Failure> {
        let request = self.chat(model, question, tokens, false).timeout(Duration::from_secs(30));
        let broke =
            |error: reqwest::Error| Failure::check(format!("a request to {model}: {error}"));
        let answer = request.send().await.map_err(broke)?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(broke)?;
        body.pointer("/choices/0/message/content")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Failure::check(format!("a request to {model} gave {status}: {body}")))
    }

    /// Opens a stream; `opened` is called with the first piece's text.
    pub async fn stream(
        &self,
        model: &str,
        question: &str,
        tokens: u32,
        opened: tokio::sync::oneshot::Sender<String>,
    ) -> Result<Streamed, Failure> {
        let broke = |error: reqwest::Error| Failure::check(format!("the stream broke: {error}"));
        let answer = self.chat(model, question, tokens, true).send().await.map_err(broke)?;
        if !answer.status().is_success() {
            return Err(Failure::check(format!("the stream was refused: {}", answer.status())));
        }
        let mut streamed = Streamed {
            pieces: 0,
            done: false,
            text: String::new(),
            longest_gap: Duration::ZERO,
            ended_at: Instant::now(),
        };
        let mut opened = Some(opened);
        let mut frames = answer.bytes_stream();
        let mut buffer = Vec::new();
        while let Some(frame) = frames.next().await {
            buffer.extend_from_slice(&frame.map_err(broke)?);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                streamed.take(String::from_utf8_lossy(&line).trim());
            }
            if streamed.text.len() > 16
                && let Some(opened) = opened.take()
            {
                // Nobody waits when the story has ended in the meantime.
                let _ = opened.send(streamed.text.clone());
            }
        }
        Ok(streamed)
    }
}

impl Streamed {
    fn take(&mut self, line: &str) {
        let Some(event) = line.strip_prefix("data:").map(str::trim_start) else { return };
        if event == "[DONE]" {
            self.done = true;
            return;
        }
        let event: Value = serde_json::from_str(event).unwrap_or(Value::Null);
        let piece = event.pointer("/choices/0/delta/content").and_then(Value::as_str);
        if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
            if self.pieces > 0 {
                self.longest_gap = self.longest_gap.max(self.ended_at.elapsed());
            }
            self.pieces += 1;
            self.text.push_str(piece);
            self.ended_at = Instant::now();
        }
    }
}
