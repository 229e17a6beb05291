//! The fake library seen through `nvml-wrapper`, as the agent sees it.
//!
//! The folder is named by an environment variable of the process, so the stories share one folder
//! and take turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{EventSet, Nvml};

const MIB: u64 = 1024 * 1024;

/// Long enough for a loaded machine; a story that works never waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::new(());
static NAMED: Once = Once::new();

/// The fake GPU folder during one story.
struct Stage {
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn new(gpus: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake-gpus");
        NAMED.call_once(|| {
            // SAFETY: the first thing that a story does, under the lock that all stories take, and
            // before the library, the only one that reads the variable, is loaded.
            unsafe { std::env::set_var("WHARFAGE_FAKE_GPUS", &folder) };
        });
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("claims")).expect("the folder can be made");
        let stage = Self { folder, _turn: turn };
        stage.write(gpus);
        stage
    }

    /// Replaces `gpus.json` as a drill does: by a rename.
    fn write(&self, gpus: &str) {
        let next = self.folder.join("next.json");
        fs::write(&next, gpus).expect("the folder can be written");
        fs::rename(next, self.folder.join("gpus.json")).expect("the file can be replaced");
    }

    fn claim(&self, uuid: &str, pid: u32, text: &str) -> PathBuf {
        let folder = self.folder.join("claims").join(uuid);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let file = folder.join(pid.to_string());
        fs::write(&file, text).expect("the claim can be written");
        file
    }
}

fn library() -> PathBuf {
    let name = "libwharfage_fake_nvml.so";
    let program = std::env::current_exe().expect("a test knows its own path");
    let found = program.ancestors().skip(1).map(|folder| folder.join(name)).find(|so| so.exists());
    found.expect("cargo builds the shared object before the crate's own tests")
}

fn open() -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library().as_os_str()).init()
}

/// The value without quotes, or the error's name: what a story compares.
fn told<T: std::fmt::Debug>(answer: Result<T, NvmlError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}").trim_matches('"').to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// A process that has ended and was waited for.
fn ended_process() -> u32 {
    let mut child = Command::new("true").spawn().expect("`true` can be started");
    let pid = child.id();
    child.wait().expect("`true` ends");
    pid
}

const TWO: &str = r#"{"driver_version":"570.1","cuda_version":"12.8","gpus":[
    {"uuid":"GPU-a","name":"NVIDIA H200","memory_mib":1000,"reserved_mib":100,"baseline_mib":10,
     "temperature_c":40,"power_w":80,"power_limit_w":600,"serial":"42"},
    {"uuid":"GPU-b"}]}"#;

#[test]
fn two_gpus_are_named_and_found_by_index_uuid_and_place() {
    let _stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    assert_eq!(told(nvml.device_count()), "2");
    assert_eq!(told(nvml.sys_driver_version()), "570.1");
    assert_eq!(told(nvml.sys_nvml_version()), "13.570.1");
    assert_eq!(told(nvml.sys_cuda_driver_version()), "12080");

    let first = nvml.device_by_index(0).expect("there is a first GPU");
    assert_eq!(told(first.name()), "NVIDIA H200");
    assert_eq!(told(first.serial()), "42");
    assert_eq!(told(first.temperature(TemperatureSensor::Gpu)), "40");
    assert_eq!(told(first.power_usage()), "80000");
    assert_eq!(told(first.enforced_power_limit()), "600000");
    let second = nvml.device_by_uuid("GPU-b").expect("there is a GPU-b");
    assert_eq!(told(second.index()), "1");
    assert_eq!(told(second.name()), "NVIDIA H100 80GB HBM3");
    let place = second.pci_info().expect("it has a place").bus_id;
    assert_eq!(place, "00000000:43:00.0");
    let found = nvml.device_by_pci_bus_id(place.as_str()).expect("its place finds it");
    assert_eq!(told(found.uuid()), "GPU-b");

    assert_eq!(told(nvml.device_by_index(2)), "InvalidArg");
    assert_eq!(told(nvml.device_by_uuid("GPU-c")), "NotFound");
    assert_eq!(told(nvml.shutdown()), "()");
}

