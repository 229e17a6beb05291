//! Memory: the first version counts what the driver reserves as used, the second tells it apart.

use nvml_wrapper_sys::bindings::{nvmlBAR1Memory_t, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t};

use crate::abi::{Code, INVALID_ARGUMENT, Out, VERSION_MISMATCH};
use crate::gate::{on_gpu, on_slot};

/// `NVML_STRUCT_VERSION(Memory, 2)`: the size of the structure and its number.
const MEMORY_V2: u32 = size_of::<nvmlMemory_v2_t>() as u32 | 2 << 24;

const BAR1_TOTAL: u64 = 128 * 1024 * 1024 * 1024;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, into: Out<nvmlMemory_t>) -> Code {
    on_slot("nvmlDeviceGetMemoryInfo", device, |gpu, instance| {
        let memory = gpu.memory_of(instance);
        let used = memory.used + memory.reserved;
        into.put(nvmlMemory_t { total: memory.total, free: memory.free, used })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, into: Out<nvmlMemory_v2_t>) -> Code {
    on_slot("nvmlDeviceGetMemoryInfo_v2", device, |gpu, instance| {
        let Some(asked) = into.held() else {
            return INVALID_ARGUMENT;
        };
        if asked.version != MEMORY_V2 {
            return VERSION_MISMATCH;
        }
        let memory = gpu.memory_of(instance);
        into.put(nvmlMemory_v2_t {
            version: MEMORY_V2,
            total: memory.total,
            reserved: memory.reserved,
            free: memory.free,
            used: memory.used,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBAR1MemoryInfo(
    device: nvmlDevice_t,
    into: Out<nvmlBAR1Memory_t>,
) -> Code {
    on_gpu("nvmlDeviceGetBAR1MemoryInfo", device, |_| {
        let used = 1024 * 1024;
        let free = BAR1_TOTAL - used;
        into.put(nvmlBAR1Memory_t { bar1Total: BAR1_TOTAL, bar1Free: free, bar1Used: used })
    })
}
