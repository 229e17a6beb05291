//! `claims/<uuid>/<pid>`: memory that processes hold.
//!
//! A claim lives as long as its process. When the process ends the claim becomes memory without an
//! owner for the GPU's `linger_seconds`, then its file is removed, so that a later process with the
//! same id does not inherit it. The moment of the end is kept as the file `<pid>.ended`, which
//! every reader of the folder shares.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What the processes of one GPU hold at this moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Living processes by id.
    pub live: Vec<Claim>,
    /// Bytes of ended processes that are not yet given back.
    pub lingering_bytes: u64,
}

/// One living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Process id.
    pub pid: u32,
    /// Bytes it holds.
    pub bytes: u64,
    /// Percent that it adds to the GPU's utilization.
    pub utilization: u32,
}

impl Claims {
    /// All bytes that stand in claims, living or lingering.
    pub fn bytes(&self) -> u64 {
        let live = self.live.iter().fold(0_u64, |sum, claim| sum.saturating_add(claim.bytes));
        live.saturating_add(self.lingering_bytes)
    }
}

/// Reads the claims of one GPU in order of process id and removes those that are over.
pub fn read(folder: &Path, uuid: &str, linger: Duration) -> Claims {
    let folder = folder.join("claims").join(uuid);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Claims::default();
    };
    let mut claims = Claims::default();
    for entry in entries.flatten() {
        // Names that are no process id are a writer's temporary files and our own marks.
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        let claim = parse(pid, &text);
        let mark = folder.join(format!("{pid}.ended"));
        match since_end(pid, &mark) {
            None => claims.live.push(claim),
            Some(ended) if ended < linger => {
                claims.lingering_bytes = claims.lingering_bytes.saturating_add(claim.bytes);
            }
            Some(_) => {
                // Another reader may remove them at the same moment: then they are gone as well.
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_file(mark);
            }
        }
    }
    claims.live.sort_by_key(|claim| claim.pid);
    claims
}

/// A line that is no number counts as nothing: the writer is in the middle of it.
fn parse(pid: u32, text: &str) -> Claim {
    let mut lines = text.lines().map(str::trim);
    let bytes = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let utilization = lines.next().and_then(|line| line.parse::<u32>().ok()).unwrap_or(0);
    Claim { pid, bytes, utilization: utilization.min(100) }
}

/// How long ago the process ended, or `None` while it lives. Marks the first sight of the end.
fn since_end(pid: u32, mark: &Path) -> Option<Duration> {
    let marked = match fs::metadata(mark) {
        Ok(mark) => mark.modified().ok(),
        Err(_) if is_alive(pid) => return None,
        Err(_) => None,
    };
    match marked {
        Some(moment) => Some(SystemTime::now().duration_since(moment).unwrap_or_default()),
        None => match fs::File::create_new(mark) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Some(Duration::MAX),
            Ok(_) | Err(_) => Some(Duration::ZERO),
        },
    }
}

/// A zombie holds no memory: it only waits for its parent.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold spaces and parentheses, so the state follows the last one.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X' | 'x') | None)
}

#[cfg(test)]
mod tests {
    use super::{Claim, parse};

    #[test]
    fn a_claim_is_bytes_and_perhaps_a_utilization() {
        assert_eq!(parse(7, "42\n"), Claim { pid: 7, bytes: 42, utilization: 0 });
        assert_eq!(parse(7, "42\n35\n"), Claim { pid: 7, bytes: 42, utilization: 35 });
        assert_eq!(parse(7, "42\n900"), Claim { pid: 7, bytes: 42, utilization: 100 });
        assert_eq!(parse(7, "lots"), Claim { pid: 7, bytes: 0, utilization: 0 });
    }
}
