//! Guards as children of the agent: for hosts without systemd, and for development.
//!
//! They live in sessions of their own and outlive their agent. Whatever supervises the agent must
//! not end them with it (`KillMode=process`).

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::guard::record::Folder;

/// Starts the guard of this folder.
pub fn spawn_guard(program: &Path, folder: &Folder) -> io::Result<Child> {
    let errors = std::fs::File::create(folder.path().join("guard.err.log"))?;
    Command::new(program)
        .arg("guard")
        .arg("--params")
        .arg(folder.params_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .kill_on_drop(false)
        .spawn()
}
