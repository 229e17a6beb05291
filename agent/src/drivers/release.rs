//! The proof that a replica is gone: no process of it lives and NVML shows its GPUs' memory back
//! at what it was before. Only this frees a slot.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use wharfage_agent_core::input::Release;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::GpuProcess;
use wharfage_agent_sys::process::{self, Family, Process, ProcessId};
use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::replica::MemoryProof;
use wharfage_shared::time::Boottime;

use super::{Driver, Way};
use crate::gpu::{Gpus, held};
use crate::guard::record::{Baseline, Folder, Params};
use crate::users;

/// What a GPU may show above its baseline and still count as free.
const TOLERANCE_MIB: u64 = 300;

/// A reading that began after the question comes within this long, or the GPU is in trouble.
const FRESH_READING: Duration = Duration::from_secs(4);

/// A guard that has written its replica's end down goes within this long, unless it is frozen.
const GUARD_GOES: Duration = Duration::from_secs(1);

/// Between two looks at such a guard.
const GUARD_LOOK: Duration = Duration::from_millis(20);

/// Stands for a guard that is not known: no process has this pid.
const NOBODY: ProcessId = ProcessId { pid: u32::MAX, started: 0 };

/// Looks once.
pub async fn look(driver: &Driver, replica: ReplicaId) -> Release {
    let folder = driver.folder(replica);
    let params = match driver.params(replica) {
        Ok(params) => Some(params),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // What stood on which GPU is not known: nothing that is measured could prove it gone.
        Err(error) => return unproven(&folder, &error.to_string()),
    };
    let same_boot = params.as_ref().is_none_or(|params| params.boot == driver.boot);
    if same_boot {
        guard_goes(&folder).await;
        match processes_left(driver, &folder, replica, params.as_ref()).await {
            Ok(None) => {}
            Ok(Some(because)) => return Release::Held { processes_left: true, because },
            Err(why) => {
                let because = format!("nothing proves that its processes are gone: {why}");
                return Release::Held { processes_left: true, because };
            }
        }
    }
    // Something was begun and nobody knows any more on which GPUs.
    if params.is_none() && !matches!(folder.started(), Ok(None)) {
        return unproven(&folder, "its parameters are lost");
    }
    let processes_gone_at = {
        let mut gone = driver.gone_since.lock().unwrap_or_else(PoisonError::into_inner);
        *gone.entry(replica).or_insert_with(clock::boottime)
    };
    let asked_at = clock::boottime();
    let mut memory = Vec::new();
    // Without parameters nothing was ever started.
    for baseline in params.iter().flat_map(|params| &params.baselines) {
        match memory_of(driver, baseline, asked_at).await {
            Ok(proof) => memory.push(proof),
            Err(because) => return Release::Held { processes_left: false, because },
        }
    }
    Release::Free { processes_gone_at, memory_back_at: clock::boottime(), memory }
}

fn unproven(folder: &Folder, why: &str) -> Release {
    let at = folder.path().display();
    let because = format!(
        "nothing proves that it is gone: {why}; once nothing of it lives, `rm -r {at}` frees its \
         GPUs"
    );
    Release::Held { processes_left: false, because }
}

