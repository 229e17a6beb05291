//! `make gpu-check` itself, with stand-ins for NVML, CUDA and `nvidia-smi`: so that it can be
//! trusted when it meets a real GPU.

// An example has no tests of its own: those of its comparisons run with these.
#[path = "../../examples/gpu_check/agreement.rs"]
mod agreement;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::node::beside_tests;

/// In NVIDIA's own form: CUDA knows no other.
const GPU: &str = "GPU-00000000-0000-0000-0000-00000000000a";

/// What `nvidia-smi` says of that GPU, written down independently of what reads it here. It refuses
/// a whole question for one name that it does not know, as the real one does.
const SMI: &str = r#"#!/bin/sh
line=
case "$1" in
    -q) cat <<'PAGE'
==============NVSMI LOG==============
    PCI
        Replays Since Reset               : 0
    Temperature
        GPU Slowdown Temp                 : 89 C
PAGE
        exit ;;
    nvlink) exit 1 ;;
    --query-compute-apps*) exit ;;
esac
for name in $(echo "${1#*=}" | tr , ' '); do
    case $name in
        index) value=0 ;;
        uuid) value=GPU-00000000-0000-0000-0000-00000000000a ;;
        name) value="NVIDIA H100 80GB HBM3" ;;
        serial) value=1650924000000 ;;
        pci.bus_id) value=00000000:1B:00.0 ;;
        vbios_version) value=96.00.89.00.01 ;;
        compute_cap) value=9.0 ;;
        driver_version) value=580.95.05 ;;
        memory.total) value=81559 ;;
        memory.reserved) value=551 ;;
        memory.used) value=4 ;;
        memory.free) value=81004 ;;
        temperature.gpu) value=31 ;;
        temperature.memory) value=39 ;;
        power.draw) value=72.00 ;;
        power.min_limit) value=200.00 ;;
        *power*limit) value=700.00 ;;
        utilization.*) value=0 ;;
        ecc.mode.*|persistence_mode) value=Enabled ;;
        ecc.errors.*) value=0 ;;
        retired_pages.*) value="[N/A]" ;;
        mig.mode.*) value=Disabled ;;
        compute_mode) value=Default ;;
        pcie.link.gen.*) value=5 ;;
        pcie.link.width.*) value=16 ;;
        clocks.max.mem|clocks.mem) value=2619 ;;
        clocks.max.*) value=1980 ;;
        clocks.video) value=258 ;;
        clocks.*) value=345 ;;
        pstate) value=P0 ;;
        clocks_throttle_reasons.gpu_idle) value=Active ;;
        clocks_throttle_reasons.*) value="Not Active" ;;
        fabric.state) value="In Progress" ;;
        remapped_rows.histogram.*) echo "Field \"$name\" is not a valid field to query."; exit 2 ;;
        remapped_rows.*) value=0 ;;
        *) echo "Field \"$name\" is not a valid field to query."; exit 2 ;;
    esac
    line="$line${line:+, }$value"
done
echo "$line"
"#;

/// A folder that goes away with its story.
struct Stage(PathBuf);

impl Stage {
    fn new(story: &str) -> Self {
        let name = format!("wharfage-gpu-check-test-{story}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a folder");
        let gpus = format!(
            r#"{{"gpus":[{{"uuid":"{GPU}","power_limit_w":700,"fabric":{{"state":"in_progress"}}}}]}}"#
        );
        std::fs::write(folder.join("gpus.json"), gpus).expect("written");
        Self(folder)
    }

