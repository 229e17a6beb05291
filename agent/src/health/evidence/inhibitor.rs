//! G18: the node hears of its end, and early enough. A shutdown of the machine waits for so long that
//! the longest hook still ends, and the cloud's metadata service, where there is one, is heard. It
//! decides about spot capacity only, which is taken away like that.
//!
//! What counts is what logind itself says while it holds a shutdown back for this agent: a file of
//! its configuration may say something that it has not read yet.

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::health::GateId;

use super::{Context, seen};
use crate::config::Config;
use crate::hooks::definition;
use crate::notices::cloud::told::word;
use crate::notices::hearing::Ear;

/// What is left between the longest hook and the end of the delay.
const MARGIN_SECONDS: u64 = 10;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let shutdowns = delay(context);
    let (saw, evidence) = match metadata(context) {
        Some(cloud) if weight(cloud.0) >= weight(shutdowns.0) => cloud,
        Some(_) | None => shutdowns,
    };
    vec![seen(GateId::INHIBITOR, None, saw, evidence)]
}

/// Whether what the cloud says is heard, where one is asked.
fn metadata(context: &Context) -> Option<(Saw, String)> {
    let said = context.ears.iter().map(|(source, ear)| {
        let source = word(*source);
        match ear {
            Ear::Heard => (Saw::Pass, format!("{source}'s metadata service is heard")),
            Ear::Waiting => {
                (Saw::Unknown, format!("{source}'s metadata service has not been heard yet"))
            }
            Ear::Blind(text) => (Saw::Fail, text.clone()),
        }
    });
    said.max_by_key(|(saw, _)| weight(*saw))
}

/// The worst of what was seen counts.
fn weight(saw: Saw) -> u8 {
    match saw {
        Saw::NotApplicable => 0,
        Saw::Pass => 1,
        Saw::Unknown => 2,
        Saw::Fail => 3,
    }
}

/// So long a shutdown must wait for the gate to pass: until the longest hook has ended.
pub fn needed_seconds(config: &Config) -> u64 {
    let (hooks, _) = definition::list(&config.hooks_dir, config.trusted_owner());
    let longest = hooks.iter().map(|(_, hook)| u64::from(hook.timeout_seconds)).max();
    longest.unwrap_or(0).saturating_add(MARGIN_SECONDS)
}

fn delay(context: &Context) -> (Saw, String) {
    let config = &context.config;
    if !config.health.systemd_runs.exists() {
        return (Saw::NotApplicable, "systemd does not run here".to_owned());
    }
    if config.notices.logind == Some(false) {
        let said = "shutdowns are not heard of here (notices.logind = false)";
        return (Saw::NotApplicable, said.to_owned());
    }
    let Some(allowed) = context.shutdown_delay else {
        return (Saw::Unknown, "no shutdown is held back for this agent".to_owned());
    };
    let allowed = allowed.0 / 1000;
    let needed = needed_seconds(config);
    if allowed >= needed {
        return (Saw::Pass, format!("a shutdown waits for up to {allowed} s"));
    }
    let said = format!(
        "a shutdown waits for up to {allowed} s and hooks need {needed} s: set InhibitDelayMaxSec \
         of systemd-logind to at least {needed}"
    );
    (Saw::Fail, said)
}
