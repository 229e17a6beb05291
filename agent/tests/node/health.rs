//! Health on a host with real processes: what the kernel's log says, drills, an operator's words.

use std::io::Write;

use serde_json::Value;
use wharfage_agent_sys::clock;

use crate::common::node::Node;
use crate::common::scheduler::{SECRET, Scheduler};
use crate::common::wait_for;

struct Fleet {
    // Dropped first: the agent ends before its scheduler does.
    node: Node,
    _scheduler: Scheduler,
    folder: std::path::PathBuf,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A node whose agent reads its kernel's log from a file and runs with these further settings.
fn fleet(name: &str, further: &str) -> Fleet {
    let folder =
        std::env::temp_dir().join(format!("wharfage-health-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let scheduler = Scheduler::start(&folder);
    let mut node = Node::new(scheduler.join(SECRET));
    std::fs::write(node.root().join("kmsg"), "").expect("written");
    let kmsg = node.root().join("kmsg").display().to_string();
    // Whatever the disk of the test's host is, it is not what the test is about.
    node.settings =
        format!("[health]\nkmsg = \"{kmsg}\"\n{further}\n[health.off]\nG16 = \"a test\"\n");
    node.start();
    Fleet { node, _scheduler: scheduler, folder }
}

impl Fleet {
    fn health(&self) -> Option<Value> {
        Some(self.node.status()?["health"].clone())
    }

    fn until_fit(&self) {
        wait_for("a node that is fit", || (self.health()?["node"]["node"] == "fit").then_some(()));
    }

    /// The first open incident.
    fn until_incident(&self) -> Value {
        wait_for("an incident", || {
            let incidents = self.health()?["incidents"].clone();
            incidents.as_array()?.iter().find(|one| one["closed"].is_null()).cloned()
        })
    }

    /// A record of the kernel's log.
    fn kernel(&self, record: &str) {
        let path = self.node.root().join("kmsg");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("it is there");
        file.write_all(format!("{record}\n").as_bytes()).expect("written");
    }

    /// `wharfage-agent` with this node's configuration: its exit code and what it complained of.
    fn runs(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let config = self.node.root().join("agent.toml").display().to_string();
        let all: Vec<&str> =
            ["--config", &config].into_iter().chain(arguments.iter().copied()).collect();
        let (status, said) = self.node.another(&all);
        (status.code(), said)
    }

    fn pci_of_the_first(&self) -> String {
        wait_for("the GPUs' names", || {
            Some(self.node.status()?["gpu_names"][0]["pci"].as_str()?.to_owned())
        })
    }
}

#[test]
fn an_xid_of_the_kernel_closes_the_node_and_what_a_process_writes_does_not() {
    let fleet = fleet("kernel", "");
    fleet.until_fit();
    let pci = fleet.pci_of_the_first();
    fleet.kernel(&format!("12,1,1000,-;NVRM: Xid (PCI:{pci}): 48, written by a process"));
    fleet.kernel(&format!("3,2,2000,-;NVRM: Xid (PCI:{pci}): 79, GPU has fallen off the bus."));
    let incident = fleet.until_incident();
    assert_eq!(incident["xids"], serde_json::json!([79]), "{incident}");
    assert_eq!(incident["gpu"], "GPU-a");
    let health = fleet.health().expect("a status");
    assert_eq!(health["node"]["node"], "unfit", "{health}");
    assert_eq!(health["node"]["rule"], "XID 79");
    let asks = health["asks"].to_string();
    assert!(asks.contains("drain") && asks.contains("reboot"), "{asks}");
}

#[test]
fn an_xid_of_a_split_gpu_is_one_incident_whoever_tells_it() {
    let fleet = fleet("split", "allow_injection = true");
    fleet.until_fit();
    let pci = fleet.pci_of_the_first();
    let mut xids = Vec::new();
    let mut driver_says = |xid: u32| {
        xids.push(xid);
        let split = serde_json::json!([
            {"uuid": "GPU-a", "mig": [{"uuid": "MIG-1"}, {"uuid": "MIG-2"}], "xids": xids},
            {"uuid": "GPU-b"},
        ]);
        fleet.node.gpus(&split);
    };
    driver_says(43);
    wait_for("the instances", || {
        let gpus = fleet.health()?["gpus"].clone();
        (gpus.as_array()?.len() == 3).then_some(())
    });
    fleet.kernel(&format!("3,1,2000,-;NVRM: Xid (PCI:{pci} GPU-I:05): 119, Timeout after 6s"));
    assert_eq!(fleet.until_incident()["gpu"], "GPU-a");
    assert_eq!(fleet.runs(&["inject", "xid", "62", "--gpu", "MIG-2"]).0, Some(0));
    // What NVML tells comes into the same burst.
    let health = wait_for("what NVML tells", || {
        driver_says(46);
        let health = fleet.health()?;
        health["incidents"][0]["xids"].to_string().contains("46").then_some(health)
    });
    let incidents = health["incidents"].as_array().expect("a list");
    let on: Vec<_> = incidents.iter().map(|one| (&one["gpu"], &one["injected"])).collect();
    let whole = Value::from("GPU-a");
    assert_eq!(on, [(&whole, &false.into()), (&whole, &true.into())], "{health}");
    let closed = |at: usize| !health["gpus"][at]["unfit"].is_null();
    assert_eq!((closed(0), closed(1), closed(2)), (true, true, false), "{health}");
    // Its parts are new: the node is looked at anew, and is fit although one of its GPUs is not.
    fleet.until_fit();
    assert_eq!(fleet.runs(&["repaired", "--gpu", "GPU-a"]).0, Some(0), "it may be named whole");
    wait_for("its end", || (fleet.health()?["asks"] == serde_json::json!([])).then_some(()));
}

#[test]
fn an_xid_that_names_an_instance_restarts_what_runs_on_that_one() {
    let fleet = fleet("instance", "");
    fleet.until_fit();
    let pci = fleet.pci_of_the_first();
    let split = |xids: Value| {
        let parts = serde_json::json!([{"uuid": "MIG-1"}, {"uuid": "MIG-2"}]);
        let gpus = serde_json::json!([
            {"uuid": "GPU-a", "mig": parts, "xids": xids}, {"uuid": "GPU-b"},
        ]);
        fleet.node.gpus(&gpus);
    };
    split(serde_json::json!([]));
    let asks = || {
        let health = fleet.health()?;
        let three = health["gpus"].as_array()?.len() == 3;
        let of = |ask: &Value| format!("{} {}", ask["what"].as_str()?, ask["gpu"].as_str()?).into();
        three.then(|| health["asks"].as_array()?.iter().map(of).collect::<Option<Vec<String>>>())?
    };
    wait_for("the instances", asks);
    // What restarts a replica is over after three minutes.
    let micros = clock::boottime().0 * 1000;
    let named = format!("NVRM: Xid (PCI:{pci} GPU-I:02 GPU-CI:00): 13, pid=1, name=a");
    fleet.kernel(&format!("3,1,{micros},-;{named}"));
    let first = wait_for("what the kernel names", || asks().filter(|asks| !asks.is_empty()));
    assert_eq!(first, ["restart_replica MIG-2"]);
    let mut told = Vec::new();
    let both = wait_for("what NVML names", || {
        told.push(serde_json::json!({"xid": 31, "gpu_instance": 1, "compute_instance": 0}));
        split(serde_json::json!(told));
        asks().filter(|asks| asks.len() > 1)
    });
    assert_eq!(both, ["restart_replica MIG-1", "restart_replica MIG-2"]);
    fleet.until_fit();
}

#[test]
fn a_gpu_that_the_kernel_calls_off_the_bus_is_closed_without_an_xids_number() {
    let fleet = fleet("fallen", "");
    fleet.until_fit();
    let pci = fleet.pci_of_the_first().to_lowercase();
    let lines = "\\x0a               NVRM: (PCI ID: 10de:26b5) installed in this system has\\x0a\
                 NVRM: fallen off the bus and is not responding to commands.";
    fleet.kernel(&format!("3,1,2000,-;NVRM: The NVIDIA GPU {pci}{lines}"));
    let incident = fleet.until_incident();
    assert_eq!((&incident["gpu"], incident["xids"][0].as_u64()), (&"GPU-a".into(), Some(79)));
    assert!(!fleet.health().expect("a status")["gpus"][0]["unfit"].is_null());
}

#[test]
fn a_drill_is_refused_until_its_owner_allows_it() {
    let fleet = fleet("refused", "");
    fleet.until_fit();
    let (code, said) = fleet.runs(&["inject", "xid", "79", "--gpu", "0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("set health.allow_injection = true"), "{said}");
    assert_eq!(fleet.health().expect("a status")["incidents"], serde_json::json!([]));
}

#[test]
fn a_drill_is_shown_as_injected_and_closed_by_an_operators_word() {
    let fleet = fleet("drill", "allow_injection = true");
    fleet.until_fit();
    for (bad, code) in [
        (vec!["inject", "xid", "79", "--gpu", "9"], 1),
        (vec!["inject", "xid", "lots", "--gpu", "0"], 64),
        (vec!["inject", "xid", "79"], 64),
    ] {
        assert_eq!(fleet.runs(&bad).0, Some(code), "{bad:?}");
    }
    assert_eq!(fleet.runs(&["inject", "xid", "119", "--gpu", "GPU-b"]).0, Some(0));
    let incident = fleet.until_incident();
    assert_eq!((&incident["gpu"], &incident["injected"]), (&"GPU-b".into(), &true.into()));
    let health = fleet.health().expect("a status");
    assert_eq!(health["node"]["node"], "fit", "only the GPU is closed: {health}");
    let unfit = health["gpus"][1]["unfit"]["because"].as_str().expect("it is closed").to_owned();
    assert!(unfit.starts_with("cordoned by XID 119 (injected)"), "{unfit}");
    assert_eq!(fleet.runs(&["repaired", "--gpu", "GPU-b"]).0, Some(0));
    wait_for("its end", || {
        let health = fleet.health()?;
        (health["asks"] == serde_json::json!([])).then_some(())
    });
    let health = fleet.health().expect("a status");
    let gates = health["gates"].as_array().expect("a list");
    let disk = gates.iter().find(|gate| gate["id"] == "G16").expect("the disk's gate");
    assert_eq!((&disk["state"], &disk["reason"]), (&"off".into(), &"a test".into()));
}

#[test]
fn asking_an_agent_that_does_not_run_ends_with_69() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    let config = node.config("").display().to_string();
    let (status, said) = node.another(&["--config", &config, "inject", "xid", "79", "--gpu", "0"]);
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("does the agent run?"), "{said}");
}
