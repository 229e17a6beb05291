//! Why the agent ends, as the exit codes of `docs/operating.md`.

use std::io::{self, ErrorKind};

use wharfage_shared::causes::with_causes;

use crate::config;
use crate::journal;

/// Everything was done.
pub const FINE: u8 = 0;
/// A check failed, or what was asked for was refused.
pub const FAILED: u8 = 1;
/// Bad usage.
pub const USAGE: u8 = 64;
/// A needed service is not there.
pub const UNAVAILABLE: u8 = 69;
/// Another instance runs.
pub const ANOTHER_RUNS: u8 = 75;
/// Bad configuration.
pub const CONFIG: u8 = 78;

/// An end with its reason: one sentence for an operator.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The sentence.
    pub message: String,
}

impl Failure {
    /// The configuration must be changed.
    pub fn config(message: impl Into<String>) -> Self {
        Self { code: CONFIG, message: message.into() }
    }

    /// Something that the agent needs is not there.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, message: message.into() }
    }

    /// The state folder cannot be used. What is wrong with the disk gets better by itself or by hand
    /// while replicas go on: it is tried again. Anything else is a matter of settings.
    pub fn state(message: impl Into<String>, error: &io::Error) -> Self {
        let message = message.into();
        match error.kind() {
            ErrorKind::ReadOnlyFilesystem => Self::unavailable(format!(
                "{message}: its file system is read-only (see dmesg: a disk with errors becomes \
                 so); replicas go on"
            )),
            _ if journal::is_full(error) => {
                Self::unavailable(format!("{message}: make room; replicas go on"))
            }
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename => Self::config(message),
            _ => Self::unavailable(message),
        }
    }

    /// Another agent has what this one would need.
    pub fn another_runs(message: impl Into<String>) -> Self {
        Self { code: ANOTHER_RUNS, message: message.into() }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::config(with_causes(&error))
    }
}