#[test]
fn a_claim_of_a_living_process_is_used_memory_and_utilization() {
    let stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a first GPU");
    let idle = gpu.memory_info().expect("memory is read");
    assert_eq!((idle.total, idle.reserved, idle.used), (1000 * MIB, 100 * MIB, 10 * MIB));
    assert_eq!(idle.free, 890 * MIB);

    let me = std::process::id();
    stage.claim("GPU-a", me, &format!("{}\n35\n", 500 * MIB));
    assert_eq!(gpu.memory_info().expect("memory is read").used, 510 * MIB);
    assert_eq!(gpu.utilization_rates().expect("it is read").gpu, 35);
    let processes = gpu.running_compute_processes().expect("processes are listed");
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].pid, me);
    assert_eq!(processes[0].used_gpu_memory, UsedGpuMemory::Used(500 * MIB));
    assert!(
        nvml.sys_process_name(me, 4096).expect("it has a name").contains("through_the_wrapper")
    );
}

#[test]
fn a_claim_of_a_dead_process_vanishes() {
    let stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a first GPU");
    let claim = stage.claim("GPU-a", ended_process(), "104857600");
    assert_eq!(gpu.memory_info().expect("memory is read").used, 10 * MIB);
    assert!(!claim.exists(), "a later process with the same id would inherit it");
}

