//! `/api/v1/events`: every fact that the caller may see, as server-sent events. One event a record;
//! its id is the record's position, so a client that comes back misses nothing and sees nothing
//! twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::Value;
use tokio::sync::broadcast;
use wharfage_scheduler_core::words::principal::Caller;

use super::facts;
use crate::driver::{Fact, Record};
use crate::http::fault::Fault;
use crate::http::gate::Who;
use crate::http::route::{Access, Route};
use crate::http::{Shared, query};

/// Records read from the log at a time while a client catches up.
const PAGE: u64 = 200;

/// A comment this often keeps proxies from closing a quiet stream.
const QUIET: Duration = Duration::from_secs(15);

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/events", "Facts as they happen, as server-sent events.", stream)
            .access(Access::Read)
            .query(&["since"]),
    ]
}

async fn stream(
    State(shared): State<Shared>,
    Who(caller): Who,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Fault> {
    // Subscribed before the position is read: nothing falls between the two.
    let live = shared.handle.subscribe();
    let newest = shared.handle.view().position();
    let after = match headers.get("last-event-id") {
        None => query::whole(&uri, "since", u64::MAX)?.unwrap_or(newest),
        Some(id) => id.to_str().ok().and_then(|id| id.trim().parse().ok()).ok_or_else(|| {
            let accepted = "the id of an event that was received";
            Fault::field("Last-Event-ID", "it is no position of the log", accepted)
        })?,
    };
    let follower = Follower {
        catching_up: after < newest,
        after: after.min(newest),
        live,
        waiting: VecDeque::new(),
        caller,
        shared,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let (position, body) = follower.next().await?;
        let event = Event::default().id(position.to_string()).event("facts");
        Some((Ok(event.data(body.to_string())), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(QUIET)))
}

/// Reads the log until it has caught up, then what is published.
struct Follower {
    shared: Shared,
    caller: Caller,
    live: broadcast::Receiver<Fact>,
    waiting: VecDeque<(u64, Value)>,
    after: u64,
    catching_up: bool,
}

impl Follower {
    /// The next record with something for the caller; nothing when the stream is over.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            if !self.is_welcome() {
                return None;
            }
            if let Some(next) = self.waiting.pop_front() {
                return Some(next);
            }
            if self.catching_up {
                self.read_page().await?;
            } else {
                self.hear().await?;
            }
        }
    }

    /// A token that was revoked ends its streams.
    fn is_welcome(&self) -> bool {
        let Some(token) = &self.caller.token else { return true };
        let view = self.shared.handle.view();
        view.fleet().token(token).is_some_and(|row| row.revoked_at.is_none())
    }

    async fn read_page(&mut self) -> Option<()> {
        let page = match self.shared.handle.log().after(self.after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "an event stream ends: the log cannot be read");
                return None;
            }
        };
        self.catching_up = !page.is_empty();
        for stored in page {
            self.after = stored.position;
            match Record::decode(&stored.payload) {
                Ok(record) => self.take(stored.position, stored.at, &record),
                Err(error) => {
                    tracing::warn!(record = stored.position, %error, "a record cannot be shown");
                }
            }
        }
        Some(())
    }

    async fn hear(&mut self) -> Option<()> {
        let heard = tokio::select! {
            () = self.shared.shutdown.cancelled() => return None,
            heard = self.live.recv() => heard,
        };
        match heard {
            Ok(fact) if fact.position <= self.after => {}
            Ok(fact) if fact.position == self.after + 1 => {
                self.after = fact.position;
                self.take(fact.position, fact.at, &fact.record);
            }
            // Some were missed: the log has them.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.catching_up = true,
            Err(broadcast::error::RecvError::Closed) => return None,
        }
        Some(())
    }

    fn take(&mut self, position: u64, at: wharfage_shared::time::Timestamp, record: &Record) {
        let view = self.shared.handle.view();
        let shown = facts::record(view.fleet(), &self.caller, position, at, record);
        self.waiting.extend(shown.map(|shown| (position, shown)));
    }
}
