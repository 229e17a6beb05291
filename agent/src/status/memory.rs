//! Memory of each slot by who has it: promised, measured, unexplained.

use wharfage_shared::ids::ReplicaId;

use super::Shown;
use super::gpus::ShownGpu;
use super::metrics::{Kind, Text, labelled};
use crate::gpu::held::Held;

/// A label and a number of one slot.
type Sample = (Vec<(&'static str, String)>, u64);

/// A name after `wharfage_gpu_memory_`, its help, and how it is read.
type Family = (&'static str, &'static str, fn(&Held) -> Vec<Sample>);

const FAMILIES: [Family; 4] = [
    ("promised_bytes", "Memory of the slots that a replica was given, each whole.", |held| {
        held.promised.iter().map(|(replica, bytes)| of_replica(*replica, *bytes)).collect()
    }),
    ("held_bytes", "Memory that a replica's processes hold, as measured.", |held| {
        let told = |(replica, bytes): (&ReplicaId, &Option<u64>)| {
            bytes.map(|bytes| of_replica(*replica, bytes))
        };
        held.replicas.iter().filter_map(told).collect()
    }),
    ("others_bytes", "Memory that processes of no replica hold.", |held| {
        let listed = held.others.iter().flatten();
        let sum: Option<u64> = listed.map(|other| other.bytes).sum();
        sum.filter(|_| held.others.is_some()).map(|bytes| (Vec::new(), bytes)).into_iter().collect()
    }),
    ("unexplained_bytes", "Memory in use that no listed process holds.", |held| {
        held.unexplained_bytes.map(|bytes| (Vec::new(), bytes)).into_iter().collect()
    }),
];

fn of_replica(replica: ReplicaId, bytes: u64) -> Sample {
    (vec![("replica", replica.to_string())], bytes)
}

/// Writes them. What NVML does not tell is left out.
pub(super) fn write(shown: &Shown, out: &mut Text) {
    for (name, help, read) in FAMILIES {
        let of_gpu = |gpu: &ShownGpu| -> Vec<(String, String)> {
            let Some(held) = gpu.held.as_ref().filter(|_| gpu.fast().is_some()) else {
                return Vec::new();
            };
            let labels = |mut more: Vec<(&'static str, String)>| {
                more.insert(0, ("uuid", gpu.reading.uuid.to_string()));
                labelled(&more)
            };
            read(held).into_iter().map(|(more, bytes)| (labels(more), bytes.to_string())).collect()
        };
        let values = shown.gpus.iter().flat_map(of_gpu).collect();
        out.family(&format!("wharfage_gpu_memory_{name}"), Kind::Gauge, help, values);
    }
}
