//! `driver` and `[replicas]`: how replicas are run and what each may have of this host.

use serde::Deserialize;

use crate::bad_key::BadKey;

/// How replicas are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A guard process per replica, in a session and (where there is one) a cgroup of its own.
    Process,
    /// A guard per replica as an instance of `wharfage-replica@.service`.
    Systemd,
}

/// What a replica may have of this host. The limits are systemd's and need its driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// The user that engines run as when their definition names none (default: the guard's own).
    pub user: Option<String>,
    /// The most memory of the host for one replica.
    pub memory_max_mib: Option<u64>,
    /// One replica's share of the processors against others': 1 to 10000, systemd's 100 is even.
    pub cpu_weight: Option<u32>,
    /// Whether a replica is kept on the processors next to its GPUs.
    #[serde(default)]
    pub near_gpus: bool,
}

impl Replicas {
    pub(super) fn check(&self, driver: Option<Driver>) -> Result<(), BadKey> {
        if self.cpu_weight.is_some_and(|weight| !(1..=10_000).contains(&weight)) {
            return Err(BadKey::new("replicas.cpu_weight", "1 to 10000 is accepted".to_owned()));
        }
        if self.memory_max_mib == Some(0) {
            return Err(BadKey::new(
                "replicas.memory_max_mib",
                "at least 1 is accepted".to_owned(),
            ));
        }
        let limits = self.memory_max_mib.is_some() || self.cpu_weight.is_some() || self.near_gpus;
        if limits && driver == Some(Driver::Process) {
            let message = "limits need the driver `systemd`; with `process` only user is accepted";
            return Err(BadKey::new("replicas", message.to_owned()));
        }
        Ok(())
    }
}
