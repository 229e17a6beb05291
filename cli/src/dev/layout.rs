//! The folder of an installation: what lies where, and the files that its daemons read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpSocket;
use wharfage_scheduler_core::words::catalogue;

use super::fleet::DevNode;
use super::keeper::MARKER;
use super::processes::{FAKE_NVML, Programs};
use crate::exit::Failure;

/// What a second `dev` on the same folder goes on with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Installation {
    /// Ports by name (`scheduler`, `machines`, `gateway`, `status-node-1`).
    pub ports: BTreeMap<String, u16>,
    /// The tenant's token, once made.
    pub token: Option<String>,
    /// The gateway resource's id, once made.
    pub gateway_id: Option<String>,
}

/// Paths of one installation.
pub struct Layout {
    /// The folder of everything.
    pub dir: PathBuf,
    /// What is remembered.
    pub installation: Installation,
    /// The ports of `installation` that nobody else is given while this lives.
    kept: Vec<TcpSocket>,
}

/// An engine that an installation of `dev` offers.
const ENGINES: [(&str, &[&str]); 4] = [
    ("vllm", &["0.33.0", "0.22.0+crwv.2", "0.22.0"]),
    ("sglang", &["0.5.23", "0.5.20"]),
    ("dynamo-vllm", &["0.7.1"]),
    ("dynamo-sglang", &["0.7.1"]),
];

const FLAGS: [&str; 14] = [
    "max-model-len",
    "gpu-memory-utilization",
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "max-num-seqs",
    "max-num-batched-tokens",
    "dtype",
    "quantization",
    "kv-cache-dtype",
    "enable-prefix-caching",
    "trust-remote-code",
    "seed",
    "tokens-per-second",
    "context-length",
];

const ENGINE_ENV: [&str; 3] = ["VLLM_LOGGING_LEVEL", "HF_HUB_OFFLINE", "NCCL_DEBUG"];

const CHECKPOINT: &str = r#"#!/bin/sh
# Writes a checkpoint beside traffic: state in pieces, then the manifest, last.
set -eu
PATH=/usr/local/bin:/usr/bin:/bin
cd "$WHARFAGE_CHECKPOINT_DIR"
: > state.bin
for piece in 1 2 3 4 5 6 7 8; do
    head -c 524288 /dev/zero | tr '\0' "$piece" >> state.bin
    echo "progress 0.$piece"
    echo "bytes $((piece * 524288))"
    sleep 0.2
done
sum=$(sha256sum state.bin | cut -d' ' -f1)
size=$(wc -c < state.bin)
printf '{"files":[{"path":"state.bin","bytes":%s,"sha256":"%s"}]}\n' "$size" "$sum" > manifest.part
sync state.bin manifest.part
mv manifest.part manifest.json
echo "progress 1.0"
"#;

const DRAIN: &str = r#"#!/bin/sh
# Traffic is off: say so beside the checkpoints.
set -eu
PATH=/usr/local/bin:/usr/bin:/bin
echo "$WHARFAGE_REPLICA drained: $WHARFAGE_REASON" >> "${WHARFAGE_CHECKPOINT_DIR%/*}/drained.log"
echo "progress 1.0"
"#;

