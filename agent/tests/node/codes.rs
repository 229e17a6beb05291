//! Every code of NVML on the functions that read a GPU, one GPU of eight: what cannot be read says
//! so with its field, its function and the code; all else of that GPU, and the others, are read.
//!
//! Each round gives every function another code and starts the helper process anew, which reads
//! everything once before it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use wharfage_agent_sys::nvml::SECTIONS;

use crate::common::node::Node;

/// The GPU that is ill.
const ILL: usize = 3;

const GPUS: usize = 8;

/// A helper says everything once within this long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Codes of NVML's header, and one that is none.
const CODES: [u32; 32] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    27, 28, 29, 30, 999, 4242,
];

/// Codes that say that the GPU or the driver does not have what was asked for.
const UNSUPPORTED: [u32; 4] = [3, 13, 25, 26];

/// Codes that say that the GPU or the driver is gone.
const FAR: [u32; 10] = [1, 8, 9, 11, 12, 14, 15, 16, 18, 28];

/// Functions of the readings, each with a field that it tells.
const OF_READINGS: [(&str, &str); 35] = [
    ("nvmlDeviceGetUtilizationRates", "utilization.gpu_percent"),
    ("nvmlDeviceGetEncoderUtilization", "utilization.encoder_percent"),
    ("nvmlDeviceGetDecoderUtilization", "utilization.decoder_percent"),
    ("nvmlDeviceGetTemperature", "temperature.gpu_c"),
    ("nvmlDeviceGetFieldValues", "temperature.memory_c"),
    ("nvmlDeviceGetPowerUsage", "power_mw"),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", "throttle_reasons"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", "processes"),
    ("nvmlDeviceGetEccMode", "ecc.is_enabled"),
    ("nvmlDeviceGetTotalEccErrors", "ecc.aggregate_uncorrected"),
    ("nvmlDeviceGetSramEccErrorStatus", "ecc.sram_volatile_uncorrected"),
    ("nvmlDeviceGetRetiredPages", "ecc.retired_pages.double_bit"),
    ("nvmlDeviceGetRetiredPagesPendingStatus", "ecc.retired_pages.is_pending"),
    ("nvmlDeviceGetRemappedRows", "ecc.remapped_rows.correctable"),
    ("nvmlDeviceGetRowRemapperHistogram", "ecc.remapped_rows.banks"),
    ("nvmlDeviceGetMigMode", "modes.is_mig"),
    ("nvmlDeviceGetMaxMigDeviceCount", "modes.max_mig_instances"),
    ("nvmlDeviceGetComputeMode", "modes.compute_mode"),
    ("nvmlDeviceGetPersistenceMode", "modes.is_persistent"),
    ("nvmlDeviceGetGridLicensableFeatures_v4", "modes.is_vgpu_licensed"),
    ("nvmlDeviceGetBAR1MemoryInfo", "pcie.bar1_total_bytes"),
    ("nvmlDeviceGetCurrPcieLinkGeneration", "pcie.generation"),
    ("nvmlDeviceGetMaxPcieLinkGeneration", "pcie.max_generation"),
    ("nvmlDeviceGetGpuMaxPcieLinkGeneration", "pcie.gpu_max_generation"),
    ("nvmlDeviceGetCurrPcieLinkWidth", "pcie.width"),
    ("nvmlDeviceGetPcieReplayCounter", "pcie.replays"),
    ("nvmlDeviceGetPcieThroughput", "pcie.rx_kb_per_second"),
    ("nvmlDeviceGetEnforcedPowerLimit", "power.power_limit_mw"),
    ("nvmlDeviceGetPowerManagementLimitConstraints", "power.power_limit_min_mw"),
    ("nvmlDeviceGetTotalEnergyConsumption", "power.energy_mj"),
    ("nvmlDeviceGetClockInfo", "power.clocks_mhz.sm"),
    ("nvmlDeviceGetMaxClockInfo", "power.max_clocks_mhz.sm"),
    ("nvmlDeviceGetTemperatureThreshold", "power.slowdown_c"),
    ("nvmlDeviceGetViolationStatus", "power.held_down.thermal_ns"),
    ("nvmlDeviceGetNvLinkErrorCounter", "nvlink.links.replay_errors"),
];

/// Functions that also tell who a GPU is: where one of them says that the GPU is gone, it is nobody.
const OF_BOARDS: [(&str, &str); 9] = [
    ("nvmlDeviceGetSerial", "board.serial"),
    ("nvmlDeviceGetPciInfo_v3", "board.pci"),
    ("nvmlDeviceGetMinorNumber", "board.minor"),
    ("nvmlDeviceGetCudaComputeCapability", "board.compute_capability"),
    ("nvmlDeviceGetBoardPartNumber", "board.part_number"),
    ("nvmlDeviceGetVbiosVersion", "board.vbios"),
    ("nvmlDeviceGetModuleId", "board.module"),
    ("nvmlDeviceGetCpuAffinity", "board.cpu_affinity"),
    ("nvmlDeviceGetMemoryInfo_v2", "memory"),
];

