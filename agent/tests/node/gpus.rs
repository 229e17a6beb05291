//! GPUs that fail in every way that NVML knows: what is told of them, and that the others go on.

use serde_json::{Value, json};
use wharfage_agent::gpu::supervisor::HELPER_OF;
use wharfage_agent_sys::process;
use wharfage_shared::replica::{Ended, ReportedPhase};

use crate::common::node::{run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

const LOST: &str = "the GPU is lost: it fell off the bus (";
const SILENT: &str = "the driver does not answer";

impl Fleet {
    /// What the page says of the GPUs, once it holds.
    fn until(&self, what: &str, holds: impl Fn(&Value, &Value) -> bool) -> Value {
        wait_for(what, || {
            let status = self.node.status()?;
            let [a, b] = ["GPU-a", "GPU-b"].map(|uuid| gpu(&status, uuid));
            holds(&a, &b).then_some(status)
        })
    }

    fn until_both_are_read(&self) {
        self.until("readings of both", |a, b| is_read(a) && is_read(b));
    }
}

fn gpu(status: &Value, uuid: &str) -> Value {
    let gpus = status["gpus"].as_array().cloned().unwrap_or_default();
    gpus.into_iter().find(|gpu| gpu["uuid"] == uuid).unwrap_or_default()
}

fn is_read(gpu: &Value) -> bool {
    let is_fresh = gpu["age_ms"].as_u64().is_some_and(|age| age < 2_000);
    gpu["trouble"].is_null() && gpu["memory_used_mib"].is_u64() && is_fresh
}

/// Whether its trouble begins so; the function and the code follow.
fn says(gpu: &Value, trouble: &str) -> bool {
    gpu["trouble"].as_str().is_some_and(|told| told.starts_with(trouble))
}

fn with_fault(function: &str, code: u32) -> Value {
    json!([{"uuid": "GPU-a", "faults": {function: code}}, {"uuid": "GPU-b"}])
}

#[test]
fn every_error_code_is_a_sentence_about_one_gpu_and_the_other_goes_on() {
    let mut fleet = fleet("codes");
    fleet.node.start();
    fleet.until_both_are_read();
    let mut before = Value::Null;
    for code in (1..=30).chain([999, 4242]) {
        fleet.node.gpus(&with_fault("nvmlDeviceGetPowerUsage", code));
        let is_unsupported = [3, 13, 25, 26].contains(&code);
        let status = fleet.until(&format!("code {code}"), |a, b| {
            let power = &a["readings"]["power_mw"];
            let told = match is_unsupported {
                true => power == "unsupported" && is_read(a),
                false => power["error"].is_string() && *power != before,
            };
            told && is_read(b)
        });
        let a = gpu(&status, "GPU-a");
        let power = &a["readings"]["power_mw"];
        if !is_unsupported {
            // What says that the GPU or the driver is gone is more than a value's error.
            let reaches_far = [1, 8, 9, 11, 12, 14, 15, 16, 18, 28].contains(&code);
            let told = &power["error"];
            let (trouble, unread) =
                if reaches_far { (told, &Value::Null) } else { (&Value::Null, told) };
            assert_eq!(a["trouble"], *trouble, "{code}: placement does not rest on power");
            assert_eq!(a["unread"], *unread, "{code}: what closes nothing is told all the same");
            let place = "(power_mw: nvmlDeviceGetPowerUsage";
            assert!(told.as_str().is_some_and(|told| told.contains(place)), "{code}: {told}");
            assert!(a["memory_used_mib"].is_u64(), "{code}: one value hides no other one");
        }
        before = power.clone();
    }
    for function in ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3"] {
        fleet.node.gpus(&with_fault(function, 999));
        let internal = "the driver says: an internal driver error occurred (";
        let end = format!(": {function} returned 999 NVML_ERROR_UNKNOWN)");
        let status = fleet.until(function, |a, b| says(a, internal) && is_read(b));
        let told = gpu(&status, "GPU-a")["trouble"].to_string();
        assert!(told.contains(&end), "{told}");
        fleet.node.gpus(&with_fault(function, 3));
        fleet.until("its end", |a, b| a["trouble"].is_null() && is_read(b));
    }
}

