//! From a line of the kernel's log about an XID to its GPU's cordon at the scheduler.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use wharfage_tests::{Dev, program, signal, start_time, until};

use crate::report;

const GPUS: usize = 8;

/// So often each GPU breaks: at least a hundred moments in all.
const ROUNDS: u32 = 13;

/// XIDs that no policy lists: each closes its GPU and stands in the reason.
const FIRST_XID: u32 = 900;

/// The node's agent reads its kernel's log from a pipe, and each GPU breaks again and again: the
/// line is written as the kernel writes it, so that reader, parser, judgement, heartbeat and
/// scheduler are all in it.
pub async fn measure(dev: &Dev) {
    let state = PathBuf::from(dev.text("state_dir")).join("nodes/node-1/state");
    let mut log = Log::new(dev);
    let mut agent = log.restart_agent(dev).await;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let xid = FIRST_XID + round;
        for gpu in 0..GPUS {
            let begun = Instant::now();
            log.says(gpu, xid);
            until("the cordon", async || {
                let (_, row) = dev.admin("GET", "/api/v1/nodes/node-1", None).await;
                let unfit = row["gpus"][gpu]["unfit"].as_str()?.to_owned();
                unfit.contains(&format!("XID {xid}:")).then_some(())
            })
            .await;
            took.push(begun.elapsed());
        }
        ask(&state.join("agent.sock"), &json!({"ask": "repaired", "by": "operator"}).to_string());
        until("closed incidents", async || {
            let status = dev.status_now("node-1").await?;
            let incidents = status["health"]["incidents"].as_array()?.clone();
            incidents.iter().all(|incident| !incident["closed"].is_null()).then_some(())
        })
        .await;
    }
    println!("an XID in the kernel's log, on one of eight GPUs:");
    report("XID line -> cordon at the scheduler", &mut took);
    agent.kill().expect("it runs");
    agent.wait().expect("it ends");
}

/// The kernel's log of the node: a pipe.
struct Log {
    path: PathBuf,
    pipe: Option<File>,
    /// Where the GPUs are.
    places: Vec<String>,
    records: u64,
}

impl Log {
    fn new(dev: &Dev) -> Self {
        let path = PathBuf::from(dev.text("state_dir")).join("nodes/node-1/kmsg");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success(), "a pipe");
        Self { path, pipe: None, places: Vec::new(), records: 0 }
    }

    /// The node's agent is ended and another one reads the pipe.
    async fn restart_agent(&mut self, dev: &Dev) -> std::process::Child {
        let before = dev.daemon("node-1");
        signal(before, Signal::TERM);
        until("its end", async || start_time(before).is_none().then_some(())).await;
        let config = format!("{}/etc/node-1.toml", dev.text("state_dir"));
        let text = std::fs::read_to_string(&config).expect("the node's settings");
        let reads = format!("read_kmsg = true\nkmsg = {:?}", self.path.display().to_string());
        assert!(text.contains("read_kmsg = false"), "{text}");
        std::fs::write(&config, text.replace("read_kmsg = false", &reads)).expect("written");
        let agent = Command::new(program("wharfage-agent")).args(["--config", &config]).spawn();
        let agent = agent.expect("the agent starts");
        // It opens once the agent reads, and stays open: the log never ends.
        self.pipe = Some(File::options().write(true).open(&self.path).expect("a reader is there"));
        until("a node that is fit", async || {
            let status = dev.status_now("node-1").await?;
            let names = status["gpu_names"].as_array()?.clone();
            let places = names.iter().map(|gpu| gpu["pci"].as_str().map(str::to_owned));
            self.places = places.collect::<Option<_>>()?;
            (self.places.len() == GPUS && is_fit(&status)).then_some(())
        })
        .await;
        agent
    }

    /// A record as the kernel writes it.
    fn says(&mut self, gpu: usize, xid: u32) {
        self.records += 1;
        let uptime = std::fs::read_to_string("/proc/uptime").expect("the kernel says it");
        let first = uptime.split(' ').next().unwrap_or_default();
        let seconds: f64 = first.parse().expect("seconds");
        let record = format!(
            "3,{},{:.0},-;NVRM: Xid (PCI:{}): {xid}, pid='<unknown>', name=<unknown>, a bench\n",
            self.records,
            seconds * 1e6,
            self.places[gpu]
        );
        let pipe = self.pipe.as_mut().expect("the agent reads it");
        pipe.write_all(record.as_bytes()).expect("it is written");
    }
}

fn is_fit(status: &Value) -> bool {
    status["health"]["node"]["node"] == "fit"
}

fn ask(socket: &Path, request: &str) {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the agent listens");
    stream.write_all(format!("{request}\n").as_bytes()).expect("it is told");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    assert!(answer.contains("done"), "{answer}");
}
