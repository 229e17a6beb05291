//! The helper process: initialises NVML once, then reads each GPU in a thread of its own.
//!
//! It is never killed inside a call (that has frozen real GPUs): it ends by itself when its
//! standard input is closed and every call has returned.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::{Error, Reader};
use wharfage_shared::ids::GpuUuid;

use super::words::Line;

/// How often each GPU is read.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the agent closes standard input; the process's exit status.
pub fn run(library: Option<OsString>) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&stop);
    thread::spawn(move || {
        // The agent never writes: the end of the stream is the only thing that comes.
        drop(std::io::stdin().read(&mut [0]));
        watching.store(true, Ordering::Relaxed);
    });
    let opened = Reader::open(library.as_deref()).and_then(|reader| {
        let gpus = reader.identities()?;
        Ok((reader, gpus))
    });
    let (reader, gpus) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            say(&Line::Unusable { because: error.to_string() });
            return 0;
        }
    };
    let uuids: Vec<GpuUuid> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    if !say(&Line::Gpus { gpus, driver_version: reader.driver_version() }) {
        return 0;
    }
    thread::scope(|scope| {
        for uuid in &uuids {
            scope.spawn(|| watch(&reader, uuid, &stop));
        }
    });
    0
}

fn watch(reader: &Reader, uuid: &GpuUuid, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let at = clock::boottime();
        let line = match reader.read(uuid) {
            Ok((reading, processes)) => Line::Reading { at, reading, processes },
            Err(Error::Lost(because) | Error::Unusable(because)) => {
                Line::Trouble { at, gpu: uuid.clone(), because }
            }
        };
        if !say(&line) {
            stop.store(true, Ordering::Relaxed);
            return;
        }
        thread::sleep(INTERVAL);
    }
}

/// Whether anybody still listens.
fn say(line: &Line) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return true };
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).is_ok()
}
