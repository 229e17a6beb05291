//! A deployment: a model, an engine, the hardware of one replica and how many replicas there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use wharfage_shared::capacity::{CapacityClass, Sku, Zone};
use wharfage_shared::ids::{GatewayId, HookId};
use wharfage_shared::replica::HookKind;
use wharfage_shared::telemetry::CachedModel;

/// What a client asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// A hostname label, unique in its organization, fixed for life.
    pub name: String,
    /// The model.
    pub model: Model,
    /// The engine.
    pub runtime: Runtime,
    /// The SKU that a replica runs on.
    pub sku: Sku,
    /// How many GPUs one replica takes.
    pub gpus: GpuCount,
    /// The front doors; their zones limit where replicas may be.
    pub gateways: BTreeSet<GatewayId>,
    /// A zone that replicas are limited to besides the gateways' zones (drill sheets, tests).
    pub zone: Option<Zone>,
    /// True stops traffic and replicas and keeps the configuration.
    pub disabled: bool,
    /// Share of the traffic among deployments of one model name, 0 to 1000.
    pub weight: u16,
    /// Where replicas may run, in the order of preference; empty = claims, then on-demand.
    pub classes: Vec<CapacityClass>,
    /// 0 to 1000; higher goes first within the organization.
    pub priority: Priority,
    /// How many replicas.
    pub scaling: Scaling,
    /// Our extension block.
    pub extension: Extension,
}

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The name in requests, 4 to 63 characters.
    pub name: String,
    /// The bucket, a hostname label.
    pub bucket: String,
    /// The folder in it, as its owner wrote it: a leading slash means the bucket's root.
    pub path: String,
}

/// What names the weights of a model on every host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelKey {
    /// The bucket.
    pub bucket: String,
    /// The folder in it.
    pub path: String,
}

/// A kind of start: those of one kind take about as long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StartKey {
    /// Of which model.
    pub model: ModelKey,
    /// On which instance type.
    pub sku: Sku,
    /// Whether the model lay in the host's cache already.
    pub cached: bool,
}

impl Model {
    /// Whether a host's cache holds it under this name: hosts name it as they were told it.
    pub fn is(&self, cached: &CachedModel) -> bool {
        cached.bucket == self.bucket && cached.path == self.path.trim_start_matches('/')
    }

    /// What names its weights.
    pub fn key(&self) -> ModelKey {
        // The bucket's root, as hosts are told it.
        let path = self.path.trim_start_matches('/').to_owned();
        ModelKey { bucket: self.bucket.clone(), path }
    }
}

/// What serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// The engine's name.
    pub engine: String,
    /// A full SemVer; empty = the newest that the fleet offers when a replica is placed.
    pub version: String,
    /// Flags without `--`.
    pub config: BTreeMap<String, String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
}

/// GPUs of one replica: 1, 2, 4, 8 or 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct GpuCount(u8);

impl GpuCount {
    /// The count, if it is one that a replica may have.
    pub fn new(count: u32) -> Option<Self> {
        match count {
            1 | 2 | 4 | 8 | 16 => Some(Self(count as u8)),
            _ => None,
        }
    }

    /// As a number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u32> for GpuCount {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        Self::new(count).ok_or_else(|| format!("{count} GPUs: accepted are 1, 2, 4, 8, 16"))
    }
}

impl From<GpuCount> for u32 {
    fn from(count: GpuCount) -> u32 {
        u32::from(count.0)
    }
}

/// 0 to 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Priority(u16);

impl Priority {
    /// The priority, if it is in range.
    pub fn new(priority: u32) -> Option<Self> {
        (priority <= 1000).then_some(Self(priority as u16))
    }

    /// As a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for Priority {
    type Error = String;

    fn try_from(priority: u32) -> Result<Self, String> {
        Self::new(priority).ok_or_else(|| format!("priority {priority}: accepted are 0 to 1000"))
    }
}

impl From<Priority> for u32 {
    fn from(priority: Priority) -> u32 {
        u32::from(priority.0)
    }
}

/// Through whose API a deployment was made: decides defaults and the lowest `min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// min >= 1, window 60 s, utilization 100 %, delay 300 s, concurrency 8, rate 50 %.
    CoreWeave,
    /// min >= 0 and Baseten's defaults 0 / 1 / 60 / 900 / 1 / 70 / 50.
    Baseten,
}

/// How many replicas a deployment may have and what decides the number: one type, two dialects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Whose rules hold.
    pub dialect: Dialect,
    /// Fewest and most replicas.
    pub bounds: Bounds,
    /// Seconds of load that a decision looks at, 10 to 3600.
    pub window_seconds: u32,
    /// Seconds that the wish must stay below the count before replicas go, 0 to 3600.
    pub scale_down_delay_seconds: u32,
    /// In-flight requests per replica, at least 1.
    pub concurrency: u32,
    /// Nobody named that number: CoreWeave's clients, who compare what they asked for with what
    /// they read, are not shown one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub concurrency_is_default: bool,
    /// Percent of it that is aimed at, 1 to 100.
    pub utilization_percent: u8,
    /// In-flight tokens per replica, where token mode is on.
    pub in_flight_tokens: Option<u32>,
    /// Percent of the excess that one step may remove, 1 to 50.
    pub max_scale_down_percent: u8,
}

