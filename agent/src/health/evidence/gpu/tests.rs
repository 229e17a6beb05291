//! What looks say of GPUs that are well, that are not, and that cannot tell.

use serde_json::{Value as Json, json};
use wharfage_agent_sys::nvml::Section;

use super::*;
use crate::gpu::state::tests::board;

const SEEN_AT: Boottime = Boottime(9_000);

/// A GPU that is well and tells everything.
struct Told {
    gpus: Gpus,
    fast: Json,
    sections: Json,
    settings: Settings,
    holder: Option<ReplicaId>,
}

impl Told {
    fn well() -> Self {
        let uuid = GpuUuid::from("GPU-0");
        let mut seen = Seen::never(&uuid, SEEN_AT);
        seen.reading.memory_used_mib = Some(4);
        seen.reading.temperature_c = Some(40);
        seen.reading.utilization = Some(0);
        let mut gpus = Gpus::default();
        gpus.is_settled = true;
        let board = board("GPU-0", 0, "00000000:1B:00.0");
        gpus.identities = vec![board.slots[0].identity.clone()];
        gpus.boards = vec![board].into();
        gpus.seen.insert(uuid, seen);
        let no = "unsupported";
        let fast = json!({
            "memory": {"total_bytes": no, "used_bytes": no, "free_bytes": no, "reserved_bytes": no},
            "utilization": {
                "gpu_percent": 0, "memory_percent": no, "encoder_percent": no,
                "decoder_percent": no,
            },
            "temperature": {"gpu_c": 40, "memory_c": no},
            "power_mw": no, "throttle_reasons": ["gpu_idle"], "processes": [],
        });
        let clocks = json!({"graphics": no, "sm": no, "memory": no, "video": no});
        let sections = json!({
            "power": {
                "power_limit_mw": no, "power_limit_set_mw": no, "power_limit_default_mw": no,
                "power_limit_min_mw": no, "power_limit_max_mw": no, "energy_mj": no,
                "performance_state": no, "clocks_mhz": clocks, "max_clocks_mhz": clocks,
                "slowdown_c": no, "shutdown_c": no, "memory_max_c": no, "gpu_max_c": no,
                "held_down": {
                    "power_ns": no, "thermal_ns": 0, "sync_boost_ns": no, "board_limit_ns": no,
                    "low_utilization_ns": no, "reliability_ns": no,
                },
            },
            "ecc": {
                "is_enabled": true, "will_be_enabled": true,
                "volatile_corrected": 0, "volatile_uncorrected": 0,
                "aggregate_corrected": 0, "aggregate_uncorrected": 3,
                "sram_volatile_uncorrected": 0, "sram_aggregate_uncorrected": 0,
                "sram_threshold_exceeded": false,
                "retired_pages": {"single_bit": no, "double_bit": no, "is_pending": no},
                "remapped_rows": {
                    "correctable": 0, "uncorrectable": 0, "is_pending": false, "has_failed": false,
                    "banks": {"max": 640, "high": 0, "partial": 0, "low": 0, "none": 0},
                },
            },
            "pcie": {
                "generation": 1, "max_generation": 5, "gpu_max_generation": 5,
                "width": 16, "max_width": 16, "replays": 0,
                "tx_kb_per_second": no, "rx_kb_per_second": no,
                "bar1_total_bytes": no, "bar1_used_bytes": no,
            },
            "nvlink": {"links": [link(0, true), link(1, true)], "fabric": no},
            "modes": {
                "is_mig": false, "will_be_mig": false, "max_mig_instances": no,
                "compute_mode": "default", "is_persistent": true,
            },
        });
        let declared = Declared {
            ecc: Some(true),
            mig: Some(false),
            mig_layout: None,
            persistence: Some(true),
            compute_mode: Some("default".to_owned()),
            nvlinks: Some(2),
            pcie_generation: Some(5),
            pcie_width: Some(16),
        };
        let settings = Settings { gpus: Some(1), declared, ..Settings::default() };
        Self { gpus, fast, sections, settings, holder: None }
    }

    /// One value of a section is another.
    fn with(mut self, pointer: &str, value: impl Into<Json>) -> Self {
        *self.sections.pointer_mut(pointer).expect("it is told") = value.into();
        self
    }

    /// One value of the quick reading is another.
    fn reading(mut self, name: &str, value: Json) -> Self {
        self.fast[name] = value;
        self
    }

    fn seen(mut self, change: impl FnOnce(&mut Seen)) -> Self {
        change(self.gpus.seen.get_mut(&GpuUuid::from("GPU-0")).expect("it was seen"));
        self
    }