#[test]
fn a_gpu_whose_name_and_size_cannot_be_read_any_more_keeps_them() {
    let mut fleet = fleet("named");
    fleet.node.start();
    fleet.until_both_are_read();
    let names = ["nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetSerial"];
    let faults: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!(999))).collect();
    fleet.node.gpus(&json!([{"uuid": "GPU-a", "faults": faults}, {"uuid": "GPU-b"}]));
    // The serial number is asked for in the same look.
    let status = fleet.until("another look at who it is", |a, b| {
        a["board"]["serial"]["error"].is_string() && is_read(b)
    });
    let a = gpu(&status, "GPU-a");
    assert_eq!(
        (&a["name"], &a["memory_total_mib"]),
        (&json!("NVIDIA H100 80GB HBM3"), &json!(81559))
    );
    assert!(a["readings"]["memory"]["used_bytes"]["error"].is_string(), "{a}");
}

#[test]
fn a_lost_gpu_and_a_driver_that_was_upgraded_are_named_and_come_back() {
    let mut fleet = fleet("lost");
    let everything = |code: u32| json!({"nvmlInit_v2": code, "*": code});
    fleet.node.start();
    fleet.until_both_are_read();
    fleet.node.gpus(&json!([{"uuid": "GPU-a", "faults": {"*": 15}}, {"uuid": "GPU-b"}]));
    fleet.until("a lost GPU", |a, b| says(a, LOST) && is_read(b));

    let gpus = json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]);
    fleet.node.driver(&json!({"gpus": gpus, "faults": everything(18)}));
    let upgraded = "the NVIDIA driver was upgraded without a reboot: library and kernel module \
                    differ; reboot the host";
    let status = fleet.until("an upgraded driver", |a, b| says(a, upgraded) && says(b, upgraded));
    assert!(status["alarms"].to_string().contains("reboot the host"), "{}", status["alarms"]);

    fleet.node.driver(&json!({"gpus": gpus, "faults": everything(9)}));
    let unloaded = "no NVIDIA driver: its kernel module is not loaded";
    fleet.until("no driver", |a, b| says(a, unloaded) && says(b, unloaded));
    fleet.node.gpus(&gpus);
    fleet.until_both_are_read();
}

#[test]
fn a_gpu_that_hangs_while_it_is_identified_holds_up_nobody() {
    let mut fleet = fleet("identify");
    fleet
        .node
        .gpus(&json!([{"uuid": "GPU-a", "blocks": ["nvmlDeviceGetUUID"]}, {"uuid": "GPU-b"}]));
    fleet.node.start();
    let status = fleet.until("the other one", |a, b| a.is_null() && is_read(b));
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("GPU 0 of NVML's list cannot be identified"), "{alarms}");
    fleet.node.gpus(&json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    fleet.until_both_are_read();
}

/// Helpers of this host's agents, as the process table shows them.
fn helpers(fleet: &Fleet) -> usize {
    let state = fleet.node.root().join("state");
    process::marked(&format!("{HELPER_OF}={}", state.display())).expect("a process table").len()
}

