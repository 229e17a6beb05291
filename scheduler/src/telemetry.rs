//! What was heard last and is no fact: readings, progress, requests in flight, each with its age.
//!
//! It lies beside the view, in shards, so that heartbeats never wait for each other or for the
//! disk. A number that is not there was not heard; it is never taken for zero.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharfage_shared::gateway::{GATEWAY_LEASE, GatewayReport};
use wharfage_shared::health::Health;
use wharfage_shared::heartbeat::Heartbeat;
use wharfage_shared::ids::{DeploymentId, GatewayName, NodeId, ReplicaId};
use wharfage_shared::notice::{Notice, SourceHeard};
use wharfage_shared::replica::ReplicaReport;
use wharfage_shared::telemetry::GpuReading;
use wharfage_shared::time::{Boottime, Millis, Timestamp};

/// Parts that can be written at the same time.
const SHARDS: usize = 16;

/// Log lines that are kept for a replica: what a person reads after something went wrong.
pub const LINES_KEPT: usize = 1000;

/// The longest line that is kept, in bytes.
pub const LINE_BYTES: usize = 4096;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: [Mutex<HashMap<NodeId, Arc<NodeTelemetry>>>; SHARDS],
    logs: [Mutex<HashMap<ReplicaId, std::collections::VecDeque<Arc<str>>>>; SHARDS],
    gateways: Mutex<BTreeMap<GatewayName, Arc<GatewayTelemetry>>>,
}

/// The last heartbeat of a node, without what became facts.
#[derive(Clone, Debug)]
pub struct NodeTelemetry {
    /// When it came.
    pub heard_at: Timestamp,
    /// The node's boot-time clock when it was sent.
    pub sent_at: Boottime,
    /// GPU by GPU.
    pub readings: Vec<GpuReading>,
    /// Replica by replica.
    pub replicas: Vec<ReplicaReport>,
    /// Its health report, which is sent only when it changed.
    pub health: Option<Arc<Health>>,
    /// When each of its sources of notices was last heard.
    pub hearing: Vec<SourceHeard>,
    /// What its sources say, the likely included.
    pub notices: Vec<Notice>,
}

/// The last report of a gateway process.
#[derive(Clone, Debug)]
pub struct GatewayTelemetry {
    /// When it came.
    pub heard_at: Timestamp,
    /// What it said.
    pub report: GatewayReport,
}

/// Requests of one deployment, over all gateways that are alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// At replicas.
    pub in_flight: u64,
    /// Waiting.
    pub queued: u64,
    /// Waiting for a first replica.
    pub parked: u64,
    /// Finished since the gateways started.
    pub finished: u64,
    /// The age of the oldest report that is counted.
    pub age: Millis,
}

impl NodeTelemetry {
    /// What is kept of a heartbeat.
    pub fn of(heartbeat: &Heartbeat, heard_at: Timestamp) -> Self {
        Self {
            heard_at,
            sent_at: heartbeat.sent_at,
            readings: heartbeat.readings.clone(),
            replicas: heartbeat.replicas.clone(),
            health: heartbeat.health.as_ref().map(|health| Arc::new(health.clone())),
            hearing: heartbeat.hearing.clone(),
            notices: heartbeat.notices.clone(),
        }
    }

    /// How old a reading is now.
    pub fn age(&self, reading: &GpuReading, now: Timestamp) -> Millis {
        now.since(self.heard_at) + Millis(reading.age_ms)
    }

    /// What was said of one replica.
    pub fn replica(&self, replica: ReplicaId) -> Option<&ReplicaReport> {
        self.replicas.iter().find(|report| report.replica == replica)
    }

    /// When the agent expects a replica to be ready, on the scheduler's clock.
    pub fn expected_ready_at(&self, replica: ReplicaId) -> Option<Timestamp> {
        Some(self.heard_at + self.replica(replica)?.expected_ready_in?)
    }
}

impl Telemetry {
    /// Keeps what a heartbeat says.
    pub fn heartbeat(&self, heard_at: Timestamp, heartbeat: &Heartbeat) {
        self.keep(&heartbeat.node, NodeTelemetry::of(heartbeat, heard_at));
    }