impl Layout {
    /// Opens or makes the folder.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        make(dir)?;
        let dir = dir.canonicalize().map_err(|error| cannot("open", dir, &error))?;
        let marker = dir.join(MARKER);
        let installation = match fs::read_to_string(&marker) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::data(format!("{}: {error}; remove the folder", marker.display()))
            })?,
            Err(_) => Installation::default(),
        };
        let is_used = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
        if is_used && !marker.exists() {
            return Err(Failure::usage(format!(
                "--state-dir {}: the folder holds other things; name an empty or a new one",
                dir.display()
            )));
        }
        let layout = Self { dir, installation, kept: Vec::new() };
        layout.remember()?;
        Ok(layout)
    }

    /// Writes down what a second `dev` goes on with.
    pub fn remember(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.installation).unwrap_or_default();
        write(&self.dir.join(MARKER), &text, 0o600)
    }

    /// The folder of one node.
    pub fn node(&self, node: &DevNode) -> PathBuf {
        self.dir.join("nodes").join(node.id.as_str())
    }

    /// The notice file of one node.
    pub fn notice_file(&self, node: &DevNode) -> PathBuf {
        self.node(node).join("notices/notice.json")
    }

    /// The fake GPU folder of one node.
    pub fn fake_dir(&self, node: &DevNode) -> PathBuf {
        self.node(node).join("fake")
    }

    /// The log file of a daemon.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// The configuration file of a daemon.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join("etc").join(format!("{name}.toml"))
    }

    /// The scheduler's state folder.
    pub fn scheduler_state(&self) -> PathBuf {
        self.dir.join("scheduler")
    }

    /// A port by name: the one used before if nobody listens there, else a free one.
    ///
    /// It is bound here as long as the installation lives, so that nobody else is given it before
    /// its daemon listens or while that is down, and does not listen, so that the daemon may.
    pub fn port(&mut self, name: &str) -> Result<u16, Failure> {
        let none_is_free =
            |error| Failure::unavailable(format!("no free port on 127.0.0.1: {error}"));
        let before = self.port_of(name);
        let socket = bound(before).or_else(|_| bound(0)).map_err(none_is_free)?;
        let port = socket.local_addr().map_err(none_is_free)?.port();
        self.kept.push(socket);
        self.installation.ports.insert(name.to_owned(), port);
        Ok(port)
    }

    /// The port of this name; 0 before it was chosen.
    pub fn port_of(&self, name: &str) -> u16 {
        self.installation.ports.get(name).copied().unwrap_or(0)
    }

    /// Folders, scripts and configurations that do not depend on what daemons answer.
    pub fn prepare(&mut self, nodes: &[DevNode], programs: &Programs) -> Result<(), Failure> {
        for folder in ["etc", "logs", "bin", "hooks.d", "models", "scheduler", "gateway", "nodes"] {
            make(&self.dir.join(folder))?;
        }
        for folder in ["bin", "hooks.d"] {
            close(&self.dir.join(folder))?;
        }
        for (id, script) in [("checkpoint", CHECKPOINT), ("drain", DRAIN)] {
            let program = self.dir.join("bin").join(id);
            write(&program, script, 0o755)?;
            let hook = format!("command = [{}]\ntimeout_seconds = 60\n", quoted(&program));
            write(&self.dir.join("hooks.d").join(format!("{id}.toml")), &hook, 0o644)?;
        }
        self.prepare_scheduler()?;
        for node in nodes {
            self.prepare_node(node, programs)?;
        }
        self.remember()
    }

    fn prepare_scheduler(&mut self) -> Result<(), Failure> {
        let text = format!(
            "listen = \"127.0.0.1:{}\"\nmachines_listen = \"127.0.0.1:{}\"\nstate_dir = {}\n\
             [limits]\nwrites_per_minute = 0\nreads_per_minute = 0\n",
            self.port("scheduler")?,
            self.port("machines")?,
            quoted(&self.scheduler_state()),
        );
        write(&self.config("scheduler"), &text, 0o600)
    }

    /// The gateway's configuration, with its join string.
    pub fn prepare_gateway(&mut self, join: &str) -> Result<(), Failure> {
        let text = format!(
            "name = \"gateway-1\"\nlisten = \"127.0.0.1:{}\"\nstate_dir = {}\njoin = {join:?}\n",
            self.port("gateway")?,
            quoted(&self.dir.join("gateway")),
        );
        write(&self.config("gateway"), &text, 0o600)?;
        self.remember()
    }

    fn prepare_node(&self, node: &DevNode, programs: &Programs) -> Result<(), Failure> {
        for folder in ["state", "cache", "engines.d", "fake/claims", "notices"] {
            make(&self.node(node).join(folder))?;
        }
        close(&self.node(node).join("engines.d"))?;
        let gpus = self.fake_dir(node).join("gpus.json");
        if !gpus.exists() {
            write(&gpus, &fake_gpus(node), 0o644)?;
        }
        for (name, versions) in ENGINES {
            let path = self.node(node).join("engines.d").join(format!("{name}.toml"));
            write(&path, &engine(name, versions, node, programs), 0o644)?;
        }
        Ok(())
    }

    /// One agent's configuration, with its join string.
    pub fn prepare_agent(
        &mut self,
        node: &DevNode,
        pool: &str,
        join: &str,
        programs: &Programs,
    ) -> Result<(), Failure> {
        let own = self.node(node);
        let text = format!(
            "node = \"{id}\"\npool = {pool:?}\njoin = {join:?}\nstate_dir = {state}\n\
             cache_dir = {cache}\nengines_dir = {engines}\nhooks_dir = {hooks}\n\
             require_root_owned = false\ndriver = \"process\"\n\
             [nvml]\nlibrary = {nvml}\ndriver_gpus = {driver_gpus}\n\
             pci_devices = {pci_devices}\n\
             [health]\nallow_injection = true\nread_kmsg = false\n\
             [health.off]\nG15 = \"development: CUDA knows nothing of fake GPUs\"\n\
             G16 = \"development: the disk is whatever it is\"\n\
             G18 = \"development: a shutdown waits for nothing\"\n\
             [notices]\nlogind = false\ncloud = \"none\"\n[notices.file]\npath = {notice}\n\
             [status]\nlisten = \"127.0.0.1:{port}\"\n\
             [timing]\ncheckpoint_seconds = 5\ndrain_seconds = 2\nstop_seconds = 5\n\
             [[bucket]]\nname = \"models\"\ndirectory = {models}\ngenerate_missing = true\n\
             [env]\nWHARFAGE_FAKE_GPUS = {fake}\n",
            id = node.id,
            state = quoted(&own.join("state")),
            cache = quoted(&own.join("cache")),
            engines = quoted(&own.join("engines.d")),
            hooks = quoted(&self.dir.join("hooks.d")),
            nvml = quoted(&programs.path(FAKE_NVML)),
            // The host's own GPUs, if it has any, are none of the fake library's.
            driver_gpus = quoted(&self.fake_dir(node).join("driver")),
            pci_devices = quoted(&self.fake_dir(node).join("pci")),
            notice = quoted(&self.notice_file(node)),
            port = self.port(&format!("status-{}", node.id))?,
            models = quoted(&self.dir.join("models")),
            fake = quoted(&self.fake_dir(node)),
        );
        write(&self.config(node.id.as_str()), &text, 0o600)?;
        self.remember()
    }
}

