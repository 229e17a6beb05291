//! G16: the folders of state and models have room, in bytes and in names.

use std::path::Path;

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::health::GateId;

use super::{Context, seen};

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let config = &context.config;
    let least = config.health.least_disk_percent;
    let folders = [("state_dir", &config.state_dir), ("cache_dir", &config.cache_dir)];
    let mut worst = (Saw::Pass, format!("at least {least} % are free"));
    for (name, folder) in folders {
        match room(folder) {
            Ok((bytes, names)) if bytes < least || names < least => {
                let said = format!(
                    "{name} `{}`: {bytes} % of the bytes and {names} % of the names are free, \
                     {least} % are needed",
                    folder.display()
                );
                worst = (Saw::Fail, said);
            }
            Ok(_) => {}
            Err(error) if worst.0 == Saw::Pass => {
                worst = (Saw::Unknown, format!("{name} `{}`: {error}", folder.display()));
            }
            Err(_) => {}
        }
    }
    vec![seen(GateId::DISK, None, worst.0, worst.1)]
}

/// Percent of bytes and of names that are free.
fn room(folder: &Path) -> Result<(u8, u8), rustix::io::Errno> {
    let disk = rustix::fs::statvfs(folder)?;
    let percent = |free: u64, all: u64| match 100_u64.saturating_mul(free).checked_div(all) {
        Some(percent) => u8::try_from(percent).unwrap_or(100),
        // A filesystem without a count of names has no end of them.
        None => 100,
    };
    Ok((percent(disk.f_bavail, disk.f_blocks), percent(disk.f_favail, disk.f_files)))
}
