//! What a guard will be told: everything that can be refused before anything was started.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::RunOrder;

use super::{Driver, Way};
use crate::engines::{Engine, Engines, Ports};
use crate::guard::record::{Baseline, Params};
use crate::users::User;

/// Engines' ports: below the range from which the kernel takes ports for outgoing connections,
/// so that a port that is free now stays free until the engine has bound it.
const ENGINE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So often an engine that finds its port taken is started again on another one.
const SPARE_PORTS: usize = 3;

impl Driver {
    /// The parameters of this order's guard, or one sentence why there can be none.
    pub(super) fn prepare(&self, order: RunOrder, engines: &Engines) -> Result<Params, String> {
        let config = self.config();
        let engine = engines.select(&order)?;
        // Looked up again by the guard, which does not trust what it is told.
        if let Some(user) = engine.user.as_ref().or(config.replicas.user.as_ref()) {
            User::named(user)?;
        }
        let model_dir = self.weights().destination(&order)?;
        let baselines = self.baselines(&order)?;
        let mut spares = ports(&order, engine)?;
        let Ports { port, further } = spares.remove(0);
        let random = random_text().map_err(|error| format!("no random numbers: {error}"))?;
        let group = format!("wharfage-{}-{}-{}", config.node, order.replica, &random[..8]);
        // A unit has a control group of its own already.
        let cgroup = match self.way {
            Way::Process => Cgroup::create(&group).map(|cgroup| cgroup.path().to_owned()),
            Way::Systemd(_) => None,
        };
        Ok(Params {
            boot: self.boot.clone(),
            asked_at: clock::boottime(),
            engines_dir: config.engines_dir.clone(),
            require_root_owned: config.require_root_owned,
            model_dir,
            owners_env: config.env.clone(),
            user: config.replicas.user.clone(),
            mark: format!("WHARFAGE_GUARD={random}"),
            engine_port: port,
            health: engine.health.clone(),
            prove: engine.prove.clone(),
            wire: engine.wire(),
            further_ports: further,
            spares,
            listen_ip: config.guard_listen_ip,
            advertise_host: config.advertised(),
            identity_dir: self.identity_dir.clone(),
            cgroup,
            baselines,
            order,
        })
    }

    /// What each GPU shows while idle: without it no release could be proven later.
    fn baselines(&self, order: &RunOrder) -> Result<Vec<Baseline>, String> {
        let gpus = self.gpus.borrow();
        let troubles = gpus.troubles();
        let one = |gpu| {
            if let Some(trouble) = troubles.get(gpu) {
                return Err(format!("{gpu}: {trouble}"));
            }
            let seen = gpus.seen.get(gpu).ok_or_else(|| format!("this host has no GPU {gpu}"))?;
            let used_mib = seen
                .reading
                .memory_used_mib
                .ok_or_else(|| format!("{gpu}: its memory cannot be read"))?;
            let holders = seen.processes.iter().map(|process| process.pid).collect();
            Ok(Baseline { gpu: gpu.clone(), used_mib, holders })
        };
        order.gpus.iter().map(one).collect()
    }
}

/// The engine's ports: those that are used, and others for an engine that finds its own taken.
fn ports(order: &RunOrder, engine: &Engine) -> Result<Vec<Ports>, String> {
    let mut taken = Vec::new();
    let mut one = || {
        let port = free_port(order.replica, &taken).map_err(|error| error.to_string())?;
        taken.push(port);
        Ok::<u16, String>(port)
    };
    let mut all = Vec::new();
    for _ in 0..=SPARE_PORTS {
        let port = one()?;
        let mut further = BTreeMap::new();
        for name in &engine.ports {
            further.insert(name.clone(), one()?);
        }
        all.push(Ports { port, further });
    }
    Ok(all)
}

/// A loopback port on which nobody listens, other than these. Replicas begin their search at
/// different places.
fn free_port(replica: ReplicaId, taken: &[u16]) -> io::Result<u16> {
    let span = u32::from(ENGINE_PORTS.end - ENGINE_PORTS.start);
    let mut seed = [0; 4];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let first = u32::from_le_bytes(seed).wrapping_add(replica.0);
    for step in 0..span {
        let offset = u16::try_from(first.wrapping_add(step) % span).unwrap_or(0);
        let port = ENGINE_PORTS.start + offset;
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no loopback port is free for an engine"))
}

/// 32 hex digits from the kernel.
pub fn random_text() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}