impl Scaling {
    /// Seconds that a window may be long.
    pub const WINDOW_SECONDS: RangeInclusive<u32> = 10..=3600;
    /// Seconds that fewer replicas may be waited for.
    pub const SCALE_DOWN_DELAY_SECONDS: RangeInclusive<u32> = 0..=3600;
    /// In-flight requests per replica that can be aimed at.
    pub const CONCURRENCY: RangeInclusive<u32> = 1..=1_000_000;
    /// Percent of them.
    pub const UTILIZATION_PERCENT: RangeInclusive<u32> = 1..=100;
    /// In-flight tokens per replica that can be aimed at.
    pub const IN_FLIGHT_TOKENS: RangeInclusive<u32> = 1..=1_000_000_000;
    /// Percent of the excess that one step may remove.
    pub const MAX_SCALE_DOWN_PERCENT: RangeInclusive<u32> = 1..=50;

    /// CoreWeave's API with these bounds and, where given, this concurrency.
    pub fn coreweave(bounds: Bounds, concurrency: Option<u32>) -> Self {
        Self {
            dialect: Dialect::CoreWeave,
            bounds,
            window_seconds: 60,
            scale_down_delay_seconds: 300,
            concurrency: concurrency.unwrap_or(8),
            concurrency_is_default: concurrency.is_none(),
            utilization_percent: 100,
            in_flight_tokens: None,
            max_scale_down_percent: 50,
        }
    }

    /// Baseten's defaults.
    pub fn baseten() -> Self {
        Self {
            dialect: Dialect::Baseten,
            bounds: Bounds { min: 0, max: 1 },
            window_seconds: 60,
            scale_down_delay_seconds: 900,
            concurrency: 1,
            concurrency_is_default: false,
            utilization_percent: 70,
            in_flight_tokens: None,
            max_scale_down_percent: 50,
        }
    }
}

/// Invariant: `min <= max`, `max >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    min: u32,
    max: u32,
}

/// The most replicas of one deployment: keeps every product of counts within 32 bits.
pub const MOST_REPLICAS: u32 = 10_000;

impl Bounds {
    /// The bounds, if `min <= max` and `1 <= max <= MOST_REPLICAS`.
    pub fn new(min: u32, max: u32) -> Option<Self> {
        (min <= max && (1..=MOST_REPLICAS).contains(&max)).then_some(Self { min, max })
    }

    /// The fewest.
    pub fn min(self) -> u32 {
        self.min
    }

    /// The most.
    pub fn max(self) -> u32 {
        self.max
    }

    /// The nearest allowed count.
    pub fn clamp(self, wanted: u32) -> u32 {
        wanted.clamp(self.min, self.max)
    }
}

/// A change of scaling settings: only what is present changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPatch {
    /// `min_replica`.
    pub min: Option<u32>,
    /// `max_replica`.
    pub max: Option<u32>,
    /// `autoscaling_window`.
    pub window_seconds: Option<u32>,
    /// `scale_down_delay`.
    pub scale_down_delay_seconds: Option<u32>,
    /// `concurrency_target`.
    pub concurrency: Option<u32>,
    /// `target_utilization_percentage`.
    pub utilization_percent: Option<u8>,
    /// `target_in_flight_tokens`.
    pub in_flight_tokens: Option<u32>,
    /// `max_scale_down_rate`.
    pub max_scale_down_percent: Option<u8>,
}

/// Our extension block `wharfage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Two of a replica must never run.
    pub single_copy: bool,
    /// How long a stop may take, default 30.
    pub grace_seconds: u32,
    /// After this a start has failed; absent = 3 x expected, at least 600.
    pub start_deadline_seconds: Option<u32>,
    /// Environment name (Baseten).
    pub environment: Option<String>,
    /// To FOCUS Tags and budgets.
    pub labels: BTreeMap<String, String>,
    /// What the number of replicas follows.
    pub scaling: ScalingMode,
    /// Hooks by local id.
    pub hooks: BTreeMap<HookKind, HookId>,
    /// How a change of settings replaces replicas.
    pub rollout: Rollout,
    /// Warnings become refusals for this deployment.
    pub strict: bool,
    /// Its replicas may move so that others fit.
    #[serde(default = "yes")]
    pub consolidation: bool,
}

fn yes() -> bool {
    true
}

impl Default for Extension {
    fn default() -> Self {
        Self {
            single_copy: false,
            grace_seconds: 30,
            start_deadline_seconds: None,
            environment: None,
            labels: BTreeMap::new(),
            scaling: ScalingMode::InFlight,
            hooks: BTreeMap::new(),
            rollout: Rollout { max_surge: 1, max_unavailable: 0 },
            strict: false,
            consolidation: true,
        }
    }
}

/// What the number of replicas follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingMode {
    /// In-flight requests.
    #[default]
    InFlight,
    /// Offered work.
    Work,
}

/// How a change of settings replaces replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Replicas beyond the desired count while it goes on.
    pub max_surge: u32,
    /// Replicas that may be missing while it goes on.
    pub max_unavailable: u32,
}
