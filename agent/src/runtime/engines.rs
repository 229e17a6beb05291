//! What engines show of their work: their metrics for the heartbeat, and how far a load has come
//! where the engine does not tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wharfage_agent_core::input::Input;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::replica::{EngineLoad, ReplicaReport, ReportedPhase};
use wharfage_shared::time::{Boottime, Millis};

use super::Runtime;
use crate::drivers::Driver;
use crate::guard::record::Params;
use crate::probe::{self, Target};

/// Numbers older than this tell nothing of now: they are left out.
const TOO_OLD: Millis = Millis::from_seconds(20);

const MIB: u64 = 1024 * 1024;

/// The last numbers of each engine, with the instant at which they were read.
pub(super) type Loads = Arc<Mutex<BTreeMap<ReplicaId, (Boottime, EngineLoad)>>>;

impl Runtime {
    /// Reads the metrics of every engine that serves or still has work; each in a task of its own,
    /// so that one that hangs keeps no other waiting.
    pub(super) fn measure_engines(&mut self) {
        let status = self.parts.agent.status();
        let has_work = |phase| {
            matches!(
                phase,
                ReportedPhase::Warming
                    | ReportedPhase::Ready
                    | ReportedPhase::Degraded
                    | ReportedPhase::Draining
            )
        };
        let here = |id: &ReplicaId| status.replicas.iter().any(|row| row.replica == *id);
        self.loads().retain(|id, _| here(id));
        for row in status.replicas.iter().filter(|row| has_work(row.phase)) {
            let (driver, loads) = (Arc::clone(&self.parts.driver), Arc::clone(&self.loads));
            let replica = row.replica;
            tokio::spawn(async move {
                let Ok(params) = driver.folder(replica).params() else { return };
                let at = clock::boottime();
                if let Some(load) = probe::measure(&Target::from(params)).await {
                    if load.running.is_some() || load.queued.is_some() {
                        let (running, queued) = (load.running, load.queued);
                        let requests = running.unwrap_or(0).saturating_add(queued.unwrap_or(0));
                        // The next look says it again.
                        drop(driver.inputs.try_send(Input::InFlight { replica, requests }));
                    }
                    let mut loads = loads.lock().unwrap_or_else(PoisonError::into_inner);
                    loads.insert(replica, (at, load));
                }
            });
        }
    }

    /// Puts the last numbers into what a heartbeat says of each replica.
    pub(super) fn add_loads(&self, replicas: &mut [ReplicaReport], now: Boottime) {
        let loads = self.loads();
        for report in replicas {
            let known = loads.get(&report.replica);
            let fresh = known.filter(|(at, _)| now.since(*at) <= TOO_OLD);
            report.load = fresh.map(|(at, load)| EngineLoad { age_ms: now.since(*at).0, ..*load });
        }
    }

    /// The last numbers of every engine, for the status page.
    pub(super) fn shown_loads(&self, now: Boottime) -> BTreeMap<ReplicaId, EngineLoad> {
        let loads = self.loads();
        let fresh = loads.iter().filter(|(_, (at, _))| now.since(*at) <= TOO_OLD);
        fresh
            .map(|(id, (at, load))| (*id, EngineLoad { age_ms: now.since(*at).0, ..*load }))
            .collect()
    }

    /// Writes what was learned, when it is new.
    pub(super) fn keep_history(&mut self) {
        let (file, history) = (&mut self.parts.history, self.parts.agent.history());
        if file.stored() == history {
            return;
        }
        let kept = tokio::task::block_in_place(|| file.keep(history));
        self.disk("keep what was learned of the engines", kept);
        self.compare_inventory();
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, BTreeMap<ReplicaId, (Boottime, EngineLoad)>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a load has come as the host shows it: bytes that the replica's processes have read, or
/// the memory that they took, whichever is more, of the bytes that its model has. Weights that are
/// mapped and not read show as memory.
pub(super) fn load_progress(driver: &Driver, params: &Params) -> Option<Input> {
    let record = driver.folder(params.order.replica).record()?;
    let members = params.family(record.guard).members().ok()?;
    let pids: Vec<u32> = members.iter().map(|member| member.id.pid).collect();
    // What a host tells is not believed to add up.
    let sum = |all: u64, more: u64| all.saturating_add(more);
    let read = pids.iter().map(|pid| process::bytes_read(*pid)).fold(0, sum);
    let resident = pids.iter().map(|pid| process::resident_bytes(*pid)).fold(0, sum);
    let gpus = driver.gpus.borrow();
    let held = params.baselines.iter().filter_map(|baseline| {
        let used = gpus.seen.get(&baseline.gpu)?.reading.memory_used_mib?;
        Some(used.saturating_sub(baseline.used_mib).saturating_mul(MIB))
    });
    let done = read.max(resident).max(held.fold(0, sum));
    let total = driver.weights().bytes(&params.order)?;
    let replica = params.order.replica;
    Some(Input::LoadMeasured { replica, done: done.min(total), total })
}
