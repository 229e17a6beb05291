//! An answer on its way from a replica to a client: frames pass as they come.
//!
//! While it lives its request counts as in flight. It ends in one of three ways: the answer is
//! complete (the connection is kept), the replica went away (the client is told), the client went
//! away (the connection is closed, and the engine stops generating).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use wharfage_shared::ids::DeploymentId;

use crate::errors::Problem;
use crate::gateway::Gateway;
use crate::routes::Key;
use crate::upstream::{Link, Seat};

/// How much of an answer's end is kept to find the usage in: the last JSON members, or the last
/// events of a stream.
const TAIL: usize = 4 << 10;

/// The body of an answer.
pub struct Relay {
    body: Incoming,
    gateway: Arc<Gateway>,
    key: Arc<Key>,
    deployment: DeploymentId,
    is_event_stream: bool,
    tail: Tail,
    /// While the answer is not over.
    open: Option<(Link, Seat)>,
}

impl Relay {
    /// Passes `body` on.
    pub fn new(
        gateway: Arc<Gateway>,
        key: Arc<Key>,
        deployment: DeploymentId,
        body: Incoming,
        is_event_stream: bool,
        link: Link,
        seat: Seat,
    ) -> Self {
        let open = Some((link, seat));
        Self { body, gateway, key, deployment, is_event_stream, tail: Tail::default(), open }
    }

    /// The answer is complete.
    fn complete(&mut self) {
        let Some((link, seat)) = self.open.take() else { return };
        seat.upstream().completed();
        seat.upstream().keep(link);
        self.account();
    }

    /// The replica ended in the middle. A stream's reader gets a last event that says so.
    fn lost(&mut self, error: hyper::Error) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((_, seat)) = self.open.take() else { return Poll::Ready(None) };
        let upstream = seat.upstream();
        tracing::warn!(
            replica.id = %upstream.id,
            node.id = %upstream.node(),
            %error,
            "a replica went away in the middle of an answer"
        );
        upstream.cut();
        self.gateway.metrics.replica_lost();
        self.account();
        if !self.is_event_stream {
            return Poll::Ready(Some(Err(error)));
        }
        let problem = Problem::replica_lost_midway();
        let separator = self.tail.missing_separator();
        let event = format!("{separator}data: {}\n\n", problem.body());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }

    fn account(&self) {
        self.gateway.counts.finish(&self.deployment);
        if let Some(tokens) = self.tail.total_tokens() {
            self.gateway.counts.add_tokens(&self.key.id, tokens);
            self.gateway.metrics.tokens(tokens);
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.open.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.tail.see(data);
                }
                // Before the client has the last byte, so that its next request finds the
                // connection free.
                if self.body.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.lost(error),
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.open.is_none() {
            return;
        }
        // Whoever writes the answer out need not ask once more after its last byte.
        if self.body.is_end_stream() {
            return self.complete();
        }
        self.gateway.metrics.abandoned();
        self.account();
        self.open = None;
    }
}

/// The last bytes of an answer.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn see(&mut self, data: &[u8]) {
        if data.len() >= TAIL {
            self.0.clear();
            self.0.extend_from_slice(&data[data.len() - TAIL..]);
            return;
        }
        // Cut rarely and by half, so that each byte is moved about once.
        if self.0.len() + data.len() > 2 * TAIL {
            let cut = self.0.len().saturating_sub(TAIL);
            self.0.drain(..cut);
        }
        self.0.extend_from_slice(data);
    }

    /// What must come before an event so that it does not become part of an unfinished one.
    fn missing_separator(&self) -> &'static str {
        if self.0.is_empty() || self.0.ends_with(b"\n\n") || self.0.ends_with(b"\r\n\r\n") {
            ""
        } else {
            "\n\n"
        }
    }

    /// The last `"total_tokens": <number>` of the answer. Inside a JSON string its quotes would be
    /// escaped, so that no generated text can pass for it.
    fn total_tokens(&self) -> Option<u64> {
        const NAME: &[u8] = b"\"total_tokens\"";
        let found = self.0.windows(NAME.len()).rposition(|window| window == NAME)?;
        if found > 0 && self.0[found - 1] == b'\\' {
            return None;
        }
        let rest = self.0[found + NAME.len()..].trim_ascii_start();
        let rest = rest.strip_prefix(b":")?.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(parts: &[&str]) -> Option<u64> {
        let mut tail = Tail::default();
        for part in parts {
            tail.see(part.as_bytes());
        }
        tail.total_tokens()
    }

    #[test]
    fn usage_is_found_in_bodies_and_streams_and_not_in_generated_text() {
        assert_eq!(tokens(&[r#"{"usage":{"prompt_tokens":3,"total_tokens":12}}"#]), Some(12));
        let last = "data: {\"choices\":[],\"usage\":{\"total_tokens\": 42}}\n\ndata: [DONE]\n\n";
        assert_eq!(tokens(&["data: {\"usage\":null}\n\n", last]), Some(42));
        assert_eq!(tokens(&["{\"usage\":{\"total_to", "kens\":7}}"]), Some(7));
        assert_eq!(tokens(&[r#"{"text":"say \"total_tokens\": 99"}"#]), None);
        assert_eq!(tokens(&["{}"]), None);
        let long = format!("{{\"embedding\":[{}],", "0.5,".repeat(50_000));
        assert_eq!(tokens(&[&long, "\"usage\":{\"total_tokens\":5}}"]), Some(5));
        let chunk = "x".repeat(100);
        let many: Vec<&str> = std::iter::repeat_n(chunk.as_str(), 500).collect();
        let mut tail = Tail::default();
        many.iter().for_each(|part| tail.see(part.as_bytes()));
        assert!(tail.0.len() <= 2 * TAIL);
    }
}