/// GPUs of the node's SKU, each with a UUID of its own.
fn fake_gpus(node: &DevNode) -> String {
    let listed = catalogue::instance_type(&node.sku);
    let count = listed.map_or(8, |listed| listed.gpus);
    let name = listed.map_or("HGX H100", |listed| listed.gpu);
    let seed = node.id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let gpus: Vec<_> = (0..u32::from(count))
        .map(|index| {
            json!({
                "uuid": format!("GPU-{:08x}-{:04x}-{index:04x}-8000-{:012x}",
                    seed >> 32, (seed >> 16) & 0xffff, seed & 0xffff_ffff_ffff),
                "name": format!("NVIDIA {name}"),
                "serial": format!("{:013}", seed % 1_000_000_000_000 + u64::from(index)),
                "pci": format!("00000000:{:02X}:00.0", 0x18 + index * 0x10 % 0xe0),
                "memory_mib": memory_mib(node),
            })
        })
        .collect();
    serde_json::to_string_pretty(&json!({ "gpus": gpus })).unwrap_or_default()
}

/// Memory of one GPU as NVML reads it: what is sold, less what firmware keeps.
fn memory_mib(node: &DevNode) -> u32 {
    let sold = catalogue::instance_type(&node.sku).map_or(80, |listed| listed.memory_gb);
    u32::from(sold) * 1024 - 361
}

/// What the development engine is told of the others where it runs on several nodes.
const MEMBER: &str = r#"["--rank", "{rank}", "--world-size", "{world_size}", "--leader", "{leader_host}:{leader_port}"]"#;

fn engine(name: &str, versions: &[&str], node: &DevNode, programs: &Programs) -> String {
    let memory = memory_mib(node) / 4 * 3;
    format!(
        "name = {name:?}\nversions = {versions:?}\nflags = {FLAGS:?}\nenv = {ENGINE_ENV:?}\n\
         command = [{program}, \"engine-stub\", \"--port\", \"{{port}}\", \"--model-dir\", \
         \"{{model_dir}}\", \"--served-model-name\", \"{{model_name}}\", \"--load-seconds\", \
         \"{seconds}\", \"--gpu-memory-mib\", \"{memory}\"]\n\
         flag = [\"--flag\", \"{{name}}={{value}}\"]\n\
         [gang]\nleader = {MEMBER}\nfollower = {MEMBER}\n\
         [metrics]\nTotalQueuedRequests = [\"vllm:num_requests_waiting\"]\n\
         TotalRunningRequests = [\"vllm:num_requests_running\"]\n\
         KVCacheUtilization = [\"vllm:kv_cache_usage_perc\"]\n",
        program = quoted(&programs.path("wharfage")),
        seconds = node.load_ms as f64 / 1000.0,
    )
}

/// A socket on this port of the loopback interface (0: any free one) that does not listen.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn make(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| cannot("make", dir, &error))
}

/// What agents run from is refused when a group may write it, as a umask of 002 would have it.
fn close(dir: &Path) -> Result<(), Failure> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .map_err(|error| cannot("set the mode of", dir, &error))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| cannot("write", path, &error))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| cannot("set the mode of", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("cannot {what} {}: {error}", path.display()))
}