#[test]
fn at_most_three_helpers_live_beside_a_call_that_never_returns_however_often_agents_start() {
    let mut fleet = fleet("helpers");
    fleet.node.start();
    fleet.until_both_are_read();
    let hung = json!([{"uuid": "GPU-a", "blocks": ["*"]}, {"uuid": "GPU-b"}]);
    fleet.node.gpus(&hung);
    let most = std::cell::Cell::new(0);
    let count = || {
        let now = helpers(&fleet);
        most.set(most.get().max(now));
        now
    };
    wait_for("three helpers", || {
        let status = fleet.node.status()?;
        (count() == 3 && status["gpu_helpers"] == 3).then_some(())
    });
    fleet.until("one marked, one read", |a, b| a["trouble"] == SILENT && is_read(b));
    assert_eq!(most.get(), 3);
    fleet.node.kill_agent();
    fleet.node.start();
    let three_hang = "3 helpers of earlier agents sit in calls that do not return";
    // Those that hang are left; the one that read the other GPU may have ended with its agent.
    let fourth = wait_for("what the next agent makes of it", || {
        let status = fleet.node.status()?;
        let now = helpers(&fleet);
        assert!(now <= 3, "{now} helpers live");
        let is_full = status["alarms"].to_string().contains(three_hang);
        (status["gpu_helpers"] == 3 && (is_full || now == 3)).then_some(now)
    });
    assert_eq!(fourth, 3);
    fleet.node.gpus(&json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    fleet.until_both_are_read();
    wait_for("one helper", || {
        let status = fleet.node.status()?;
        (status["gpu_helpers"] == 1 && helpers(&fleet) == 1).then_some(())
    });
}

#[test]
fn a_gpu_whose_xids_are_not_heard_is_in_trouble_until_they_are() {
    let mut fleet = fleet("deaf");
    fleet.node.gpus(
        &json!([{"uuid": "GPU-a", "blocks": ["nvmlDeviceRegisterEvents"]}, {"uuid": "GPU-b"}]),
    );
    fleet.node.start();
    let deaf = "the driver does not answer: its XIDs are not heard";
    fleet.until("a GPU whose XIDs are not heard", |a, b| a["trouble"] == deaf && is_read(b));
    fleet.node.gpus(&json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    fleet.until_both_are_read();
}

#[test]
fn a_count_that_hangs_is_an_alarm_and_every_gpu_is_still_read() {
    let mut fleet = fleet("uncounted");
    let both = json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]);
    fleet.node.start();
    fleet.until_both_are_read();
    fleet.node.driver(&json!({"gpus": both, "blocks": ["nvmlDeviceGetCount_v2"]}));
    let alarmed = || {
        let status = fleet.node.status()?;
        let text = status["alarms"].to_string();
        Some(text.contains("the driver does not answer how many GPUs there are"))
    };
    wait_for("the alarm", || alarmed()?.then_some(()));
    fleet.until_both_are_read();
    fleet.node.gpus(&both);
    wait_for("the alarm's end", || (!alarmed()?).then_some(()));
}

#[test]
fn replicas_heartbeats_and_notices_go_on_beside_a_call_that_hangs() {
    let mut fleet = fleet("beside-hang");
    fleet.node.start();
    fleet.until_both_are_read();
    let (first, second) = (run_order(1, "GPU-a"), run_order(2, "GPU-b"));
    fleet.scheduler.order(vec![run_with(first.clone(), &[]), run_with(second.clone(), &[])]);
    let ready = |number: u32| {
        let last = fleet.scheduler.last()?;
        let one = last.replicas.into_iter().find(|one| one.replica.0 == number)?;
        (one.phase == ReportedPhase::Ready).then_some(())
    };
    wait_for("two ready replicas", || ready(1).and(ready(2)));
    fleet.node.gpus(&json!([{"uuid": "GPU-a", "blocks": ["*"]}, {"uuid": "GPU-b"}]));
    fleet.until("one marked, one read", |a, b| a["trouble"] == SILENT && is_read(b));
    let hung = fleet.scheduler.last().expect("reports");
    wait_for("later reports", || {
        let last = fleet.scheduler.last()?;
        (last.number >= hung.number + 3).then_some(())
    });
    assert!(ready(1).is_some() && ready(2).is_some(), "what serves is not touched");
    // Supervision: an engine that ends is seen at once, and its memory on the GPU that answers.
    let engine = fleet.node.record(2).and_then(|record| record.engine).expect("a record");
    process::signal(engine, rustix::process::Signal::KILL).expect("sent");
    let gone = fleet.until_gone();
    assert_eq!((gone.replica.0, gone.ended), (2, Ended::Signaled { signal: 9 }));
    fleet.node.notice(16);
    wait_for("the notice", || fleet.scheduler.last()?.notices.into_iter().next());
    let because = wait_for("the slot of the GPU that hangs", || {
        let last = fleet.scheduler.last()?;
        let one = last.replicas.into_iter().find(|one| one.replica.0 == 1)?;
        (one.phase == ReportedPhase::Quarantined).then_some(one.because?)
    });
    assert!(because.starts_with("GPU-a cannot be seen free: the driver does not"), "{because}");
    fleet.node.gpus(&json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]));
    wait_for("the other proof", || {
        let last = fleet.scheduler.last()?;
        last.replicas.is_empty().then_some(())
    });
}

