//! A slot that is held: who holds it is named, and it is freed by itself when the proof arrives.

use std::process::{Child, Command};

use wharfage_shared::replica::ReportedPhase;

use crate::common::node::{Node, run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

/// A process that is not of the node.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("it starts"))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().expect("it lives");
        self.0.wait().expect("collected");
    }
}

/// From now on this process holds a GiB of the first GPU.
fn takes_memory(node: &Node, pid: u32) {
    let claims = node.root().join("gpus/claims/GPU-a");
    std::fs::create_dir_all(&claims).expect("folder");
    std::fs::write(claims.join(pid.to_string()), "1073741824\n0\n").expect("written");
}

fn until_held(fleet: &Fleet) -> String {
    wait_for("quarantine", || {
        let last = fleet.scheduler.last()?;
        let first = last.replicas.into_iter().find(|one| one.replica.0 == 1)?;
        let is_held = first.phase == ReportedPhase::Quarantined;
        first.because.filter(|because| is_held && because.contains("is held"))
    })
}

#[test]
fn whoever_holds_a_slot_is_named_with_bytes_and_owner() {
    let mut fleet = fleet("holder");
    fleet.node.start();
    let (first, second) = (run_order(1, "GPU-a"), run_order(2, "GPU-b"));
    fleet.scheduler.order(vec![run_with(first, &[]), run_with(second.clone(), &[])]);
    let neighbour = wait_for("two ready replicas", || {
        let last = fleet.scheduler.last()?;
        let ready = last.replicas.iter().filter(|one| one.phase == ReportedPhase::Ready).count();
        (ready == 2).then_some(fleet.node.record(2)?.engine?)
    });
    let stranger = Stranger::new();
    takes_memory(&fleet.node, stranger.0.id());
    fleet.scheduler.order(vec![stop_order(1, 20), run_with(second, &[])]);
    let because = until_held(&fleet);
    let pid = stranger.0.id();
    let named = format!("GPU-a is held: process {pid} (sleep, user ");
    assert!(because.starts_with(&named), "{because}");
    assert!(because.ends_with(") holds 1073741824 bytes"), "{because}");
    takes_memory(&fleet.node, neighbour.pid);
    drop(stranger);
    wait_for("the neighbour's name", || {
        let because = until_held(&fleet);
        let named = format!("GPU-a is held: process {} (", neighbour.pid);
        let is_named = because.starts_with(&named);
        is_named.then(|| assert!(because.contains(", of r-2) holds 1073741824 "), "{because}"))
    });
    std::fs::remove_file(fleet.node.root().join(format!("gpus/claims/GPU-a/{}", neighbour.pid)))
        .expect("removed");
    assert_eq!(fleet.until_gone().replica.0, 1, "freed by itself");
}
