//! Reads an engine's metrics page and maps it to the three numbers that all engines share. Pages
//! come from programs that this agent did not write: what cannot be read is left out.

use wharfage_shared::replica::EngineLoad;

use super::wire::{Metrics, Series};

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// The canonical numbers of a page in Prometheus' text format (or OpenMetrics').
pub fn read(page: &str, metrics: &Metrics) -> EngineLoad {
    let samples: Vec<Sample<'_>> = page.lines().filter_map(sample).collect();
    let count = |wanted: &[Series]| {
        let values = first_present(&samples, wanted)?;
        // Counts are summed over what one engine shows apart (its data-parallel parts).
        Some(values.iter().sum::<f64>().round().min(f64::from(u32::MAX)) as u32)
    };
    let share = |wanted: &[Series]| {
        let values = first_present(&samples, wanted)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some((mean.min(1.0) * 1000.0).round() as u16)
    };
    EngineLoad {
        queued: count(&metrics.queued),
        running: count(&metrics.running),
        kv_cache_permille: share(&metrics.kv_cache),
        age_ms: 0,
    }
}

/// The values of the first series that the page has, all of them usable.
fn first_present(samples: &[Sample<'_>], wanted: &[Series]) -> Option<Vec<f64>> {
    wanted.iter().find_map(|series| {
        let matching = samples.iter().filter(|sample| sample.is_of(series));
        let values: Vec<f64> =
            matching.map(|sample| sample.value).filter(|v| v.is_finite() && *v >= 0.0).collect();
        (!values.is_empty()).then_some(values)
    })
}

impl Sample<'_> {
    fn is_of(&self, series: &Series) -> bool {
        self.name == series.name && series.labels.iter().all(|label| self.labels.contains(label))
    }
}

/// One line, unless it is a comment or no sample.
pub fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty()
        || !name.chars().all(is_name)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // A timestamp or an exemplar may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// Labels up to their closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim().to_owned(), value));
        rest = after;
    }
}

/// The text up to an unescaped quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
