//! Gates of GPUs on a host with real processes: each fails for its own reason, and only on the GPU
//! that is at fault.

use serde_json::{Value, json};

use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

const DECLARED: &str = "[health]\nread_kmsg = false\n[health.declared]\necc = true\nmig = false\n\
                        persistence = true\nnvlinks = 2\npcie_width = 16\npcie_generation = 5\n\
                        [health.off]\nG16 = \"a test\"\nG17 = \"a test\"\n";

/// CUDA sees UUIDs of this form only.
const A: &str = "GPU-aaaaaaaa-0000-0000-0000-000000000001";
const B: &str = "GPU-bbbbbbbb-0000-0000-0000-000000000002";

fn gate<'a>(health: &'a Value, gpu: &str, id: &str) -> Option<&'a Value> {
    health["gates"].as_array()?.iter().find(|gate| gate["gpu"] == gpu && gate["id"] == id)
}

#[test]
fn each_gate_of_a_gpu_fails_for_its_own_reason_and_the_other_gpu_stays_open() {
    let mut fleet = fleet("gates");
    let well = |uuid: &str| json!({"uuid": uuid, "nvlinks": [{}, {}]});
    fleet.node.gpus(&json!([well(A), well(B)]));
    fleet.node.install_cuda();
    fleet.node.settings = DECLARED.to_owned();
    fleet.node.start();
    let read = ["G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G13", "G15"];
    let health = |fleet: &Fleet| Some(fleet.node.status()?["health"].clone());
    wait_for("two GPUs that are well", || {
        let health = health(&fleet)?;
        let passes = |gpu: &str| {
            let state = |id: &&str| gate(&health, gpu, id).map(|gate| gate["state"].clone());
            read.iter().all(|id| state(id) == Some("pass".into()))
        };
        (passes(A) && passes(B)).then_some(())
    });
    fleet.node.gpus(&json!([well(B), {
        "uuid": A,
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
        let fails = |id: &str| gate(&health, A, id).is_some_and(|g| g["state"] == "fail");
        bad.iter().all(|(id, _)| fails(id)).then_some(health)
    });
    for (id, because) in bad {
        let said = gate(&health, A, id).expect("it is shown")["evidence"].to_string();
        assert!(said.contains(because), "{id}: {said}");
    }
    assert_eq!(health["gpus"][0]["unfit"]["rule"], "G7", "{health}");
    assert_eq!(health["gpus"][1]["unfit"], Value::Null, "{health}");
    assert_eq!(health["node"]["node"], "fit", "the other GPU is used on: {health}");
}

/// What is said of CUDA on both GPUs, once it fails.
fn until_cuda_fails(fleet: &Fleet) -> [String; 2] {
    wait_for("CUDA that does not start", || {
        let health = fleet.node.status()?["health"].clone();
        let said = |gpu| {
            let gate = gate(&health, gpu, "G15")?;
            (gate["state"] == "fail").then(|| gate["evidence"].to_string())
        };
        Some([said(A)?, said(B)?])
    })
}

#[test]
fn cuda_is_tried_three_times_before_its_gpu_is_closed() {
    let mut fleet = fleet("cuda");
    let gpus = json!([{"uuid": A}, {"uuid": B}]);
    fleet.node.install_cuda();
    fleet.node.driver(&json!({"gpus": gpus, "faults": {"cuInit": 802}}));
    fleet.node.start();
    for said in until_cuda_fails(&fleet) {
        assert_eq!(said, "\"cuInit failed: CUDA_ERROR_SYSTEM_NOT_READY (802) (3 tries)\"");
    }
}

#[test]
fn a_start_of_cuda_that_hangs_is_left_alone_and_ends_when_the_driver_answers() {
    let mut fleet = fleet("cuda-hangs");
    let gpus = json!([{"uuid": A}, {"uuid": B}]);
    fleet.node.install_cuda();
    fleet.node.driver(&json!({"gpus": gpus, "blocks": ["cuInit"]}));
    fleet.node.start();
    for said in until_cuda_fails(&fleet) {
        assert_eq!(said, "\"CUDA has not started within 20 s\"");
    }
    let library = fleet.node.cuda_library.display().to_string();
    let asking = || {
        let mut asking = 0;
        for process in std::fs::read_dir("/proc").expect("processes").flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let folder = fleet.node.root().display().to_string();
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let is_ours = String::from_utf8_lossy(&environment).contains(&folder);
            let asks = line.contains(&format!("cuda-probe --library {library}"));
            asking += usize::from(is_ours && asks);
        }
        asking
    };
    assert_eq!(asking(), 2, "nobody ends a process inside the driver, or starts another one");
    fleet.node.gpus(&gpus);
    wait_for("their end", || (asking() == 0).then_some(()));
}