fn uuid(number: usize) -> String {
    format!("GPU-{number}")
}

/// What one helper has said.
#[derive(Default)]
struct Said {
    /// Values of each GPU by path; of an error its sentence.
    values: BTreeMap<String, BTreeMap<String, Told>>,
    /// GPUs that could not be identified.
    absent: Vec<Value>,
    /// What is wrong with each, by UUID, from the readings.
    trouble: BTreeMap<String, String>,
    readings: BTreeSet<String>,
    sections: BTreeSet<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Value,
    Unsupported,
    Error(String),
}

impl Said {
    fn hear(&mut self, word: &Value) {
        if let Some(gpus) = word.get("gpus") {
            self.absent = gpus["absent"].as_array().cloned().unwrap_or_default();
            for board in gpus["boards"].as_array().into_iter().flatten() {
                self.take(text(&board["uuid"]), "board", board);
            }
        } else if let Some(reading) = word.get("reading") {
            for slot in reading["slots"].as_array().into_iter().flatten() {
                let uuid = text(&slot["slot"]);
                self.take(uuid, "", &slot["fast"]);
                self.readings.insert(uuid.to_owned());
                if let Some(because) = slot["trouble"]["because"].as_str() {
                    self.trouble.insert(uuid.to_owned(), because.to_owned());
                }
            }
        } else if let Some(section) = word.get("section") {
            let uuid = text(&section["gpu"]);
            self.take(uuid, "", &section["section"]);
            let number = section["number"].as_u64().expect("a number");
            self.sections.insert((uuid.to_owned(), number));
        } else {
            assert!(word.get("hanging").is_some(), "{word}");
        }
    }

    fn take(&mut self, uuid: &str, at: &str, value: &Value) {
        let told = match value {
            Value::Null => return,
            Value::Object(fields) if fields.len() == 1 && fields.contains_key("error") => {
                Told::Error(text(&fields["error"]).to_owned())
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    self.take(uuid, &path, value);
                }
                return;
            }
            Value::Array(all) if all.iter().any(Value::is_object) => {
                return all.iter().for_each(|value| self.take(uuid, at, value));
            }
            Value::String(word) if word == "unsupported" => Told::Unsupported,
            Value::String(_) | Value::Array(_) | Value::Number(_) | Value::Bool(_) => Told::Value,
        };
        self.values.entry(uuid.to_owned()).or_default().insert(at.to_owned(), told);
    }

    fn of(&self, number: usize) -> BTreeMap<String, Told> {
        let mut of = self.values.get(&uuid(number)).cloned().unwrap_or_default();
        // Performance counters need two looks, of which the second may come while others are heard.
        // What the scheduler knows a slot by leaves out what is not known.
        of.retain(|path, _| !path.starts_with("gpm") && !path.starts_with("board.slots"));
        of
    }

    /// Paths of the ill GPU by the sentence that stands there.
    fn errors(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut errors: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, told) in self.of(ILL) {
            if let Told::Error(because) = told {
                errors.entry(because).or_default().insert(path);
            }
        }
        errors
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A host and the helpers that were started on it: each ends by itself when its input is closed.
struct Host {
    node: Node,
    helpers: Vec<Child>,
}

impl Host {
    fn new() -> Self {
        Self { node: Node::new(String::new()), helpers: Vec::new() }
    }

    /// Starts a helper beside these faults and hears what it says of this many GPUs.
    fn look(&mut self, faults: &BTreeMap<&str, u32>, whole: usize) -> Said {
        let gpu = |number: usize| {
            let faults = if number == ILL { json!(faults) } else { json!({}) };
            json!({"uuid": uuid(number), "pci": format!("0000:{:02x}:00.0", 16 + number),
                   "nvlinks": [{}], "fabric": {}, "health": {"retired_pages": 1},
                   "faults": faults})
        };
        self.node.gpus(&(0..GPUS).map(gpu).collect());
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"));
        command.arg("nvml-helper").arg("--library").arg(&self.node.nvml_library);
        command.env("WHARFAGE_FAKE_GPUS", self.node.root().join("gpus"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut helper = command.spawn().expect("it starts");
        let lines = lines_of(&mut helper);
        let mut said = Said::default();
        while said.readings.len() < whole || said.sections.len() < whole * SECTIONS {
            let line = lines.recv_timeout(PATIENCE).expect("a word in time");
            let words: Vec<Value> = serde_json::from_str(&line).expect("a list of words");
            words.iter().for_each(|word| said.hear(word));
        }
        drop(helper.stdin.take());
        self.helpers.push(helper);
        said
    }

    fn until_all_ended(&mut self) {
        for helper in &mut self.helpers {
            assert!(helper.wait().expect("collected").success());
        }
    }
}

fn lines_of(helper: &mut Child) -> Receiver<String> {
    let out = helper.stdout.take().expect("piped");
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || {
        // What it says after the last that somebody waits for is read all the same: it must not
        // wait for a full pipe.
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            drop(tell.send(line));
        }
    });
    lines
}

