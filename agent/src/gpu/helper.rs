//! The helper process: initialises NVML once, then reads each GPU in a thread of its own.
//!
//! It is never killed inside a call (that has frozen real GPUs): it ends by itself when its
//! standard input is closed and every call has returned. A GPU that hangs, even while it is being
//! identified, holds up no other one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::{
    Board, Gpu, Reach, Reader, SECTIONS, SlotReading, Trouble, XidEvent,
};
use wharfage_shared::ids::GpuUuid;

use super::beside::{Call, Calls};
use super::supervisor::DOES_NOT_ANSWER;
use super::words::{Absent, Word};

/// How often each GPU is read that somebody uses; all of them at the same moments.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// One that nobody uses is read at every second of these moments.
const IDLE_TICKS: usize = 2;

/// One section is read at each interval; after this many the first comes again. It leaves room for
/// a look at who the GPU is.
const CYCLE: usize = 10;

/// GPUs must be identified within this long, or the others are told without them.
const IDENTIFIED_WITHIN: Duration = Duration::from_secs(2);

/// How often NVML's count, a GPU that cannot be identified, or XIDs are asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long one wait for an XID lasts; the end is not seen before it is over.
const XID_WAIT_MS: u32 = 2000;

/// How often calls beside the readings are looked at: with their own limit, one that hangs is told
/// within 10 s.
const LOOK_BESIDE: Duration = Duration::from_secs(4);

/// Words of the same moment come within this long and are said together, so that the agent wakes up
/// once for them.
const GATHERED: Duration = Duration::from_millis(25);

/// Who a GPU at some place of the list is, or why that is not known.
type Found = (u32, Result<Board, Trouble>);

/// What the threads tell each other and the agent.
#[derive(Default)]
struct Desk {
    told: Mutex<Told>,
    /// Wakes who waits for the end.
    over: Condvar,
    /// Wakes the one that speaks to the agent.
    to_say: Condvar,
}

#[derive(Default)]
struct Told {
    /// Everything ends.
    is_over: bool,
    /// Who GPUs are, as it was found out and not announced yet.
    finds: VecDeque<Found>,
    /// What the agent is to hear.
    words: Vec<Word>,
    /// When it is to hear them; absent while there are none.
    due: Option<Instant>,
}

/// What the one that speaks has to do.
enum Next {
    /// Announce who a GPU is.
    Announce(u32, Box<Result<Board, Trouble>>),
    /// Say what was seen at one moment.
    Say(Vec<Word>),
    /// End.
    End,
}

impl Desk {
    fn told(&self) -> MutexGuard<'_, Told> {
        // A thread that panicked had its say: what it held is plain data.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything, with a last word; whether that is new.
    fn end(&self, last: Option<Word>) -> bool {
        let mut told = self.told();
        if std::mem::replace(&mut told.is_over, true) {
            return false;
        }
        if let Some(last) = last {
            told.words.push(last);
            told.due = Some(Instant::now());
        }
        self.over.notify_all();
        self.to_say.notify_all();
        true
    }

    fn find(&self, found: Found) {
        self.told().finds.push_back(found);
        self.to_say.notify_all();
    }

    /// Has it said within this long.
    fn say(&self, word: Word, within: Duration) {
        let mut told = self.told();
        told.words.push(word);
        let due = Instant::now() + within;
        if told.due.is_none_or(|before| due < before) {
            told.due = Some(due);
            self.to_say.notify_all();
        }
    }

    /// Waits this long, or until everything ends.
    fn wait(&self, how_long: Duration) {
        let told = self.told();
        drop(self.over.wait_timeout_while(told, how_long, |told| !told.is_over));
    }

    /// The next find until then.
    fn next_find(&self, until: Instant) -> Option<Found> {
        let is_quiet = |told: &mut Told| !told.is_over && told.finds.is_empty();
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.to_say.wait_timeout_while(self.told(), left, is_quiet);
        let mut told = waited.unwrap_or_else(PoisonError::into_inner).0;
        told.finds.pop_front().filter(|_| !told.is_over)
    }

