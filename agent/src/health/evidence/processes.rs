//! G14 and G17: what the process table shows. A process that is stuck in the kernel is said with
//! its name; helpers that read GPUs are not counted, they have a gate of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_sys::clock;
use wharfage_agent_sys::process::{Process, table};
use wharfage_shared::health::GateId;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::time::Millis;

use super::{Context, seen};
use crate::guard::record::Folder;

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
            let gates = [GateId::FABRIC, GateId::HOST];
            return gates.map(|gate| seen(gate, None, Saw::Unknown, &why)).into();
        }
    };
    let (saw, evidence) = fabric(context, &all);
    let fabric = seen(GateId::FABRIC, None, saw, evidence);
    let (saw, evidence) = host(context, &all);
    vec![fabric, seen(GateId::HOST, None, saw, evidence)]
}

/// Where NVSwitches are, their manager must run; where memory is shared between hosts, that one too.
fn fabric(context: &Context, all: &[Process]) -> (Saw, String) {
    let health = &context.config.health;
    let switches = health.proc.join("driver/nvidia-nvswitch/devices");
    let has_switches = fs::read_dir(&switches).is_ok_and(|mut devices| devices.next().is_some());
    let mut needed = Vec::new();
    if has_switches {
        // The kernel keeps the first 15 letters of a name.
        needed.push(("NVSwitches are here", "nv-fabricmanage", "nv-fabricmanager"));
    }
    if shares_memory(&health.imex_nodes) {
        needed.push(("hosts to share memory with are named", "nvidia-imex", "nvidia-imex"));
    }
    let runs = |name: &str| all.iter().any(|process| process.name == name && !process.is_zombie);
    let missing = needed.iter().find(|(_, name, _)| !runs(name));
    match (missing, needed.is_empty()) {
        (_, true) => (Saw::NotApplicable, "no NVSwitch and no IMEX domain is here".to_owned()),
        (Some((why, _, program)), _) => (Saw::Fail, format!("{why} and {program} does not run")),
        (None, _) => {
            let programs: Vec<&str> = needed.iter().map(|(_, _, program)| *program).collect();
            (Saw::Pass, format!("running: {}", programs.join(", ")))
        }
    }
}

