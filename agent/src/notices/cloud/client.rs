//! One question to a metadata service: a connection of its own to a fixed address, with short limits.
//! No proxy, no name that is looked up, no redirect: what answers is the service or nobody.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::net::TcpStream;
use wharfage_agent_sys::clock;
use wharfage_shared::time::{Boottime, Millis, Timestamp};

use super::source::Request;

/// A service on the host's own link answers a connection in a millisecond.
const CONNECT: Duration = Duration::from_millis(300);

/// An answer takes no longer, unless it is one that may.
pub const TOTAL: Duration = Duration::from_secs(1);

/// No metadata that is asked for here is larger.
const LARGEST: usize = 64 * 1024;

/// A service's clock that differs by more from the host's is not the same clock.
const SAME_CLOCK: Millis = Millis::from_seconds(5);

/// Asks one service.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text, without a byte order mark and without space around it.
    pub text: String,
    /// When it came, on the host's clock that never steps.
    pub at: Boottime,
    /// When it came, on the host's wall clock.
    pub wall: Timestamp,
}

impl Client {
    /// Asks at this address, naming this host.
    pub fn new(address: SocketAddr, host: &str) -> Self {
        Self { address, host: host.to_owned() }
    }

    /// Where it asks.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks once; the error is one sentence without its subject.
    pub async fn ask(&self, request: &Request, within: Duration) -> Result<Answer, String> {
        match tokio::time::timeout(within, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", within.as_millis())),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, String> {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{} cannot be reached: {error}", self.address)),
            Err(_) => return Err(format!("{} cannot be reached in time", self.address)),
        };
        // Without it the last part of a small request waits for an acknowledgement (40 ms).
        drop(stream.set_nodelay(true));
        let broke = |error: hyper::Error| format!("the answer broke off: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let connection = tokio::spawn(connection);
        // The connection ends with this question, also when nobody waits for it any more.
        let _ends = EndsWithDrop(connection);
        let answer = sender.send_request(self.written(request)?).await.map_err(broke)?;
        let (head, body) = answer.into_parts();
        let (at, wall) = (clock::boottime(), clock::wall());
        if head.status.is_redirection() {
            return Err(format!("a redirect ({}), which is not followed", head.status.as_u16()));
        }
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => format!("an answer of more than {LARGEST} bytes"),
            false => format!("the answer broke off: {error}"),
        })?;
        let bytes = body.to_bytes();
        let text = std::str::from_utf8(&bytes).map_err(|_| "an answer that is no text")?;
        let text = text.trim_start_matches('\u{feff}').trim().to_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, text, at, wall })
    }

    fn written(&self, request: &Request) -> Result<hyper::Request<Full<Bytes>>, String> {
        let mut written = hyper::Request::builder()
            .method(request.method)
            .uri(&request.path)
            .header("host", &self.host)
            .header("connection", "close")
            .header("user-agent", concat!("wharfage-agent/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &request.headers {
            written = written.header(*name, value);
        }
        if !request.body.is_empty() {
            written = written.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(request.body.clone()));
        written.body(body).map_err(|error| format!("it cannot be asked: {error}"))
    }
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How far this host's clock is ahead of the service's, where the two are not the same.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        let date = self.header("date")?;
        let zoned = DateTimeParser::new().relaxed_weekday(true).parse_zoned(date).ok()?;
        let ahead = self.wall.0.saturating_sub(zoned.timestamp().as_millisecond());
        (ahead.unsigned_abs() > SAME_CLOCK.0).then_some(ahead)
    }

    /// When it came by the service's clock. What the service states is about that one; a date has
    /// whole seconds, and the one that has begun counts as over.
    pub fn service_time(&self) -> Timestamp {
        let ahead = self.clock_ahead_ms().map_or(0, |ahead| ahead.saturating_sub(1000));
        Timestamp(self.wall.0.saturating_sub(ahead))
    }

    /// Its words for a sentence, if it has few.
    pub fn words(&self) -> String {
        let mut words: String = self.text.chars().take(60).collect();
        words.retain(|c| !c.is_control());
        words
    }
}

struct EndsWithDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for EndsWithDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
