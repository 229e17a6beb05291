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
        memory.total) value=@TOTAL@ ;;
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
        clocks.max.mem) value=2619 ;;
        clocks.*) value=1980 ;;
        pstate) value=P0 ;;
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

    fn check(&self, total: &str, nvml: &Path) -> (Output, String) {
        let smi = self.0.join("nvidia-smi");
        std::fs::write(&smi, SMI.replace("@TOTAL@", total)).expect("written");
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
    let (done, said) = stage.check("81559", &library());
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{errors}");
    assert!(said.contains("all checks passed"), "{said}");
    // What this version of the program does not know is said, and is not right.
    assert!(said.contains("SKIPPED: remapped_rows.histogram.max: this nvidia-smi"), "{said}");
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
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
}

#[test]
fn one_field_that_differs_fails_the_check_and_writes_no_figures() {
    let stage = Stage::new("differs");
    let (done, said) = stage.check("80000", &library());
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("1 checks failed:\n  memory.total: 81559 | 80000\n"), "{said}");
    assert!(!stage.figures().exists());
}

#[test]
fn without_a_driver_it_says_that_nothing_was_checked() {
    let stage = Stage::new("absent");
    let (done, said) = stage.check("81559", Path::new("/nowhere/libnvidia-ml.so.1"));
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.starts_with("GPU CHECK SKIPPED: no NVIDIA driver: "), "{said}");
    assert!(!stage.figures().exists());
}
