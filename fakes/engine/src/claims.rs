//! Claims on fake GPU memory: one file per GPU, named after this process.
//!
//! A claim is replaced by a rename, so a reader never sees half of one, and removed when the engine
//! ends. After a crash nobody removes it: then the library sees that the process is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::run::Error;

/// Memory that this process holds on its GPUs.
pub struct Claims {
    files: Vec<PathBuf>,
    /// Bytes on each GPU.
    bytes: AtomicU64,
    is_abandoned: AtomicBool,
}

impl Claims {
    /// Opens empty claims on these GPUs; without a folder there is nothing to claim.
    pub fn open(folder: Option<&Path>, gpus: &[String]) -> Result<Self, Error> {
        let pid = std::process::id().to_string();
        let folder = folder.map(|folder| folder.join("claims"));
        let files = folder
            .map(|folder| gpus.iter().map(|uuid| folder.join(uuid).join(&pid)).collect())
            .unwrap_or_default();
        let claims = Self { files, bytes: AtomicU64::new(0), is_abandoned: AtomicBool::new(false) };
        claims.hold(0)?;
        Ok(claims)
    }

    /// Holds this many bytes on each GPU from now on.
    pub fn hold(&self, bytes: u64) -> Result<(), Error> {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.write(0)
    }

    /// Says how busy each GPU is, in percent.
    pub fn show_utilization(&self, percent: u32) -> Result<(), Error> {
        self.write(percent.min(100))
    }

    /// Leaves the files behind, as a crash does.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    fn write(&self, percent: u32) -> Result<(), Error> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        for file in &self.files {
            replace(file, &format!("{bytes}\n{percent}\n"))
                .map_err(|source| Error::Claim { path: file.clone(), source })?;
        }
        Ok(())
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if !*self.is_abandoned.get_mut() {
            for file in &self.files {
                // What cannot be removed is the library's to remove once this process is gone.
                let _ = fs::remove_file(file);
            }
        }
    }
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let next = file.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(next, file)
}
