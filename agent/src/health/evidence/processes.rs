//! G14 and G17: what the process table shows. A process that is stuck in the kernel is said with
//! its name; helpers that read GPUs are not counted, they have a gate of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_sys::clock;
use wharfage_agent_sys::process::{Process, table};
use wharfage_shared::time::Millis;

use super::{Context, seen};

/// A process may be stuck for this long: a slow disk is no fault.
const STUCK_FOR: Millis = Millis::from_seconds(60);

/// So many ended processes that nobody collects show that somebody does not look after them.
const MOST_ZOMBIES: usize = 32;

/// The share of the host's memory that must be left, in percent.
const LEAST_MEMORY: u64 = 2;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let all = match table() {
        Ok(all) => all,
        Err(error) => {
            let why = format!("the process table cannot be read: {error}");
            let gates = [14, 17];
            return gates
                .into_iter()
                .filter_map(|gate| seen(gate, None, Saw::Unknown, &why))
                .collect();
        }
    };
    let (saw, evidence) = fabric(context, &all);
    let fabric = seen(14, None, saw, evidence);
    let (saw, evidence) = host(context, &all);
    fabric.into_iter().chain(seen(17, None, saw, evidence)).collect()
}

/// Where NVSwitches are, their manager must run.
fn fabric(context: &Context, all: &[Process]) -> (Saw, String) {
    let switches = context.config.health.proc.join("driver/nvidia-nvswitch/devices");
    let has_switches = fs::read_dir(&switches).is_ok_and(|mut devices| devices.next().is_some());
    if !has_switches {
        return (Saw::NotApplicable, "no NVSwitch is here".to_owned());
    }
    // The kernel keeps the first 15 letters of a name.
    if all.iter().any(|process| process.name == "nv-fabricmanage" && !process.is_zombie) {
        return (Saw::Pass, "the fabric manager runs".to_owned());
    }
    (Saw::Fail, "NVSwitches are here and nv-fabricmanager does not run".to_owned())
}

fn host(context: &Context, all: &[Process]) -> (Saw, String) {
    let ours = descendants(all, std::process::id());
    let zombies = ours.iter().filter(|process| process.is_zombie).count();
    if zombies > MOST_ZOMBIES {
        let said = format!("{zombies} ended processes of the agent are not collected");
        return (Saw::Fail, said);
    }
    let now = clock::boottime();
    let mut since = context.stuck();
    let stuck: BTreeMap<_, _> = ours
        .iter()
        .filter(|process| process.is_uninterruptible && !reads_gpus(context, process))
        .map(|process| (process.id, process.name.clone()))
        .collect();
    since.retain(|id, _| stuck.contains_key(id));
    for (id, name) in &stuck {
        let first = *since.entry(*id).or_insert(now);
        if now.since(first) > STUCK_FOR {
            let said = format!("process {} ({name}) has been stuck in the kernel for long", id.pid);
            return (Saw::Fail, said);
        }
    }
    drop(since);
    match memory_left(context) {
        Ok(left) if left < LEAST_MEMORY => (
            Saw::Fail,
            format!("{left} % of the host's memory is left, {LEAST_MEMORY} % is needed"),
        ),
        Ok(_) => (Saw::Pass, "memory is left and no process is stuck".to_owned()),
        Err(why) => (Saw::Unknown, why),
    }
}

fn descendants(all: &[Process], root: u32) -> Vec<&Process> {
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let children = all.iter().filter(|process| family.contains(&process.parent));
        let children: Vec<u32> = children.map(|process| process.id.pid).collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    all.iter()
        .filter(|process| process.id.pid != root && family.contains(&process.id.pid))
        .collect()
}

/// Whether it is a helper that reads GPUs: one that hangs closes its GPU, not the node.
fn reads_gpus(context: &Context, process: &Process) -> bool {
    let path = context.config.health.proc.join(process.id.pid.to_string()).join("cmdline");
    let line = fs::read(path).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"nvml-helper")
}

/// Percent of the host's memory that programs may still have.
fn memory_left(context: &Context) -> Result<u64, String> {
    let path = context.config.health.proc.join("meminfo");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
    };
    let (all, left) = (value("MemTotal:"), value("MemAvailable:"));
    let (Some(all), Some(left)) = (all.filter(|all| *all > 0), left) else {
        return Err(format!("`{}` does not say how much memory is left", path.display()));
    };
    Ok(left.saturating_mul(100) / all)
}
