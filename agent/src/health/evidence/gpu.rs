//! Gates that the GPUs' readings show: the driver, the count, each GPU's answers, what holds it.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::telemetry::GpuIdentity;
use wharfage_shared::time::{Boottime, Millis};

use super::seen;
use crate::gpu::Gpus;
use crate::gpu::state::Seen;
use crate::gpu::supervisor::DOES_NOT_ANSWER;
use crate::health::settings::Settings;

/// A reading that is older says nothing about now.
const OLD: Millis = Millis::from_seconds(10);

/// How NVML's word for a GPU that fell off the bus begins; the catalogue treats it like XID 79.
const LOST: &str = "the GPU is lost";

/// Looks at everything that the last readings show; `held` says which replica a GPU belongs to.
pub fn look(
    gpus: &Gpus,
    held: &BTreeMap<GpuUuid, ReplicaId>,
    settings: &Settings,
    now: Boottime,
) -> Vec<Evidence> {
    if !gpus.is_settled {
        return Vec::new();
    }
    let mut looks = Vec::new();
    let (saw, said) = driver(gpus);
    looks.extend(seen(2, None, saw, said));
    let (saw, said) = count(gpus);
    looks.extend(seen(3, None, saw, said));
    for identity in &gpus.identities {
        let last = gpus.seen.get(&identity.uuid);
        let look = One { gpus, identity, last, holder: held.get(&identity.uuid), settings, now };
        let of_gpu = [
            (4, look.answers()),
            (5, look.processes()),
            (6, look.memory()),
            (11, look.temperature()),
        ];
        let unread = [7, 8, 10, 12, 13, 15].map(|gate| (gate, unread()));
        for (gate, (saw, said)) in of_gpu.into_iter().chain(unread) {
            looks.extend(seen(gate, Some(&identity.uuid), saw, said));
        }
    }
    looks
}

fn unread() -> (Saw, String) {
    (Saw::NotApplicable, "this is not read from the GPU".to_owned())
}

fn driver(gpus: &Gpus) -> (Saw, String) {
    let version = gpus.driver_version.as_deref().unwrap_or("of unknown version");
    if let Some(trouble) = &gpus.trouble {
        return (Saw::Fail, trouble.clone());
    }
    // A call that hangs inside the driver: whatever starts anew on this host may hang as well.
    match gpus.seen.iter().find(|(_, seen)| seen.trouble.as_deref() == Some(DOES_NOT_ANSWER)) {
        Some((gpu, _)) => (Saw::Fail, format!("{DOES_NOT_ANSWER} about {gpu}")),
        None => (Saw::Pass, format!("driver {version} answers")),
    }
}

fn count(gpus: &Gpus) -> (Saw, String) {
    let is_lost = |seen: &Seen| seen.trouble.as_deref().is_some_and(|why| why.contains(LOST));
    if let Some((gpu, _)) = gpus.seen.iter().find(|(_, seen)| is_lost(seen)) {
        return (Saw::Fail, format!("{gpu} is lost"));
    }
    let names: BTreeSet<&GpuUuid> = gpus.identities.iter().map(|gpu| &gpu.uuid).collect();
    match names.len() {
        0 => (Saw::Fail, "no GPU was found".to_owned()),
        count if count < gpus.identities.len() => {
            (Saw::Fail, "two GPUs have the same UUID".to_owned())
        }
        count => (Saw::Pass, format!("{count} GPUs were found")),
    }
}

/// One GPU's look.
struct One<'a> {
    gpus: &'a Gpus,
    identity: &'a GpuIdentity,
    last: Option<&'a Seen>,
    holder: Option<&'a ReplicaId>,
    settings: &'a Settings,
    now: Boottime,
}

impl One<'_> {
    fn answers(&self) -> (Saw, String) {
        let own = self.last.and_then(|last| last.trouble.clone());
        if let Some(trouble) = own.or_else(|| self.gpus.trouble.clone()) {
            return (Saw::Fail, trouble);
        }
        match self.last {
            None => (Saw::Unknown, "it was not read yet".to_owned()),
            Some(last) if self.now.since(last.at) > OLD => {
                (Saw::Unknown, "it was not read for a while".to_owned())
            }
            Some(_) => (Saw::Pass, "it answers".to_owned()),
        }
    }

    /// The last reading, if it may be believed; else what that makes of a gate.
    fn fresh(&self) -> Result<&Seen, (Saw, String)> {
        match (self.answers(), self.last) {
            ((Saw::Pass, _), Some(last)) => Ok(last),
            ((_, why), _) => Err((Saw::Unknown, why)),
        }
    }

    fn processes(&self) -> (Saw, String) {
        if let Some(holder) = self.holder {
            return (Saw::NotApplicable, format!("{holder} holds it"));
        }
        let last = match self.fresh() {
            Ok(last) => last,
            Err(unknown) => return unknown,
        };
        match last.processes.first() {
            None => (Saw::Pass, "no process is on it".to_owned()),
            Some(process) => {
                let bytes =
                    process.bytes.map_or("memory".to_owned(), |bytes| format!("{bytes} bytes"));
                (Saw::Fail, format!("process {} holds {bytes} and no replica is here", process.pid))
            }
        }
    }

    fn memory(&self) -> (Saw, String) {
        if let Some(holder) = self.holder {
            return (Saw::NotApplicable, format!("{holder} holds it"));
        }
        let used = match self.fresh() {
            Ok(last) => last.reading.memory_used_mib,
            Err(unknown) => return unknown,
        };
        let most = self.settings.idle_memory_mib;
        match used {
            None => (Saw::NotApplicable, "it does not say how much memory is used".to_owned()),
            Some(used) if used > most => {
                let said = format!(
                    "{used} of {} MiB are in use and no replica is here; at most {most} may be",
                    self.identity.memory_mib
                );
                (Saw::Fail, said)
            }
            Some(_) => (Saw::Pass, format!("at most {most} MiB are in use")),
        }
    }

    fn temperature(&self) -> (Saw, String) {
        let read = match self.fresh() {
            Ok(last) => last.reading.temperature_c,
            Err(unknown) => return unknown,
        };
        let most = self.settings.hottest_idle_c;
        match (read, self.holder) {
            (None, _) => (Saw::NotApplicable, "it does not say how warm it is".to_owned()),
            (Some(_), Some(holder)) => (Saw::NotApplicable, format!("{holder} warms it")),
            (Some(is), None) if is >= most => {
                (Saw::Fail, format!("{is} C while idle; below {most} C is well"))
            }
            (Some(_), None) => (Saw::Pass, format!("below {most} C while idle")),
        }
    }
}
