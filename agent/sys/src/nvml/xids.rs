//! XID events of one GPU, as NVML's event sets tell them.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet};

use super::trouble::{Trouble, trouble};

/// What an XID is called whose number NVML does not know.
const UNKNOWN_XID: u32 = 999;

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
            Err(error) => return Err(trouble(&error)),
        }
        let set = device.nvml().create_event_set().map_err(|error| trouble(&error))?;
        let set = device.register_events(kind, set).map_err(|failed| trouble(&failed.error))?;
        Ok(Some(Self { set }))
    }

    /// Waits this long at most for the next one.
    pub fn next(&self, timeout_ms: u32) -> Result<Option<u32>, Trouble> {
        match self.set.wait(timeout_ms) {
            Ok(event) => Ok(event.event_data.map(|xid| match xid {
                XidError::Value(xid) => u32::try_from(xid).unwrap_or(u32::MAX),
                XidError::Unknown => UNKNOWN_XID,
            })),
            Err(NvmlError::Timeout) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }
}
