//! From an XID at a node to its GPU's cordon at the scheduler.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use wharfage_tests::{Dev, until};

use crate::report;

const GPUS: usize = 8;

/// XIDs that get worse, so that each changes what the scheduler knows of the GPU: not listed in the
/// policy, reset, replace.
const WORSE: [u32; 3] = [900, 119, 64];

/// Each GPU breaks, and then breaks worse. The line goes the way of a line of the kernel's log,
/// from the agent's socket on.
pub async fn measure(dev: &Dev) {
    let state = PathBuf::from(dev.text("state_dir")).join("nodes/node-1/state");
    let mut took = Vec::new();
    for xid in WORSE {
        for gpu in 0..GPUS {
            let request = json!({"ask": "inject_xid", "xid": xid, "gpu": gpu.to_string()});
            let begun = Instant::now();
            ask(&state.join("agent.sock"), &request.to_string());
            until("the cordon", async || {
                let (_, row) = dev.admin("GET", "/api/v1/nodes/node-1", None).await;
                let unfit = row["gpus"][gpu]["unfit"].as_str()?.to_owned();
                unfit.contains(&format!("XID {xid}")).then_some(())
            })
            .await;
            took.push(begun.elapsed());
        }
    }
    println!("an XID, on one of eight GPUs:");
    report("XID line -> cordon at the scheduler", &mut took);
    ask(&state.join("agent.sock"), &json!({"ask": "repaired", "by": "operator"}).to_string());
}

fn ask(socket: &std::path::Path, request: &str) {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the agent listens");
    stream.write_all(format!("{request}\n").as_bytes()).expect("it is told");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers");
    assert!(answer.contains("done"), "{answer}");
}
