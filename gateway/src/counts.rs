//! What the scheduler is told about load: counted by guards that cannot forget to count down.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wharfage_shared::gateway::{GatewayReport, RoutesVersion, Served};
use wharfage_shared::ids::{DeploymentId, GatewayName, ReplicaId};

use crate::upstream::Upstream;

/// So long the scheduler is told what became of requests at a replica that left the routes: a few
/// of its exchanges may fail.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Most replicas that are told of so: more leave at a time only when a whole fleet does.
const MOST_LEFT: usize = 1_000;

/// Everything that is counted in one gateway process.
#[derive(Default)]
pub struct Counts {
    waiting: AtomicU32,
    inner: Mutex<Inner>,
    /// Told when the scheduler should hear something before the next second.
    pub urgent: Notify,
}

#[derive(Default)]
struct Inner {
    /// Replicas in the table, and those taken out of it that still have requests.
    upstreams: Vec<Arc<Upstream>>,
    /// Those taken out of the table, and when.
    left: Vec<(Arc<Upstream>, Instant)>,
    queued: BTreeMap<DeploymentId, u32>,
    parked: BTreeMap<DeploymentId, u32>,
    finished: BTreeMap<DeploymentId, u64>,
    tokens: BTreeMap<String, u64>,
}

/// How a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For the first replica of a deployment that may have none.
    Parked,
    /// For a replica that should be there.
    Queued,
}

/// One waiting request; counts down when it is dropped.
pub struct Waiting {
    counts: Arc<Counts>,
    deployment: DeploymentId,
    wait: Wait,
}

/// As many wait as may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl Counts {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a waiting request, if fewer than `limit` wait.
    pub fn wait(
        self: &Arc<Self>,
        deployment: &DeploymentId,
        wait: Wait,
        limit: u32,
    ) -> Result<Waiting, QueueFull> {
        let room = |waiting: u32| (waiting < limit).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| QueueFull)?;
        let first = {
            let mut inner = self.inner();
            let count = inner.waiting(wait).entry(deployment.clone()).or_insert(0);
            *count += 1;
            *count == 1
        };
        if first {
            self.urgent.notify_one();
        }
        Ok(Waiting { counts: Arc::clone(self), deployment: deployment.clone(), wait })
    }

    /// Follows the replicas of a new table, and keeps the old ones that still have requests.
    pub fn follow(&self, table: impl Iterator<Item = Arc<Upstream>>) {
        let mut followed: Vec<Arc<Upstream>> = table.collect();
        let new: HashSet<*const Upstream> = followed.iter().map(Arc::as_ptr).collect();
        let mut inner = self.inner();
        let inner = &mut *inner;
        let now = Instant::now();
        inner.left.retain(|(old, since)| {
            let is_told = since.elapsed() < TOLD_FOR || old.in_flight() > 0;
            is_told && !new.contains(&Arc::as_ptr(old))
        });
        for old in inner.upstreams.drain(..) {
            if new.contains(&Arc::as_ptr(&old)) {
                continue;
            }
            let is_known = inner.left.iter().any(|(left, _)| Arc::ptr_eq(left, &old));
            if !is_known && inner.left.len() < MOST_LEFT {
                inner.left.push((Arc::clone(&old), now));
            }
            if old.in_flight() > 0 {
                followed.push(old);
            }
        }
        inner.upstreams = followed;
    }

    /// The replicas of the last table and those that still have requests, by id.
    pub fn known(&self) -> HashMap<ReplicaId, Arc<Upstream>> {
        let mut known = HashMap::new();
        for upstream in &self.inner().upstreams {
            // Those of the table come first.
            known.entry(upstream.id).or_insert_with(|| Arc::clone(upstream));
        }
        known
    }

    /// Whether a request for this deployment waits.
    pub fn is_waited_for(&self, deployment: &DeploymentId) -> bool {
        let inner = self.inner();
        inner.parked.contains_key(deployment) || inner.queued.contains_key(deployment)
    }

    /// Requests that wait, of all deployments.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// One more request of this deployment has ended.
    pub fn finish(&self, deployment: &DeploymentId) {
        *self.inner().finished.entry(deployment.clone()).or_insert(0) += 1;
    }

    /// Tokens that a response said it used.
    pub fn add_tokens(&self, key: &str, tokens: u64) {
        let mut inner = self.inner();
        if let Some(sum) = inner.tokens.get_mut(key) {
            *sum = sum.saturating_add(tokens);
        } else {
            inner.tokens.insert(key.to_owned(), tokens);
        }
    }

    /// What the scheduler is told.
    pub fn report(
        &self,
        gateway: &GatewayName,
        number: u64,
        routes: RoutesVersion,
    ) -> GatewayReport {
        let inner = self.inner();
        let mut in_flight = BTreeMap::new();
        for upstream in &inner.upstreams {
            let count = upstream.in_flight();
            if count > 0 {
                *in_flight.entry(upstream.id).or_insert(0) += count;
            }
        }
        let mut left: BTreeMap<ReplicaId, Served> = BTreeMap::new();
        for (upstream, since) in &inner.left {
            if since.elapsed() < TOLD_FOR || upstream.in_flight() > 0 {
                let (sum, served) = (left.entry(upstream.id).or_default(), upstream.served());
                sum.completed += served.completed;
                sum.moved += served.moved;
                sum.cut += served.cut;
            }
        }
        GatewayReport {
            gateway: Some(gateway.clone()),
            number,
            routes,
            in_flight,
            queued: inner.queued.clone(),
            parked: inner.parked.clone(),
            finished: inner.finished.clone(),
            tokens: inner.tokens.clone(),
            left,
            endpoint: None,
        }
    }
}

