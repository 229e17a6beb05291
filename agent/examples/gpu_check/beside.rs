//! What `nvidia-smi` tells elsewhere than in its queries (its page, its lists of processes and
//! NVLinks), what the kernel tells of a GPU's place, and what nobody tells beside NVML.

use std::fs;

use wharfage_agent_sys::nvml::{
    Board, Gpu, NvLink, Pcie, PowerAndClocks, SECTIONS, Section, Value,
};

use crate::Seen;
use crate::agreement::Agreement::{Same, Within};
use crate::fields::{LOOKS, tell, text};
use crate::smi::Smi;

/// Compares all of it for one GPU.
pub fn check(gpu: &mut Gpu<'_>, smi: &Smi, seen: &mut Seen) -> Result<(), String> {
    let board = gpu.board().clone();
    let page = smi.page(board.index)?;
    for number in 0..SECTIONS {
        match gpu.section(number).0 {
            Some(Section::Power(power)) => temperatures(&power, &page, seen),
            Some(Section::Pcie(pcie)) => replays(&pcie, &page, seen),
            Some(Section::Nvlink(nvlink)) => nvlinks(&nvlink, smi, board.index, seen)?,
            Some(Section::Gpm(gpm)) => nobody_tells("gpm", &format!("{gpm:?}"), seen),
            Some(Section::Ecc(_) | Section::Modes(_)) | None => {}
        }
    }
    if board.slots.len() == 1 {
        processes(gpu, smi, board.index, seen)?;
    }
    place(&board, seen);
    Ok(())
}

fn nobody_tells(name: &str, read: &str, seen: &mut Seen) {
    println!("  read {name}: {read}");
    seen.leave(&format!("{name}: nvidia-smi does not tell it"));
}

/// A line of the page, by its key; which of them a version prints differs by GPU.
fn on_page(
    name: &str,
    ours: Option<String>,
    page: &[(String, String)],
    key: &str,
    seen: &mut Seen,
) {
    match page.iter().find(|(known, _)| known == key) {
        Some((_, theirs)) => {
            let theirs = theirs.trim_end_matches(" C");
            tell(name, ours.as_deref(), theirs, Within(0.0), seen);
        }
        None => seen.leave(&format!("{name}: `{key}` is not on this nvidia-smi's page")),
    }
}

fn temperatures(power: &PowerAndClocks, page: &[(String, String)], seen: &mut Seen) {
    for (name, ours, key) in [
        ("temperature.slowdown", &power.slowdown_c, "GPU Slowdown Temp"),
        ("temperature.shutdown", &power.shutdown_c, "GPU Shutdown Temp"),
        ("temperature.gpu_max", &power.gpu_max_c, "GPU Max Operating Temp"),
        ("temperature.memory_max", &power.memory_max_c, "Memory Max Operating Temp"),
    ] {
        on_page(name, text(ours), page, key, seen);
    }
    nobody_tells("energy", &format!("{:?} mJ", power.energy_mj), seen);
    nobody_tells("held_down", &format!("{:?}", power.held_down), seen);
}

fn replays(pcie: &Pcie, page: &[(String, String)], seen: &mut Seen) {
    on_page("pcie.replays", text(&pcie.replays), page, "Replays Since Reset", seen);
}

/// Which links are up, and the errors of each.
fn nvlinks(nvlink: &NvLink, smi: &Smi, index: u32, seen: &mut Seen) -> Result<(), String> {
    let Value::Value(links) = &nvlink.links else {
        let theirs = smi.nvlinks("-s", index)?;
        seen.check(theirs.is_empty(), &format!("nvlinks: unsupported | {}", theirs.len()));
        return Ok(());
    };
    let speeds = smi.nvlinks("-s", index)?;
    let errors = smi.nvlinks("-e", index)?;
    if speeds.is_empty() {
        seen.leave("nvlinks: this nvidia-smi does not list them");
    }
    for link in links {
        let name = format!("Link {}", link.link);
        let speed = speeds.iter().find(|(known, _)| *known == name).map(|(_, speed)| speed);
        if let (Some(speed), Some(is_up)) = (speed, link.is_up.get()) {
            let theirs = !speed.contains("inactive");
            seen.check(is_up == theirs, &format!("nvlink {} up: {is_up} | {speed}", link.link));
        }
        for (what, ours) in [
            ("Replay Errors", &link.replay_errors),
            ("Recovery Errors", &link.recovery_errors),
            ("CRC Errors", &link.crc_flit_errors),
        ] {
            let key = format!("{name}: {what}");
            match errors.iter().find(|(known, _)| *known == key) {
                Some((_, theirs)) => tell(&key, text(ours).as_deref(), theirs, Same, seen),
                None => seen.leave(&format!("nvlink {what}: this nvidia-smi does not list it")),
            }
        }
    }
    Ok(())
}

/// Every process that it lists, with what it holds; ours may list those that draw, too.
fn processes(gpu: &Gpu<'_>, smi: &Smi, index: u32, seen: &mut Seen) -> Result<(), String> {
    let mut said = String::new();
    for _ in 0..LOOKS {
        let Some(theirs) = smi.processes(index)? else {
            seen.leave("processes: this nvidia-smi does not list them");
            return Ok(());
        };
        let read = gpu.read().into_iter().next();
        let ours = read.as_ref().and_then(|read| read.fast.processes.known());
        let Some(ours) = ours else {
            seen.check(theirs.is_empty(), &format!("processes: unsupported | {theirs:?}"));
            return Ok(());
        };
        said = format!("processes: {ours:?} | {theirs:?}");
        let is_ours = |(pid, mib): &(u32, Option<u64>)| {
            let known = ours.iter().find(|process| process.pid == *pid);
            let bytes = known.and_then(|process| process.bytes);
            let agrees =
                bytes.zip(*mib).is_none_or(|(bytes, mib)| (bytes >> 20).abs_diff(mib) <= 64);
            known.is_some() && agrees
        };
        if theirs.iter().all(is_ours) {
            seen.check(true, &said);
            return Ok(());
        }
    }
    seen.check(false, &said);
    Ok(())
}

/// The kernel's own word for where the GPU is: `nvidia-smi` only draws it.
fn place(board: &Board, seen: &mut Seen) {
    let kernel = |file: &str| {
        let pci = board.pci.known()?.to_ascii_lowercase();
        let pci = pci.strip_prefix("0000").filter(|short| short.len() == 12).unwrap_or(&pci);
        let text = fs::read_to_string(format!("/sys/bus/pci/devices/{pci}/{file}")).ok()?;
        Some(text.trim().to_owned())
    };
    // -1: the firmware does not say.
    let node = kernel("numa_node").filter(|node| node != "-1");
    for (name, ours, theirs) in [
        ("numa_node", text(&board.numa_node), node),
        ("cpu_affinity", text(&board.cpu_affinity), kernel("local_cpulist")),
    ] {
        match theirs {
            Some(theirs) => tell(name, ours.as_deref(), &theirs, Same, seen),
            None => seen.leave(&format!("{name}: the kernel does not tell it here")),
        }
    }
}
