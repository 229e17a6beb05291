//! What the host gives: systemd, control groups, clock, disk, notices, the way to the scheduler.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_link::identity::IdentityDir;

use super::{Finding, State};
use crate::config::Config;
use crate::uplink;

/// A scheduler that does not accept a connection within this long is not reached.
const CONNECT: Duration = Duration::from_secs(3);

/// Records and logs of replicas need so much at least.
const LEAST_STATE_MIB: u64 = 64;

/// Below this few models fit.
const LITTLE_CACHE_MIB: u64 = 20 * 1024;

/// Seconds of 2025-01-01: a wall clock before it has lost its battery.
const NOT_BEFORE: u64 = 1_735_689_600;

/// What keeps a clock right, and what it leaves behind while it does.
const KEEPERS: [(&str, &str); 5] = [
    ("systemd-timesyncd", "/run/systemd/timesync/synchronized"),
    ("chrony", "/run/chrony/chronyd.pid"),
    ("chrony", "/run/chronyd.pid"),
    ("ntpd", "/run/ntpd.pid"),
    ("ptp4l", "/run/ptp4l"),
];

pub(super) async fn scheduler(config: &Config) -> Vec<Finding> {
    let identity = IdentityDir::new(config.state_dir.join("identity"));
    let joined = identity.is_enrolled();
    let mut findings = Vec::new();
    let help = "ask an operator for a new join string and put it into join or join_file";
    match joined.then(|| identity.load()) {
        Some(Err(error)) => {
            let detail = format!("what the node got when it joined cannot be used: {error}");
            findings.push(Finding::broken("scheduler", detail, help));
        }
        Some(Ok(own)) if own.is_expired(SystemTime::now()) => {
            let detail = "the node's certificate has ended: it is renewed if that was less than a \
                          week ago";
            findings.push(Finding::limited("scheduler", detail, help));
        }
        Some(Ok(_)) | None => {}
    }
    let address = match uplink::address(config, &identity) {
        Ok(address) => address,
        Err(error) => {
            let help = "ask an operator for a join string and put it into join or join_file";
            findings.push(Finding::broken("scheduler", error.to_string(), help));
            return findings;
        }
    };
    let word = if joined { "the node has joined" } else { "the node has not joined yet" };
    let reached = tokio::time::timeout(CONNECT, TcpStream::connect(&address)).await;
    findings.push(match reached {
        Ok(Ok(_)) => Finding::works("scheduler", format!("{address} is reached, {word}")),
        Ok(Err(error)) => not_reached(&address, word, &error.to_string()),
        Err(_) => not_reached(&address, word, "no answer"),
    });
    findings
}

fn not_reached(address: &str, word: &str, why: &str) -> Finding {
    let detail = format!("{address} is not reached ({why}), {word}");
    Finding::broken("scheduler", detail, "start it, or open the way to its listener for agents")
}

pub(super) fn systemd() -> Finding {
    if Path::new("/run/systemd/system").is_dir() {
        return Finding::works("systemd", "it runs this host");
    }
    Finding::limited(
        "systemd",
        "it does not run here: replicas are processes of the agent, without limits and journal",
        "none needed in a container; on a host boot it with systemd",
    )
}

pub(super) fn cgroups() -> Finding {
    let name = format!("wharfage-doctor-{}", std::process::id());
    match Cgroup::create(&name) {
        Some(group) => {
            group.remove();
            Finding::works("cgroups", "each replica gets a control group of its own")
        }
        None => Finding::limited(
            "cgroups",
            "none can be made from here: replicas are told apart by session and environment",
            "run this page as the agent's unit runs (cgroup v2, Delegate=yes)",
        ),
    }
}

pub(super) fn notices(config: &Config) -> Finding {
    let Some(file) = &config.notices.file else {
        return Finding::limited(
            "notices",
            "no source is configured: the node is lost without a warning when it is taken away",
            "set [notices.file], or the source of your cloud",
        );
    };
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    match fs::read_dir(folder) {
        Ok(_) => {
            let path = file.path.display();
            Finding::works("notices", format!("file `{path}`, its folder can be read"))
        }
        Err(error) => Finding::broken(
            "notices",
            format!("the folder `{}` cannot be read: {error}", folder.display()),
            "make it, and let the agent's user read it",
        ),
    }
}

pub(super) fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let help = "enable systemd-timesyncd or chrony";
    if now.as_secs() < NOT_BEFORE {
        let detail = "the wall clock is years behind: certificates will not be accepted";
        return Finding::broken("clock", detail, help);
    }
    match KEEPERS.iter().find(|(_, path)| Path::new(path).exists()) {
        Some((name, _)) => Finding::works("clock", format!("kept by {name}")),
        None => Finding::limited(
            "clock",
            "nobody is seen to keep it: leases and bills do not need it, deadlines of notices do",
            help,
        ),
    }
}

pub(super) fn disk(config: &Config) -> Vec<Finding> {
    vec![
        folder("state_dir", &config.state_dir, LEAST_STATE_MIB, State::Broken),
        folder("cache_dir", &config.cache_dir, LITTLE_CACHE_MIB, State::Limited),
    ]
}

/// A folder that the agent writes: there (or to be made), writable, with room.
fn folder(key: &str, path: &Path, least_mib: u64, if_less: State) -> Finding {
    let at = path.display();
    let existing = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    if let Err(error) = writes(existing) {
        let detail = format!("{key} `{at}`: `{}` cannot be written: {error}", existing.display());
        let help = "let the agent's user write it, or name another folder in agent.toml";
        return Finding::broken("disk", detail, help);
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

/// Whether something can be written there and brought to the disk; nothing is left behind.
fn writes(folder: &Path) -> std::io::Result<()> {
    let path: PathBuf = folder.join(format!(".wharfage-doctor-{}", std::process::id()));
    let written = fs::File::create(&path).and_then(|file| {
        use std::io::Write;
        (&file).write_all(b"doctor")?;
        file.sync_all()
    });
    // What could not be made need not be removed.
    drop(fs::remove_file(&path));
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_folder_that_is_to_be_made_is_judged_by_the_one_above_it() {
        let here = Folder::new("doctor-disk");
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
    }
}
