//! The helper process: initialises NVML once, then reads each GPU in a thread of its own.
//!
//! It is never killed inside a call (that has frozen real GPUs): it ends by itself when its
//! standard input is closed and every call has returned. A GPU that hangs, even while it is being
//! identified, holds up no other one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::{Board, Gpu, Reach, Reader, SECTIONS, Trouble};
use wharfage_shared::ids::GpuUuid;

use super::supervisor::DOES_NOT_ANSWER;
use super::words::{Absent, Line};

/// How often each GPU is read.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// One section is read at each interval; after this many the first comes again. It leaves room for
/// a look at who the GPU is.
const CYCLE: usize = 10;

/// GPUs must be identified within this long, or the others are told without them.
const IDENTIFIED_WITHIN: Duration = Duration::from_secs(2);

/// How often NVML's count, a GPU that cannot be identified, or XIDs are asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long one wait for an XID lasts.
const XID_WAIT_MS: u32 = 500;

/// How often a thread that waits looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Who a GPU at some place of the list is, or why that is not known.
type Found = (u32, Result<Board, Trouble>);

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
        let count = reader.count()?;
        Ok((reader, count))
    });
    let (reader, count) = match opened {
        Ok(opened) => opened,
        Err(trouble) => {
            say(&Line::Unusable { because: trouble.because });
            return 0;
        }
    };
    let broken = Mutex::new(BTreeSet::new());
    let helper = Helper { reader: &reader, stop: &stop, count, broken: &broken };
    thread::scope(|scope| {
        let (found, finds) = mpsc::channel();
        for index in 0..count {
            let found = found.clone();
            scope.spawn(move || helper.watch(scope, index, &found));
        }
        scope.spawn(move || helper.recount());
        helper.announce(&finds);
    });
    0
}

#[derive(Clone, Copy)]
struct Helper<'env> {
    reader: &'env Reader,
    stop: &'env AtomicBool,
    /// How many GPUs there are.
    count: u32,
    /// Those that speak of a driver that does not work.
    broken: &'env Mutex<BTreeSet<u32>>,
}

