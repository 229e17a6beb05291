//! Loading: reads every byte of the model and claims memory in the same measure.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::args::EngineArgs;
use crate::claims::Claims;
use crate::model::{self, ModelFile};
use crate::report::{Progress, print};
use crate::run::Error;

/// Progress is shown in about this many steps.
const STEPS: u64 = 50;
const SMALLEST_CHUNK: u64 = 4 * 1024;
const LARGEST_CHUNK: u64 = 8 * 1024 * 1024;

const MIB: u64 = 1024 * 1024;

/// Reads the model at the pace that was asked for. All of the memory is held when it returns.
pub async fn load(args: &EngineArgs, claims: &Claims) -> Result<(), Error> {
    let files = model::files(&args.model_dir)?;
    let total = files.iter().map(|file| file.size).sum();
    let memory = u64::from(args.gpu_memory_mib) * MIB;
    let mut pace = Pace { claims, memory, total, read: 0, started: Instant::now(), args };
    for file in &files {
        read(file, &mut pace).await?;
    }
    // A file that shrank meanwhile must not leave the load unfinished.
    pace.advance(total - pace.read.min(total)).await
}

async fn read(file: &ModelFile, pace: &mut Pace<'_>) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Model { path, source }
    };
    let mut source = tokio::fs::File::open(&file.path).await.map_err(failed(&file.path))?;
    let chunk = (pace.total / STEPS).clamp(SMALLEST_CHUNK, LARGEST_CHUNK);
    let mut buffer = vec![0; usize::try_from(chunk).unwrap_or(64 * 1024)];
    loop {
        let count = source.read(&mut buffer).await.map_err(failed(&file.path))?;
        if count == 0 {
            return Ok(());
        }
        pace.advance(count as u64).await?;
    }
}

struct Pace<'a> {
    args: &'a EngineArgs,
    claims: &'a Claims,
    memory: u64,
    total: u64,
    read: u64,
    started: Instant,
}

impl Pace<'_> {
    /// Counts bytes that were read and waits until their share of the load time is over.
    async fn advance(&mut self, bytes: u64) -> Result<(), Error> {
        self.read = (self.read + bytes).min(self.total);
        let part = self.read as f64 / self.total as f64;
        let due = Duration::from_secs_f64(self.args.load_seconds * part);
        tokio::time::sleep_until(self.started + due).await;
        if self.args.fail_load && self.read * 2 >= self.total {
            return Err(Error::LoadFailed { bytes: self.read, total: self.total });
        }
        let held = u128::from(self.memory) * u128::from(self.read) / u128::from(self.total);
        self.claims.hold(u64::try_from(held).unwrap_or(self.memory))?;
        print(&Progress::Loading { bytes: self.read, total: self.total });
        Ok(())
    }
}