impl Inner {
    fn waiting(&mut self, wait: Wait) -> &mut BTreeMap<DeploymentId, u32> {
        match wait {
            Wait::Parked => &mut self.parked,
            Wait::Queued => &mut self.queued,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut inner = self.counts.inner();
        let waiting = inner.waiting(self.wait);
        if let Some(count) = waiting.get_mut(&self.deployment) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.deployment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_became_of_requests_at_a_replica_is_told_once_it_is_out_of_the_routes() {
        let counts = Arc::new(Counts::default());
        let route = wharfage_shared::gateway::RouteReplica {
            id: ReplicaId(1),
            node: "node-1".into(),
            address: "127.0.0.1:1".into(),
        };
        let upstream = Arc::new(Upstream::new(&route));
        let left = || counts.report(&GatewayName::from("g"), 1, RoutesVersion::default()).left;
        counts.follow([Arc::clone(&upstream)].into_iter());
        upstream.completed();
        upstream.cut();
        assert_eq!(left(), BTreeMap::new(), "it is in the routes");
        upstream.retire();
        counts.follow(std::iter::empty());
        upstream.completed();
        upstream.moved();
        let told = Served { completed: 1, moved: 1, cut: 1 };
        assert_eq!(left(), BTreeMap::from([(ReplicaId(1), told)]));
        upstream.admit();
        counts.follow([upstream].into_iter());
        assert_eq!(left(), BTreeMap::new(), "it is back");
    }

    #[test]
    fn waiting_requests_are_counted_until_they_go_and_never_beyond_the_limit() {
        let counts = Arc::new(Counts::default());
        let (chat, embed) = (DeploymentId::from("chat"), DeploymentId::from("embed"));
        let report = || counts.report(&GatewayName::from("g"), 1, RoutesVersion::default());
        let first = counts.wait(&chat, Wait::Parked, 2).expect("room");
        let second = counts.wait(&embed, Wait::Queued, 2).expect("room");
        assert!(counts.wait(&chat, Wait::Parked, 2).is_err());
        let told = counts.urgent.notified().now_or_never();
        assert!(told.is_some(), "the scheduler hears of a first waiting request at once");
        assert_eq!(report().parked, BTreeMap::from([(chat.clone(), 1)]));
        assert_eq!(report().queued, BTreeMap::from([(embed, 1)]));
        drop((first, second));
        assert_eq!(report().parked, BTreeMap::new());
        assert!(counts.wait(&chat, Wait::Parked, 2).is_ok());
    }
}
