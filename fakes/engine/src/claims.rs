//! What this process holds of its GPUs: real memory through CUDA's driver library, or claims in the
//! fake GPU folder, or nothing where neither is there.
//!
//! A claim is a file named after this process, replaced by a rename, so a reader never sees half of
//! one, and removed when the engine ends. After a crash nobody removes it: then the library sees
//! that the process is gone. Real memory the driver takes back itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use wharfage_agent_sys::cuda::{Cuda, Memory};

use crate::args::Surroundings;
use crate::run::Error;

/// Memory that this process holds on its GPUs.
pub struct Claims {
    /// Bytes on each GPU.
    bytes: AtomicU64,
    holding: Holding,
}

enum Holding {
    Files {
        files: Vec<PathBuf>,
        is_abandoned: AtomicBool,
    },
    /// One of each GPU, with what was taken of it.
    Device(Mutex<Vec<(Memory, u64)>>),
}

impl Claims {
    /// Opens empty claims. A library that was named comes first, then the fake GPUs, then the
    /// system's own library; without any of them there is nothing to claim.
    pub fn open(surroundings: &Surroundings) -> Result<Self, Error> {
        let gpus = &surroundings.gpus;
        let holding = match (&surroundings.cuda_library, &surroundings.fake_gpus) {
            (Some(library), _) => device(Cuda::open(Some(library)), gpus)?,
            (None, Some(folder)) => files(folder, gpus),
            (None, None) if gpus.is_empty() => Holding::none(),
            (None, None) => match Cuda::open(None) {
                Err(error) if error.is_absent() => Holding::none(),
                opened => device(opened, gpus)?,
            },
        };
        let claims = Self { bytes: AtomicU64::new(0), holding };
        claims.hold(0)?;
        Ok(claims)
    }

    /// Holds at least this many bytes on each GPU from now on.
    pub fn hold(&self, bytes: u64) -> Result<(), Error> {
        self.bytes.store(bytes, Ordering::Relaxed);
        match &self.holding {
            Holding::Files { files, .. } => write(files, bytes, 0),
            Holding::Device(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                for (memory, held) in memory.iter_mut() {
                    memory.take(bytes.saturating_sub(*held))?;
                    *held = bytes.max(*held);
                }
                Ok(())
            }
        }
    }

    /// Says how busy each GPU is, in percent. A real one knows by itself.
    pub fn show_utilization(&self, percent: u32) -> Result<(), Error> {
        match &self.holding {
            Holding::Files { files, .. } => {
                write(files, self.bytes.load(Ordering::Relaxed), percent.min(100))
            }
            Holding::Device(_) => Ok(()),
        }
    }

    /// Leaves the files behind, as a crash does.
    pub fn abandon(&self) {
        if let Holding::Files { is_abandoned, .. } = &self.holding {
            is_abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl Holding {
    fn none() -> Self {
        Self::Files { files: Vec::new(), is_abandoned: AtomicBool::new(false) }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if let Holding::Files { files, is_abandoned } = &mut self.holding
            && !*is_abandoned.get_mut()
        {
            for file in files {
                // What cannot be removed is the library's to remove once this process is gone.
                let _ = fs::remove_file(file);
            }
        }
    }
}

fn files(folder: &Path, gpus: &[String]) -> Holding {
    let pid = std::process::id().to_string();
    let file = |uuid: &String| folder.join("claims").join(uuid).join(&pid);
    Holding::Files { files: gpus.iter().map(file).collect(), is_abandoned: AtomicBool::new(false) }
}

fn device(
    opened: Result<Cuda, wharfage_agent_sys::cuda::Error>,
    gpus: &[String],
) -> Result<Holding, Error> {
    let cuda = opened?;
    let memory = gpus.iter().map(|gpu| Ok((cuda.memory_of(&gpu.as_str().into())?, 0)));
    Ok(Holding::Device(Mutex::new(memory.collect::<Result<_, Error>>()?)))
}

fn write(files: &[PathBuf], bytes: u64, percent: u32) -> Result<(), Error> {
    for file in files.iter().filter(|file| !is_checkpointed(file)) {
        replace(file, &format!("{bytes}\n{percent}\n"))
            .map_err(|source| Error::Claim { path: file.clone(), source })?;
    }
    Ok(())
}

/// Whether the stand-in for CUDA holds this claim meanwhile: a process that is checkpointed does
/// nothing.
fn is_checkpointed(claim: &Path) -> bool {
    let process = claim.file_name().unwrap_or_default();
    let folder = claim.ancestors().nth(3);
    folder.is_some_and(|folder| folder.join("checkpoints").join(process).exists())
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let next = file.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(next, file)
}
