//! Gates that the GPUs' readings show: the driver, the count, and each GPU's own, a group a file.
//!
//! What a GPU does not have is not applicable, with that reason. What could not be read, or not
//! yet, is unknown, and unknown is no pass.

mod declared;
mod errors;
mod heat;
mod history;
mod idle;
mod link;

use std::collections::{BTreeMap, BTreeSet};

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_sys::nvml::{Board, Value};
use wharfage_shared::health::GateId;
use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::telemetry::GpuIdentity;
use wharfage_shared::time::{Boottime, Millis};

use super::seen;
use crate::gpu::Gpus;
use crate::gpu::state::{Sections, Seen};
use crate::gpu::supervisor::DOES_NOT_ANSWER;
use crate::health::settings::{Declared, Settings};

pub use self::history::History;

/// A reading that is older says nothing about now.
const OLD: Millis = Millis::from_seconds(10);

/// How NVML's word for a GPU that fell off the bus begins; the catalogue treats it like XID 79.
const LOST: &str = "the GPU is lost";

/// What was seen of a gate, in one sentence.
type Look = (Saw, String);

/// Looks at everything that the last readings show; `held` says which replica a GPU belongs to.
pub fn look(
    gpus: &Gpus,
    held: &BTreeMap<GpuUuid, ReplicaId>,
    history: &History,
    settings: &Settings,
    now: Boottime,
) -> Vec<Evidence> {
    if !gpus.is_settled {
        return Vec::new();
    }
    let mut looks = Vec::new();
    let (saw, said) = driver(gpus);
    looks.push(seen(GateId::DRIVER, None, saw, said));
    let (saw, said) = count(gpus, settings.gpus);
    looks.push(seen(GateId::COUNT, None, saw, said));
    for identity in &gpus.identities {
        let uuid = &identity.uuid;
        let board = gpus.board_of(uuid);
        let look = One {
            gpus,
            identity,
            board,
            last: gpus.seen.get(uuid),
            sections: board.and_then(|board| gpus.sections.get(&board.uuid)).map(AsRef::as_ref),
            holder: held.get(uuid),
            past: board.and_then(|board| history.of(&board.uuid)),
            declared: settings.declared_of(board.map_or(uuid, |board| &board.uuid)),
            settings,
            now,
        };
        let of_gpu = [
            (GateId::ANSWERS, look.answers()),
            (GateId::PROCESSES, look.processes()),
            (GateId::BASELINE, look.memory()),
            (GateId::ECC, look.memory_errors()),
            (GateId::ROWS, look.spare_rows()),
            (GateId::PCIE, look.pcie()),
            (GateId::HEAT, look.heat()),
            (GateId::MODES, look.modes()),
            (GateId::NVLINK, look.nvlinks()),
        ];
        for (gate, (saw, said)) in of_gpu {
            looks.push(seen(gate, Some(uuid), saw, said));
        }
    }
    looks
}

fn driver(gpus: &Gpus) -> Look {
    let version = gpus.driver_version.as_deref().unwrap_or("of unknown version");
    if let Some(trouble) = &gpus.trouble {
        return (Saw::Fail, trouble.clone());
    }
    // A call that hangs is its own GPU's trouble, until none of them answers any more.
    let is_silent = |gpu: &GpuIdentity| {
        let seen = gpus.seen.get(&gpu.uuid);
        seen.is_some_and(|seen| seen.trouble.as_deref() == Some(DOES_NOT_ANSWER))
    };
    if !gpus.identities.is_empty() && gpus.identities.iter().all(is_silent) {
        return (Saw::Fail, format!("{DOES_NOT_ANSWER} about any GPU"));
    }
    (Saw::Pass, format!("driver {version} answers"))
}

fn count(gpus: &Gpus, declared: Option<u32>) -> Look {
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
        _ if declared.is_some_and(|declared| gpus.boards.len() != declared as usize) => {
            let declared = declared.unwrap_or_default();
            (
                Saw::Fail,
                format!("{} GPUs were found and {declared} are declared", gpus.boards.len()),
            )
        }
        count => (Saw::Pass, format!("{count} GPUs were found")),
    }
}

/// The worst of what several looks saw: one failure fails the gate, one that is unknown leaves it
/// unknown, and only what is not there at all says nothing.
fn worst(looks: impl IntoIterator<Item = Look>) -> Look {
    let weight = |saw: Saw| match saw {
        Saw::Fail => 3,
        Saw::Unknown => 2,
        Saw::Pass => 1,
        Saw::NotApplicable => 0,
    };
    // Of several that weigh the same the first speaks.
    let heavier = |a: Look, b: Look| if weight(b.0) > weight(a.0) { b } else { a };
    let nothing = || (Saw::NotApplicable, "nothing of it is here".to_owned());
    looks.into_iter().reduce(heavier).unwrap_or_else(nothing)
}

/// A value that was read, or what its absence makes of a gate.
fn known<'a, T>(value: &'a Value<T>, what: &str) -> Result<&'a T, Look> {
    match value {
        Value::Value(value) => Ok(value),
        Value::Unsupported => Err((Saw::NotApplicable, format!("the GPU does not tell {what}"))),
        Value::Error(why) => Err((Saw::Unknown, format!("{what} cannot be read: {why}"))),
    }
}

/// One GPU's look.
struct One<'a> {
    gpus: &'a Gpus,
    identity: &'a GpuIdentity,
    /// The GPU that it is (a part of).
    board: Option<&'a Board>,
    last: Option<&'a Seen>,
    sections: Option<&'a Sections>,
    holder: Option<&'a ReplicaId>,
    past: Option<&'a history::Past>,
    declared: Declared,
    settings: &'a Settings,
    now: Boottime,
}

impl<'a> One<'a> {
    fn answers(&self) -> Look {
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
    fn fresh(&self) -> Result<&'a Seen, Look> {
        match (self.answers(), self.last) {
            ((Saw::Pass, _), Some(last)) => Ok(last),
            ((_, why), _) => Err((Saw::Unknown, why)),
        }
    }

    /// One of the slower readings, if it may be believed. A GPU whose quick readings are fresh
    /// reads the slower ones too: one thread does both.
    fn section<T>(&self, which: impl Fn(&'a Sections) -> Option<&'a T>) -> Result<&'a T, Look> {
        self.fresh()?;
        let section = self.sections.and_then(which);
        section.ok_or_else(|| (Saw::Unknown, "it was not read yet".to_owned()))
    }
}

#[cfg(test)]
mod tests;
