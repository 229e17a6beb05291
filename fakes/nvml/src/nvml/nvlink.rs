//! NVLinks and the fabric: a board has them when `gpus.json` says so.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{self as ffi, nvmlDevice_t};

use super::devices::pci_info;
use crate::abi::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, SUCCESS, VERSION_MISMATCH};
use crate::features::{Fabric, FabricState, Link};
use crate::gate::on_gpu;

/// `NVML_STRUCT_VERSION(GpuFabricInfo, 3)`.
const FABRIC_V3: u32 = size_of::<ffi::nvmlGpuFabricInfo_v3_t>() as u32 | 3 << 24;

/// The fourth generation, as Hopper has it.
const VERSION: c_uint = 7;

fn on_link(
    name: &str,
    device: nvmlDevice_t,
    link: c_uint,
    body: impl FnOnce(&Link) -> Code,
) -> Code {
    on_gpu(name, device, |gpu| match &gpu.spec().nvlinks {
        None => NOT_SUPPORTED,
        Some(links) => links.get(link as usize).map_or(INVALID_ARGUMENT, body),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkState(
    device: nvmlDevice_t,
    link: c_uint,
    is_up: Out<c_uint>,
) -> Code {
    on_link("nvmlDeviceGetNvLinkState", device, link, |link| is_up.put(c_uint::from(link.up)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkVersion(
    device: nvmlDevice_t,
    link: c_uint,
    version: Out<c_uint>,
) -> Code {
    on_link("nvmlDeviceGetNvLinkVersion", device, link, |_| version.put(VERSION))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: nvmlDevice_t,
    link: c_uint,
    kind: Out<c_uint>,
) -> Code {
    on_link("nvmlDeviceGetNvLinkRemoteDeviceType", device, link, |link| {
        kind.put(match link.peer {
            None => ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH,
            Some(_) => ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    into: Out<ffi::nvmlPciInfo_t>,
) -> Code {
    on_link("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, link, |link| match link.peer {
        None => NOT_SUPPORTED,
        Some(peer) => into.put(pci_info(peer)),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: nvmlDevice_t,
    link: c_uint,
    counter: c_uint,
    count: Out<c_ulonglong>,
) -> Code {
    on_link("nvmlDeviceGetNvLinkErrorCounter", device, link, |link| {
        count.put(match counter {
            ffi::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_REPLAY => link.replay,
            ffi::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_RECOVERY => link.recovery,
            ffi::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_CRC_FLIT => link.crc_flit,
            ffi::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_CRC_DATA => link.crc_data,
            _ => return INVALID_ARGUMENT,
        })
    })
}

fn state(fabric: &Fabric) -> ffi::nvmlGpuFabricState_t {
    let state = match fabric.state {
        FabricState::NotStarted => ffi::NVML_GPU_FABRIC_STATE_NOT_STARTED,
        FabricState::InProgress => ffi::NVML_GPU_FABRIC_STATE_IN_PROGRESS,
        FabricState::Completed => ffi::NVML_GPU_FABRIC_STATE_COMPLETED,
    };
    ffi::nvmlGpuFabricState_t::try_from(state).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuFabricInfo(
    device: nvmlDevice_t,
    mut into: Out<ffi::nvmlGpuFabricInfo_t>,
) -> Code {
    on_gpu("nvmlDeviceGetGpuFabricInfo", device, |gpu| {
        let Some(fabric) = &gpu.spec().fabric else {
            return NOT_SUPPORTED;
        };
        // Field by field: some callers read the bytes between them too.
        let Some([told]) = into.row(1) else {
            return INVALID_ARGUMENT;
        };
        told.clusterUuid = [0; 16];
        told.status = fabric.status;
        told.cliqueId = fabric.clique;
        told.state = state(fabric);
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuFabricInfoV(
    device: nvmlDevice_t,
    mut into: Out<ffi::nvmlGpuFabricInfo_v3_t>,
) -> Code {
    on_gpu("nvmlDeviceGetGpuFabricInfoV", device, |gpu| {
        if into.version() != Some(FABRIC_V3) {
            return VERSION_MISMATCH;
        }
        let Some(fabric) = &gpu.spec().fabric else {
            return NOT_SUPPORTED;
        };
        let Some([told]) = into.row(1) else {
            return INVALID_ARGUMENT;
        };
        told.clusterUuid = [0; 16];
        told.status = fabric.status;
        told.cliqueId = fabric.clique;
        told.state = state(fabric);
        told.healthMask = fabric.health_mask;
        told.healthSummary = 0;
        SUCCESS
    })
}