    /// Against an `nvidia-smi` that says some things otherwise.
    fn check(&self, otherwise: &[(&str, &str)], nvml: &Path) -> (Output, String) {
        let smi = self.0.join("nvidia-smi");
        let text = otherwise.iter().fold(SMI.to_owned(), |text, (is, other)| {
            assert!(text.contains(is), "{is}");
            text.replace(is, other)
        });
        std::fs::write(&smi, text).expect("written");
        std::fs::set_permissions(&smi, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new(beside_tests("examples/gpu_check"));
        command.arg("--nvml").arg(nvml).arg("--nvidia-smi").arg(smi);
        command.arg("--cuda").arg(beside_tests("libwharfage_fake_cuda.so"));
        command.arg("--figures").arg(self.figures());
        command.args(["--take-mib", "1024", "--measure-seconds", "1"]);
        command.env("WHARFAGE_FAKE_GPUS", &self.0);
        let done = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        (done, said)
    }

    fn figures(&self) -> PathBuf {
        self.0.join("figures")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn library() -> PathBuf {
    beside_tests("libwharfage_fake_nvml.so")
}

#[test]
fn the_whole_check_passes_on_a_sound_host_and_writes_its_figures() {
    let stage = Stage::new("sound");
    let (done, said) = stage.check(&[], &library());
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{errors}");
    // What nothing could be held against is said, and is not called right.
    assert!(said.contains("what could be checked is right; "), "{said}");
    for open in [
        "NOT COMPARED: remapped_rows.histogram.max: this nvidia-smi does not know it",
        "NOT COMPARED: temperature.shutdown: `GPU Shutdown Temp` is not on",
        "NOT COMPARED: energy: nvidia-smi does not tell it",
    ] {
        assert!(said.contains(open), "{open}: {said}");
    }
    for right in ["pcie.replays: 0 | 0", "clocks_event_reasons.gpu_idle: Active | Active"] {
        assert!(said.contains(&format!("ok   {right}")), "{right}: {said}");
    }
    assert!(said.contains("\"replicas\":{\"r-1\":1073741824}"), "{said}");
    assert!(said.contains(&format!("{GPU} is held: process ")), "{said}");
    let figures = std::fs::read_to_string(stage.figures()).expect("written");
    for line in [
        "driver 580.95.05, CUDA 13.0, NVML 13.580.95.05",
        "NVIDIA H100 80GB HBM3: one reading takes ",
        "a replica that takes 1024 MiB: ready after ",
        "the GPU shows 1028 MiB in use and showed 4 before",
        "agent: ",
        "NVML helper: ",
        "SIGKILL of the engine -> proof of release: ",
        "stop with a wedged holder -> quarantine that names it: ",
        "end of the holder -> proof of release: ",
        "GPU memory of a process, 1024 MiB: into the host's memory in ",
        "read and not compared: cpu_affinity, energy, ",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
}

#[test]
fn fields_that_differ_fail_the_check_and_write_no_figures() {
    let stage = Stage::new("differs");
    let otherwise = [
        ("value=81559 ", "value=80000 "),
        ("value=P0 ", "value=P8 "),
        ("Since Reset               : 0", "Since Reset               : 3"),
        ("gpu_idle) value=Active", "gpu_idle) value=\"Not Active\""),
        ("--query-compute-apps*) exit", "--query-compute-apps*) echo '7, 500'; exit"),
    ];
    let (done, said) = stage.check(&otherwise, &library());
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("5 checks failed:\n"), "{said}");
    for wrong in [
        "memory.total: 81559 | 80000",
        "pstate: P0 | P8",
        "pcie.replays: 0 | 3",
        "clocks_event_reasons.gpu_idle: Active | Not Active",
        "processes: [] | [(7, Some(500))]",
    ] {
        assert!(said.contains(&format!("WRONG {wrong}")), "{wrong}: {said}");
    }
    assert!(!stage.figures().exists());
}

#[test]
fn without_a_driver_it_says_that_nothing_was_checked() {
    let stage = Stage::new("absent");
    let (done, said) = stage.check(&[], Path::new("/nowhere/libnvidia-ml.so.1"));
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.starts_with("GPU CHECK SKIPPED: no NVIDIA driver: "), "{said}");
    assert!(!stage.figures().exists());
}