/// Whether a folder without parameters belongs to nothing that lives.
pub(super) async fn is_nothing_left(driver: &Driver, replica: ReplicaId) -> bool {
    let folder = driver.folder(replica);
    guard_goes(&folder).await;
    matches!(processes_left(driver, &folder, replica, None).await, Ok(None))
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

/// One sentence about processes of the replica that still live. The error says why that cannot be
/// told: what was not seen is not gone.
async fn processes_left(
    driver: &Driver,
    folder: &Folder,
    replica: ReplicaId,
    params: Option<&Params>,
) -> Result<Option<String>, String> {
    let mut left = Vec::new();
    let unread = |error: io::Error| format!("the process table cannot be read: {error}");
    let record = folder.started().map_err(|error| error.to_string())?;
    let guard = record.map_or(NOBODY, |record| record.guard);
    let found = process::look(guard.pid).map_err(unread)?;
    left.extend(found.filter(|process| process.id == guard && !process.is_zombie));
    let mark = params.map(|params| params.mark.clone()).unwrap_or_default();
    left.extend(Family { guard, mark }.members().map_err(unread)?);
    let begun = Instant::now();
    loop {
        let inside = match &driver.way {
            Way::Process => {
                let cgroup = params.and_then(|params| params.cgroup.as_deref()).map(Cgroup::at);
                let unread = |error| format!("its control group cannot be read: {error}");
                cgroup.map_or(Ok(Vec::new()), |cgroup| cgroup.members()).map_err(unread)?
            }
            Way::Systemd(units) => units.processes(replica).await?,
        };
        let mut others = Vec::new();
        for pid in inside {
            if left.iter().all(|process| process.id.pid != pid) {
                others.extend(process::look(pid).map_err(unread)?.filter(|one| !one.is_zombie));
            }
        }
        // systemd's own, which clear the unit away, are gone in a moment and must not be killed.
        let is_cleared_away = left.is_empty() && matches!(driver.way, Way::Systemd(_));
        if others.is_empty() || !is_cleared_away || begun.elapsed() > GUARD_GOES {
            left.extend(others);
            break;
        }
        tokio::time::sleep(GUARD_LOOK).await;
    }
    let Some(first) = left.first() else { return Ok(None) };
    let stuck = if first.is_uninterruptible { ", stuck in the kernel" } else { "" };
    let (pid, who) = (first.id.pid, who(first.id.pid, None));
    let lives = match left.len() - 1 {
        0 => format!("process {pid} ({who}{stuck}) still lives"),
        more => format!("process {pid} ({who}{stuck}) and {more} more still live"),
    };
    let gpus = params.map(|params| params.baselines.as_slice()).unwrap_or_default();
    let held = gpus.iter().map(|baseline| held_by(driver, &left, &baseline.gpu));
    Ok(Some(std::iter::once(lives).chain(held).collect::<Vec<_>>().join(", ")))
}

/// What these processes hold of a GPU's memory, as it was last read.
fn held_by(driver: &Driver, processes: &[Process], gpu: &GpuUuid) -> String {
    let gpus = driver.gpus.borrow();
    let listed = gpus.seen.get(gpu).map(|seen| seen.processes.as_slice()).unwrap_or_default();
    let ours = |held: &&GpuProcess| processes.iter().any(|process| process.id.pid == held.pid);
    let ours: Vec<&GpuProcess> = listed.iter().filter(ours).collect();
    let bytes = ours.iter().map(|held| held.bytes);
    match bytes.reduce(|sum, more| Some(sum?.saturating_add(more?))) {
        Some(Some(bytes)) => format!("holding {bytes} bytes of {gpu}"),
        Some(None) => format!("holding memory of {gpu} whose bytes NVML does not tell"),
        None => format!("not listed as a holder of {gpu}"),
    }
}

/// Who a process is, for people: its name and whose it is.
fn who(pid: u32, of: Option<ReplicaId>) -> String {
    // NVML names processes of the host; an agent in a container does not see them all.
    let Some(process) = process::find(pid) else { return "not in this process table".to_owned() };
    match (of, process::user_of(pid)) {
        (Some(replica), _) => format!("{}, of {replica}", process.name),
        (None, Some(user)) => format!("{}, user {}", process.name, users::name_of(user)),
        (None, None) => process.name,
    }
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
    if let Some(holder) = holder {
        let pid = holder.pid;
        let bytes = holder.bytes.map_or("memory".to_owned(), |bytes| format!("{bytes} bytes"));
        let replicas = Folder::list(&driver.config().state_dir).unwrap_or_default();
        let of = held::owners(driver, replicas.into_iter(), &now).remove(&pid);
        return Err(format!("{gpu} is held: process {pid} ({}) holds {bytes}", who(pid, of)));
    }
    let Some(used_mib) = seen.reading.memory_used_mib else {
        return Err(format!("{gpu} cannot be seen free: its memory cannot be read"));
    };
    if used_mib > baseline.used_mib.saturating_add(TOLERANCE_MIB) {
        let bytes = used_mib.saturating_sub(baseline.used_mib).saturating_mul(1024 * 1024);
        return Err(format!(
            "{gpu} shows {used_mib} MiB in use and showed {} before: {bytes} bytes are held by \
             no listed process",
            baseline.used_mib
        ));
    }
    Ok(MemoryProof { gpu: gpu.clone(), baseline_mib: baseline.used_mib, used_mib })
}