/// How the sentence about this code of this function ends.
fn told_of(field: &str, function: &str, code: u32) -> String {
    match code {
        4242 => format!("4242 ({field}: {function})"),
        code => format!(" ({field}: {function} returned {code} NVML_ERROR_"),
    }
}

/// Whether a sentence is about an answer of this function.
fn is_named(because: &str, function: &str) -> bool {
    [" ", ")"].iter().any(|end| because.contains(&format!(": {function}{end}")))
}

/// What no code of this function says: an empty list has no size that would be too small.
fn is_silent(function: &str, code: u32) -> bool {
    let tells_a_list = ["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetRetiredPages"];
    code == 7 && tells_a_list.contains(&function)
}

#[test]
fn every_code_of_every_function_is_told_with_its_field_and_hides_nothing_else() {
    let mut host = Host::new();
    let healthy = host.look(&BTreeMap::new(), GPUS);
    let is_told = |told: &Told| matches!(told, Told::Value | Told::Unsupported);
    assert!(healthy.of(ILL).values().all(is_told), "{:?}", healthy.errors());
    let functions: Vec<_> = OF_READINGS.into_iter().chain(OF_BOARDS).collect();
    for round in 0..CODES.len() {
        let code_of = |(at, (function, _)): (usize, &(&'static str, &str))| {
            // By sevens: neighbours do not fail in the same way.
            let code = CODES[(at * 7 + round) % CODES.len()];
            let is_nobody = at >= OF_READINGS.len() && FAR.contains(&code);
            (*function, if is_nobody || is_silent(function, code) { 999 } else { code })
        };
        let faults: BTreeMap<&str, u32> = functions.iter().enumerate().map(code_of).collect();
        let said = host.look(&faults, GPUS);
        let errors = said.errors();
        for (function, field) in &functions {
            let (code, of) = (faults[function], said.of(ILL));
            let below = format!("{field}.");
            let here = |path: &String| path == field || path.starts_with(&below);
            if UNSUPPORTED.contains(&code) {
                let named = errors.keys().find(|because| is_named(because, function));
                assert_eq!(named, None, "{function} {code}");
                continue;
            }
            let end = told_of(field, function, code);
            let paths = errors.iter().find(|(because, _)| because.contains(&end));
            let paths = paths.map(|(_, paths)| paths.clone()).unwrap_or_default();
            assert!(paths.iter().any(here), "{end} of {field}: {errors:#?} {of:#?}");
        }
        // Nothing is an error that no faulty function tells; nothing that was read is missing.
        for (path, told) in said.of(ILL) {
            if let Told::Error(because) = &told {
                let named = functions.iter().any(|(name, _)| is_named(because, name));
                assert!(named, "round {round}, {path}: {because}");
            }
        }
        let paths = |of: BTreeMap<String, Told>| of.into_keys().collect::<BTreeSet<_>>();
        let (before, now) = (paths(healthy.of(ILL)), paths(said.of(ILL)));
        let missing: Vec<&String> = before
            .iter()
            .filter(|path| {
                let above = |known: &String| path.starts_with(&format!("{known}."));
                !now.contains(*path) && !now.iter().any(above)
            })
            .collect();
        assert!(missing.is_empty(), "round {round}: {missing:?}");
        for number in (0..GPUS).filter(|number| *number != ILL) {
            assert_eq!(said.of(number), healthy.of(number), "round {round}, GPU {number}");
            assert_eq!(said.trouble.get(&uuid(number)), None, "round {round}");
        }
    }
    host.until_all_ended();
}

#[test]
fn a_gpu_that_says_of_itself_that_it_is_gone_is_named_and_the_seven_others_are_read() {
    let mut host = Host::new();
    let functions = OF_BOARDS.into_iter().chain([("nvmlDeviceGetUUID", "")]);
    for ((function, field), code) in functions.zip(FAR) {
        let said = host.look(&BTreeMap::from([(function, code)]), GPUS - 1);
        let [absent] = &said.absent[..] else { panic!("{function} {code}: {:?}", said.absent) };
        assert_eq!(absent["index"], ILL, "{absent}");
        let place = if field.is_empty() { function } else { &format!("{field}: {function}") };
        let end = format!(" ({place} returned {code} NVML_ERROR_");
        assert!(text(&absent["because"]).contains(&end), "{end}: {absent}");
        for number in (0..GPUS).filter(|number| *number != ILL) {
            assert!(said.of(number).values().all(|told| !matches!(told, Told::Error(_))));
            assert!(said.readings.contains(&uuid(number)), "{function} {code}: GPU {number}");
        }
    }
    host.until_all_ended();
}
