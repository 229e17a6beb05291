//! NVLinks and the fabric that they make: which are up, what went wrong on them.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as ffi;
use serde::{Deserialize, Serialize};

use super::Value;
use super::identity::End;
use super::raw;
use super::trouble::Listener;

/// NVLinks and the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvLink {
    /// The links of this GPU.
    pub links: Value<Vec<Link>>,
    /// The fabric behind them (NVSwitch systems).
    pub fabric: Value<Fabric>,
    /// Data sent over all links since the driver was loaded, in KiB.
    #[serde(default = "unsupported")]
    pub data_sent_kib: Value<u64>,
    /// Data received over all links since the driver was loaded, in KiB.
    #[serde(default = "unsupported")]
    pub data_received_kib: Value<u64>,
}

fn unsupported() -> Value<u64> {
    Value::Unsupported
}

impl NvLink {
    /// Data in both directions, where both are told.
    pub fn data_kib(&self) -> Option<u64> {
        let both = self.data_sent_kib.get().zip(self.data_received_kib.get());
        both.map(|(sent, received)| sent.saturating_add(received))
    }
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its number.
    pub link: u32,
    /// Whether it is up.
    pub is_up: Value<bool>,
    /// Its version.
    pub version: Value<u32>,
    /// What is at its other end: gpu, ibmnpu, switch, unknown.
    pub remote: Value<String>,
    /// Errors of flow control digits.
    pub crc_flit_errors: Value<u64>,
    /// Errors of data.
    pub crc_data_errors: Value<u64>,
    /// Packets sent again.
    pub replay_errors: Value<u64>,
    /// Times the link had to recover.
    pub recovery_errors: Value<u64>,
}

/// The state of the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fabric {
    /// `not_started`, `in_progress`, `completed`.
    pub state: String,
    /// Whether registration went well; meaningful once completed.
    pub is_registered: bool,
    /// The partition of the fabric.
    pub clique: u32,
    /// The fabric's UUID; absent where there is none (a single HGX board).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// NVML's mask of health bits.
    pub health_mask: Value<u32>,
}

/// What is at the other ends of the links, as far as the driver says.
pub(super) fn ends(device: &Device<'_>) -> Vec<End> {
    let mut ends = Vec::new();
    for number in 0..ffi::NVML_NVLINK_MAX_LINKS {
        let link = device.link_wrapper_for(number);
        match link.is_active() {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => break,
        }
        let end = match raw::nvlink_remote(device, number) {
            Ok(ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH) => End::Switch,
            Ok(ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU) => {
                match link.remote_pci_info() {
                    Ok(pci) => End::Gpu(pci.bus_id),
                    Err(_) => continue,
                }
            }
            Ok(_) | Err(_) => continue,
        };
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    ends
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> NvLink {
    let fabric = match raw::fabric(device) {
        // A board without a fabric answers so, where it answers at all.
        Ok(told) if u32::from(told.state) == ffi::NVML_GPU_FABRIC_STATE_NOT_SUPPORTED => {
            Value::Unsupported
        }
        told => listener.value("nvlink.fabric", "nvmlDeviceGetGpuFabricInfoV", told).map(fabric),
    };
    let function = "nvmlDeviceGetFieldValues";
    let [data_sent_kib, data_received_kib] = match raw::nvlink_data(device) {
        Ok([sent, received]) => [
            listener.value("nvlink.data_sent_kib", function, sent),
            listener.value("nvlink.data_received_kib", function, received),
        ],
        Err(error) => {
            let both = listener.value::<u64>("nvlink.data_sent_kib", function, Err(error));
            [both.clone(), both]
        }
    };
    NvLink { links: links(device, listener), fabric, data_sent_kib, data_received_kib }
}

fn links(device: &Device<'_>, listener: &mut Listener) -> Value<Vec<Link>> {
    let mut links = Vec::new();
    for number in 0..ffi::NVML_NVLINK_MAX_LINKS {
        let link = device.link_wrapper_for(number);
        let is_up = match link.is_active() {
            // The end of the list: numbers beyond it are refused.
            Err(NvmlError::InvalidArg | NvmlError::NotSupported) => break,
            answer => listener.value("nvlink.links.is_up", "nvmlDeviceGetNvLinkState", answer),
        };
        let is_plain_down = is_up.get() == Some(false);
        // The counters of a link that is not connected are refused by some drivers.
        let mut errors =
            |(field, counter): (&'static str, ErrorCounter)| match link.error_counter(counter) {
                Err(NvmlError::InvalidArg) if is_plain_down => Value::Unsupported,
                answer => listener.value(field, "nvmlDeviceGetNvLinkErrorCounter", answer),
            };
        let [crc_flit_errors, crc_data_errors, replay_errors, recovery_errors] = [
            ("nvlink.links.crc_flit_errors", ErrorCounter::DlCrcFlit),
            ("nvlink.links.crc_data_errors", ErrorCounter::DlCrcData),
            ("nvlink.links.replay_errors", ErrorCounter::DlReplay),
            ("nvlink.links.recovery_errors", ErrorCounter::DlRecovery),
        ]
        .map(&mut errors);
        let (version, remote) = if is_plain_down {
            (Value::Unsupported, Value::Unsupported)
        } else {
            let remote = raw::nvlink_remote(device, number);
            let function = "nvmlDeviceGetNvLinkRemoteDeviceType";
            let remote = listener.value("nvlink.links.remote", function, remote);
            let version = link.version();
            let version =
                listener.value("nvlink.links.version", "nvmlDeviceGetNvLinkVersion", version);
            (version, remote.map(|kind| remote_name(kind).to_owned()))
        };
        links.push(Link {
            link: number,
            is_up,
            version,
            remote,
            crc_flit_errors,
            crc_data_errors,
            replay_errors,
            recovery_errors,
        });
    }
    if links.is_empty() { Value::Unsupported } else { Value::Value(links) }
}

fn remote_name(kind: u32) -> &'static str {
    match kind {
        ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU => "gpu",
        ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_IBMNPU => "ibmnpu",
        ffi::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH => "switch",
        _ => "unknown",
    }
}

fn fabric(told: raw::FabricState) -> Fabric {
    let state = match u32::from(told.state) {
        ffi::NVML_GPU_FABRIC_STATE_NOT_STARTED => "not_started".to_owned(),
        ffi::NVML_GPU_FABRIC_STATE_IN_PROGRESS => "in_progress".to_owned(),
        ffi::NVML_GPU_FABRIC_STATE_COMPLETED => "completed".to_owned(),
        other => format!("state {other}"),
    };
    let cluster = told.cluster.iter().any(|byte| *byte != 0).then(|| uuid_text(told.cluster));
    let is_registered = told.status == ffi::nvmlReturn_enum_NVML_SUCCESS;
    let health_mask = told.health_mask.map_or(Value::Unsupported, Value::Value);
    Fabric { state, is_registered, clique: told.clique, cluster, health_mask }
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
