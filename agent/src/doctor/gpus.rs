//! The driver and the GPUs, read as the agent reads them: in a helper of their own, with a
//! deadline, so that a driver that hangs does not hang the page.

use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::clock;

use super::Finding;
use crate::config::Config;
use crate::daemon;
use crate::exit::Failure;

/// What helps against each trouble, by a text that stands in its sentence.
const FIXES: [(&str, &str); 6] = [
    (
        "cannot be loaded",
        "install the NVIDIA driver, name its library in nvml.library, or set nvml.enabled = false \
         on a host without GPUs",
    ),
    ("kernel module", "load it (`modprobe nvidia`); `dmesg | grep -i nvrm` says why it is not"),
    ("upgraded without a reboot", "reboot the host"),
    ("fell off the bus", "drain the node and reboot it; a GPU that is lost again needs service"),
    (
        "does not answer",
        "look for XID 119 or 120 in `dmesg`; a driver that hangs is cured by a reboot alone",
    ),
    ("switched off", "set nvml.enabled = true if this host has GPUs"),
];

pub(super) async fn look(config: &Config) -> Result<Vec<Finding>, Failure> {
    let stop = CancellationToken::new();
    let watched = daemon::watch_gpus(config, &stop)?;
    let gpus = daemon::settled(watched.gpus).await;
    stop.cancel();
    let mut findings = Vec::new();
    match (&gpus.trouble, &gpus.driver_version) {
        (Some(trouble), _) if !config.nvml.enabled => {
            findings.push(Finding::limited("driver", trouble, fix(trouble)));
            return Ok(findings);
        }
        (Some(trouble), _) => {
            findings.push(Finding::broken("driver", trouble, fix(trouble)));
            return Ok(findings);
        }
        (None, version) => {
            let version = version.as_deref().unwrap_or("of unknown version");
            findings.push(Finding::works("driver", format!("NVIDIA driver {version}")));
        }
    }
    if gpus.identities.is_empty() {
        let detail = "the driver is there and shows no GPU";
        let help = "look for the GPUs with `lspci -d 10de:`, and in `dmesg` for what the driver \
                    says of them";
        findings.push(Finding::broken("gpus", detail, help));
    }
    for (identity, reading) in gpus.identities.iter().zip(gpus.readings(clock::boottime())) {
        let name = format!("{} {}, {} MiB", identity.uuid, identity.name, identity.memory_mib);
        findings.push(match &reading.trouble {
            Some(trouble) => Finding::broken("gpus", format!("{name}: {trouble}"), fix(trouble)),
            None => {
                let used = reading.memory_used_mib;
                let used = used.map_or("unknown".to_owned(), |mib| format!("{mib} MiB"));
                Finding::works("gpus", format!("{name}, in use: {used}"))
            }
        });
    }
    Ok(findings)
}

fn fix(trouble: &str) -> String {
    let known = FIXES.iter().find(|(text, _)| trouble.contains(text));
    known.map_or("`nvidia-smi` on this host says more", |(_, fix)| fix).to_owned()
}
