//! Why an engine ended, from its exit and its last output, by patterns that are data: the shipped
//! ones, and those that a definition puts before them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use wharfage_shared::replica::Ended;

/// The shipped patterns; a test reads them too, so that they are known to parse.
const SHIPPED: &str = include_str!("failures.toml");

/// Evidence is shown in one line.
const LONGEST_EVIDENCE: usize = 240;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The model and its cache do not fit into the GPU.
    GpuMemory,
    /// The host's memory ran out.
    HostMemory,
    /// CUDA or a library on top of it failed.
    Cuda,
    /// The driver is missing, too old, or has lost the GPU.
    Driver,
    /// The engine does not accept what it was told.
    Configuration,
    /// Somebody else listens on its port.
    Port,
    /// The model's files cannot be read.
    Weights,
}

/// One row: what an engine says, or with which code it exits, when it fails in this way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What it means.
    pub kind: Kind,
    /// Texts, any of which stands in a line of its output; compared without regard to case.
    #[serde(default)]
    pub says: Vec<String>,
    /// Exit codes that mean it when no text does.
    #[serde(default)]
    pub codes: Vec<i32>,
}

/// What an end was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind; absent where nothing known stands in its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// One sentence for people: the kind, what helps, and the line that tells.
    pub because: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    failure: Vec<Pattern>,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let shipped: Shipped = toml::from_str(SHIPPED).expect("a test reads the shipped patterns");
    shipped.failure
});

/// Reads an end. `own` are the definition's patterns; they count before the shipped ones.
pub fn classify(own: &[Pattern], ended: &Ended, output: &str) -> Failure {
    let how = match ended {
        Ended::Exited { code } => format!("exit {code}"),
        Ended::Signaled { signal } => format!("signal {signal}"),
        Ended::NeverStarted { because } => because.clone(),
        Ended::Unknown => "nobody saw how".to_owned(),
    };
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let all = || own.iter().chain(PATTERNS.iter());
    let said = all().find_map(|pattern| Some((pattern.kind, last_line(pattern, &lines)?)));
    let by_code = || {
        let Ended::Exited { code } = ended else { return None };
        all().find(|pattern| pattern.codes.contains(code)).map(|pattern| pattern.kind)
    };
    let last = lines.last().copied();
    let (kind, evidence) = match said {
        Some((kind, line)) => (Some(kind), Some(line)),
        None => (by_code().or_else(|| by_signal(ended)), last),
    };
    let mut because = match kind {
        Some(kind) => format!("{} ({how})", kind.sentence()),
        None => format!("its engine ended before it was ready ({how})"),
    };
    if let Some(line) = evidence {
        because.push_str(": ");
        because.push_str(&shortened(line));
    }
    Failure { kind, because }
}

/// The last line in which one of the pattern's texts stands.
fn last_line<'a>(pattern: &Pattern, lines: &[&'a str]) -> Option<&'a str> {
    let says: Vec<String> = pattern.says.iter().map(|text| text.to_lowercase()).collect();
    let tells = |line: &&&str| {
        let line = line.to_lowercase();
        says.iter().any(|text| line.contains(text))
    };
    lines.iter().rev().find(tells).copied()
}

/// The kernel ends with SIGKILL what takes the last of the host's memory.
fn by_signal(ended: &Ended) -> Option<Kind> {
    match ended {
        Ended::Signaled { signal: 9 } | Ended::Exited { code: 137 } => Some(Kind::HostMemory),
        _ => None,
    }
}

/// Control characters would garble a terminal; a long line tells its beginning.
fn shortened(line: &str) -> String {
    let mut text: String =
        line.chars().filter(|c| !c.is_control()).take(LONGEST_EVIDENCE).collect();
    if line.chars().count() > LONGEST_EVIDENCE {
        text.push('…');
    }
    text
}

impl Kind {
    /// What it means and what helps.
    fn sentence(self) -> &'static str {
        match self {
            Kind::GpuMemory => {
                "GPU memory: the model and its cache do not fit; a shorter context, a smaller \
                 share or more GPUs help"
            }
            Kind::HostMemory => "host memory: the engine was ended or could not allocate",
            Kind::Cuda => "CUDA: the GPU's libraries failed; look for an XID of this GPU",
            Kind::Driver => "driver: the GPU cannot be used; `wharfage-agent doctor` says more",
            Kind::Configuration => {
                "configuration: the engine does not accept what it was told; check its flags and \
                 version"
            }
            Kind::Port => "port: somebody else listens on the engine's port",
            Kind::Weights => "weights: the model's files cannot be read",
        }
    }
}
