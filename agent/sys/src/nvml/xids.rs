//! XID events of one GPU, as NVML's event sets tell them.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::{NvmlError, NvmlErrorWithSource};
use nvml_wrapper::{Device, EventSet};

use super::identity::MigPlace;
use super::raw;
use super::trouble::{Trouble, trouble};

/// What stands for "no instance" in an event.
const NO_INSTANCE: u32 = u32::MAX;

/// One XID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XidEvent {
    /// Its number; 999 where NVML does not know it.
    pub xid: u32,
    /// The MIG instance that it is of, if the driver names one.
    pub place: Option<MigPlace>,
}

/// Waits for the XIDs of one GPU. What happened before is history and is not told.
pub struct Xids<'nvml> {
    set: EventSet<'nvml>,
}

impl<'nvml> Xids<'nvml> {
    /// Registers; nothing where the GPU or its driver tells no XIDs.
    pub(super) fn of(device: &Device<'nvml>) -> Result<Option<Self>, Trouble> {
        let kind = EventTypes::CRITICAL_XID_ERROR;
        match device.supported_event_types() {
            Ok(kinds) if kinds.contains(kind) => {}
            Ok(_) | Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(trouble("nvmlDeviceGetSupportedEventTypes", &error)),
        }
        let set = device.nvml().create_event_set();
        let set = set.map_err(|error| trouble("nvmlEventSetCreate", &error))?;
        let registered = device.register_events(kind, set);
        let because =
            |failed: NvmlErrorWithSource| trouble("nvmlDeviceRegisterEvents", &failed.error);
        let set = registered.map_err(because)?;
        Ok(Some(Self { set }))
    }

    /// Waits this long at most for the next one.
    pub fn next(&self, timeout_ms: u32) -> Result<Option<XidEvent>, Trouble> {
        let event = match raw::next_event(&self.set, timeout_ms) {
            Ok(event) => event,
            Err(NvmlError::Timeout) => return Ok(None),
            Err(error) => return Err(trouble("nvmlEventSetWait_v2", &error)),
        };
        if event.eventType & EventTypes::CRITICAL_XID_ERROR.bits() == 0 {
            return Ok(None);
        }
        let instance = |id: u32| Some(id).filter(|id| *id != NO_INSTANCE);
        let place = instance(event.gpuInstanceId).map(|gpu_instance| MigPlace {
            gpu_instance,
            compute_instance: instance(event.computeInstanceId),
        });
        Ok(Some(XidEvent { xid: u32::try_from(event.eventData).unwrap_or(u32::MAX), place }))
    }
}
