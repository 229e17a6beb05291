//! NVML's error codes as sentences for an operator, and how far each of them reaches. A sentence
//! ends with the field, the function and the code, for whoever looks it up or asks NVIDIA.
//!
//! The rule it guards: an error of one value stays with that value; only what says that the GPU or
//! the driver is gone makes more than that value untrustworthy.

use std::ffi::OsStr;
use std::mem::discriminant;

use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

use super::Value;

/// The function that initialises NVML.
const INIT: &str = "nvmlInit_v2";

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
    /// The answer of `function` as the value of `field`, as `/status` calls it; its trouble is kept.
    pub(super) fn value<T>(
        &mut self,
        field: &str,
        function: &str,
        answer: Result<T, NvmlError>,
    ) -> Value<T> {
        match answer {
            Ok(value) => Value::Value(value),
            Err(error) if is_unsupported(&error) => Value::Unsupported,
            Err(error) => {
                let trouble = of(&format!("{field}: {function}"), &error);
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

    /// The worst, if it reaches further than one value.
    pub(super) fn beyond_one_value(self) -> Option<Trouble> {
        self.apart().0
    }

    /// The worst: what reaches further than one value, and the sentence of what does not.
    pub(super) fn apart(self) -> (Option<Trouble>, Option<String>) {
        match self.worst {
            Some(worst) if worst.reach == Reach::Value => (None, Some(worst.because)),
            worst => (worst, None),
        }
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

/// What an answer of `function` means that is no value.
pub(super) fn trouble(function: &str, error: &NvmlError) -> Trouble {
    of(function, error)
}

/// The trouble that was met at this place: a function, with the field that it was asked for.
fn of(place: &str, error: &NvmlError) -> Trouble {
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
    let said = sentence(error);
    let because = match returned(error) {
        Some((code, name)) => format!("{said} ({place} returned {code} NVML_ERROR_{name})"),
        None => format!("{said} ({place})"),
    };
    Trouble { reach, because }
}

/// The codes of NVML's header, without what all of their names begin with.
const CODES: [(u32, &str); 31] = [
    (1, "UNINITIALIZED"),
    (2, "INVALID_ARGUMENT"),
    (3, "NOT_SUPPORTED"),
    (4, "NO_PERMISSION"),
    (5, "ALREADY_INITIALIZED"),
    (6, "NOT_FOUND"),
    (7, "INSUFFICIENT_SIZE"),
    (8, "INSUFFICIENT_POWER"),
    (9, "DRIVER_NOT_LOADED"),
    (10, "TIMEOUT"),
    (11, "IRQ_ISSUE"),
    (12, "LIBRARY_NOT_FOUND"),
    (13, "FUNCTION_NOT_FOUND"),
    (14, "CORRUPTED_INFOROM"),
    (15, "GPU_IS_LOST"),
    (16, "RESET_REQUIRED"),
    (17, "OPERATING_SYSTEM"),
    (18, "LIB_RM_VERSION_MISMATCH"),
    (19, "IN_USE"),
    (20, "MEMORY"),
    (21, "NO_DATA"),
    (22, "VGPU_ECC_NOT_SUPPORTED"),
    (23, "INSUFFICIENT_RESOURCES"),
    (24, "FREQ_NOT_SUPPORTED"),
    (25, "ARGUMENT_VERSION_MISMATCH"),
    (26, "DEPRECATED"),
    (27, "NOT_READY"),
    (28, "GPU_NOT_FOUND"),
    (29, "INVALID_STATE"),
    (30, "RESET_TYPE_NOT_SUPPORTED"),
    (999, "UNKNOWN"),
];

/// The code that NVML returned and its name, where it was one.
fn returned(error: &NvmlError) -> Option<(u32, &'static str)> {
    let is = |code| match (error, NvmlError::from(code)) {
        // A number that the wrapper does not know: a code only if it has no variant for it, else
        // the value of an enumeration that is newer than the wrapper.
        (NvmlError::UnexpectedVariant(told), NvmlError::UnexpectedVariant(known)) => *told == known,
        (error, of_code) => discriminant(error) == discriminant(&of_code),
    };
    CODES.into_iter().find(|(code, _)| is(*code))
}

/// Why NVML cannot be initialised with this library.
pub(super) fn at_start(error: &NvmlError, library: &OsStr) -> Trouble {
    let library = library.to_string_lossy();
    let because = match error {
        NvmlError::LibloadingError(_) => {
            format!("no NVIDIA driver: the library `{library}` cannot be loaded")
        }
        NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch | NvmlError::GpuLost => {
            of(INIT, error).because
        }
        other => {
            format!("NVML (`{library}`) cannot be initialised: {}", of(INIT, other).because)
        }
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
                30 => "the driver does not support that kind of reset".to_owned(),
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

    use super::{CODES, Listener, Reach, is_unsupported, trouble};
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
            let trouble = trouble("nvmlDeviceGetName", &error);
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
    fn a_sentence_ends_with_the_field_the_function_and_the_code() {
        let ask = |code: u32| {
            let mut listener = Listener::default();
            let answer: Result<u32, _> = Err(NvmlError::from(code));
            listener.value("power_mw", "nvmlDeviceGetPowerUsage", answer);
            listener.worst().expect("something was wrong").because
        };
        let end = |code: u32| ask(code).split_once(" (").expect("it has an end").1.to_owned();
        assert_eq!(
            ask(15),
            "the GPU is lost: it fell off the bus \
             (power_mw: nvmlDeviceGetPowerUsage returned 15 NVML_ERROR_GPU_IS_LOST)"
        );
        for (code, name) in CODES.into_iter().filter(|(code, _)| ![3, 13, 25, 26].contains(code)) {
            let told = format!("nvmlDeviceGetPowerUsage returned {code} NVML_ERROR_{name})");
            assert!(ask(code).ends_with(&told), "{}", ask(code));
        }
        // No code of NVML's, and one that it did not have when this was written.
        assert_eq!(end(4242), "power_mw: nvmlDeviceGetPowerUsage)");
        let newer = trouble("nvmlDeviceGetArchitecture", &NvmlError::UnexpectedVariant(11));
        assert!(newer.because.ends_with("(nvmlDeviceGetArchitecture)"), "{}", newer.because);
    }

    #[test]
    fn the_worst_trouble_is_kept_and_one_value_alone_reaches_no_further() {
        let ask = |listener: &mut Listener, answer| listener.value::<u32>("a", "f", answer);
        let mut listener = Listener::default();
        assert_eq!(ask(&mut listener, Ok(1)).get(), Some(1));
        assert_eq!(ask(&mut listener, Err(NvmlError::NotSupported)).get(), None);
        ask(&mut listener, Err(NvmlError::Unknown));
        ask(&mut listener, Err(NvmlError::GpuLost));
        ask(&mut listener, Err(NvmlError::Timeout));
        let worst = listener.worst().expect("something was wrong");
        assert!(worst.because.starts_with("the GPU is lost: it fell off the bus ("));
        let mut listener = Listener::default();
        ask(&mut listener, Err(NvmlError::Unknown));
        let (beyond, of_value) = listener.apart();
        assert_eq!(beyond, None);
        assert!(of_value.is_some_and(|said| said.contains("999 NVML_ERROR_UNKNOWN")));
    }
}
