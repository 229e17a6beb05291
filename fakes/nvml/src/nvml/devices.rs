//! How many GPUs there are, their handles and their names.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t, nvmlPciInfo_t};

use crate::abi::{Code, INVALID_ARGUMENT, NOT_FOUND, Out, SUCCESS, Text, fill_text};
use crate::folder::Contents;
use crate::gate::{admitted, call, handle_for, handle_of, on_gpu, on_slot};
use crate::gpu::{self, Gpu};
use crate::spec::PciAddress;

/// Device and vendor id of an H100 SXM5, and its board.
const PCI_DEVICE: c_uint = 0x2330_10de;
const PCI_SUBSYSTEM: c_uint = 0x16c1_10de;

fn count(name: &str, count: &Out<c_uint>) -> Code {
    call(name, |contents| {
        count.put(c_uint::try_from(contents.fleet.gpus.len()).unwrap_or(c_uint::MAX))
    })
}

/// Answers a handle, unless the GPU found has a fault for this call.
fn hand_out(
    name: &str,
    device: &Out<nvmlDevice_t>,
    absent: Code,
    find: impl FnOnce(&Contents) -> Option<usize>,
) -> Code {
    call(name, |contents| {
        let found = find(contents).and_then(|index| Gpu::at(contents.clone(), index));
        let Some(gpu) = found else {
            return absent;
        };
        match admitted(&[name], Some(gpu.spec().uuid.as_str())) {
            Ok(_) => device.put(handle_of(&gpu)),
            Err(code) => code,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(into: Out<c_uint>) -> Code {
    count("nvmlDeviceGetCount_v2", &into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount(into: Out<c_uint>) -> Code {
    count("nvmlDeviceGetCount", &into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<nvmlDevice_t>) -> Code {
    hand_out("nvmlDeviceGetHandleByIndex_v2", &device, INVALID_ARGUMENT, |_| Some(index as usize))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, device: Out<nvmlDevice_t>) -> Code {
    hand_out("nvmlDeviceGetHandleByIndex", &device, INVALID_ARGUMENT, |_| Some(index as usize))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<nvmlDevice_t>) -> Code {
    let Some(uuid) = uuid.read() else {
        return INVALID_ARGUMENT;
    };
    let name = "nvmlDeviceGetHandleByUUID";
    call(name, |contents| {
        let Some(gpu) = Gpu::holding(contents.clone(), uuid) else {
            return NOT_FOUND;
        };
        match admitted(&[name], Some(gpu.spec().uuid.as_str())) {
            Ok(_) => device.put(handle_for(uuid)),
            Err(code) => code,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleBySerial(serial: Text, device: Out<nvmlDevice_t>) -> Code {
    let Some(serial) = serial.read() else {
        return INVALID_ARGUMENT;
    };
    hand_out("nvmlDeviceGetHandleBySerial", &device, NOT_FOUND, |contents| {
        (0..contents.fleet.gpus.len()).find(|index| {
            Gpu::at(contents.clone(), *index).is_some_and(|gpu| gpu.serial() == serial)
        })
    })
}

fn by_place(name: &str, place: &Text, device: &Out<nvmlDevice_t>) -> Code {
    let Some(place) = place.read().and_then(PciAddress::parse) else {
        return INVALID_ARGUMENT;
    };
    hand_out(name, device, NOT_FOUND, |contents| gpu::index_at(&contents.fleet, place))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(place: Text, device: Out<nvmlDevice_t>) -> Code {
    by_place("nvmlDeviceGetHandleByPciBusId_v2", &place, &device)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId(place: Text, device: Out<nvmlDevice_t>) -> Code {
    by_place("nvmlDeviceGetHandleByPciBusId", &place, &device)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    mut name: Out<c_char>,
    length: c_uint,
) -> Code {
    on_slot("nvmlDeviceGetName", device, |gpu, instance| match instance {
        Some(part) => name.put_text(length, &format!("{} MIG {}", gpu.name(), part.profile)),
        None => name.put_text(length, gpu.name()),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    mut uuid: Out<c_char>,
    length: c_uint,
) -> Code {
    on_slot("nvmlDeviceGetUUID", device, |gpu, instance| {
        let own = instance.map_or(&gpu.spec().uuid, |instance| &instance.uuid);
        uuid.put_text(length, own.as_str())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(
    device: nvmlDevice_t,
    mut serial: Out<c_char>,
    length: c_uint,
) -> Code {
    on_gpu("nvmlDeviceGetSerial", device, |gpu| serial.put_text(length, &gpu.serial()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetVbiosVersion(
    device: nvmlDevice_t,
    mut version: Out<c_char>,
    length: c_uint,
) -> Code {
    on_gpu("nvmlDeviceGetVbiosVersion", device, |_| version.put_text(length, "96.00.89.00.01"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetIndex", device, |gpu| index.put(gpu.index()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetMinorNumber", device, |gpu| minor.put(gpu.index()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetModuleId(device: nvmlDevice_t, module: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetModuleId", device, |gpu| module.put(gpu.index() + 1))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBoardPartNumber(
    device: nvmlDevice_t,
    mut part: Out<c_char>,
    length: c_uint,
) -> Code {
    on_gpu("nvmlDeviceGetBoardPartNumber", device, |_| part.put_text(length, "692-2G520-0200-000"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBoardId(device: nvmlDevice_t, board: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetBoardId", device, |gpu| board.put(u32::from(gpu.pci().bus) << 8))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBrand(device: nvmlDevice_t, brand: Out<ffi::nvmlBrandType_t>) -> Code {
    on_gpu("nvmlDeviceGetBrand", device, |_| brand.put(ffi::nvmlBrandType_enum_NVML_BRAND_NVIDIA))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, architecture: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetArchitecture", device, |_| architecture.put(ffi::NVML_DEVICE_ARCH_HOPPER))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: Out<c_int>,
    minor: Out<c_int>,
) -> Code {
    on_gpu("nvmlDeviceGetCudaComputeCapability", device, |_| match major.put(9) {
        SUCCESS => minor.put(0),
        refused => refused,
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNumGpuCores(device: nvmlDevice_t, cores: Out<c_uint>) -> Code {
    on_gpu("nvmlDeviceGetNumGpuCores", device, |_| cores.put(16_896))
}

fn pci(name: &str, device: nvmlDevice_t, into: &Out<nvmlPciInfo_t>) -> Code {
    on_gpu(name, device, |gpu| into.put(pci_info(gpu.pci())))
}

/// What is told of a place on the bus.
pub(super) fn pci_info(place: PciAddress) -> nvmlPciInfo_t {
    let mut answer = nvmlPciInfo_t {
        busIdLegacy: [0; 16],
        domain: place.domain,
        bus: u32::from(place.bus),
        device: u32::from(place.device),
        pciDeviceId: PCI_DEVICE,
        pciSubSystemId: PCI_SUBSYSTEM,
        busId: [0; 32],
    };
    fill_text(&mut answer.busIdLegacy, &place.legacy());
    fill_text(&mut answer.busId, &place.long());
    answer
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, into: Out<nvmlPciInfo_t>) -> Code {
    pci("nvmlDeviceGetPciInfo_v3", device, &into)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v2(device: nvmlDevice_t, into: Out<nvmlPciInfo_t>) -> Code {
    pci("nvmlDeviceGetPciInfo_v2", device, &into)
}
