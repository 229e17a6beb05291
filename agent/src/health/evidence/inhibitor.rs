//! G18: a shutdown of the machine can be delayed for long enough that the longest hook still ends.
//! It decides about spot capacity only, which is taken away by shutdowns.

use std::fs;
use std::path::{Path, PathBuf};

use wharfage_agent_core::health::{Evidence, Saw};

use super::{Context, seen};
use crate::hooks::definition;

/// What systemd's login manager allows when nobody has said otherwise.
const USUAL_SECONDS: u64 = 5;

/// What is left between the longest hook and the end of the delay.
const MARGIN_SECONDS: u64 = 10;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let (saw, evidence) = delay(context);
    seen(18, None, saw, evidence).into_iter().collect()
}

fn delay(context: &Context) -> (Saw, String) {
    let health = &context.config.health;
    if !health.systemd_runs.exists() {
        return (Saw::NotApplicable, "systemd does not run here".to_owned());
    }
    let allowed = match allowed(&health.logind_conf) {
        Ok(allowed) => allowed,
        Err(why) => return (Saw::Unknown, why),
    };
    let (hooks, _) = definition::list(&context.config.hooks_dir, context.config.trusted_owner());
    let longest = hooks.iter().map(|(_, hook)| u64::from(hook.timeout_seconds)).max();
    let needed = longest.unwrap_or(0).saturating_add(MARGIN_SECONDS);
    if allowed >= needed {
        return (Saw::Pass, format!("a shutdown waits for up to {allowed} s"));
    }
    let said = format!(
        "a shutdown waits for up to {allowed} s and hooks need {needed} s: set InhibitDelayMaxSec \
         in `{}`",
        health.logind_conf.display()
    );
    (Saw::Fail, said)
}

/// The delay in seconds: the file, then its drop-ins in order; the last word counts.
fn allowed(file: &Path) -> Result<u64, String> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(&folder))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    files.insert(0, file.to_owned());
    let mut seconds = USUAL_SECONDS;
    for path in files {
        // A file that is not there says nothing.
        let text = fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines() {
            let Some(value) = line.trim().strip_prefix("InhibitDelayMaxSec") else { continue };
            let Some(value) = value.trim_start().strip_prefix('=') else { continue };
            let read = span(value.trim());
            let said = format!("`{}`: InhibitDelayMaxSec={value} is no time", path.display());
            seconds = read.ok_or(said)?;
        }
    }
    Ok(seconds)
}

/// `90`, `90s`, `2min`, `1h 30min`; `infinity` is long enough for everything.
fn span(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let mut total = 0_u64;
    let mut parts = 0;
    for part in text.split_whitespace() {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = part.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let factor = match unit {
            "" | "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hr" => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        parts += 1;
    }
    (parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn times_are_read_as_systemd_writes_them() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("2min", Some(120)),
            ("1h 30min", Some(5400)),
            ("infinity", Some(u64::MAX)),
            ("", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(span(text), seconds, "{text}");
        }
    }

    #[test]
    fn the_last_drop_in_has_the_last_word() {
        let folder = Folder::new("logind");
        let file = folder.path().join("logind.conf");
        assert_eq!(allowed(&file), Ok(USUAL_SECONDS));
        fs::write(&file, "[Login]\n#InhibitDelayMaxSec=1\nInhibitDelayMaxSec=20\n")
            .expect("written");
        assert_eq!(allowed(&file), Ok(20));
        let dropped = folder.path().join("logind.conf.d");
        fs::create_dir(&dropped).expect("made");
        fs::write(dropped.join("50-a.conf"), "[Login]\nInhibitDelayMaxSec = 2min\n")
            .expect("written");
        assert_eq!(allowed(&file), Ok(120));
        fs::write(dropped.join("60-b.conf"), "InhibitDelayMaxSec=later\n").expect("written");
        assert!(allowed(&file).expect_err("refused").contains("60-b.conf"));
    }
}
