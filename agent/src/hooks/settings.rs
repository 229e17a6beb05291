//! `[hooks]` and `[checkpoints]` of `agent.toml`: who hooks run as, and where checkpoints lie.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::store::Store;
use crate::bad_key::BadKey;

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// No engine is given longer than an hour to end.
const LONGEST_GRACE: u32 = 3600;

/// Who hooks run as.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// The user of hooks whose definition names none (default: `wharfage-hook` where this host has
    /// it and the agent runs as root, else the agent's own).
    pub user: Option<String>,
    /// What `builtin-sigterm` gives an engine.
    pub sigterm_grace_seconds: u32,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { user: None, sigterm_grace_seconds: 30 }
    }
}

impl Hooks {
    /// The first key that is out of what is accepted, and what is.
    pub fn check(&self) -> Result<(), BadKey> {
        if (1..=LONGEST_GRACE).contains(&self.sigterm_grace_seconds) {
            return Ok(());
        }
        let got = self.sigterm_grace_seconds;
        let said = format!("1 to {LONGEST_GRACE} is accepted, got {got}");
        Err(BadKey::new("hooks.sigterm_grace_seconds", said))
    }
}

/// Where checkpoints lie, and how much of them goes through.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoints {
    /// Their folder; one that several hosts share lets a replacement elsewhere restore (default:
    /// `checkpoints` in `state_dir`).
    pub dir: Option<PathBuf>,
    /// What the disk, or the link to it, carries where it is known (default: measured).
    pub mib_per_second: Option<u64>,
    /// So many complete ones of a deployment are kept.
    pub keep: u32,
    /// Where they go as well, so that a replacement on another host restores them.
    pub store: Option<Store>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { dir: None, mib_per_second: None, keep: 2, store: None }
    }
}

impl Checkpoints {
    /// The first key that is out of what is accepted, and what is.
    pub fn check(&self) -> Result<(), BadKey> {
        if self.mib_per_second == Some(0) {
            return Err(BadKey::new("checkpoints.mib_per_second", "at least 1 is accepted"));
        }
        if !(1..=1000).contains(&self.keep) {
            let said = format!("1 to 1000 is accepted, got {}", self.keep);
            return Err(BadKey::new("checkpoints.keep", said));
        }
        self.store.as_ref().map_or(Ok(()), Store::check)
    }

    /// Their folder.
    pub fn folder(&self, state_dir: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| state_dir.join("checkpoints"))
    }

    /// Bytes a second, where the owner says.
    pub fn carries(&self) -> Option<u64> {
        self.mib_per_second.map(|mib| mib.saturating_mul(MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_with_its_key() {
        let refusal = |text: &str| {
            let settings: Checkpoints = toml::from_str(text).expect("read");
            settings.check().map_err(|bad| bad.to_string())
        };
        assert_eq!(refusal("dir = \"/mnt/shared\"\nmib_per_second = 1500\n"), Ok(()));
        let said = "checkpoints.keep: 1 to 1000 is accepted, got 0";
        assert_eq!(refusal("keep = 0"), Err(said.to_owned()));
        let hooks: Hooks = toml::from_str("sigterm_grace_seconds = 0").expect("read");
        let said = "hooks.sigterm_grace_seconds: 1 to 3600 is accepted, got 0";
        assert_eq!(hooks.check().map_err(|bad| bad.to_string()), Err(said.to_owned()));
        let said = "checkpoints.mib_per_second: at least 1 is accepted";
        assert_eq!(refusal("mib_per_second = 0"), Err(said.to_owned()));
    }
}