    fn declaring(mut self, change: impl FnOnce(&mut Declared)) -> Self {
        change(&mut self.settings.declared);
        self
    }

    /// What the readings are by now.
    fn gpus(&self) -> Gpus {
        let mut gpus = self.gpus.clone();
        let fast = serde_json::from_value(self.fast.clone()).expect("a reading");
        if let Some(seen) = gpus.seen.values_mut().next() {
            seen.fast = Some(std::sync::Arc::new(fast));
        }
        for (number, name) in ["power", "ecc", "pcie", "nvlink", "modes"].into_iter().enumerate() {
            if self.sections[name].is_null() {
                continue;
            }
            let section: Section =
                serde_json::from_value(json!({name: self.sections[name]})).expect("a section");
            gpus.section(SEEN_AT, "GPU-0".into(), number, Some(section), None);
        }
        gpus
    }

    fn looks(&self, history: &History, now: Boottime) -> Vec<Evidence> {
        let holder = self.holder.map(|holder| (GpuUuid::from("GPU-0"), holder));
        let held = holder.into_iter().collect();
        look(&self.gpus(), &held, history, &self.settings, now)
    }

    /// What one gate sees now, without a past.
    fn saw(&self, gate: u8) -> Look {
        let mut history = History::default();
        history.note(&self.gpus(), SEEN_AT);
        of(&self.looks(&history, Boottime(10_000)), gate)
    }
}

fn link(number: u32, is_up: bool) -> Json {
    let no = "unsupported";
    json!({
        "link": number, "is_up": is_up, "version": no, "remote": no, "crc_flit_errors": no,
        "crc_data_errors": no, "replay_errors": no, "recovery_errors": no,
    })
}

fn of(looks: &[Evidence], gate: u8) -> Look {
    let gate = format!("G{gate}");
    let look = looks.iter().find(|look| look.gate.to_string() == gate);
    let look = look.unwrap_or_else(|| panic!("{gate} was not looked at: {looks:?}"));
    (look.saw, look.evidence.clone())
}

#[test]
fn a_gpu_that_is_well_passes_every_gate() {
    let well = Told::well();
    for gate in [2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13] {
        let (saw, said) = well.saw(gate);
        assert_eq!(saw, Saw::Pass, "G{gate}: {said}");
    }
}

#[test]
fn each_gate_fails_for_its_own_reason_and_says_it() {
    let fast = |reasons: Json| Told::well().reading("throttle_reasons", reasons);
    let cases = [
        (2, Told::well().seen(|seen| seen.trouble = Some(DOES_NOT_ANSWER.into())), "about any GPU"),
        (3, Told::well().seen(|seen| seen.trouble = Some(format!("{LOST}: x"))), "GPU-0 is lost"),
        (4, Told::well().seen(|seen| seen.trouble = Some("it hangs".into())), "it hangs"),
        (
            5,
            Told::well().reading("processes", json!([{"pid": 7, "bytes": 1}])),
            "process 7 holds 1 bytes",
        ),
        (6, Told::well().seen(|seen| seen.reading.memory_used_mib = Some(2_000)), "2000 of 81559"),
        (
            7,
            Told::well().with("/ecc/volatile_uncorrected", 2),
            "2 uncorrected errors in its memory",
        ),
        (
            7,
            Told::well().with("/ecc/sram_volatile_uncorrected", 1),
            "1 uncorrected errors in its on",
        ),
        (7, Told::well().with("/ecc/sram_threshold_exceeded", true), "the board is replaced"),
        (8, Told::well().with("/ecc/remapped_rows/is_pending", true), "waits for a reset"),
        (8, Told::well().with("/ecc/remapped_rows/has_failed", true), "replace the board"),
        (
            8,
            Told::well().with("/ecc/remapped_rows/banks/none", 3),
            "3 banks of memory have no spare",
        ),
        (8, Told::well().with("/ecc/retired_pages/is_pending", true), "waits for a reboot"),
        (10, Told::well().with("/pcie/width", 8), "has 8 lanes; 16 are declared"),
        (10, Told::well().with("/pcie/max_generation", 3), "GPU and slot can PCIe generation 3"),
        (
            10,
            Told::well().seen(|seen| seen.reading.utilization = Some(90)),
            "generation 1 under load; 5 is declared",
        ),
        (11, Told::well().seen(|seen| seen.reading.temperature_c = Some(84)), "84 C while idle"),
        (11, fast(json!(["hw_slowdown"])), "hw_slowdown held its clocks down"),
        (11, fast(json!(["gpu_idle", "hw_power_brake_slowdown"])), "hw_power_brake_slowdown held"),
        (12, Told::well().with("/ecc/is_enabled", false), "ECC is off; on is declared"),
        (12, Told::well().with("/modes/is_mig", true), "MIG is on; off is declared"),
        (12, Told::well().with("/modes/is_persistent", false), "persistence mode is off"),
        (12, Told::well().with("/modes/compute_mode", "prohibited"), "is prohibited; default is"),
        (
            12,
            Told::well().declaring(|declared| declared.mig_layout = Some(vec!["1g.10gb".into()])),
            "its MIG layout is []; [1g.10gb] is declared",
        ),
        (13, Told::well().with("/nvlink/links/1/is_up", false), "NVLink 1 is down"),
        (13, Told::well().with("/nvlink/links", json!([])), "0 NVLinks are up; 2 are declared"),
    ];
    for (gate, told, sentence) in cases {
        let (saw, said) = told.saw(gate);
        assert_eq!(saw, Saw::Fail, "G{gate} ({sentence}): {said}");
        assert!(said.contains(sentence), "G{gate}: {said}");
    }
}