    /// What is to be done next, once there is something. What is said before the end is still said.
    fn next(&self) -> Next {
        let mut told = self.told();
        loop {
            if !told.is_over
                && let Some(found) = told.finds.pop_front()
            {
                return Next::Announce(found.0, Box::new(found.1));
            }
            let now = Instant::now();
            told = match told.due {
                Some(due) if told.is_over || due <= now => {
                    told.due = None;
                    return Next::Say(std::mem::take(&mut told.words));
                }
                Some(due) => {
                    let waited = self.to_say.wait_timeout(told, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None if told.is_over => return Next::End,
                None => self.to_say.wait(told).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Runs until the agent closes standard input; the process's exit status.
pub fn run(library: Option<OsString>) -> u8 {
    let desk = Arc::new(Desk::default());
    let watching = Arc::clone(&desk);
    thread::spawn(move || {
        // The agent never writes: the end of the stream is the only thing that comes.
        drop(std::io::stdin().read(&mut [0]));
        watching.end(None);
    });
    let opened = Reader::open(library.as_deref()).and_then(|reader| {
        let count = reader.count()?;
        Ok((reader, count))
    });
    let (reader, count) = match opened {
        Ok(opened) => opened,
        Err(trouble) => {
            say(&[Word::Unusable { because: trouble.because }]);
            return 0;
        }
    };
    let broken = Mutex::new(BTreeSet::new());
    let beside = Calls::default();
    let helper = Helper { reader: &reader, desk: &desk, count, broken: &broken, beside: &beside };
    thread::scope(|scope| {
        for index in 0..count {
            scope.spawn(move || helper.watch(scope, index));
        }
        scope.spawn(move || helper.recount());
        scope.spawn(move || helper.look_beside());
        helper.speak();
    });
    0
}

#[derive(Clone, Copy)]
struct Helper<'env> {
    reader: &'env Reader,
    desk: &'env Desk,
    /// How many GPUs there are.
    count: u32,
    /// Those that speak of a driver that does not work.
    broken: &'env Mutex<BTreeSet<u32>>,
    /// Calls beside the readings.
    beside: &'env Calls,
}

impl<'env> Helper<'env> {
    fn is_over(self) -> bool {
        self.desk.told().is_over
    }

    /// Waits for the next moment at which all GPUs are read that are read as often.
    fn wait_for_tick(self, ticks: usize) {
        let interval = INTERVAL.as_millis() as u64 * ticks as u64;
        let left = interval - clock::boottime().0 % interval;
        self.desk.wait(Duration::from_millis(left));
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

    /// Ends everything: NVML does not work in this process. Several threads meet the same trouble:
    /// the first one says it.
    fn give_up(self, trouble: &Trouble) {
        self.desk.end(Some(Word::Unusable { because: trouble.because.clone() }));
    }

    /// Speaks to the agent: who the GPUs are, once all are identified or had their time and at each
    /// change, and what is seen of them.
    fn speak(self) {
        let count = self.count;
        let mut known: BTreeMap<u32, Result<Board, Trouble>> = BTreeMap::new();
        let deadline = Instant::now() + IDENTIFIED_WITHIN;
        while known.len() < count as usize
            && let Some((index, found)) = self.desk.next_find(deadline)
        {
            known.insert(index, found);
        }
        let versions = self.reader.versions();
        let announce = |known: &BTreeMap<u32, Result<Board, Trouble>>| {
            let boards = known.values().filter_map(|found| found.clone().ok()).collect();
            let why = |index| match known.get(&index) {
                Some(Ok(_)) => None,
                Some(Err(trouble)) => Some(trouble.because.clone()),
                None => Some(DOES_NOT_ANSWER.to_owned()),
            };
            let absent =
                (0..count).filter_map(|index| Some(Absent { index, because: why(index)? }));
            let absent = absent.collect();
            Word::Gpus { boards, absent, versions: versions.clone() }
        };
        let mut said = say(&[announce(&known)]);
        // Without a listener everything ends.
        while said || !self.desk.end(None) {
            said = match self.desk.next() {
                Next::Say(words) => say(&words),
                Next::Announce(index, found) if known.get(&index) == Some(&*found) => true,
                Next::Announce(index, found) => {
                    known.insert(index, *found);
                    say(&[announce(&known)])
                }
                Next::End => return,
            };
        }
    }

    /// Reads one GPU until the end.
    fn watch<'scope>(self, scope: &'scope Scope<'scope, 'env>, index: u32) {
        let Some(mut gpu) = self.identify(index) else { return };
        let uuid = gpu.board().uuid.clone();
        let listening = uuid.clone();
        scope.spawn(move || self.hear_xids(&listening));
        let mut is_idle = self.read(index, &gpu);
        for number in 0..SECTIONS {
            self.section(&mut gpu, &uuid, number);
        }
        let mut next = 0;
        loop {
            let ticks = if is_idle { IDLE_TICKS } else { 1 };
            self.wait_for_tick(ticks);
            if self.is_over() {
                return;
            }
            is_idle = self.read(index, &gpu);
            for tick in next..next + ticks {
                let tick = tick % CYCLE;
                if tick < SECTIONS {
                    self.section(&mut gpu, &uuid, tick);
                } else if tick == SECTIONS {
                    // What stands in the way of this is told by the readings.
                    if let Ok(true) = gpu.identify() {
                        self.desk.find((index, Ok(gpu.board().clone())));
                    }
                }
            }
            next = (next + ticks) % CYCLE;
        }
    }

    /// Who the GPU is, asked until it says so.
    fn identify(self, index: u32) -> Option<Gpu<'env>> {
        while !self.is_over() {
            match self.reader.gpu(index) {
                Ok(gpu) => {
                    self.desk.find((index, Ok(gpu.board().clone())));
                    return Some(gpu);
                }
                Err(trouble) => {
                    self.mind(index, Some(&trouble));
                    self.desk.find((index, Err(trouble)));
                    self.desk.wait(AGAIN);
                }
            }
        }
        None
    }

    /// Reads its slots; whether nobody uses them.
    fn read(self, index: u32, gpu: &Gpu<'_>) -> bool {
        let at = clock::boottime();
        let slots = gpu.read();
        let troubles = slots.iter().filter_map(|slot| slot.trouble.as_ref());
        self.mind(index, troubles.max_by_key(|trouble| trouble.reach));
        let is_unused = |slot: &SlotReading| slot.fast.processes.known().is_some_and(Vec::is_empty);
        let is_idle = slots.iter().all(is_unused);
        self.desk.say(Word::Reading { at, slots }, GATHERED);
        is_idle
    }

    fn section(self, gpu: &mut Gpu<'_>, uuid: &GpuUuid, number: usize) {
        let at = clock::boottime();
        let (section, trouble) = gpu.section(number);
        let section = section.map(Box::new);
        let gpu = uuid.clone();
        self.desk.say(Word::Section { at, gpu, number, section, trouble }, GATHERED);
    }

    /// A GPU that comes or goes shifts the list: NVML is then initialised anew.
    fn recount(self) {
        loop {
            self.desk.wait(AGAIN);
            if self.is_over() {
                return;
            }
            match self.beside.make(&Call::Count, || self.reader.count()) {
                Ok(now) if now != self.count => self.desk.say(Word::Recounted, Duration::ZERO),
                Ok(_) => {}
                Err(trouble) if trouble.reach == Reach::Driver => self.give_up(&trouble),
                // It counts the GPUs that there are; what is wrong with one, its thread tells.
                Err(_) => {}
            }
        }
    }

    /// Tells which calls beside the readings hang.
    fn look_beside(self) {
        let mut told = None;
        loop {
            self.desk.wait(LOOK_BESIDE);
            if self.is_over() {
                return;
            }
            let hanging = self.beside.hanging(Instant::now());
            if let Some(calls) = hanging.as_ref().filter(|_| hanging != told) {
                self.desk.say(Word::Hanging(calls.clone()), Duration::ZERO);
                told = hanging;
            }
        }
    }

    fn hear_xids(self, gpu: &GpuUuid) {
        let call = Call::Xids(gpu.clone());
        while !self.is_over() {
            let xids = match self.beside.make(&call, || self.reader.xids(gpu)) {
                Ok(None) => {
                    self.beside.forget(&call);
                    return;
                }
                Ok(Some(xids)) => xids,
                // The GPU's own thread tells what is wrong with it.
                Err(_) => {
                    self.desk.wait(AGAIN);
                    continue;
                }
            };
            while !self.is_over() {
                match self.beside.make(&call, || xids.next(XID_WAIT_MS)) {
                    Ok(None) => {}
                    Ok(Some(XidEvent { xid, place })) => {
                        let at = clock::boottime();
                        let gpu = gpu.clone();
                        self.desk.say(Word::Xid { at, gpu, xid, place }, Duration::ZERO);
                    }
                    Err(_) => {
                        self.desk.wait(AGAIN);
                        break;
                    }
                }
            }
        }
    }
}

/// Says a line; whether anybody still listens.
fn say(words: &[Word]) -> bool {
    let Ok(mut text) = serde_json::to_vec(words) else { return true };
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).is_ok()
}
