//! Gates of GPUs on a host with real processes: each fails for its own reason, and only on the GPU
//! that is at fault.

use serde_json::{Value, json};

use crate::common::wait_for;
use crate::journeys::fleet;

const DECLARED: &str = "[health]\nread_kmsg = false\n[health.declared]\necc = true\nmig = false\n\
                        persistence = true\nnvlinks = 2\npcie_width = 16\npcie_generation = 5\n\
                        [health.off]\nG16 = \"a test\"\nG17 = \"a test\"\n";

fn gate<'a>(health: &'a Value, gpu: &str, id: &str) -> Option<&'a Value> {
    health["gates"].as_array()?.iter().find(|gate| gate["gpu"] == gpu && gate["id"] == id)
}

#[test]
fn each_gate_of_a_gpu_fails_for_its_own_reason_and_the_other_gpu_stays_open() {
    let mut fleet = fleet("gates");
    let well = |uuid: &str| json!({"uuid": uuid, "nvlinks": [{}, {}]});
    fleet.node.gpus(&json!([well("GPU-a"), well("GPU-b")]));
    fleet.node.settings = DECLARED.to_owned();
    fleet.node.start();
    let read = ["G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G13"];
    let health = |fleet: &crate::journeys::Fleet| Some(fleet.node.status()?["health"].clone());
    wait_for("two GPUs that are well", || {
        let health = health(&fleet)?;
        let passes = |gpu: &str| {
            let state = |id: &&str| gate(&health, gpu, id).map(|gate| gate["state"].clone());
            read.iter().all(|id| state(id) == Some("pass".into()))
        };
        (passes("GPU-a") && passes("GPU-b")).then_some(())
    });
    fleet.node.gpus(&json!([well("GPU-b"), {
        "uuid": "GPU-a",
        "nvlinks": [{}, {"up": false}],
        "modes": {"persistence": false},
        "health": {
            "ecc_uncorrected": 2, "remap_pending": true, "pcie_width": 8,
            "clocks_throttle_reasons": 8,
        },
    }]));
    let bad = [
        ("G7", "2 uncorrected errors in its memory"),
        ("G8", "a row of memory waits for a reset"),
        ("G10", "its PCIe link has 8 lanes; 16 are declared"),
        ("G11", "hw_slowdown held its clocks down"),
        ("G12", "persistence mode is off; on is declared"),
        ("G13", "NVLink 1 is down"),
    ];
    let health = wait_for("six gates that fail", || {
        let health = health(&fleet)?;
        let fails = |id: &str| gate(&health, "GPU-a", id).is_some_and(|g| g["state"] == "fail");
        bad.iter().all(|(id, _)| fails(id)).then_some(health)
    });
    for (id, because) in bad {
        let said = gate(&health, "GPU-a", id).expect("it is shown")["evidence"].to_string();
        assert!(said.contains(because), "{id}: {said}");
    }
    assert_eq!(health["gpus"][0]["unfit"]["rule"], "G7", "{health}");
    assert_eq!(health["gpus"][1]["unfit"], Value::Null, "{health}");
    assert_eq!(health["node"]["node"], "fit", "the other GPU is used on: {health}");
}
