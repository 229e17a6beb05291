//! G18: a shutdown of the machine waits for long enough that the longest hook still ends. It
//! decides about spot capacity only, which is taken away by shutdowns.
//!
//! What counts is what logind itself says while it holds a shutdown back for this agent: a file of
//! its configuration may say something that it has not read yet.

use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_shared::health::GateId;

use super::{Context, seen};
use crate::config::Config;
use crate::hooks::definition;

/// What is left between the longest hook and the end of the delay.
const MARGIN_SECONDS: u64 = 10;

pub(super) fn look(context: &Context) -> Vec<Evidence> {
    let (saw, evidence) = delay(context);
    vec![seen(GateId::INHIBITOR, None, saw, evidence)]
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
