//! What a GPU does at this moment and what holds it back: utilization, temperatures, power,
//! clocks, throttle reasons.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{
    Clock, PerformancePolicy, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_MEMORY_TEMP;
use nvml_wrapper_sys::bindings as ffi;
use serde::{Deserialize, Serialize};

use super::Value;
use super::trouble::Listener;

/// How busy its parts are, in percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Utilization {
    /// Share of time in which a kernel ran.
    pub gpu_percent: Value<u8>,
    /// Share of time in which memory was read or written.
    pub memory_percent: Value<u8>,
    /// Video encoder.
    pub encoder_percent: Value<u8>,
    /// Video decoder.
    pub decoder_percent: Value<u8>,
}

/// Temperatures in degrees Celsius.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temperature {
    /// The chip.
    pub gpu_c: Value<u16>,
    /// Its memory.
    pub memory_c: Value<u16>,
}

/// Power, clocks and limits; they change slowly or matter less often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAndClocks {
    /// The limit in force, whoever set it.
    pub power_limit_mw: Value<u64>,
    /// The limit that an administrator set.
    pub power_limit_set_mw: Value<u64>,
    /// The board's own limit.
    pub power_limit_default_mw: Value<u64>,
    /// The lowest that can be set.
    pub power_limit_min_mw: Value<u64>,
    /// The highest that can be set.
    pub power_limit_max_mw: Value<u64>,
    /// Energy used since the driver was loaded.
    pub energy_mj: Value<u64>,
    /// 0 (most) to 15 (least).
    pub performance_state: Value<u8>,
    /// Clocks now, in MHz.
    pub clocks_mhz: Clocks,
    /// The highest clocks, in MHz.
    pub max_clocks_mhz: Clocks,
    /// The chip slows itself down at this temperature.
    pub slowdown_c: Value<u16>,
    /// The board switches itself off at this temperature.
    pub shutdown_c: Value<u16>,
    /// Memory may become this hot.
    pub memory_max_c: Value<u16>,
    /// The chip may become this hot.
    pub gpu_max_c: Value<u16>,
    /// How long clocks were held down, by cause.
    pub held_down: HeldDown,
}

/// One clock each, in MHz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Graphics.
    pub graphics: Value<u32>,
    /// Multiprocessors.
    pub sm: Value<u32>,
    /// Memory.
    pub memory: Value<u32>,
    /// Video engines.
    pub video: Value<u32>,
}

/// How long clocks were held down since the driver was loaded, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDown {
    /// By the power limit.
    pub power_ns: Value<u64>,
    /// By heat.
    pub thermal_ns: Value<u64>,
    /// By another GPU of its group.
    pub sync_boost_ns: Value<u64>,
    /// By the board's limit.
    pub board_limit_ns: Value<u64>,
    /// By a lack of work.
    pub low_utilization_ns: Value<u64>,
    /// By the board's reliability limit.
    pub reliability_ns: Value<u64>,
}

pub(super) fn utilization(device: &Device<'_>, listener: &mut Listener) -> Utilization {
    let rates = listener.value(
        "utilization.gpu_percent",
        "nvmlDeviceGetUtilizationRates",
        device.utilization_rates(),
    );
    let encoder = listener.value(
        "utilization.encoder_percent",
        "nvmlDeviceGetEncoderUtilization",
        device.encoder_utilization(),
    );
    let decoder = listener.value(
        "utilization.decoder_percent",
        "nvmlDeviceGetDecoderUtilization",
        device.decoder_utilization(),
    );
    Utilization {
        gpu_percent: rates.clone().map(|rates| percent(rates.gpu)),
        memory_percent: rates.map(|rates| percent(rates.memory)),
        encoder_percent: encoder.map(|encoder| percent(encoder.utilization)),
        decoder_percent: decoder.map(|decoder| percent(decoder.utilization)),
    }
}

/// Some drivers have answered with more than all of the time.
fn percent(share: u32) -> u8 {
    u8::try_from(share.min(100)).unwrap_or(100)
}

pub(super) fn temperature(device: &Device<'_>, listener: &mut Listener) -> Temperature {
    let gpu = device.temperature(TemperatureSensor::Gpu);
    let gpu_c = listener.value("temperature.gpu_c", "nvmlDeviceGetTemperature", gpu);
    let memory = field(device, NVML_FI_DEV_MEMORY_TEMP);
    let memory_c = listener.value("temperature.memory_c", "nvmlDeviceGetFieldValues", memory);
    Temperature {
        gpu_c: gpu_c.map(degrees),
        memory_c: memory_c.map(|value| u16::try_from(value).unwrap_or(u16::MAX)),
    }
}

fn degrees(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// One field value. Values are matched by place: the answer may carry a translated id.
fn field(device: &Device<'_>, id: u32) -> Result<u64, NvmlError> {
    let mut answers = device.field_values_for(&[FieldId(id)])?.into_iter();
    let answer = match answers.next().ok_or(NvmlError::NoData)??.value {
        // A driver that does not know the field refuses its number.
        Err(NvmlError::InvalidArg) => return Err(NvmlError::NotSupported),
        answer => answer?,
    };
    match answer {
        SampleValue::U32(value) => Ok(u64::from(value)),
        SampleValue::U64(value) => Ok(value),
        SampleValue::I64(value) => u64::try_from(value).map_err(|_| NvmlError::NoData),
        SampleValue::F64(_) => Err(NvmlError::NoData),
    }
}

/// What holds the clocks down now, each as one word.
pub(super) fn throttle_reasons(device: &Device<'_>, listener: &mut Listener) -> Value<Vec<String>> {
    let function = "nvmlDeviceGetCurrentClocksThrottleReasons";
    let reasons = listener.value("throttle_reasons", function, device.current_throttle_reasons());
    reasons.map(|reasons| reason_words(reasons.bits()))
}

fn reason_words(bits: u64) -> Vec<String> {
    const WORDS: [(u64, &str); 9] = [
        (0x1, "gpu_idle"),
        (0x2, "applications_clocks_setting"),
        (0x4, "sw_power_cap"),
        (0x8, "hw_slowdown"),
        (0x10, "sync_boost"),
        (0x20, "sw_thermal_slowdown"),
        (0x40, "hw_thermal_slowdown"),
        (0x80, "hw_power_brake_slowdown"),
        (0x100, "display_clock_setting"),
    ];
    WORDS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| (*word).to_owned()).collect()
}

