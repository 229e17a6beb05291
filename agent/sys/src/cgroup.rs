//! A control group per replica where this process may make one: nothing can leave it, and the
//! kernel ends all of it at once.
//!
//! Where there is none (no cgroup v2, or it is not writable) the replica is known by its session.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One control group of the second version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group of this name below this process's own, if the host allows it.
    ///
    /// At the root of the tree nobody has given this process anything of its own: no group is
    /// made there, and nothing is left behind on hosts that do not know what a delegation is.
    pub fn create(name: &str) -> Option<Self> {
        let path = own_group()?.join(name);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
        let group = Self { path };
        // Seen on hosts where the folder can be made but nothing can enter it.
        let enters = fs::OpenOptions::new().write(true).open(group.path.join("cgroup.procs"));
        if enters.is_err() || !group.path.join("cgroup.kill").exists() {
            group.remove();
            return None;
        }
        Some(group)
    }

    /// The group that was made at this path before, if it still exists.
    pub fn existing(path: &Path) -> Option<Self> {
        path.join("cgroup.procs").exists().then(|| Self { path: path.to_owned() })
    }

    /// The group at this path, whether it still exists or not.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process (this one: its later children follow) into the group.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// The pids inside; none of a group that is not there any more.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        // Removed between the opening and the reading.
        const REMOVED: i32 = rustix::io::Errno::NODEV.raw_os_error();
        match fs::read_to_string(self.path.join("cgroup.procs")) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) if error.raw_os_error() == Some(REMOVED) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Ends every process inside at once.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Takes this process out of the group, into the one above, and removes the group.
    pub fn leave_and_remove(&self) {
        if let Some(above) = self.path.parent() {
            // What cannot leave stays visible as a member; nothing is lost by that.
            drop(fs::write(above.join("cgroup.procs"), std::process::id().to_string()));
        }
        self.remove();
    }

    /// Removes the group when it is empty.
    pub fn remove(&self) {
        // A group that is not empty stays; the next look at the replica says so.
        drop(fs::remove_dir(&self.path));
    }
}

fn own_group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        after.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    (!own.is_empty()).then(|| mount.join(own))
}
