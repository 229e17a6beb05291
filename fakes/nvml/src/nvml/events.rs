//! Event sets: XIDs that are appended to `xids` in `gpus.json` arrive at who waits.
//!
//! As with the real library, what happened before a GPU was registered is history: only entries
//! that appear afterwards are delivered, each once per set.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_uint, c_ulonglong};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

use crate::abi::{Code, INVALID_ARGUMENT, Out, SUCCESS, TIMEOUT};
use crate::folder::Contents;
use crate::gate::{admitted, call, on_gpu};
use crate::spec::Xid;

/// How often a wait looks at the folder. A real driver wakes who waits; what this costs is the
/// stand-in's alone.
const POLL: Duration = Duration::from_millis(200);

const XID: c_ulonglong = ffi::nvmlEventTypeXidCriticalError as c_ulonglong;

static SETS: Mutex<Sets> = Mutex::new(Sets { next: 1, open: BTreeMap::new() });

struct Sets {
    next: usize,
    open: BTreeMap<usize, EventSet>,
}

#[derive(Default)]
struct EventSet {
    watched: BTreeMap<String, Watched>,
    due: VecDeque<(usize, Xid)>,
}

/// One registered GPU.
struct Watched {
    handle: usize,
    /// The list as it was last seen.
    seen: Vec<Xid>,
}

impl EventSet {
    /// Queues what stands behind the part of the list that was already there.
    fn look(&mut self, contents: &Contents) {
        for gpu in &contents.fleet.gpus {
            let Some(watched) = self.watched.get_mut(gpu.uuid.as_str()) else {
                continue;
            };
            let same = watched.seen.iter().zip(&gpu.xids).take_while(|(a, b)| a == b).count();
            self.due.extend(gpu.xids[same..].iter().map(|xid| (watched.handle, *xid)));
            watched.seen.clone_from(&gpu.xids);
        }
    }
}

fn with_set<T>(set: nvmlEventSet_t, look: impl FnOnce(&mut EventSet) -> T) -> Option<T> {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    sets.open.get_mut(&set.addr()).map(look)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: Out<nvmlEventSet_t>) -> Code {
    call("nvmlEventSetCreate", |_| {
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        let id = sets.next;
        let code = set.put(std::ptr::without_provenance_mut(id));
        if code == SUCCESS {
            sets.next += 1;
            sets.open.insert(id, EventSet::default());
        }
        code
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    types: Out<c_ulonglong>,
) -> Code {
    on_gpu("nvmlDeviceGetSupportedEventTypes", device, |_| types.put(XID))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    types: c_ulonglong,
    set: nvmlEventSet_t,
) -> Code {
    on_gpu("nvmlDeviceRegisterEvents", device, |gpu| {
        let uuid = gpu.spec().uuid.as_str().to_owned();
        let watched = Watched { handle: device.addr(), seen: gpu.spec().xids.clone() };
        let registered = with_set(set, |set| {
            // Other kinds of event are accepted and never happen here.
            if types & XID != 0 {
                set.watched.insert(uuid, watched);
            }
        });
        registered.map_or(INVALID_ARGUMENT, |()| SUCCESS)
    })
}

fn wait(name: &str, set: nvmlEventSet_t, into: &Out<nvmlEventData_t>, timeout_ms: c_uint) -> Code {
    let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
    call(name, |_| {
        loop {
            // A call that began before a fault or a block was written still meets it.
            let contents = match admitted(&[name], None) {
                Ok(contents) => contents,
                Err(code) => return code,
            };
            let next = with_set(set, |set| {
                set.look(&contents);
                set.due.pop_front()
            });
            match next {
                None => return INVALID_ARGUMENT,
                Some(Some((handle, xid))) => {
                    let (xid, gpu_instance, compute_instance) = match xid {
                        Xid::Whole(xid) => (xid, None, None),
                        Xid::Part { xid, gpu_instance, compute_instance } => {
                            (xid, Some(gpu_instance), compute_instance)
                        }
                    };
                    return into.put(nvmlEventData_t {
                        device: std::ptr::without_provenance_mut(handle),
                        eventType: XID,
                        eventData: xid,
                        gpuInstanceId: gpu_instance.unwrap_or(c_uint::MAX),
                        computeInstanceId: compute_instance.unwrap_or(c_uint::MAX),
                    });
                }
                Some(None) if Instant::now() >= deadline => return TIMEOUT,
                Some(None) => std::thread::sleep(POLL),
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    into: Out<nvmlEventData_t>,
    timeout_ms: c_uint,
) -> Code {
    wait("nvmlEventSetWait_v2", set, &into, timeout_ms)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait(
    set: nvmlEventSet_t,
    into: Out<nvmlEventData_t>,
    timeout_ms: c_uint,
) -> Code {
    wait("nvmlEventSetWait", set, &into, timeout_ms)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> Code {
    call("nvmlEventSetFree", |_| {
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        sets.open.remove(&set.addr()).map_or(INVALID_ARGUMENT, |_| SUCCESS)
    })
}