/// Whether IMEX is told of any host: its file lists one a line.
fn shares_memory(nodes: &Path) -> bool {
    let text = fs::read_to_string(nodes).unwrap_or_default();
    text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

fn host(context: &Context, all: &[Process]) -> (Saw, String) {
    let ours = families(all, std::process::id(), &guards(context));
    let zombies = ours.iter().filter(|(process, _)| process.is_zombie).count();
    if zombies > MOST_ZOMBIES {
        let said = format!("{zombies} ended processes of the agent are not collected");
        return (Saw::Fail, said);
    }
    let now = clock::boottime();
    let mut since = context.stuck();
    let stuck: BTreeMap<_, _> = ours
        .iter()
        .filter(|(process, _)| process.is_uninterruptible && !reads_gpus(context, process))
        .map(|(process, of)| (process.id, (&process.name, of)))
        .collect();
    since.retain(|id, _| stuck.contains_key(id));
    for (id, (name, of)) in &stuck {
        let first = *since.entry(*id).or_insert(now);
        if now.since(first) > STUCK_FOR {
            let whose = of.map(|replica| format!(" of {replica}")).unwrap_or_default();
            let pid = id.pid;
            let said =
                format!("process {pid} ({name}){whose} has been stuck in the kernel for long");
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

/// The guards of this host's replicas: as units they are nobody's children here.
fn guards(context: &Context) -> BTreeMap<u32, ReplicaId> {
    let state = &context.config.state_dir;
    // Replicas whose records cannot be read are told by the driver.
    let replicas = Folder::list(state).unwrap_or_default();
    let guard = |replica: ReplicaId| {
        let record = Folder::of(state, replica).started().ok().flatten()?;
        Some((record.guard.pid, replica))
    };
    replicas.into_iter().filter_map(guard).collect()
}

/// The agent's own processes and those of its replicas, each with whose it is.
fn families<'a>(
    all: &'a [Process],
    agent: u32,
    guards: &BTreeMap<u32, ReplicaId>,
) -> Vec<(&'a Process, Option<ReplicaId>)> {
    let mut whose: BTreeMap<u32, Option<ReplicaId>> = BTreeMap::from([(agent, None)]);
    whose.extend(guards.iter().map(|(guard, replica)| (*guard, Some(*replica))));
    // Members of a guard's session, wherever they hang in the tree.
    for process in all {
        if let Some(replica) = guards.get(&process.session) {
            whose.insert(process.id.pid, Some(*replica));
        }
    }
    loop {
        let before = whose.len();
        for process in all {
            if let Some(of) = whose.get(&process.parent).copied() {
                whose.entry(process.id.pid).or_insert(of);
            }
        }
        if whose.len() == before {
            break;
        }
    }
    let of = |process: &'a Process| {
        let of = whose.get(&process.id.pid).filter(|_| process.id.pid != agent)?;
        Some((process, *of))
    };
    all.iter().filter_map(of).collect()
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
    percent_left(&text)
        .ok_or_else(|| format!("`{}` does not say how much memory is left", path.display()))
}

/// What `/proc/meminfo` says is available of all, in percent.
fn percent_left(meminfo: &str) -> Option<u64> {
    let value = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let all = value("MemTotal:").filter(|all| *all > 0)?;
    Some(value("MemAvailable:")?.min(all).saturating_mul(100) / all)
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;
    use crate::testing::{Folder as TestFolder, repeatable};
    use proptest::prelude::*;
    use wharfage_agent_sys::process::ProcessId;
    use wharfage_shared::time::Boottime;

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn no_page_of_memory_is_too_strange_and_what_is_left_is_a_share(
            page in "(Mem(Total|Available): *[0-9]{0,21}( kB)?\n|[ -~]{0,20}\n){0,6}",
            all in 10_000..u64::MAX / 100, part in 0..=100u64,
        ) {
            prop_assert!(percent_left(&page).is_none_or(|left| left <= 100), "{}", page);
            let left = all / 100 * part;
            let page = format!("MemFree: 7 kB\nMemTotal: {all} kB\nMemAvailable:{left} kB\n");
            let said = percent_left(&page).expect("a page");
            prop_assert!(said <= part && said + 1 >= part, "{} of {}", said, part);
        }
    }

    fn process(pid: u32, parent: u32, state: char, name: &str) -> Process {
        Process {
            id: ProcessId { pid, started: 7 },
            parent,
            session: parent,
            is_zombie: state == 'Z',
            is_uninterruptible: state == 'D',
            name: name.to_owned(),
        }
    }

    fn with_memory(folder: &TestFolder) -> Context {
        std::fs::create_dir_all(folder.path().join("proc")).expect("made");
        let text = "MemTotal: 100000 kB\nMemAvailable: 50000 kB\n";
        std::fs::write(folder.path().join("proc/meminfo"), text).expect("written");
        context(folder)
    }

    /// What the gate says of these processes, each seen before as long as the host is up.
    fn says(context: &Context, all: &[Process]) -> (Saw, String) {
        context.stuck().extend(all.iter().map(|process| (process.id, Boottime(0))));
        host(context, all)
    }

    #[test]
    fn a_process_stuck_in_the_kernel_fails_when_it_is_ours_or_a_replicas_and_stays() {
        let folder = TestFolder::new("gate-stuck");
        let context = with_memory(&folder);
        let own = std::process::id();
        let guard = Folder::of(&context.config.state_dir, ReplicaId(3));
        guard.create().expect("made");
        let id = ProcessId { pid: 4_100_000, started: 7 };
        let claim = crate::guard::record::Claim::Guard(id);
        assert!(guard.claim(&claim).expect("written"));
        let of_replica = process(4_100_002, 4_100_001, 'D', "vllm");
        let unit = [process(4_100_000, 1, 'S', "guard"), process(4_100_001, 4_100_000, 'S', "sh")];
        let all = [unit.as_slice(), std::slice::from_ref(&of_replica)].concat();
        let (saw, said) = says(&context, &all);
        assert_eq!((saw, said.contains("4100002 (vllm) of r-3 has been stuck")), (Saw::Fail, true));
        let hook = [process(4_200_000, own, 'D', "hook")];
        let (saw, said) = says(&context, &hook);
        assert_eq!((saw, said.contains("4200000 (hook) has been stuck")), (Saw::Fail, true));
        let stranger = [process(4_300_000, 1, 'D', "backup")];
        assert_eq!(says(&context, &stranger).0, Saw::Pass, "not ours");
        let line = folder.path().join("proc/4400000/cmdline");
        std::fs::create_dir_all(line.parent().expect("a folder")).expect("made");
        std::fs::write(&line, "wharfage-agent\0nvml-helper\0").expect("written");
        let helper = [process(4_400_000, own, 'D', "wharfage-agent")];
        assert_eq!(says(&context, &helper).0, Saw::Pass, "its GPU alone is closed for that");
        context.stuck().clear();
        assert_eq!(host(&context, &hook).0, Saw::Pass, "a moment in the kernel is no fault");
        assert_eq!(host(&context, &[]).0, Saw::Pass);
        assert!(context.stuck().is_empty(), "one that went on is forgotten");
    }

    #[test]
    fn ended_processes_that_nobody_collects_fail_once_there_are_many() {
        let folder = TestFolder::new("gate-zombies");
        let context = with_memory(&folder);
        let zombies = |count: u32| -> Vec<Process> {
            (0..count).map(|at| process(4_200_000 + at, std::process::id(), 'Z', "gone")).collect()
        };
        assert_eq!(host(&context, &zombies(32)).0, Saw::Pass);
        let (saw, said) = host(&context, &zombies(33));
        assert_eq!((saw, said.starts_with("33 ended processes")), (Saw::Fail, true), "{said}");
    }

    #[test]
    fn each_manager_that_is_needed_must_run() {
        let folder = TestFolder::new("gate-fabric");
        let mut context = context(&folder);
        context.config.health.imex_nodes = folder.path().join("nodes_config.cfg");
        assert_eq!(fabric(&context, &[]).0, Saw::NotApplicable);
        std::fs::write(&context.config.health.imex_nodes, "# nobody yet\n\n").expect("written");
        assert_eq!(fabric(&context, &[]).0, Saw::NotApplicable);
        std::fs::write(&context.config.health.imex_nodes, "10.0.0.1\n").expect("written");
        let (manager, imex) =
            (process(7, 1, 'S', "nv-fabricmanage"), process(8, 1, 'S', "nvidia-imex"));
        let (saw, said) = fabric(&context, std::slice::from_ref(&manager));
        assert_eq!((saw, said.ends_with("nvidia-imex does not run")), (Saw::Fail, true), "{said}");
        let switches = folder.path().join("proc/driver/nvidia-nvswitch/devices/a");
        std::fs::create_dir_all(switches).expect("made");
        let ended = process(7, 1, 'Z', "nv-fabricmanage");
        let (saw, said) = fabric(&context, &[ended, imex.clone()]);
        assert_eq!((saw, said.contains("nv-fabricmanager does not run")), (Saw::Fail, true));
        let (saw, said) = fabric(&context, &[manager, imex]);
        assert_eq!((saw, said.as_str()), (Saw::Pass, "running: nv-fabricmanager, nvidia-imex"));
    }
}
