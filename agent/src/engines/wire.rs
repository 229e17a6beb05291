//! How an engine speaks: where it says that it lives, which statuses mean what, how it proves that
//! it works, which of its metrics are our three. It travels in the replica's parameter file, so
//! that another agent than the one that started the replica understands it too.

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::failures::Pattern;

/// What of a definition is needed for as long as the replica lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wire {
    /// What its health and readiness mean.
    pub readiness: Readiness,
    /// Its metrics, where it has any.
    pub metrics: Option<Metrics>,
    /// How it is told to end.
    pub stop: Stop,
    /// What its last output means, before the shipped patterns.
    pub failures: Vec<Pattern>,
}

/// How an engine is told to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// The signal that ends it in good order.
    pub signal: StopSignal,
    /// A path that is asked (POST) just before the signal, so that it takes nothing more.
    pub drain: Option<String>,
}

/// The signals that engines take as "end in good order".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// What most take.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// What programs take that are used to a terminal.
    #[serde(rename = "SIGINT")]
    Int,
    /// What some servers take as "finish what is in flight".
    #[serde(rename = "SIGQUIT")]
    Quit,
}

impl From<StopSignal> for Signal {
    fn from(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
        }
    }
}

/// What an engine's answers mean besides 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Readiness {
    /// A second path, asked once the health is good (default: none).
    pub path: Option<String>,
    /// Statuses of either that mean "still loading". A refused connection always does.
    pub loading: Vec<u16>,
    /// Statuses of the health that mean "it will never serve again".
    pub dead: Vec<u16>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { path: None, loading: vec![503, 400], dead: Vec::new() }
    }
}

/// How an engine proves that it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prove {
    /// What is asked.
    #[serde(default)]
    pub kind: ProveKind,
    /// Where (default: the kind's usual path); `{model_name}` is filled in.
    pub path: Option<String>,
    /// How long the answer may take.
    #[serde(default = "default_prove_seconds")]
    pub timeout_seconds: u32,
    /// Statuses of the proof itself that mean "still loading".
    #[serde(default = "unavailable")]
    pub loading: Vec<u16>,
    /// Statuses of the proof that mean "it works and is full".
    #[serde(default = "too_many")]
    pub busy: Vec<u16>,
    /// The JSON body of kind `request`; `{model_name}` inside its texts is filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A JSON pointer (`/output/0`) to what the answer of kind `request` must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// What is asked of an engine as proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProveKind {
    /// One token of OpenAI's completions.
    #[default]
    Completions,
    /// One token of OpenAI's chat completions.
    Chat,
    /// One embedding.
    Embeddings,
    /// One token of TGI's own `/generate`.
    Generate,
    /// One token of Triton's generate extension.
    TritonGenerate,
    /// Whatever the definition's `body` asks at `path`; the answer must contain `expect`.
    Request,
}

impl Default for Prove {
    fn default() -> Self {
        Self {
            kind: ProveKind::default(),
            path: None,
            timeout_seconds: default_prove_seconds(),
            loading: unavailable(),
            busy: too_many(),
            body: None,
            expect: None,
        }
    }
}

/// An engine's metrics under the three names that all engines share here. Each name lists series
/// in the order of preference: the first that the page has counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The page in Prometheus' text format.
    #[serde(default = "default_metrics_path")]
    pub path: String,
    /// The name in `ports` of the port that serves it (default: the engine's own port).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Requests that wait for their turn.
    #[serde(default, rename = "TotalQueuedRequests")]
    pub queued: Vec<Series>,
    /// Requests that are being worked on.
    #[serde(default, rename = "TotalRunningRequests")]
    pub running: Vec<Series>,
    /// Share of the key-value cache in use, 0 to 1.
    #[serde(default, rename = "KVCacheUtilization")]
    pub kv_cache: Vec<Series>,
}

/// One series: a metric's name and the labels that it must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Series {
    /// The metric.
    pub name: String,
    /// Labels with their values; others may be there too.
    pub labels: Vec<(String, String)>,
}

impl TryFrom<String> for Series {
    type Error = String;

    /// `name` or `name{label="value"}`, as it stands on the page.
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("`{text}` is no series: accepted is name or name{{label=\"value\"}}");
        // A sample needs a value; any will do.
        let line = format!("{text} 0");
        let sample = super::load::sample(&line).ok_or_else(bad)?;
        Ok(Self { name: sample.name.to_owned(), labels: sample.labels })
    }
}

impl From<Series> for String {
    fn from(series: Series) -> Self {
        if series.labels.is_empty() {
            return series.name;
        }
        let escape =
            |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = series
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        format!("{}{{{}}}", series.name, labels.join(","))
    }
}

fn default_prove_seconds() -> u32 {
    30
}

fn unavailable() -> Vec<u16> {
    vec![503]
}

fn too_many() -> Vec<u16> {
    vec![429]
}

fn default_metrics_path() -> String {
    "/metrics".to_owned()
}
