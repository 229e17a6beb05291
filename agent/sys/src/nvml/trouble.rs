//! NVML's error codes as sentences for an operator, and how far each of them reaches.
//!
//! The rule it guards: an error of one value stays with that value; only what says that the GPU or
//! the driver is gone makes more than that value untrustworthy.

use std::ffi::OsStr;

use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

use super::Value;

/// How far a trouble reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// One value cannot be read.
    Value,
    /// The GPU does not work; the others do. NVML may find it again when it is initialised anew.
    Gpu,
    /// The driver does not work: NVML must be initialised anew.
    Driver,
}

/// What is wrong, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{because}")]
pub struct Trouble {
    /// How far it reaches.
    pub reach: Reach,
    /// One sentence for an operator.
    pub because: String,
}

/// Listens to the answers about one GPU and keeps the worst trouble.
#[derive(Debug, Default)]
pub(super) struct Listener {
    worst: Option<Trouble>,
}

impl Listener {
    /// The answer as a value; its trouble is kept.
    pub(super) fn value<T>(&mut self, answer: Result<T, NvmlError>) -> Value<T> {
        match answer {
            Ok(value) => Value::Value(value),
            Err(error) if is_unsupported(&error) => Value::Unsupported,
            Err(error) => {
                let trouble = trouble(&error);
                let because = trouble.because.clone();
                if self.worst.as_ref().is_none_or(|worst| worst.reach < trouble.reach) {
                    self.worst = Some(trouble);
                }
                Value::Error(because)
            }
        }
    }

    /// The worst that was heard.
    pub(super) fn worst(self) -> Option<Trouble> {
        self.worst
    }

    /// The worst that reaches further than one value.
    pub(super) fn beyond_one_value(self) -> Option<Trouble> {
        self.worst.filter(|worst| worst.reach > Reach::Value)
    }
}

/// A GPU, driver or library that does not have what was asked for.
pub(super) fn is_unsupported(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            // 25: a structure newer than the library knows; 26: a call that is no more.
            | NvmlError::UnexpectedVariant(25 | 26)
    )
}

/// What an answer means that is no value.
pub(super) fn trouble(error: &NvmlError) -> Trouble {
    let reach = match error {
        NvmlError::Uninitialized
        | NvmlError::DriverNotLoaded
        | NvmlError::LibRmVersionMismatch
        | NvmlError::LibraryNotFound
        | NvmlError::LibloadingError(_) => Reach::Driver,
        NvmlError::GpuLost
        | NvmlError::ResetRequired
        | NvmlError::InsufficientPower
        | NvmlError::IrqIssue
        | NvmlError::CorruptedInfoROM
        // 28: a GPU that was there is not found.
        | NvmlError::UnexpectedVariant(28) => Reach::Gpu,
        _ => Reach::Value,
    };
    Trouble { reach, because: sentence(error) }
}

/// Why NVML cannot be initialised with this library.
pub(super) fn at_start(error: &NvmlError, library: &OsStr) -> Trouble {
    let library = library.to_string_lossy();
    let because = match error {
        NvmlError::LibloadingError(_) => {
            format!("no NVIDIA driver: the library `{library}` cannot be loaded")
        }
        NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch | NvmlError::GpuLost => {
            sentence(error)
        }
        other => format!("NVML (`{library}`) cannot be initialised: {}", sentence(other)),
    };
    Trouble { reach: Reach::Driver, because }
}

fn sentence(error: &NvmlError) -> String {
    let known = match error {
        NvmlError::Uninitialized => "NVML is not initialised any more: the driver was reloaded",
        NvmlError::InvalidArg => "the driver refused the question (invalid argument)",
        NvmlError::NoPermission => {
            "no permission: the agent's user may not ask this of the driver (is /dev/nvidiactl \
             readable for it?)"
        }
        NvmlError::NotFound => "the driver did not find what was asked for",
        NvmlError::InsufficientPower => {
            "the GPU's external power cables are not attached properly: check the cables"
        }
        NvmlError::DriverNotLoaded => "no NVIDIA driver: its kernel module is not loaded",
        NvmlError::Timeout => "the driver gave up on the question after its own time limit",
        NvmlError::IrqIssue => "the kernel has trouble with the GPU's interrupts: see dmesg",
        NvmlError::LibraryNotFound => "a part of the NVIDIA driver's library is missing",
        NvmlError::CorruptedInfoROM => {
            "the GPU's infoROM is corrupted: have the board examined or replaced"
        }
        NvmlError::GpuLost => "the GPU is lost: it fell off the bus",
        NvmlError::ResetRequired => "the GPU must be reset before it can be used again",
        NvmlError::OperatingSystem => {
            "the operating system blocks the GPU (device cgroup, container runtime)"
        }
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver was upgraded without a reboot: library and kernel module differ; \
             reboot the host"
        }
        NvmlError::InUse => "the GPU is in use and cannot answer this",
        NvmlError::InsufficientMemory => "the driver has not enough memory to answer",
        NvmlError::NoData => "the driver has no data for this now",
        NvmlError::Unknown => "the driver says: an internal driver error occurred",
        NvmlError::UnexpectedVariant(code) => {
            return match code {
                23 => "the driver has not enough resources to answer".to_owned(),
                24 => "the driver does not support that frequency".to_owned(),
                27 => "the driver is not ready yet".to_owned(),
                28 => "the driver does not find the GPU any more".to_owned(),
                29 => "the driver says that the GPU is in a state that forbids this".to_owned(),
                code => format!("the driver answered with the unknown code {code}"),
            };
        }
        other => return format!("the driver says: {other}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Listener, Reach, is_unsupported, trouble};
    use nvml_wrapper::error::NvmlError;

    #[test]
    fn every_code_has_a_sentence_of_its_own_or_means_unsupported() {
        let mut sentences = BTreeSet::new();
        for code in (1..=30).chain([999, 4242]) {
            let error = NvmlError::from(code);
            if is_unsupported(&error) {
                assert!([3, 13, 25, 26].contains(&code), "{code}");
                continue;
            }
            let trouble = trouble(&error);
            assert!(trouble.because.len() > 12, "{code}: {}", trouble.because);
            assert!(sentences.insert(trouble.because.clone()), "{code}: {}", trouble.because);
            let driver = [1, 9, 12, 18].contains(&code);
            let gpu = [8, 11, 14, 15, 16, 28].contains(&code);
            let reach = match (driver, gpu) {
                (true, _) => Reach::Driver,
                (false, true) => Reach::Gpu,
                (false, false) => Reach::Value,
            };
            assert_eq!(trouble.reach, reach, "{code}");
        }
    }

    #[test]
    fn the_worst_trouble_is_kept_and_one_value_alone_reaches_no_further() {
        let mut listener = Listener::default();
        assert_eq!(listener.value(Ok(1)).get(), Some(1));
        assert_eq!(listener.value::<u32>(Err(NvmlError::NotSupported)).get(), None);
        listener.value::<u32>(Err(NvmlError::Unknown));
        listener.value::<u32>(Err(NvmlError::GpuLost));
        listener.value::<u32>(Err(NvmlError::Timeout));
        let worst = listener.worst().expect("something was wrong");
        assert_eq!(worst.because, "the GPU is lost: it fell off the bus");
        let mut listener = Listener::default();
        listener.value::<u32>(Err(NvmlError::Unknown));
        assert_eq!(listener.beyond_one_value(), None);
    }
}
