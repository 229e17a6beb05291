//! The words of `wharfage rehearse`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;

/// `wharfage rehearse`.
#[derive(Debug, Args)]
pub struct RehearseArgs {
    /// The deployment (id or name); its replicas serve.
    pub deployment: String,
    /// Recorded traffic: CSV with t_seconds,prompt_tokens,output_tokens.
    #[arg(long, value_name = "FILE")]
    pub load: PathBuf,
    /// So many times faster than it was recorded.
    #[arg(long, default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// Only so long, as in 90s, 10m or 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub length: Option<Duration>,
    /// Practise a notice on one of its nodes: a profile (aws-120, gcp-30, azure-30, coreweave-420,
    /// no-notice) or a window such as 45s, and when, as in gcp-30@2m; without a time in the middle.
    #[arg(long = "drill", value_name = "PROFILE[@TIME]", value_parser = planned)]
    pub drills: Vec<Planned>,
    /// Go on with a drill also when the deployment falls below its min.
    #[arg(long, requires = "drills")]
    pub go_on: bool,
    /// Requests at a time; what comes due beyond them waits and is counted.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
    /// The gateway; without it the one that the scheduler knows.
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// Write the report as a page with drawings to this file too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A drill of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The word of its profile, `custom` for a window.
    pub profile: String,
    /// The window of `custom`.
    pub window_seconds: Option<u64>,
    /// From the rehearsal's beginning; in the middle of it when absent.
    pub at: Option<Duration>,
}

/// The profiles with a word of their own.
const PROFILES: [&str; 5] = ["aws-120", "gcp-30", "azure-30", "coreweave-420", "no-notice"];

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=10_000.0).contains(&speed) => Ok(speed),
        _ => Err("accepted: 0.01 to 10000".to_owned()),
    }
}

/// Ten days: a longer rehearsal is a mistake.
const LONGEST_SECONDS: f64 = 864_000.0;

fn length(text: &str) -> Result<Duration, String> {
    let accepted = || "accepted: a time such as 500ms, 90s, 10m or 1h, at most ten days".to_owned();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(accepted()),
    };
    let plain = number.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    match number.parse::<f64>() {
        Ok(number) if plain && number * factor <= LONGEST_SECONDS => {
            Ok(Duration::from_secs_f64(number * factor))
        }
        _ => Err(accepted()),
    }
}

fn planned(text: &str) -> Result<Planned, String> {
    let (what, at) = match text.split_once('@') {
        Some((what, at)) => (what, Some(length(at)?)),
        None => (text, None),
    };
    if PROFILES.contains(&what) {
        return Ok(Planned { profile: what.to_owned(), window_seconds: None, at });
    }
    let accepted = || format!("accepted: {} or a window such as 45s", PROFILES.join(", "));
    let window = length(what).map_err(|_| accepted())?;
    if window.subsec_nanos() != 0 || window.as_secs() > 86_400 {
        return Err("accepted: a window of whole seconds, at most a day".to_owned());
    }
    let window_seconds = Some(window.as_secs());
    Ok(Planned { profile: "custom".to_owned(), window_seconds, at })
}

#[cfg(test)]
mod tests {
    use super::{Duration, Planned, length, planned, speed};

    #[test]
    fn a_drill_is_a_profile_or_a_window_and_perhaps_a_time() {
        let seconds = Duration::from_secs;
        let known = Planned { profile: "gcp-30".to_owned(), window_seconds: None, at: None };
        assert_eq!(planned("gcp-30"), Ok(known.clone()));
        assert_eq!(planned("gcp-30@2m"), Ok(Planned { at: Some(seconds(120)), ..known }));
        let custom = Planned {
            profile: "custom".to_owned(),
            window_seconds: Some(45),
            at: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(planned("45s@1.5s"), Ok(custom));
        for bad in ["aws", "gcp-30@", "@5s", "1.5s", "2d", "-5s", "25h", "1e9s", ""] {
            assert!(planned(bad).is_err(), "{bad}");
        }
        assert_eq!(length("500ms"), Ok(Duration::from_millis(500)));
        assert!(length("5").is_err() && length("NaNs").is_err() && length("1e3s").is_err());
        assert!(speed("0").is_err() && speed("NaN").is_err() && speed("inf").is_err());
    }
}
