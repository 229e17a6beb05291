//! A driver on a folder of its own, for tests.

use std::path::{Path, PathBuf};

use wharfage_billing::canonical;
use wharfage_scheduler::driver::{Driver, Error, Options, start};
use wharfage_scheduler::log;
use wharfage_scheduler_core::words::command::{Action, Command, access};
use wharfage_scheduler_core::{Caller, Fleet, Policy};

/// A folder of its own for one test, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let name = format!("wharfage-driver-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The options of a driver in `dir`.
pub fn options(dir: &Path) -> Options {
    Options {
        log: dir.join("log.sqlite"),
        snapshots: dir.join("snapshots"),
        log_options: log::Options::default(),
        policy: Policy::default(),
        snapshot_after: 10_000,
    }
}

/// A driver in `dir`.
pub async fn driver(dir: &Path) -> Result<Driver, Error> {
    start(options(dir)).await
}

/// The command that makes an organization.
pub fn organization(id: &str) -> Command {
    let action = access::Action::CreateOrganization { id: id.into(), currency: "USD".to_owned() };
    Command { caller: Caller::provider(), action: Action::Access(action) }
}

/// The bytes that two equal fleets share.
pub fn bytes(fleet: &Fleet) -> String {
    canonical::to_string(fleet).expect("a fleet holds integers only")
}
