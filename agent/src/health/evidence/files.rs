//! G19, G20 and G21: hook files that only their owner can write, a model cache that can be used,
//! ports for the guards.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::health::GateId;
use wharfage_shared::ids::{HookId, ReplicaId};
use wharfage_shared::order::Order;

use super::{Context, seen};
use crate::hooks::definition;
use crate::journal::desired::DesiredFile;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let looks = [
        (GateId::HOOKS, hooks(context)),
        (GateId::CACHE, cache(context)),
        (GateId::PORTS, ports(context)),
    ];
    looks.into_iter().map(|(gate, (saw, said))| seen(gate, None, saw, said)).collect()
}

fn hooks(context: &Context) -> (Saw, String) {
    let config = &context.config;
    let (known, refused) = definition::list(&config.hooks_dir, config.trusted_owner());
    // A hook that a replica here needs was removed, or its file was never brought.
    let named = named_hooks(context);
    let missing = named.iter().find(|(hook, _)| !known.iter().any(|(defined, _)| defined == *hook));
    match (refused.first(), missing, known.len()) {
        (Some(refused), _, _) => (Saw::Fail, refused.clone()),
        (None, Some((hook, replica)), _) => {
            let folder = config.hooks_dir.display();
            (Saw::Fail, format!("{replica} names the hook `{hook}`, which `{folder}` has not"))
        }
        (None, None, 0) => (Saw::NotApplicable, "no hooks are defined here".to_owned()),
        (None, None, count) => {
            (Saw::Pass, format!("{count} hooks, none of them writable by others"))
        }
    }
}

/// The hooks that replicas ordered to run here name.
fn named_hooks(context: &Context) -> BTreeMap<HookId, ReplicaId> {
    let mut named = BTreeMap::new();
    // A file that is damaged is told where it is loaded.
    let (desired, _) = DesiredFile::of(&context.config.state_dir).load();
    for order in desired.map(|desired| desired.orders).unwrap_or_default() {
        if let Order::Run(run) = order {
            named.extend(run.hooks.values().map(|hook| (hook.clone(), run.replica)));
        }
    }
    named
}

fn cache(context: &Context) -> (Saw, String) {
    let (config, path) = (&context.config, &context.config.cache_dir);
    let named = |why: String| format!("cache_dir `{}`: {why}", path.display());
    // It is made when the first model is fetched; whether it can be is asked now.
    if let Err(error) = fs::create_dir_all(path) {
        return (Saw::Fail, named(error.to_string()));
    }
    if let Err(error) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        return (Saw::Fail, named(error.to_string()));
    }
    let Some(wanted) = &config.health.cache_filesystem else {
        return (Saw::Pass, "it is there and can be written".to_owned());
    };
    match filesystem(context, path) {
        Some(is) if is == *wanted => (Saw::Pass, format!("it is on {is}, as declared")),
        Some(is) => (Saw::Fail, named(format!("it is on {is}, {wanted} is declared"))),
        None => (Saw::Unknown, named("the kernel does not say what it is on".to_owned())),
    }
}

/// The type of the filesystem that holds the path: of the mounts above it the nearest, and of those
/// at one place the last.
fn filesystem(context: &Context, path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string(context.config.health.proc.join("self/mountinfo")).ok()?;
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        // `36 35 98:0 /root /mount/point opts - type source opts`
        let (before, after) = line.split_once(" - ")?;
        let point = before.split_whitespace().nth(4)?;
        let kind = after.split_whitespace().next()?;
        let depth = point.len();
        if path.starts_with(point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, kind.to_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

fn ports(context: &Context) -> (Saw, String) {
    let ip = context.config.guard_listen_ip;
    match TcpListener::bind(SocketAddr::from((ip, 0))) {
        Ok(_) => (Saw::Pass, format!("guards can listen on {ip}")),
        Err(error) => (Saw::Fail, format!("guard_listen_ip {ip}: {error}")),
    }
}