#[test]
fn what_a_gpu_does_not_have_is_not_applicable_and_what_could_not_be_read_is_unknown() {
    let no = "unsupported";
    let cases = [
        (
            7,
            ["/ecc/volatile_uncorrected", "/ecc/sram_volatile_uncorrected"].as_slice(),
            "/ecc/sram_threshold_exceeded",
        ),
        (
            8,
            &["/ecc/remapped_rows/is_pending", "/ecc/remapped_rows/has_failed"],
            "/ecc/remapped_rows/banks",
        ),
        (10, &["/pcie/replays", "/pcie/width"], "/pcie/generation"),
        (12, &["/ecc/is_enabled", "/modes/is_mig", "/modes/is_persistent"], "/modes/compute_mode"),
        (13, &[], "/nvlink/links"),
    ];
    for (gate, others, last) in cases {
        let without = |last_is: Json| {
            let told = others.iter().fold(Told::well(), |told, pointer| told.with(pointer, no));
            told.with(last, last_is).saw(gate)
        };
        let (saw, said) = without(no.into());
        assert_eq!(saw, Saw::NotApplicable, "G{gate}: {said}");
        assert!(said.contains("does not tell"), "G{gate}: {said}");
        let (saw, said) = without(json!({"error": "the driver said 999"}));
        assert_eq!(saw, Saw::Unknown, "G{gate}: {said}");
        assert!(said.contains("the driver said 999"), "G{gate}: {said}");
    }
    let (saw, said) = Told::well().reading("processes", no.into()).saw(5);
    assert_eq!(saw, Saw::NotApplicable, "an empty list was not read: {said}");
    let failed = json!({"error": "the driver said 999"});
    let (saw, said) = Told::well().reading("processes", failed).saw(5);
    assert_eq!(saw, Saw::Unknown, "{said}");
    assert!(said.contains("which processes are on it cannot be read"), "{said}");
    for (gate, section) in [(7, "ecc"), (8, "ecc"), (10, "pcie"), (11, "power"), (12, "modes")] {
        let (saw, said) = Told::well().with(&format!("/{section}"), Json::Null).saw(gate);
        assert_eq!((saw, said.as_str()), (Saw::Unknown, "it was not read yet"), "G{gate}");
    }
}

#[test]
fn what_is_not_declared_is_not_looked_at_and_one_gpu_may_differ() {
    let bare = Told::well().declaring(|declared| *declared = Declared::default());
    for (gate, said) in [(12, "nothing is declared of its modes"), (13, "no NVLink is declared")] {
        assert_eq!(bare.saw(gate), (Saw::NotApplicable, said.to_owned()));
    }
    assert_eq!(bare.saw(10).0, Saw::Pass, "packets sent again need no declaration");
    let mut split = Told::well().with("/modes/is_mig", true);
    assert_eq!(split.saw(12).0, Saw::Fail);
    let own = Declared { mig: Some(true), ..Declared::default() };
    split.settings.declared_for.insert("GPU-0".into(), own);
    assert_eq!(split.saw(12).0, Saw::Pass);
    let mut fewer = Told::well();
    fewer.settings.gpus = Some(8);
    assert_eq!(fewer.saw(3), (Saw::Fail, "1 GPUs were found and 8 are declared".to_owned()));
}

