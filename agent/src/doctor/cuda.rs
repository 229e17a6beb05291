//! Whether CUDA starts here, and whether its driver can checkpoint processes.

use super::Finding;
use crate::config::Config;
use crate::cuda::{LIMIT, Seen, Unanswered, ask};

/// `has_gpus`: NVML reads GPUs here.
pub(super) async fn look(config: &Config, has_gpus: bool) -> Vec<Finding> {
    match ask(config, None).await {
        Ok(seen) => findings(seen, has_gpus),
        Err(Unanswered::Nothing(why)) => {
            let detail = format!("the process that asks CUDA: {why}");
            vec![
                Finding::broken("cuda", detail, "run `wharfage-agent cuda-probe` by hand"),
                Finding::limited("checkpoint", UNKNOWN, "see cuda"),
            ]
        }
        Err(Unanswered::Hangs(_)) => {
            let detail = format!("CUDA does not answer within {} s", LIMIT.as_secs());
            vec![
                Finding::broken("cuda", detail, HANGS),
                Finding::limited("checkpoint", UNKNOWN, "see cuda"),
            ]
        }
    }
}

const UNKNOWN: &str = "whether processes can be checkpointed with their GPUs is not known";

const HANGS: &str = "look for XID 119 or 120 in `dmesg`; a driver that hangs is cured by a reboot \
                     alone";

const NO_START: &str = "on hosts with NVSwitch see whether nvidia-fabricmanager runs and is of the \
                        driver's version; `dmesg | grep -i nvrm` says more";

fn findings(seen: Seen, has_gpus: bool) -> Vec<Finding> {
    let hooks = "checkpoint hooks of an engine's own making need it not";
    let (version, can_checkpoint, devices) = match seen {
        Seen::Absent(why) => {
            let help = "install the NVIDIA driver with its CUDA library (libcuda1, \
                        libnvidia-compute, or the container toolkit's `compute` capability)";
            let no = format!("no CUDA library can be asked; {hooks}");
            return vec![
                Finding::limited("cuda", format!("{why}: engines on CUDA do not start"), help),
                Finding::limited("checkpoint", no, help),
            ];
        }
        Seen::Loaded { version, can_checkpoint, devices } => (version, can_checkpoint, devices),
    };
    let named = version.as_ref().map_or("CUDA".to_owned(), |version| format!("CUDA {version}"));
    let starts = match devices.map(|devices| devices.len()) {
        Ok(0) if has_gpus => {
            let help = "look for CUDA_VISIBLE_DEVICES in [env] of agent.toml, and whether the \
                        agent's user may open /dev/nvidia*";
            Finding::broken("cuda", format!("{named} starts and shows no GPU; NVML does"), help)
        }
        Ok(count) => Finding::works("cuda", format!("{named} starts and shows {count} GPUs")),
        Err(why) if has_gpus => {
            Finding::broken("cuda", format!("{named} does not start: {why}"), NO_START)
        }
        Err(why) => Finding::limited("cuda", format!("{named} does not start: {why}"), NO_START),
    };
    let works = starts.fix.is_none();
    let checkpoint = match (can_checkpoint, works) {
        (true, true) => {
            let detail = format!(
                "{named} can checkpoint processes with their GPUs: hooks may use \
                 `builtin-gpu-checkpoint` and `gpu_checkpoint`"
            );
            Finding::works("checkpoint", detail)
        }
        (true, false) => {
            let detail = format!("{named} has the calls that checkpoint processes, but see cuda");
            Finding::limited("checkpoint", detail, "mend cuda first")
        }
        (false, _) => {
            let detail = format!("{named} cannot checkpoint processes with their GPUs; {hooks}");
            Finding::limited("checkpoint", detail, "a driver of branch 570 or later can")
        }
    };
    vec![starts, checkpoint]
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_cuda_shows_is_judged_with_what_nvml_reads() {
        use State::{Broken, Limited, Works};
        let loaded = |can_checkpoint, devices: Result<usize, &str>| Seen::Loaded {
            version: Ok("12.8".to_owned()),
            can_checkpoint,
            devices: devices.map(|count| vec![String::new(); count]).map_err(str::to_owned),
        };
        let no_fabric = Err("cuInit failed: CUDA_ERROR_SYSTEM_NOT_READY (802)");
        for (seen, has_gpus, expected) in [
            (loaded(true, Ok(8)), true, [Works, Works]),
            (loaded(false, Ok(8)), true, [Works, Limited]),
            (loaded(true, Ok(0)), true, [Broken, Limited]),
            (loaded(true, no_fabric), true, [Broken, Limited]),
            (loaded(true, no_fabric), false, [Limited, Limited]),
            (Seen::Absent("no CUDA driver".to_owned()), true, [Limited, Limited]),
        ] {
            let named = format!("{seen:?}");
            let found: Vec<State> =
                findings(seen, has_gpus).iter().map(|finding| finding.state).collect();
            assert_eq!(found, expected, "{named}");
        }
    }
}
