//! Tells the owner's own tools how many nodes are wanted: one signed POST whenever a pool's counts
//! change. The scheduler buys nothing.
//!
//! What is told is what is durable. Deliveries are at least once, each pool's newest counts replace
//! older ones that were not taken yet, and a receiver that is down costs nobody but itself: nothing
//! here is on the writer's way.

mod message;
mod sign;

pub use self::message::Wanted;
pub use self::sign::signature;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_scheduler_core::words::event::{Event, node};
use wharfage_shared::causes::with_causes;
use wharfage_shared::ids::PoolId;

use crate::config::Webhook;
use crate::driver::{Fact, Handle};

/// A receiver has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait after a delivery that was not taken; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait: a receiver that comes back hears within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Starts one sender a receiver; they end with `shutdown`.
pub fn start(
    webhooks: &[Webhook],
    handle: &Handle,
    shutdown: &CancellationToken,
) -> reqwest::Result<Vec<JoinHandle<()>>> {
    let mut senders = Vec::new();
    for webhook in webhooks {
        let client = Client::builder()
            .timeout(TIMEOUT)
            // What is signed is meant for one address.
            .redirect(Policy::none())
            .user_agent(concat!("wharfage-scheduler/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let sender = Sender {
            webhook: webhook.clone(),
            client,
            handle: handle.clone(),
            due: BTreeMap::new(),
            told: BTreeMap::new(),
            failures: 0,
        };
        let shutdown = shutdown.clone();
        senders.push(tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sender.run() => {}
            }
        }));
    }
    Ok(senders)
}

/// One receiver, and what it has not been told yet.
struct Sender {
    webhook: Webhook,
    client: Client,
    handle: Handle,
    /// Each pool's newest counts that were not taken.
    due: BTreeMap<PoolId, Wanted>,
    /// What was taken last, by the message's id.
    told: BTreeMap<PoolId, String>,
    failures: u32,
}

impl Sender {
    /// Tells all once, since nobody knows what the receiver heard before this start, then what
    /// changes.
    async fn run(mut self) {
        let mut facts = self.handle.subscribe();
        self.look();
        let mut next = Instant::now();
        loop {
            let waits = !self.due.is_empty();
            tokio::select! {
                heard = facts.recv() => match heard {
                    Ok(fact) if is_about_pools(&fact) => self.look(),
                    Ok(_) => {}
                    // The view has what was missed.
                    Err(RecvError::Lagged(_)) => self.look(),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep_until(next), if waits => {
                    next = Instant::now() + self.deliver().await;
                }
            }
        }
    }

    /// Notes every pool whose counts the receiver has not taken.
    fn look(&mut self) {
        let view = self.handle.view();
        let fleet = view.fleet();
        for pool in fleet.pools() {
            let Some(count) = fleet.pool_count(&pool.id) else { continue };
            let wanted = Wanted::of(pool, count);
            if self.told.get(&pool.id) != Some(&wanted.id) {
                self.due.insert(pool.id.clone(), wanted);
            }
        }
    }

    /// Sends one message; answers how long to wait before the next.
    async fn deliver(&mut self) -> Duration {
        let Some((pool, wanted)) = self.due.pop_first() else { return Duration::ZERO };
        let url = self.webhook.url.as_str();
        match self.send(&wanted).await {
            Ok(()) => {
                self.handle.metrics().webhook("delivered");
                self.told.insert(pool, wanted.id);
                self.failures = 0;
                Duration::ZERO
            }
            Err(problem) => {
                self.handle.metrics().webhook("failed");
                // It goes behind the others, unless newer counts have come meanwhile.
                self.due.entry(pool).or_insert(wanted);
                let wait = backoff(self.failures);
                self.failures = self.failures.saturating_add(1);
                let seconds = wait.as_secs();
                tracing::warn!(
                    webhook.url = url,
                    problem,
                    retry.seconds = seconds,
                    "a webhook was not taken"
                );
                wait
            }
        }
    }

    async fn send(&self, wanted: &Wanted) -> Result<(), String> {
        let body = serde_json::to_string(wanted).map_err(|error| error.to_string())?;
        let at = self.handle.now().0 / 1000;
        let mut request = self
            .client
            .post(self.webhook.url.clone())
            .header("Content-Type", "application/json")
            .header("Wharfage-Event", wanted.event)
            .header("Wharfage-Delivery", &wanted.id);
        if let Some(secret) = &self.webhook.secret {
            request = request.header("Wharfage-Signature", signature(secret, at, &body));
        }
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| with_causes(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // It says itself that it has this one.
            StatusCode::CONFLICT => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

/// The wait after so many failures in a row before this one.
fn backoff(failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).filter(|_| failures < 16).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

fn is_about_pools(fact: &Fact) -> bool {
    fact.record.events.iter().any(|event| {
        matches!(
            event,
            Event::Node(node::Event::PoolSized { .. } | node::Event::PoolCounted { .. })
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (0..11).map(|failures| backoff(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }
}
