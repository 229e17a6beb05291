//! What the agent refuses at its start, with the exit codes of `docs/operating.md`.

use crate::common::node::Node;
use crate::common::scheduler::{SECRET, Scheduler};
use crate::common::wait_for;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("wharfage-refusals-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_second_agent_on_the_same_state_folder_ends_with_75() {
    let folder = Folder::new("second");
    let scheduler = Scheduler::start(&folder.0);
    let mut node = Node::new(scheduler.join(SECRET));
    node.start();
    wait_for("the first agent", || scheduler.last());
    let config = node.root().join("agent.toml");
    let (status, said) = node.another(&["--config", config.to_str().expect("UTF-8")]);
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains("another agent runs with the state folder"), "{said}");
}

#[test]
fn a_join_that_is_refused_ends_with_78_and_says_what_to_do() {
    let folder = Folder::new("join");
    let scheduler = Scheduler::start(&folder.0);
    let node = Node::new(scheduler.join("used-already"));
    let config = node.config("");
    let (status, said) = node.another(&["--config", config.to_str().expect("UTF-8")]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("ask an operator for a new one (join_used_up)"), "{said}");
    assert_eq!(scheduler.enrolments(), 0);
}

#[test]
fn bad_settings_end_with_78_and_bad_usage_with_64() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    let config = node.config("colour = \"red\"");
    let config = config.to_str().expect("UTF-8");
    let (status, said) = node.another(&["--config", config, "check-config"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("unknown field `colour`"), "{said}");
    node.config("");
    let (status, said) = node.another(&["--config", config, "check-config"]);
    assert_eq!(status.code(), Some(0), "{said}");
    node.hook("open", "true", 5, 0o666);
    let (status, said) = node.another(&["--config", config, "check-config"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("everybody may write it"), "{said}");
    for usage in [&["--colour"][..], &[][..]] {
        let (status, said) = node.another(usage);
        assert_eq!(status.code(), Some(64), "{said}");
    }
}

/// What each host without GPUs shows NVML, and the statement that its operator reads.
const WITHOUT_GPUS: [(&str, &str, &str); 4] = [
    ("no library", "", "no NVIDIA driver: the library `"),
    (
        "no driver",
        r#"{"gpus":[],"faults":{"nvmlInit_v2":9}}"#,
        "no NVIDIA driver: its kernel module is not",
    ),
    (
        "a container without devices",
        r#"{"gpus":[],"faults":{"nvmlInit_v2":17}}"#,
        "the operating system blocks the GPU (device cgroup, container runtime)",
    ),
    (
        "devices that the agent's user may not open",
        r#"{"gpus":[],"faults":{"nvmlInit_v2":4}}"#,
        "no permission: the agent's user may not ask this of the driver",
    ),
];

#[test]
fn a_host_without_gpus_says_so_plainly_and_its_agent_goes_on() {
    for (host, driver, statement) in WITHOUT_GPUS {
        let folder = Folder::new(&format!("driver-{}", host.len()));
        let scheduler = Scheduler::start(&folder.0);
        let mut node = Node::new(scheduler.join(SECRET));
        match driver {
            "" => node.nvml_library = node.root().join("libnvidia-ml.so.1"),
            text => node.driver(&serde_json::from_str(text).expect("JSON")),
        }
        node.start();
        let inventory = wait_for(host, || scheduler.inventory());
        assert_eq!(inventory.gpus.len(), 0, "{host}");
        let trouble = inventory.gpu_trouble.unwrap_or_default();
        assert!(trouble.contains(statement), "{host}: {trouble}");
        let (pid, first) = (node.agent_pid(), scheduler.last().expect("a report"));
        // By then another helper was tried: neither that one nor the agent ended for it.
        wait_for("later reports", || {
            let last = scheduler.last()?;
            assert_eq!(last.epoch, first.epoch, "{host}: it was started again");
            (last.number >= first.number + 4).then_some(())
        });
        let status = node.status().unwrap_or_else(|| panic!("{host}: no page"));
        assert!(status["alarms"].to_string().contains(statement), "{host}: {}", status["alarms"]);
        assert!(wharfage_agent_sys::process::identify(pid).is_some(), "{host}: it ended");
    }
}

#[test]
fn a_status_port_in_use_ends_with_69_and_names_the_port() {
    let node = Node::new(format!("wharfage-join:v1:127.0.0.1:1:{}:x", "0".repeat(64)));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let config = node.config("");
    let text = std::fs::read_to_string(&config).expect("written");
    let listen = text.lines().find(|line| line.starts_with("listen")).expect("it is there");
    std::fs::write(&config, text.replace(listen, &format!("listen = \"{address}\"")))
        .expect("written");
    let (status, said) = node.another(&["--config", config.to_str().expect("UTF-8")]);
    assert_eq!(status.code(), Some(69), "{said}");
    let port = address.port();
    assert!(said.contains(&format!("status.listen: port {port} on 127.0.0.1 is in use")), "{said}");
}
