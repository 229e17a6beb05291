//! What the stand-in itself costs, for who weighs the programs that call it: where the folder holds
//! `cost/`, the CPU time of all calls of a process stands in `cost/<pid>`, in nanoseconds.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::folder;

/// How often the file is written.
const WRITTEN_EVERY: Duration = Duration::from_millis(200);

static COST: OnceLock<Option<Cost>> = OnceLock::new();

struct Cost {
    file: PathBuf,
    begun: Instant,
    nanoseconds: AtomicU64,
    /// When the file was written last, in milliseconds since the begin.
    written: AtomicU64,
}

/// Does it, and counts what it cost where somebody wants to know.
pub fn counted<T>(body: impl FnOnce() -> T) -> T {
    let Some(cost) = COST.get_or_init(Cost::wanted) else { return body() };
    let before = spent();
    let done = body();
    cost.add(spent().saturating_sub(before));
    done
}

/// CPU time of this thread, in nanoseconds.
fn spent() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

impl Cost {
    fn wanted() -> Option<Self> {
        let folder = folder::contents()?.path.join("cost");
        let file = folder.join(std::process::id().to_string());
        let (nanoseconds, written) = (AtomicU64::new(0), AtomicU64::new(0));
        folder.is_dir().then(|| Self { file, begun: Instant::now(), nanoseconds, written })
    }

    fn add(&self, nanoseconds: u64) {
        let sum = self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed) + nanoseconds;
        let now = self.begun.elapsed().as_millis() as u64;
        let written = self.written.load(Ordering::Relaxed);
        if now - written.min(now) < WRITTEN_EVERY.as_millis() as u64 {
            return;
        }
        let is_mine =
            self.written.compare_exchange(written, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_mine.is_ok() {
            // The number never gets shorter: who reads meanwhile sees the one or the other.
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.file);
            // Who reads it misses one number at most.
            drop(file.and_then(|file| file.write_at(sum.to_string().as_bytes(), 0)));
        }
    }
}