    /// Keeps what a node said.
    pub fn keep(&self, node: &NodeId, mut told: NodeTelemetry) {
        let mut nodes = locked(&self.inner.nodes[shard(node)]);
        if told.health.is_none() {
            told.health = nodes.get(node).and_then(|known| known.health.clone());
        }
        nodes.insert(node.clone(), Arc::new(told));
    }

    /// Keeps what a gateway says.
    pub fn gateway(&self, heard_at: Timestamp, gateway: GatewayName, report: GatewayReport) {
        let told = Arc::new(GatewayTelemetry { heard_at, report });
        locked(&self.inner.gateways).insert(gateway, told);
    }

    /// Keeps the end of a replica's output.
    pub fn output(&self, replica: ReplicaId, lines: impl IntoIterator<Item = String>) {
        let mut logs = locked(&self.inner.logs[shard(&replica)]);
        let kept = logs.entry(replica).or_default();
        for line in lines {
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            let mut end = line.len().min(LINE_BYTES);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            kept.push_back(line[..end].into());
        }
    }

    /// The end of a replica's output, oldest line first.
    pub fn lines(&self, replica: ReplicaId) -> Vec<Arc<str>> {
        let logs = locked(&self.inner.logs[shard(&replica)]);
        logs.get(&replica).map(|kept| kept.iter().cloned().collect()).unwrap_or_default()
    }

    /// Forgets the output of replicas that `is_known` denies.
    pub fn forget_output(&self, is_known: impl Fn(ReplicaId) -> bool) {
        for shard in &self.inner.logs {
            locked(shard).retain(|replica, _| is_known(*replica));
        }
    }

    /// What a node said last.
    pub fn node(&self, node: &NodeId) -> Option<Arc<NodeTelemetry>> {
        locked(&self.inner.nodes[shard(node)]).get(node).cloned()
    }

    /// What each gateway process said last.
    pub fn gateways(&self) -> Vec<(GatewayName, Arc<GatewayTelemetry>)> {
        let gateways = locked(&self.inner.gateways);
        gateways.iter().map(|(name, told)| (name.clone(), Arc::clone(told))).collect()
    }

    /// A deployment's requests; `replicas` are its replicas, the leaving ones included.
    /// Absent when no gateway that is alive has spoken.
    pub fn load(
        &self,
        now: Timestamp,
        deployment: &DeploymentId,
        replicas: impl IntoIterator<Item = ReplicaId>,
    ) -> Option<Load> {
        let gateways = locked(&self.inner.gateways);
        let alive = |told: &&Arc<GatewayTelemetry>| now.since(told.heard_at) <= GATEWAY_LEASE;
        let alive: Vec<_> = gateways.values().filter(alive).cloned().collect();
        drop(gateways);
        if alive.is_empty() {
            return None;
        }
        let of = |counts: &BTreeMap<DeploymentId, u32>| {
            u64::from(counts.get(deployment).copied().unwrap_or(0))
        };
        let mut load = Load::default();
        for told in &alive {
            load.queued += of(&told.report.queued);
            load.parked += of(&told.report.parked);
            load.finished += told.report.finished.get(deployment).copied().unwrap_or(0);
            load.age = load.age.max(now.since(told.heard_at));
        }
        for replica in replicas {
            let at = |told: &Arc<GatewayTelemetry>| told.report.in_flight.get(&replica).copied();
            load.in_flight += alive.iter().filter_map(at).map(u64::from).sum::<u64>();
        }
        Some(load)
    }

    /// Where clients reach the gateways that are alive, in order.
    pub fn endpoints(&self, now: Timestamp) -> Vec<String> {
        let gateways = locked(&self.inner.gateways);
        let alive = gateways.values().filter(|told| now.since(told.heard_at) <= GATEWAY_LEASE);
        let mut endpoints: Vec<_> = alive.filter_map(|told| told.report.endpoint.clone()).collect();
        endpoints.sort();
        endpoints.dedup();
        endpoints
    }

    /// Requests at one replica now, by all gateways that are alive.
    pub fn in_flight(&self, now: Timestamp, replica: ReplicaId) -> u64 {
        let gateways = locked(&self.inner.gateways);
        let alive = gateways.values().filter(|told| now.since(told.heard_at) <= GATEWAY_LEASE);
        alive.filter_map(|told| told.report.in_flight.get(&replica)).copied().map(u64::from).sum()
    }
}

fn shard(id: &impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

/// A writer that panicked has left whole values: each insert is one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