#[test]
fn what_happened_within_a_minute_counts_and_what_is_older_does_not() {
    let mut told = Told::well();
    let mut history = History::default();
    let look = |told: &mut Told, history: &mut History, second: u64| {
        let now = Boottime(second * 1000);
        told.gpus.seen.values_mut().for_each(|seen| seen.at = now);
        history.note(&told.gpus(), now);
        let looks = told.looks(history, now);
        (of(&looks, 10).0, of(&looks, 11).0)
    };
    assert_eq!(look(&mut told, &mut history, 10), (Saw::Pass, Saw::Pass));
    told = told.with("/pcie/replays", 8).with("/power/held_down/thermal_ns", 5);
    assert_eq!(look(&mut told, &mut history, 20), (Saw::Fail, Saw::Fail), "counters have grown");
    assert_eq!(look(&mut told, &mut history, 70), (Saw::Fail, Saw::Fail), "within a minute");
    assert_eq!(look(&mut told, &mut history, 81), (Saw::Pass, Saw::Pass), "they grow no more");
    told = told.with("/pcie/replays", 1);
    assert_eq!(look(&mut told, &mut history, 90), (Saw::Pass, Saw::Pass), "a driver loaded anew");
    told.fast["throttle_reasons"] = json!(["hw_thermal_slowdown"]);
    assert_eq!(look(&mut told, &mut history, 100).1, Saw::Fail);
    told.fast["throttle_reasons"] = json!([]);
    assert_eq!(look(&mut told, &mut history, 160).1, Saw::Fail, "it held them down a minute ago");
    assert_eq!(look(&mut told, &mut history, 161).1, Saw::Pass);
}

#[test]
fn a_reading_that_is_not_there_or_too_old_leaves_every_gate_unknown() {
    let hangs = Told::well().seen(|seen| seen.trouble = Some("it hangs".into()));
    let old = Told::well().seen(|seen| seen.at = Boottime(0));
    for gate in [5, 6, 7, 8, 10, 11, 12, 13] {
        assert_eq!(hangs.saw(gate).0, Saw::Unknown, "G{gate}: unknown is no pass");
        assert_eq!(old.saw(gate).0, Saw::Pass, "G{gate}: ten seconds are not too old");
        let looks = old.looks(&History::default(), Boottime(10_001));
        assert_eq!(of(&looks, gate).0, Saw::Unknown, "G{gate}: longer is");
    }
}

#[test]
fn what_a_replica_holds_is_not_judged_by_the_gates_of_idle_gpus() {
    let mut busy = Told::well().seen(|seen| {
        seen.reading.memory_used_mib = Some(60_000);
        seen.reading.temperature_c = Some(88);
    });
    busy.holder = Some(ReplicaId(7));
    for (gate, expected) in
        [(5, Saw::NotApplicable), (6, Saw::NotApplicable), (11, Saw::Pass), (7, Saw::Pass)]
    {
        assert_eq!(busy.saw(gate).0, expected, "G{gate}");
    }
}

#[test]
fn one_gpu_that_hangs_is_closed_alone_and_the_node_only_when_all_do() {
    let mut told = Told::well();
    let second = board("GPU-1", 1, "00000000:2B:00.0");
    told.gpus.identities.push(second.slots[0].identity.clone());
    std::sync::Arc::make_mut(&mut told.gpus.boards).push(second);
    told.settings.gpus = Some(2);
    let other = told.gpus.seen.values().next().cloned().expect("it was seen");
    told.gpus.seen.insert("GPU-1".into(), other);
    let silent = |seen: &mut Seen| seen.trouble = Some(DOES_NOT_ANSWER.into());
    let saw = |told: &Told, gate: &str| {
        let looks = told.looks(&History::default(), Boottime(10_000));
        let of_gate = looks.into_iter().filter(|look| look.gate.to_string() == gate);
        of_gate.map(|look| look.saw).collect::<Vec<_>>()
    };
    told = told.seen(silent);
    assert_eq!(saw(&told, "G4"), [Saw::Fail, Saw::Pass]);
    assert_eq!((saw(&told, "G2"), saw(&told, "G3")), (vec![Saw::Pass], vec![Saw::Pass]));
    told.gpus.seen.values_mut().for_each(silent);
    assert_eq!(saw(&told, "G2"), [Saw::Fail]);
}

#[test]
fn a_host_without_gpus_fails_and_readings_that_have_not_begun_say_nothing() {
    let look = |gpus: &Gpus| {
        let (held, now) = (BTreeMap::new(), Boottime(10_000));
        look(gpus, &held, &History::default(), &Settings::default(), now)
    };
    let none = look(&Gpus::unreadable("no driver".to_owned()));
    assert_eq!(of(&none, 2), (Saw::Fail, "no driver".to_owned()));
    assert_eq!(of(&none, 3).0, Saw::Fail);
    assert_eq!(look(&Gpus::default()), []);
}