#[test]
fn a_library_that_does_not_initialise_marks_all_and_the_agent_goes_on() {
    let mut fleet = fleet("init");
    let gpus = json!([{"uuid": "GPU-a"}, {"uuid": "GPU-b"}]);
    fleet.node.driver(&json!({"gpus": gpus, "blocks": ["nvmlInit_v2"]}));
    fleet.node.start();
    let inventory = wait_for("an inventory", || fleet.scheduler.inventory());
    assert_eq!(
        inventory.gpu_trouble.as_deref(),
        Some("the driver does not answer: NVML does not initialise")
    );
    fleet.node.gpus(&gpus);
    fleet.until_both_are_read();
}

#[test]
fn a_gpu_that_vanishes_stays_known_and_is_missed() {
    let mut fleet = fleet("vanish");
    for place in ["0000:1b:00.0", "0000:43:00.0"] {
        let folder = fleet.node.root().join("pci").join(place);
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("vendor"), "0x10de\n").expect("written");
        std::fs::write(folder.join("class"), "0x030200\n").expect("written");
    }
    let at = |uuid: &str, bus: &str| json!({"uuid": uuid, "pci": format!("0000:{bus}:00.0")});
    let both = json!([at("GPU-a", "1b"), at("GPU-b", "43")]);
    fleet.node.gpus(&both);
    fleet.node.start();
    fleet.until_both_are_read();
    fleet.node.gpus(&json!([at("GPU-b", "43")]));
    let status = fleet
        .until("the news", |a, b| a["trouble"] == "NVML no longer lists this GPU" && is_read(b));
    let missing = &status["gpus_missing"];
    assert_eq!(
        *missing,
        json!([{"pci": "00000000:1B:00.0", "uuid": "GPU-a", "seen_by": ["pci"],
                "not_seen_by": ["nvml"]}])
    );
    fleet.node.gpus(&both);
    fleet.until_both_are_read();
}

