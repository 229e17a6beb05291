//! Who holds a slot's memory: what each replica was promised and what it takes as measured, others
//! by name, and what nobody listed holds.
//!
//! NVML names processes of the host's own PID namespace. One that is not found here is another's
//! and has no name; it is never taken for a replica's.

use std::collections::BTreeMap;

use serde::Serialize;
use wharfage_agent_sys::nvml::Fast;
use wharfage_agent_sys::process;
use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::order::RunOrder;

use super::Gpus;
use crate::drivers::Driver;

/// Who holds one slot's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Bytes that each replica was promised here: a slot is promised whole.
    pub promised: BTreeMap<ReplicaId, u64>,
    /// Bytes of each replica's processes together; null where NVML does not tell them.
    pub replicas: BTreeMap<ReplicaId, Option<u64>>,
    /// Processes that belong to no replica of this agent; null where NVML lists none at all.
    pub others: Option<Vec<Other>>,
    /// Bytes in use that no listed process holds; null where that cannot be told.
    pub unexplained_bytes: Option<u64>,
}

/// A process that is no replica's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Its pid, as NVML tells it.
    pub pid: u32,
    /// Its short name; null when this host's process table does not have it.
    pub name: Option<String>,
    /// What it holds; null where NVML does not tell it.
    pub bytes: Option<u64>,
}

/// Which replica each process on a GPU belongs to.
pub type Owners = BTreeMap<u32, ReplicaId>;

/// Which replicas each slot was promised to: one, but for the moments in which a replica that is
/// gone waits to be forgotten.
pub type Promises = BTreeMap<GpuUuid, Vec<ReplicaId>>;

/// Looks up the processes that hold GPUs now. Reads files of `/proc` and of the replicas' folders.
pub fn owners(driver: &Driver, replicas: impl Iterator<Item = ReplicaId>, gpus: &Gpus) -> Owners {
    let seen = gpus.seen.values().flat_map(|seen| &seen.processes);
    let mut left: Vec<u32> = seen.map(|process| process.pid).collect();
    let mut owners = Owners::new();
    for replica in replicas {
        if left.is_empty() {
            break;
        }
        let folder = driver.folder(replica);
        let (Ok(Some(record)), Ok(params)) = (folder.started(), driver.params(replica)) else {
            continue;
        };
        let family = params.family(record.guard);
        left.retain(|pid| {
            let is_ours = family.has(*pid);
            if is_ours {
                owners.insert(*pid, replica);
            }
            !is_ours
        });
    }
    owners
}

/// Whose slots these are by the orders in force.
pub fn promises<'a>(orders: impl Iterator<Item = &'a RunOrder>) -> Promises {
    let mut promises = Promises::new();
    for order in orders {
        for gpu in &order.gpus {
            promises.entry(gpu.clone()).or_default().push(order.replica);
        }
    }
    promises
}

impl Held {
    /// Of a slot of so many bytes that was promised to these: what a reading and the owners of its
    /// processes say.
    pub fn of(slot_bytes: u64, promised: &[ReplicaId], fast: &Fast, owners: &Owners) -> Self {
        let promised = promised.iter().map(|replica| (*replica, slot_bytes)).collect();
        let mut held = Self { promised, ..Self::default() };
        let Some(processes) = fast.processes.known() else { return held };
        let others = held.others.insert(Vec::new());
        for process in processes {
            match owners.get(&process.pid) {
                Some(replica) => {
                    let sum = held.replicas.entry(*replica).or_insert(Some(0));
                    *sum = sum.zip(process.bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
                }
                None => others.push(Other {
                    pid: process.pid,
                    name: process::find(process.pid).map(|found| found.name),
                    bytes: process.bytes,
                }),
            }
        }
        let listed = processes.iter().map(|process| process.bytes).sum::<Option<u64>>();
        held.unexplained_bytes = fast
            .memory
            .used_bytes
            .get()
            .zip(listed)
            .map(|(used, listed)| used.saturating_sub(listed));
        held
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Owners};
    use crate::gpu::MIB;
    use crate::gpu::state::tests::fast;
    use wharfage_agent_sys::nvml::{GpuProcess, Value};
    use wharfage_shared::ids::ReplicaId;

    fn held(processes: &[(u32, Option<u64>)]) -> Held {
        let mut fast = fast();
        fast.memory.used_bytes = Value::Value(1000 * MIB);
        let one = |(pid, mib): &(u32, Option<u64>)| GpuProcess {
            pid: *pid,
            bytes: mib.map(|mib| mib * MIB),
        };
        fast.processes = Value::Value(processes.iter().map(one).collect());
        let owners = [(1, ReplicaId(7)), (2, ReplicaId(7)), (3, ReplicaId(8))];
        Held::of(1000 * MIB, &[ReplicaId(7)], &fast, &Owners::from(owners))
    }

    #[test]
    fn memory_is_the_replicas_the_others_or_nobodys() {
        // Pids beyond the kernel's largest: nobody has them.
        let held = held(&[(1, Some(300)), (2, Some(200)), (3, Some(50)), (4_294_967_000, Some(9))]);
        let replicas: Vec<_> = held.replicas.into_iter().collect();
        assert_eq!(replicas, [(ReplicaId(7), Some(500 * MIB)), (ReplicaId(8), Some(50 * MIB))]);
        let others = held.others.expect("listed");
        assert_eq!((others[0].pid, &others[0].name), (4_294_967_000, &None));
        assert_eq!(held.unexplained_bytes, Some(441 * MIB));
        assert_eq!(held.promised, [(ReplicaId(7), 1000 * MIB)].into(), "8 has no right to be here");
    }

    #[test]
    fn what_nvml_does_not_tell_is_no_zero() {
        let held = held(&[(1, Some(300)), (2, None)]);
        assert_eq!(held.replicas.into_values().collect::<Vec<_>>(), [None]);
        assert_eq!(held.unexplained_bytes, None);
    }
}
