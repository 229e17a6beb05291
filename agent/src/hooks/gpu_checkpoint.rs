//! An engine's GPU memory in the host's memory, and back: the step `builtin-gpu-checkpoint`, and what
//! stands around the command of a checkpoint hook that asks for it.
//!
//! Guards that nothing is begun which cannot end well: the memory must fit into the host's and its
//! way there into the time that is left. What was begun is noted with the replica, so that another
//! agent brings it back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wharfage_agent_sys::clock;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::RunOrder;
use wharfage_shared::time::{Boottime, Millis};

use crate::cuda_checkpoint::{Act, ask};
use crate::drivers::Driver;
use crate::gpu::MIB;

/// The fastest way from a GPU to the host, until it was measured here: PCIe of generation 5.
const FASTEST_MIB_PER_SECOND: u64 = 50_000;

/// Left to the host beside what the GPUs' memory takes, in percent of that.
const HEADROOM_PERCENT: u64 = 5;

/// Bringing back is never cut off: an engine that stays locked serves nobody.
const BRING_BACK: Millis = Millis::from_seconds(600);

/// MiB a second from GPUs to the host, by hardware, as measured since the agent's start.
#[derive(Debug, Default)]
pub struct Rates(Mutex<BTreeMap<String, u64>>);

impl Rates {
    fn of(&self, hardware: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hardware).copied()
    }

    /// The slowest counts: a step that is cut off is worth nothing.
    fn measured(&self, hardware: String, mib: u64, took: Millis) {
        let rate = (mib.saturating_mul(1000) / took.0.max(1)).max(1);
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rates.entry(hardware).or_insert(rate);
        *known = (*known).min(rate);
    }
}

/// What lies in the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// How much.
    pub bytes: u64,
    /// Of how many processes.
    pub processes: usize,
    /// How long that took.
    pub took: Millis,
}

/// What a replica holds on its GPUs.
struct Holding {
    pids: Vec<u32>,
    mib: u64,
    gpus: u64,
    hardware: String,
}

/// Puts a replica's GPU memory into the host's memory; its processes do not go on until
/// [`bring_back`]. What fails leaves them running, or says that it does not.
pub async fn save(driver: &Driver, order: &RunOrder, until: Boottime) -> Result<Saved, String> {
    let replica = order.replica;
    let config = driver.config();
    let holding = holding(driver, order)?;
    let free = free_mib(&config.health.proc)?;
    let needed = holding.mib.saturating_add(holding.mib * HEADROOM_PERCENT / 100);
    if needed > free {
        return Err(format!(
            "its GPUs hold {} MiB and the host has {free} MiB of memory left: {needed} are needed",
            holding.mib
        ));
    }
    let now = clock::boottime();
    let left = until.since(now);
    let rate = driver.gpu_rates.of(&holding.hardware);
    let rate = rate.unwrap_or(FASTEST_MIB_PER_SECOND.saturating_mul(holding.gpus));
    let takes = Millis(holding.mib.saturating_mul(1000) / rate.max(1));
    if takes >= left {
        return Err(format!(
            "the window is too short: {} MiB take {takes} at {rate} MiB a second, {left} are left",
            holding.mib
        ));
    }
    std::fs::write(mark(driver, replica), "").map_err(|error| format!("its folder: {error}"))?;
    let saved = ask(&config, Act::Save, left, &holding.pids).await;
    let took = clock::boottime().since(now);
    match saved {
        Ok(processes) => {
            driver.gpu_rates.measured(holding.hardware, holding.mib, took);
            Ok(Saved { bytes: holding.mib.saturating_mul(MIB), processes, took })
        }
        Err(why) => {
            // What could not be undone is tried again with what else stays locked.
            drop(bring_back(driver, replica).await);
            Err(why)
        }
    }
}

/// Puts it back and lets its processes go on; one that was never saved goes on as it is.
pub async fn bring_back(driver: &Driver, replica: ReplicaId) -> Result<(), String> {
    let mark = mark(driver, replica);
    if !mark.exists() {
        return Ok(());
    }
    let pids = processes(driver, replica)?;
    ask(&driver.config(), Act::BringBack, BRING_BACK, &pids).await?;
    match std::fs::remove_file(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// There while something of a replica may lie in the host's memory.
fn mark(driver: &Driver, replica: ReplicaId) -> PathBuf {
    driver.folder(replica).path().join("gpu-saved")
}

/// Its processes, whether they use CUDA or not: the driver knows which do.
pub fn processes(driver: &Driver, replica: ReplicaId) -> Result<Vec<u32>, String> {
    let unreadable = |error: io::Error| format!("its processes cannot be listed: {error}");
    let record = driver.folder(replica).started().map_err(unreadable)?;
    let record = record.ok_or_else(|| "it was not started".to_owned())?;
    let params = driver.params(replica).map_err(unreadable)?;
    let members = params.family(record.guard).members().map_err(unreadable)?;
    if members.is_empty() {
        return Err("none of its processes runs".to_owned());
    }
    Ok(members.into_iter().map(|process| process.id.pid).collect())
}

fn holding(driver: &Driver, order: &RunOrder) -> Result<Holding, String> {
    let pids = processes(driver, order.replica)?;
    let gpus = driver.gpus.borrow().clone();
    let mut mib = 0_u64;
    for gpu in &order.gpus {
        let seen = gpus.seen.get(gpu).and_then(|seen| seen.reading.memory_used_mib);
        // All of a slot is the replica's: what else is counted there is some hundred MiB.
        mib += seen.ok_or_else(|| format!("how much of {gpu} is in use cannot be read"))?;
    }
    let first = order.gpus.first();
    let known = gpus.identities.iter().find(|known| Some(&known.uuid) == first);
    let name = known.map_or("unknown", |known| &*known.name);
    let hardware = format!("{}x {name}", order.gpus.len());
    Ok(Holding { pids, mib, gpus: order.gpus.len() as u64, hardware })
}

/// What programs may still have of the host's memory.
fn free_mib(proc: &Path) -> Result<u64, String> {
    let path = proc.join("meminfo");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 1024)
        .ok_or_else(|| format!("`{}` does not say how much memory is left", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn the_slowest_way_that_was_measured_counts_and_each_hardware_has_its_own() {
        let rates = Rates::default();
        assert_eq!(rates.of("8x H100"), None);
        for (mib, seconds) in [(80_000, 4), (80_000, 10), (80_000, 2)] {
            rates.measured("8x H100".to_owned(), mib, Millis::from_seconds(seconds));
        }
        rates.measured("1x H100".to_owned(), 1000, Millis(0));
        assert_eq!((rates.of("8x H100"), rates.of("1x H100")), (Some(8000), Some(1_000_000)));
    }

    #[test]
    fn memory_that_is_not_told_is_no_zero() {
        let folder = Folder::new("meminfo");
        let read = |text: &str| {
            std::fs::write(folder.path().join("meminfo"), text).expect("written");
            free_mib(folder.path())
        };
        assert_eq!(read("MemTotal: 9000000 kB\nMemAvailable:    2048000 kB\n"), Ok(2000));
        assert!(read("MemTotal: 1 kB\n").expect_err("not told").contains("does not say"));
    }
}
