//! A configuration that was read again while the node runs.

use wharfage_agent_core::Config as CoreConfig;
use wharfage_agent_core::config::Budget;
use wharfage_agent_core::health::Settings;
use wharfage_agent_core::health::policy::XidPolicy;
use wharfage_shared::time::Millis;

use super::Runtime;
use crate::config::Config;
use crate::inventory::Definitions;
use crate::supervised;

impl Runtime {
    /// A good one counts from now on; a bad one changes nothing and is an alarm until a good one
    /// was read.
    pub(super) fn hear_config(&mut self, read: Result<Box<Config>, String>) {
        match read {
            Ok(config) => {
                self.config_alarm = None;
                self.parts.driver.reconfigure(*config);
                self.reload_definitions();
                self.note(None, "the configuration was read again and counts from now on".into());
                supervised::status("runs; the configuration was read again");
            }
            Err(why) => {
                let text = format!("the new configuration is refused, the old one counts: {why}");
                self.note(None, text.clone());
                supervised::status(&text);
                self.config_alarm = Some(text);
            }
        }
    }
}

/// The node's decisions as the settings and the owner's definitions tune them.
pub fn core_config(config: &Config, definitions: &Definitions, policy: XidPolicy) -> CoreConfig {
    let seconds = |count: u32| Millis::from_seconds(u64::from(count));
    let timing = &config.timing;
    let usual = Budget::default();
    CoreConfig {
        stop_margin: seconds(timing.stop_margin_seconds),
        budget: Budget {
            checkpoint: seconds(timing.checkpoint_seconds),
            drain_hook: seconds(timing.drain_seconds),
            stop: seconds(timing.stop_seconds),
            quiet: usual.quiet,
        },
        checkpoints_carry: config.checkpoints.carries(),
        hook_estimates: definitions.hook_estimates.clone(),
        health: Settings { policy, off: config.health.off.clone() },
        ..CoreConfig::default()
    }
}
