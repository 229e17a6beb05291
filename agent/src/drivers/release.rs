//! The proof that a replica is gone: no process of it lives and NVML shows its GPUs' memory back
//! at what it was before. Only this frees a slot.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use wharfage_agent_core::input::Release;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::replica::MemoryProof;
use wharfage_shared::time::Boottime;

use super::{Driver, Way};
use crate::gpu::Gpus;
use crate::guard::record::{Baseline, Folder, Params};

/// What a GPU may show above its baseline and still count as free.
const TOLERANCE_MIB: u64 = 300;

/// A reading that began after the question comes within this long, or the GPU is in trouble.
const FRESH_READING: Duration = Duration::from_secs(4);

/// A guard that has written its replica's end down goes within this long, unless it is frozen.
const GUARD_GOES: Duration = Duration::from_secs(1);

/// Between two looks at such a guard.
const GUARD_LOOK: Duration = Duration::from_millis(20);

/// Looks once.
pub async fn look(driver: &Driver, replica: ReplicaId) -> Release {
    let folder = driver.folder(replica);
    let Ok(params) = folder.params() else {
        // Nothing was ever started: there is nothing to hold.
        let now = clock::boottime();
        return Release::Free { processes_gone_at: now, memory_back_at: now, memory: Vec::new() };
    };
    let same_boot = params.boot == driver.boot;
    if same_boot {
        guard_goes(&folder).await;
    }
    if same_boot && let Some(because) = processes_left(driver, &folder, &params).await {
        return Release::Held { processes_left: true, because };
    }
    let processes_gone_at = {
        let mut gone = driver.gone_since.lock().unwrap_or_else(PoisonError::into_inner);
        *gone.entry(replica).or_insert_with(clock::boottime)
    };
    let asked_at = clock::boottime();
    let mut memory = Vec::new();
    for baseline in &params.baselines {
        match memory_of(driver, baseline, asked_at).await {
            Ok(proof) => memory.push(proof),
            Err(because) => return Release::Held { processes_left: false, because },
        }
    }
    Release::Free { processes_gone_at, memory_back_at: clock::boottime(), memory }
}

/// Waits for a guard that has said its last word: else the proof would be as late as the next look.
async fn guard_goes(folder: &Folder) {
    let Some(record) = folder.record().filter(|record| record.ended.is_some()) else { return };
    let gone = async {
        while process::is_alive(record.guard) {
            tokio::time::sleep(GUARD_LOOK).await;
        }
    };
    // One that stays is what the look then names.
    drop(tokio::time::timeout(GUARD_GOES, gone).await);
}

/// One sentence about processes of the replica that still live.
async fn processes_left(driver: &Driver, folder: &Folder, params: &Params) -> Option<String> {
    let mut left = Vec::new();
    if let Some(record) = folder.started() {
        if process::is_alive(record.guard) {
            left.extend(process::find(record.guard.pid));
        }
        left.extend(params.family(record.guard).members().unwrap_or_default());
    }
    let inside = match &driver.way {
        Way::Process => {
            let cgroup = params.cgroup.as_deref().and_then(Cgroup::existing);
            cgroup.map(|cgroup| cgroup.members()).unwrap_or_default()
        }
        Way::Systemd(units) => match units.processes(params.order.replica).await {
            Ok(inside) => inside,
            // Nothing is proven by a manager that does not answer.
            Err(why) => return Some(why),
        },
    };
    let known: BTreeSet<u32> = left.iter().map(|process| process.id.pid).collect();
    let others = inside.into_iter().filter(|pid| !known.contains(pid));
    left.extend(others.filter_map(process::find).filter(|process| !process.is_zombie));
    let first = left.first()?;
    let stuck = if first.is_uninterruptible { ", stuck in the kernel" } else { "" };
    let (pid, name) = (first.id.pid, &first.name);
    let more = match left.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("process {pid} ({name}{stuck}) still lives{more}"))
}

async fn memory_of(
    driver: &Driver,
    baseline: &Baseline,
    asked_at: Boottime,
) -> Result<MemoryProof, String> {
    let gpu = &baseline.gpu;
    let mut gpus = driver.gpus.clone();
    let is_fresh = |gpus: &std::sync::Arc<Gpus>| {
        let read = gpus.seen.get(gpu).is_some_and(|s| s.at >= asked_at && s.trouble.is_none());
        read && gpus.trouble.is_none()
    };
    let waited = tokio::time::timeout(FRESH_READING, gpus.wait_for(is_fresh)).await;
    let now = match waited {
        Ok(Ok(now)) => now.clone(),
        _ => {
            let troubles = driver.gpus.borrow().troubles();
            let why = troubles.get(gpu).map_or("it was not read in time", String::as_str);
            return Err(format!("{gpu} cannot be seen free: {why}"));
        }
    };
    let Some(seen) = now.seen.get(gpu) else {
        return Err(format!("{gpu} cannot be seen free: it is not there"));
    };
    let holder = seen.processes.iter().find(|held| !baseline.holders.contains(&held.pid));
    let used_mib = seen.reading.memory_used_mib.unwrap_or(u64::MAX);
    if let Some(holder) = holder {
        let bytes = holder.bytes.map_or("memory".to_owned(), |bytes| format!("{bytes} bytes"));
        return Err(format!("{gpu} is held: process {} holds {bytes}", holder.pid));
    }
    let allowed = baseline.used_mib + TOLERANCE_MIB;
    if used_mib > allowed {
        let bytes = used_mib.saturating_sub(baseline.used_mib).saturating_mul(1024 * 1024);
        return Err(format!(
            "{gpu} shows {used_mib} MiB in use and showed {} before: {bytes} bytes are held by \
             no listed process",
            baseline.used_mib
        ));
    }
    Ok(MemoryProof { gpu: gpu.clone(), baseline_mib: baseline.used_mib, used_mib })
}
