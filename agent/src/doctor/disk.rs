//! The agent's folders: whether they can be written, what room they have, and whether what an agent
//! would read in them when it starts is good.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use wharfage_shared::causes::with_causes;

use super::{Finding, State};
use crate::config::Config;
use crate::guard::record::Folder;
use crate::journal::desired::DesiredFile;
use crate::journal::health::HealthFile;
use crate::journal::history::HistoryFile;
use crate::journal::segments::SegmentLog;

/// Records and logs of replicas need so much at least.
const LEAST_STATE_MIB: u64 = 64;

/// Below this few models fit.
const LITTLE_CACHE_MIB: u64 = 20 * 1024;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        folder("state_dir", &config.state_dir, LEAST_STATE_MIB, State::Broken),
        folder("cache_dir", &config.cache_dir, LITTLE_CACHE_MIB, State::Limited),
    ];
    findings.extend(records(&config.state_dir));
    findings
}

/// A folder that the agent writes: there (or to be made), writable, with room.
fn folder(key: &str, path: &Path, least_mib: u64, if_less: State) -> Finding {
    let at = path.display();
    let existing = match existing(path) {
        Ok(existing) => existing,
        Err(error) => {
            let detail = format!("{key} `{at}`: {error}");
            let help = "look as the agent's own user, or name another folder in agent.toml";
            return Finding::broken("disk", detail, help);
        }
    };
    if let Err(error) = writes(existing) {
        let detail = format!("{key} `{at}`: `{}` cannot be written: {error}", existing.display());
        return Finding::broken("disk", detail, help(&error));
    }
    let free_mib = match rustix::fs::statvfs(existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024),
        Err(error) => {
            let detail = format!("{key} `{at}`: its free space is not known: {error}");
            return Finding::limited("disk", detail, "look at it with `df`");
        }
    };
    let room = format!("{key} `{at}` can be written, {free_mib} MiB are free");
    if free_mib >= least_mib {
        return Finding::works("disk", room);
    }
    let detail = format!("{room}: fewer than {least_mib}");
    Finding { state: if_less, ..Finding::limited("disk", detail, "make room") }
}

/// The folder, or the nearest one above it where it is still to be made.
fn existing(path: &Path) -> io::Result<&Path> {
    for folder in path.ancestors() {
        match fs::metadata(folder) {
            Ok(meta) if meta.is_dir() => return Ok(folder),
            Ok(_) => {
                return Err(io::Error::other(format!("`{}` is no folder", folder.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Path::new("/"))
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it writable; a disk with errors becomes read-only: see `dmesg`"
        }
        _ if crate::journal::is_full(error) => "make room",
        _ => "let the agent's user write it, or name another folder in agent.toml",
    }
}

/// Whether something can be written there and brought to the disk; nothing is left behind.
fn writes(folder: &Path) -> io::Result<()> {
    /// More than one block: a full disk may still take a few bytes.
    const SOME: [u8; 16 * 1024] = [b'.'; 16 * 1024];
    let path = folder.join(format!(".wharfage-doctor-{}", std::process::id()));
    let written = File::options().write(true).create_new(true).open(&path).and_then(|mut file| {
        file.write_all(&SOME)?;
        file.sync_all()
    });
    // What could not be made need not be removed.
    drop(fs::remove_file(&path));
    written
}

/// What an agent that starts would say of each file here. It goes on without what is damaged.
fn records(state: &Path) -> Vec<Finding> {
    let damaged = |detail: String| {
        let help = "nothing needs to be done; the disk that damaged it may need a look";
        Finding::limited("disk", detail, help)
    };
    let unreadable = |what: &str, error: &dyn std::fmt::Display| {
        let help = "let the agent's user read it, or look for errors of the disk in `dmesg`";
        Finding::broken("disk", format!("{what} in `{}`: {error}", state.display()), help)
    };
    let mut findings = Vec::new();
    let said = [
        DesiredFile::of(state).load().1,
        HistoryFile::open(state).1,
        HealthFile::of(state).load().1,
    ];
    findings.extend(said.into_iter().flatten().map(damaged));
    match SegmentLog::inspect(state) {
        Ok(said) => findings.extend(said.map(damaged)),
        Err(error) => findings.push(unreadable("the segment log cannot be read", &error)),
    }
    match Folder::list(state) {
        Ok(replicas) => findings.extend(replicas.into_iter().filter_map(|replica| {
            let error = Folder::of(state, replica).params().err()?;
            // Left by an agent that was ended before it had started anything.
            (error.kind() != io::ErrorKind::NotFound).then(|| {
                let why = with_causes(&error);
                let help = "see whether it still runs, end it by hand, take its folder away";
                let detail = format!(
                    "the records of replica {replica} cannot be read, it is left alone: {why}"
                );
                Finding::limited("disk", detail, help)
            })
        })),
        Err(error) => findings.push(unreadable("the replicas' records cannot be read", &error)),
    }
    findings.extend(put_aside(state));
    findings
}

/// Segment logs that were damaged earlier: evidence that somebody should have looked at.
fn put_aside(state: &Path) -> Option<Finding> {
    let entries = fs::read_dir(state).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut aside: Vec<String> =
        names.filter(|name| name.starts_with("segments.damaged-")).collect();
    aside.sort();
    (!aside.is_empty()).then(|| {
        let detail = format!(
            "the segment log was damaged before, kept as {} in `{}`: seconds may be missing in bills",
            aside.join(", "),
            state.display()
        );
        Finding::limited("disk", detail, "keep them until bills are settled, then remove them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_folder_that_is_to_be_made_is_judged_by_the_one_above_it() {
        let here = testing::Folder::new("doctor-disk");
        let wanted = here.path().join("state/below");
        let good = folder("state_dir", &wanted, 0, State::Broken);
        assert_eq!(good.state, State::Works, "{good:?}");
        assert!(!wanted.exists(), "nothing is made");
        assert_eq!(fs::read_dir(here.path()).expect("there").count(), 0, "nothing is left");
        let full = folder("state_dir", &wanted, u64::MAX, State::Broken);
        assert_eq!(full.state, State::Broken, "{full:?}");
        assert!(full.detail.contains("fewer than"), "{full:?}");
        let nowhere = folder("cache_dir", Path::new("/proc/1/wharfage"), 0, State::Limited);
        assert_eq!(nowhere.state, State::Broken, "{nowhere:?}");
        fs::write(here.path().join("state"), "").expect("written");
        let file = folder("state_dir", &wanted, 0, State::Broken);
        assert!(file.detail.contains("state` is no folder") || file.state == State::Broken);
    }

    #[test]
    fn every_damaged_record_is_named() {
        let here = testing::Folder::new("doctor-records");
        assert_eq!(records(here.path()), []);
        for name in ["desired.json", "history.json", "health.json", "segments.log"] {
            fs::write(here.path().join(name), vec![b'{'; 100]).expect("written");
        }
        fs::write(here.path().join("segments.damaged-1"), "").expect("written");
        fs::create_dir_all(here.path().join("replicas/r-9")).expect("made");
        fs::create_dir_all(here.path().join("replicas/r-8")).expect("made");
        fs::write(here.path().join("replicas/r-9/params.json"), "{").expect("written");
        let found = records(here.path());
        for expected in
            ["desired.json", "history.json", "health.json", "segment log is", "r-9", "damaged-1"]
        {
            assert!(found.iter().any(|row| row.detail.contains(expected)), "{expected}: {found:?}");
        }
        assert_eq!(found.len(), 6, "{found:?}");
    }
}