#[test]
fn memory_lingers_and_leaks_without_a_process() {
    let stage = Stage::new(r#"{"gpus":[{"uuid":"GPU-a","baseline_mib":0,"linger_seconds":3600}]}"#);
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    stage.claim("GPU-a", ended_process(), "104857600");
    assert_eq!(gpu.memory_info().expect("memory is read").used, 100 * MIB);
    assert_eq!(gpu.running_compute_processes().expect("they are listed"), vec![]);

    stage.write(r#"{"gpus":[{"uuid":"GPU-a","baseline_mib":0,"leak_mib":7}]}"#);
    assert_eq!(gpu.memory_info().expect("memory is read").used, 7 * MIB);
}

#[test]
fn a_fault_answers_with_its_code_until_it_is_removed() {
    let stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    let [first, second] =
        [0, 1].map(|index| nvml.device_by_index(index).expect("there are two GPUs"));
    stage.write(
        r#"{"gpus":[{"uuid":"GPU-a","faults":{"nvmlDeviceGetTemperature":15}},{"uuid":"GPU-b"}],
            "faults":{"nvmlDeviceGetPowerUsage":17}}"#,
    );
    assert_eq!(told(first.temperature(TemperatureSensor::Gpu)), "GpuLost");
    assert_eq!(told(second.temperature(TemperatureSensor::Gpu)), "31");
    assert_eq!(told(second.power_usage()), "OperatingSystem");

    stage.write(r#"{"gpus":[{"uuid":"GPU-b"}]}"#);
    assert_eq!(told(first.name()), "GpuLost", "it is no longer in the machine");
    assert_eq!(told(second.index()), "0", "a handle stays with its GPU");
    assert_eq!(told(second.power_usage()), "72000");
}

#[test]
fn a_driver_that_is_not_there_refuses_to_start() {
    for (code, error) in [(9, "DriverNotLoaded"), (18, "LibRmVersionMismatch")] {
        let _stage = Stage::new(&format!(r#"{{"faults":{{"nvmlInit_v2":{code}}}}}"#));
        assert_eq!(open().err().map(|error| format!("{error:?}")).as_deref(), Some(error));
    }
}

#[test]
fn contents_that_make_no_sense_leave_the_last_good_ones_in_force() {
    let stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    for text in ["", "{", r#"{"gpus":[],"colour":"red"}"#, r#"{"gpus":[{"uuid":"../../etc"}]}"#] {
        stage.write(text);
        assert_eq!(told(nvml.device_count()), "2", "after `{text}`");
    }
    stage.write(r#"{"gpus":[]}"#);
    assert_eq!(told(nvml.device_count()), "0");
}

#[test]
fn a_blocked_call_returns_when_the_file_lets_it_go() {
    let stage = Stage::new(
        r#"{"gpus":[{"uuid":"GPU-a","blocks":["nvmlDeviceGetMemoryInfo_v2"]},{"uuid":"GPU-b"}]}"#,
    );
    let (answer, answered) = mpsc::channel();
    let caller = std::thread::spawn(move || {
        let nvml = open().expect("the library starts");
        let gpu = nvml.device_by_index(0).expect("there is a first GPU");
        answer.send(gpu.name().map(|_| 0)).expect("the story listens");
        answer.send(gpu.memory_info().map(|memory| memory.total)).expect("the story listens");
    });
    let name = answered.recv_timeout(PATIENCE).expect("an other call is not blocked");
    assert_eq!(told(name), "0");

    // While that thread hangs, the library answers everybody else.
    let nvml = open().expect("the library starts");
    let other = nvml.device_by_index(1).expect("there is a second GPU");
    assert_eq!(other.memory_info().expect("it is read").total, 81_559 * MIB);
    assert!(matches!(answered.try_recv(), Err(mpsc::TryRecvError::Empty)));

    stage.write(TWO);
    let total = answered.recv_timeout(PATIENCE).expect("the call returns");
    assert_eq!(total.expect("it is read"), 1000 * MIB);
    caller.join().expect("the caller ends");
}

/// Waits for the next event; the library's own time-outs in between are no news.
fn next_event<'nvml>(set: &EventSet<'nvml>) -> EventData<'nvml> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match set.wait(200) {
            Ok(event) => return event,
            Err(NvmlError::Timeout) if Instant::now() < deadline => {}
            Err(error) => panic!("no event: {error}"),
        }
    }
}

#[test]
fn an_xid_that_is_appended_arrives_once() {
    let gpu_with = |xids: &str| format!(r#"{{"gpus":[{{"uuid":"GPU-a","xids":[{xids}]}}]}}"#);
    let stage = Stage::new(&gpu_with("13"));
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    let set = nvml.create_event_set().expect("a set is made");
    let set = gpu.register_events(EventTypes::CRITICAL_XID_ERROR, set).expect("it is registered");
    assert_eq!(told(set.wait(0)), "Timeout", "what was there before is history");

    stage.write(&gpu_with("13,79,48"));
    for xid in [79, 48] {
        let event = next_event(&set);
        assert_eq!(event.event_type, EventTypes::CRITICAL_XID_ERROR);
        assert_eq!(format!("{:?}", event.event_data), format!("Some(Value({xid}))"));
        assert_eq!(told(event.device.uuid()), "GPU-a");
    }
    assert_eq!(told(set.wait(0)), "Timeout");
}

#[test]
fn health_reads_as_the_file_says() {
    let _stage = Stage::new(
        r#"{"gpus":[{"uuid":"GPU-a","numa_node":1,"health":{"ecc_uncorrected":2,
            "remap_pending":true,"retired_pages":3,"pcie_generation":3,"pcie_replays":9}}]}"#,
    );
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, RetirementCause};
    assert_eq!(told(gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)), "2");
    assert_eq!(told(gpu.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile)), "0");
    let pages = gpu.retired_pages(RetirementCause::DoubleBitEccError).expect("they are listed");
    assert_eq!(pages.len(), 3);
    assert_eq!(told(gpu.current_pcie_link_gen()), "3");
    assert_eq!(told(gpu.max_pcie_link_gen()), "5");
    assert_eq!(told(gpu.pcie_replay_counter()), "9");
    assert_eq!(told(gpu.numa_node_id()), "1");
    assert!(gpu.is_ecc_enabled().expect("it is read").currently_enabled);
    assert_eq!(gpu.mig_mode().expect("it is read").current, 0);

    let fields = [144, 145, 4, 999].map(FieldId);
    let values = gpu.field_values_for(&fields).expect("fields are read");
    let read: Vec<String> = values
        .into_iter()
        .map(|value| format!("{:?}", value.expect("a sample is made").value))
        .collect();
    assert_eq!(read, ["Ok(U32(1))", "Ok(U32(0))", "Ok(U64(2))", "Err(NotSupported)"]);
}

