//! The driver and the GPUs, read as the agent reads them: in a helper of their own, with a
//! deadline, so that a driver that hangs does not hang the page.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::clock;
use wharfage_shared::telemetry::GpuReading;

use super::Finding;
use crate::config::Config;
use crate::daemon;
use crate::exit::Failure;
use crate::gpu::Gpus;
use crate::gpu::census::{self, Roots, Sightings};

/// The kernel's lists are files; a broken driver may hold them up all the same.
const CENSUS: Duration = Duration::from_secs(3);

/// What helps against each trouble, by a text that stands in its sentence.
const FIXES: [(&str, &str); 7] = [
    (
        "cannot be loaded",
        "install the NVIDIA driver, name its library in nvml.library, or set nvml.enabled = false \
         on a host without GPUs",
    ),
    ("kernel module", "load it (`modprobe nvidia`); `dmesg | grep -i nvrm` says why it is not"),
    ("upgraded without a reboot", "reboot the host"),
    ("fell off the bus", "drain the node and reboot it; a GPU that is lost again needs service"),
    ("must be reset", "drain the node, then `nvidia-smi --gpu-reset` or a reboot"),
    (
        "does not answer",
        "look for XID 119 or 120 in `dmesg`; a driver that hangs is cured by a reboot alone",
    ),
    ("switched off", "set nvml.enabled = true if this host has GPUs"),
];

/// What the GPUs are, and whether any can be read.
pub(super) async fn look(config: &Config) -> Result<(Vec<Finding>, bool), Failure> {
    let stop = CancellationToken::new();
    let watched = daemon::watch_gpus(config, &stop)?;
    let gpus = daemon::settled(watched.gpus).await;
    stop.cancel();
    let seen = sightings(config).await;
    let mut findings = vec![driver(config, &gpus)];
    let is_read = gpus.trouble.is_none();
    if is_read {
        findings.extend(listed(&gpus));
    } else if let Some(on_bus) = seen.as_ref().map(Sightings::on_the_bus).filter(|n| *n > 0) {
        let detail = format!("the PCI bus has {on_bus} of NVIDIA's, none can be read");
        findings.push(Finding::broken("gpus", detail, "mend the driver first"));
    }
    let missing = seen.map(|seen| census::compare(&gpus.boards, &gpus.gone, &seen));
    for lost in missing.filter(|_| is_read).unwrap_or_default() {
        let help = "look for it in `dmesg`; a GPU that fell off the bus needs a reboot or service";
        findings.push(Finding::broken("gpus", lost.to_string(), help));
    }
    Ok((findings, is_read && !gpus.identities.is_empty()))
}

fn driver(config: &Config, gpus: &Gpus) -> Finding {
    match (&gpus.trouble, &gpus.driver_version) {
        (Some(trouble), _) if !config.nvml.enabled => {
            Finding::limited("driver", trouble, fix(trouble))
        }
        (Some(trouble), _) => Finding::broken("driver", trouble, fix(trouble)),
        (None, Some(version)) => Finding::works("driver", format!("NVIDIA driver {version}")),
        (None, None) => {
            let detail = "NVML answers and does not tell the driver's version";
            Finding::limited("driver", detail, fix(""))
        }
    }
}

fn listed(gpus: &Gpus) -> Vec<Finding> {
    let mut findings = Vec::new();
    if gpus.identities.is_empty() && gpus.absent.is_empty() {
        let help = "look for the GPUs with `lspci -d 10de:`, and in `dmesg` for what the driver \
                    says of them";
        let detail = "the driver is there and shows no GPU";
        findings.push(Finding::broken("gpus", detail, help));
    }
    for (identity, reading) in gpus.identities.iter().zip(gpus.readings(clock::boottime())) {
        let name = format!("{} {}, {} MiB", identity.uuid, identity.name, identity.memory_mib);
        findings.push(one(&name, &reading));
    }
    for absent in &gpus.absent {
        let detail = format!("GPU {} cannot be identified: {}", absent.index, absent.because);
        findings.push(Finding::broken("gpus", detail, fix(&absent.because)));
    }
    findings
}

fn one(name: &str, reading: &GpuReading) -> Finding {
    match (&reading.trouble, reading.memory_used_mib) {
        (Some(trouble), _) => Finding::broken("gpus", format!("{name}: {trouble}"), fix(trouble)),
        (None, Some(used)) => Finding::works("gpus", format!("{name}, in use: {used} MiB")),
        (None, None) => {
            let detail =
                format!("{name}: its memory in use cannot be read: nothing is started on it");
            Finding::broken("gpus", detail, fix(""))
        }
    }
}

/// What the kernel lists; nothing where that does not come back.
async fn sightings(config: &Config) -> Option<Sightings> {
    if !config.nvml.enabled {
        return None;
    }
    let roots =
        Roots { driver: config.nvml.driver_gpus.clone(), pci: config.nvml.pci_devices.clone() };
    let looking = tokio::task::spawn_blocking(move || census::look(&roots));
    tokio::time::timeout(CENSUS, looking).await.ok()?.ok()
}

fn fix(trouble: &str) -> String {
    let known = FIXES.iter().find(|(text, _)| trouble.contains(text));
    known.map_or("`nvidia-smi` on this host says more", |(_, fix)| fix).to_owned()
}