#[test]
fn mig_instances_are_the_slots_of_their_gpu() {
    let mut fleet = fleet("mig");
    fleet.node.start();
    fleet.until_both_are_read();
    fleet.node.gpus(&json!([
        {"uuid": "GPU-a", "mig": [{"uuid": "MIG-1"}, {"uuid": "MIG-2", "profile": "3g.40gb",
         "memory_mib": 40448}]},
        {"uuid": "GPU-b"},
    ]));
    let inventory = wait_for("the new layout", || {
        let inventory = fleet.scheduler.inventory()?;
        (inventory.gpus.len() == 3).then_some(inventory)
    });
    let slots: Vec<_> =
        inventory.gpus.iter().map(|gpu| (gpu.uuid.clone(), gpu.memory_mib)).collect();
    let expected = [("MIG-1", 9_856), ("MIG-2", 40_448), ("GPU-b", 81_559)];
    assert_eq!(slots, expected.map(|(uuid, memory_mib)| (uuid.into(), memory_mib)));
    assert_eq!(&*inventory.gpus[1].name, "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
    let status = wait_for("readings of a part", || {
        let status = fleet.node.status()?;
        is_read(&gpu(&status, "MIG-2")).then_some(status)
    });
    let part = gpu(&status, "MIG-2");
    assert_eq!(part["mig"]["parent"], "GPU-a");
    assert_eq!(part["readings"]["utilization"]["gpu_percent"], "unsupported");
    assert_eq!(part["readings"]["memory"]["total_bytes"], 40_448_u64 << 20);
}

#[test]
fn a_mig_instance_is_a_place_of_its_own() {
    let mut fleet = fleet("mig-place");
    fleet.node.gpus(&json!([
        {"uuid": "GPU-a", "mig": [{"uuid": "MIG-1", "memory_mib": 40448},
         {"uuid": "MIG-2", "memory_mib": 40448}]},
        {"uuid": "GPU-b"},
    ]));
    fleet.node.start();
    wait_for("the inventory", || fleet.scheduler.inventory());
    fleet.scheduler.order(vec![run_with(run_order(1, "MIG-2"), &[])]);
    fleet.until_ready();
    let used = |status: &Value, uuid: &str| gpu(status, uuid)["memory_used_mib"].as_u64();
    let status = wait_for("its memory", || {
        let status = fleet.node.status()?;
        (used(&status, "MIG-2") >= Some(20_000)).then_some(status)
    });
    assert!(used(&status, "MIG-1") < Some(300), "the other part of the GPU is not touched");
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    let gone = fleet.until_gone();
    let proof: Vec<_> = gone.memory.iter().map(|proof| proof.gpu.text()).collect();
    assert_eq!(proof, ["MIG-2"], "the instance itself is proven to be free");
}

#[test]
fn an_xid_is_told_once_with_its_gpu() {
    let mut fleet = fleet("xid");
    fleet.node.start();
    fleet.until_both_are_read();
    // What stood there before somebody listened is history: each try adds one.
    let mut xids = vec![13];
    wait_for("the XID", || {
        xids.push(79);
        fleet.node.gpus(&json!([{"uuid": "GPU-a", "xids": xids}, {"uuid": "GPU-b"}]));
        let status = fleet.node.status()?;
        (gpu(&status, "GPU-a")["xids"]["last"] == 79).then_some(())
    });
    let status = fleet.node.status().expect("a status");
    assert_eq!(gpu(&status, "GPU-b")["xids"]["last"], Value::Null);
    let told = wait_for("its incident", || {
        let health = fleet.node.status()?["health"].clone();
        health["incidents"]
            .as_array()?
            .iter()
            .find(|one| one["xids"].to_string().contains("79"))
            .cloned()
    });
    assert_eq!((&told["gpu"], &told["injected"]), (&json!("GPU-a"), &json!(false)), "{told}");
    let notes = fleet.node.status().expect("a status")["notes"].to_string();
    assert_eq!(notes.matches("GPU-a: cordoned by XID 79").count(), 1, "{notes}");
}

#[test]
fn a_steady_heartbeat_of_eight_gpus_and_eight_replicas_is_at_most_8_kib() {
    let mut fleet = fleet("bytes");
    let uuid = |number: u32| format!("GPU-{number}4d2ab8f-7c6e-4b1d-9a51-2f60c1e0d3b7");
    let gpus: Vec<Value> = (0..8).map(|number| json!({"uuid": uuid(number)})).collect();
    fleet.node.gpus(&json!(gpus));
    fleet.node.start();
    let orders = (0..8).map(|number| run_with(run_order(number + 1, &uuid(number)), &[]));
    fleet.scheduler.order(orders.collect());
    let steady = wait_for("eight ready replicas", || {
        let heartbeat = fleet.scheduler.last()?;
        let ready = heartbeat.replicas.iter().filter(|r| r.phase == ReportedPhase::Ready);
        let is_steady = ready.count() == 8 && heartbeat.inventory.is_none();
        (is_steady && heartbeat.readings.len() == 8).then_some(heartbeat)
    });
    let bytes = serde_json::to_vec(&steady).expect("plain data").len();
    println!("a steady heartbeat of 8 GPUs and 8 replicas has {bytes} bytes");
    assert!(bytes <= 8 * 1024, "{bytes} bytes");
}