#[test]
fn what_is_not_imitated_says_so() {
    let _stage = Stage::new(TWO);
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    assert_eq!(told(gpu.accounting_pids()), "NotSupported");
    assert_eq!(told(gpu.link_wrapper_for(0).is_active()), "NotSupported");
    use nvml_wrapper::enum_wrappers::device::RetirementCause;
    assert_eq!(told(gpu.retired_pages(RetirementCause::DoubleBitEccError)), "NotSupported");
}

#[test]
fn a_gpu_that_is_split_lends_its_parts() {
    let stage = Stage::new(
        r#"{"gpus":[{"uuid":"GPU-a","mig":[{"uuid":"MIG-1"},{"uuid":"MIG-2","profile":"3g.40gb",
            "memory_mib":40448,"gpu_instance":7}]}]}"#,
    );
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    assert_eq!(gpu.mig_mode().expect("it is read").current, 1);
    assert_eq!(told(gpu.mig_device_count()), "7");
    let part = gpu.mig_device_by_index(1).expect("there is a second part");
    assert_eq!(told(part.uuid()), "MIG-2");
    assert_eq!(told(part.name()), "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
    assert_eq!(part.attributes().expect("they are read").gpu_instance_slice_count, 3);
    assert_eq!(told(part.mig_parent_device().expect("it has a GPU").uuid()), "GPU-a");
    assert_eq!(told(gpu.mig_device_by_index(2).and_then(|part| part.uuid())), "NotFound");

    stage.claim("MIG-2", std::process::id(), "104857600");
    assert_eq!(part.memory_info().expect("it is read").used, 100 * MIB);
    assert_eq!(part.running_compute_processes().expect("they are listed").len(), 1);
    let first = nvml.device_by_uuid("MIG-1").expect("a part has a uuid");
    assert_eq!(first.memory_info().expect("it is read").used, 0);
    assert_eq!(told(part.temperature(TemperatureSensor::Gpu)), "NotSupported");
    assert_eq!(gpu.memory_info().expect("it is read").used, 104 * MIB);
}

#[test]
fn performance_counters_come_from_two_samples() {
    use nvml_wrapper::enums::gpm::GpmMetricId;
    use nvml_wrapper::gpm::gpm_metrics_get;
    let stage = Stage::new(r#"{"gpus":[{"uuid":"GPU-a","utilization":{"gpu":40,"memory":10}}]}"#);
    let nvml = open().expect("the library starts");
    let gpu = nvml.device_by_index(0).expect("there is a GPU");
    assert_eq!(told(gpu.gpm_support()), "true");
    let samples = [(); 2].map(|()| gpu.gpm_sample().expect("a sample is taken"));
    let asked = [GpmMetricId::SmUtil, GpmMetricId::DramBwUtil, GpmMetricId::Nvjpg0Util];
    let told_of = gpm_metrics_get(&nvml, &samples[0], &samples[1], &asked).expect("computed");
    let values: Vec<_> = told_of.into_iter().map(|m| told(m.map(|m| m.value))).collect();
    assert_eq!(values, ["40.0", "10.0", "NotSupported"]);
    stage.write(r#"{"gpus":[{"uuid":"GPU-a","modes":{"gpm":false}}]}"#);
    assert_eq!(told(gpu.gpm_support()), "false");
}