impl<'env> Helper<'env> {
    fn is_over(self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says a line; without a listener everything ends.
    fn say(self, line: &Line) {
        if !say(line) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Waits, but not for long once everything ends.
    fn wait(self, how_long: Duration) {
        let until = Instant::now() + how_long;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// Minds what a GPU says of the driver. When all of them say that it does not work, NVML must
    /// be initialised anew; as long as others answer, it is the GPU's own trouble.
    fn mind(self, index: u32, trouble: Option<&Trouble>) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble.filter(|trouble| trouble.reach == Reach::Driver) {
            None => drop(broken.remove(&index)),
            Some(trouble) => {
                broken.insert(index);
                if broken.len() == self.count as usize {
                    self.give_up(trouble);
                }
            }
        }
    }

    /// Ends everything: NVML does not work in this process.
    fn give_up(self, trouble: &Trouble) {
        // Several threads meet the same trouble: the first one says it.
        if !self.stop.swap(true, Ordering::Relaxed) {
            say(&Line::Unusable { because: trouble.because.clone() });
        }
    }

    /// Tells who the GPUs are: once all are identified or had their time, and at each change.
    fn announce(self, finds: &mpsc::Receiver<Found>) {
        let count = self.count;
        let mut known: BTreeMap<u32, Result<Board, Trouble>> = BTreeMap::new();
        let deadline = Instant::now() + IDENTIFIED_WITHIN;
        while known.len() < count as usize && !self.is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            match finds.recv_timeout(left) {
                Ok((index, found)) => drop(known.insert(index, found)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let versions = self.reader.versions();
        loop {
            if self.is_over() {
                return;
            }
            let boards = known.values().filter_map(|found| found.clone().ok()).collect();
            let why = |index| match known.get(&index) {
                Some(Ok(_)) => None,
                Some(Err(trouble)) => Some(trouble.because.clone()),
                None => Some(DOES_NOT_ANSWER.to_owned()),
            };
            let absent =
                (0..count).filter_map(|index| Some(Absent { index, because: why(index)? }));
            let absent = absent.collect();
            self.say(&Line::Gpus { boards, absent, versions: versions.clone() });
            let (index, found) = loop {
                match finds.recv_timeout(LOOK) {
                    Ok((index, found)) if known.get(&index) != Some(&found) => {
                        break (index, found);
                    }
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                }
            };
            known.insert(index, found);
        }
    }

    /// Reads one GPU until the end.
    fn watch<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        index: u32,
        found: &mpsc::Sender<Found>,
    ) {
        let Some(mut gpu) = self.identify(index, found) else { return };
        let uuid = gpu.board().uuid.clone();
        let listening = uuid.clone();
        scope.spawn(move || self.hear_xids(&listening));
        self.read(index, &gpu);
        for number in 0..SECTIONS {
            self.section(&mut gpu, &uuid, number);
        }
        for tick in (0..CYCLE).cycle() {
            self.wait(INTERVAL);
            if self.is_over() {
                return;
            }
            self.read(index, &gpu);
            if tick < SECTIONS {
                self.section(&mut gpu, &uuid, tick);
            } else if tick == SECTIONS {
                // What stands in the way of this is told by the readings.
                if let Ok(true) = gpu.identify() {
                    // Nobody listens only when everything ends.
                    drop(found.send((index, Ok(gpu.board().clone()))));
                }
            }
        }
    }

    /// Who the GPU is, asked until it says so.
    fn identify(self, index: u32, found: &mpsc::Sender<Found>) -> Option<Gpu<'env>> {
        while !self.is_over() {
            match self.reader.gpu(index) {
                Ok(gpu) => {
                    drop(found.send((index, Ok(gpu.board().clone()))));
                    return Some(gpu);
                }
                Err(trouble) => {
                    self.mind(index, Some(&trouble));
                    drop(found.send((index, Err(trouble))));
                    self.wait(AGAIN);
                }
            }
        }
        None
    }

    fn read(self, index: u32, gpu: &Gpu<'_>) {
        let at = clock::boottime();
        let slots = gpu.read();
        let troubles = slots.iter().filter_map(|slot| slot.trouble.as_ref());
        self.mind(index, troubles.max_by_key(|trouble| trouble.reach));
        self.say(&Line::Reading { at, slots });
    }

    fn section(self, gpu: &mut Gpu<'_>, uuid: &GpuUuid, number: usize) {
        let at = clock::boottime();
        let (section, trouble) = gpu.section(number);
        let section = section.map(Box::new);
        self.say(&Line::Section { at, gpu: uuid.clone(), number, section, trouble });
    }

    /// A GPU that comes or goes shifts the list: NVML is then initialised anew.
    fn recount(self) {
        loop {
            self.wait(AGAIN);
            if self.is_over() {
                return;
            }
            match self.reader.count() {
                Ok(now) if now != self.count => self.say(&Line::Recounted),
                Ok(_) => {}
                Err(trouble) if trouble.reach == Reach::Driver => self.give_up(&trouble),
                // It counts the GPUs that there are; what is wrong with one, its thread tells.
                Err(_) => {}
            }
        }
    }

    fn hear_xids(self, gpu: &GpuUuid) {
        while !self.is_over() {
            let xids = match self.reader.xids(gpu) {
                Ok(None) => return,
                Ok(Some(xids)) => xids,
                // The GPU's own thread tells what is wrong with it.
                Err(_) => {
                    self.wait(AGAIN);
                    continue;
                }
            };
            while !self.is_over() {
                match xids.next(XID_WAIT_MS) {
                    Ok(None) => {}
                    Ok(Some(xid)) => {
                        let at = clock::boottime();
                        self.say(&Line::Xid { at, gpu: gpu.clone(), xid });
                    }
                    Err(_) => {
                        self.wait(AGAIN);
                        break;
                    }
                }
            }
        }
    }
}

/// Whether anybody still listens.
fn say(line: &Line) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return true };
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).is_ok()
}