pub(super) fn read(device: &Device<'_>, listener: &mut Listener) -> PowerAndClocks {
    let constraints = listener.value(
        "power.power_limit_min_mw",
        "nvmlDeviceGetPowerManagementLimitConstraints",
        device.power_management_limit_constraints(),
    );
    let mut limit = |field, function, answer: Result<u32, NvmlError>| {
        listener.value(field, function, answer).map(u64::from)
    };
    let power_limit_mw = limit(
        "power.power_limit_mw",
        "nvmlDeviceGetEnforcedPowerLimit",
        device.enforced_power_limit(),
    );
    let power_limit_set_mw = limit(
        "power.power_limit_set_mw",
        "nvmlDeviceGetPowerManagementLimit",
        device.power_management_limit(),
    );
    let power_limit_default_mw = limit(
        "power.power_limit_default_mw",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        device.power_management_limit_default(),
    );
    let threshold = |listener: &mut Listener, field, which: TemperatureThreshold| {
        let answer = device.temperature_threshold(which);
        listener.value(field, "nvmlDeviceGetTemperatureThreshold", answer).map(degrees)
    };
    PowerAndClocks {
        power_limit_mw,
        power_limit_set_mw,
        power_limit_default_mw,
        power_limit_min_mw: constraints.clone().map(|limits| u64::from(limits.min_limit)),
        power_limit_max_mw: constraints.map(|limits| u64::from(limits.max_limit)),
        energy_mj: listener.value(
            "power.energy_mj",
            "nvmlDeviceGetTotalEnergyConsumption",
            device.total_energy_consumption(),
        ),
        performance_state: performance_state(device, listener),
        clocks_mhz: clocks(listener, NOW, |clock| device.clock_info(clock)),
        max_clocks_mhz: clocks(listener, HIGHEST, |clock| device.max_clock_info(clock)),
        slowdown_c: threshold(listener, "power.slowdown_c", TemperatureThreshold::Slowdown),
        shutdown_c: threshold(listener, "power.shutdown_c", TemperatureThreshold::Shutdown),
        memory_max_c: threshold(listener, "power.memory_max_c", TemperatureThreshold::MemoryMax),
        gpu_max_c: threshold(listener, "power.gpu_max_c", TemperatureThreshold::GpuMax),
        held_down: held_down(device, listener),
    }
}

fn performance_state(device: &Device<'_>, listener: &mut Listener) -> Value<u8> {
    let function = "nvmlDeviceGetPerformanceState";
    let state = listener.value("power.performance_state", function, device.performance_state());
    match state.map(|state| state.as_c()) {
        Value::Value(ffi::nvmlPStates_enum_NVML_PSTATE_UNKNOWN) => Value::Unsupported,
        state => state.map(|state| u8::try_from(state).unwrap_or(u8::MAX)),
    }
}

/// A function that tells clocks, and its fields: graphics, multiprocessors, memory, video.
type Told = (&'static str, [&'static str; 4]);

const NOW: Told = (
    "nvmlDeviceGetClockInfo",
    [
        "power.clocks_mhz.graphics",
        "power.clocks_mhz.sm",
        "power.clocks_mhz.memory",
        "power.clocks_mhz.video",
    ],
);

const HIGHEST: Told = (
    "nvmlDeviceGetMaxClockInfo",
    [
        "power.max_clocks_mhz.graphics",
        "power.max_clocks_mhz.sm",
        "power.max_clocks_mhz.memory",
        "power.max_clocks_mhz.video",
    ],
);

fn clocks(
    listener: &mut Listener,
    (function, [graphics, sm, memory, video]): Told,
    ask: impl Fn(Clock) -> Result<u32, NvmlError>,
) -> Clocks {
    Clocks {
        graphics: listener.value(graphics, function, ask(Clock::Graphics)),
        sm: listener.value(sm, function, ask(Clock::SM)),
        memory: listener.value(memory, function, ask(Clock::Memory)),
        video: listener.value(video, function, ask(Clock::Video)),
    }
}

fn held_down(device: &Device<'_>, listener: &mut Listener) -> HeldDown {
    let mut by = |field, cause: PerformancePolicy| {
        let answer = device.violation_status(cause);
        let held = listener.value(field, "nvmlDeviceGetViolationStatus", answer);
        held.map(|held| held.violation_time)
    };
    HeldDown {
        power_ns: by("power.held_down.power_ns", PerformancePolicy::Power),
        thermal_ns: by("power.held_down.thermal_ns", PerformancePolicy::Thermal),
        sync_boost_ns: by("power.held_down.sync_boost_ns", PerformancePolicy::SyncBoost),
        board_limit_ns: by("power.held_down.board_limit_ns", PerformancePolicy::BoardLimit),
        low_utilization_ns: by(
            "power.held_down.low_utilization_ns",
            PerformancePolicy::LowUtilization,
        ),
        reliability_ns: by("power.held_down.reliability_ns", PerformancePolicy::Reliability),
    }
}
