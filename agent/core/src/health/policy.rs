//! What becomes of each XID: data that ships with the program and that a node's owner may override.
//!
//! The file is read elsewhere; here it is checked and asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfage_shared::health::Action;

/// The policy that ships with the program, as TOML.
pub const SHIPPED: &str = include_str!("xid.toml");

/// No driver has an XID of more digits.
pub const LARGEST_XID: u32 = 99_999;

/// A policy file as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// What becomes of an XID without a row.
    pub unlisted: Option<Action>,
    /// The rows.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The XIDs that it is about.
    pub xids: Vec<u32>,
    /// What they mean, for people.
    pub what: String,
    /// What becomes of them.
    pub action: Action,
    /// Whom the action is about.
    #[serde(default)]
    pub scope: Scope,
    /// Replicas on one GPU may stay.
    #[serde(default)]
    pub only_multi_gpu: bool,
    /// What runs there is ended at once.
    #[serde(default)]
    pub distrust: bool,
    /// It counts only when no other XID is in the burst.
    #[serde(default)]
    pub attach: bool,
    /// The message names the action.
    #[serde(default)]
    pub named: bool,
    /// When it comes again and again.
    #[serde(default)]
    pub repeat: Option<Repeat>,
}

/// Whom an action is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The GPU that the kernel names.
    #[default]
    Gpu,
    /// The whole node.
    Node,
}

/// So many incidents in so short a time have another action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// So many incidents with the XID on one GPU.
    pub count: u32,
    /// Within this time.
    pub within_hours: u32,
    /// Have this action.
    pub action: Action,
    /// Unless all of them hit the same model.
    #[serde(default)]
    pub different_models: bool,
}

/// The checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidPolicy {
    unlisted: Rule,
    rules: BTreeMap<u32, Rule>,
}

/// A policy file that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPolicy(String);

impl std::fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::error::Error for BadPolicy {}

/// Without a file every XID stops what is new until somebody has looked.
impl Default for XidPolicy {
    fn default() -> Self {
        let unlisted = Rule {
            xids: Vec::new(),
            what: "the policy does not list it".to_owned(),
            action: Action::CordonGpu,
            scope: Scope::Gpu,
            only_multi_gpu: false,
            distrust: false,
            attach: false,
            named: false,
            repeat: None,
        };
        Self { unlisted, rules: BTreeMap::new() }
    }
}

impl XidPolicy {
    /// The policy with a file's rows in place of its own.
    pub fn overridden_by(mut self, file: PolicyFile) -> Result<Self, BadPolicy> {
        let mut seen = BTreeMap::new();
        for (at, rule) in file.rules.into_iter().enumerate() {
            let row = at + 1;
            if rule.xids.is_empty() {
                let said = format!("rule {row}: xids is empty; accepted: at least one XID");
                return Err(BadPolicy(said));
            }
            if rule.what.trim().is_empty() {
                let said = format!("rule {row}: what is empty; accepted: what the XIDs mean");
                return Err(BadPolicy(said));
            }
            if let Some(xid) = rule.xids.iter().find(|xid| !(1..=LARGEST_XID).contains(*xid)) {
                let said = format!("rule {row}: {xid} is no XID; accepted: 1 to {LARGEST_XID}");
                return Err(BadPolicy(said));
            }
            if let Some(repeat) = &rule.repeat
                && (repeat.count < 2 || repeat.within_hours == 0)
            {
                let said = format!(
                    "rule {row}: repeat has count {} within_hours {}; accepted: at least 2 within \
                     at least 1",
                    repeat.count, repeat.within_hours
                );
                return Err(BadPolicy(said));
            }
            for xid in &rule.xids {
                if let Some(other) = seen.insert(*xid, row) {
                    let said = format!(
                        "rule {row}: XID {xid} stands in rule {other} too; accepted: one rule for \
                         each"
                    );
                    return Err(BadPolicy(said));
                }
                self.rules.insert(*xid, rule.clone());
            }
        }
        if let Some(action) = file.unlisted {
            self.unlisted.action = action;
        }
        Ok(self)
    }

    /// The row of an XID.
    pub fn rule(&self, xid: u32) -> &Rule {
        self.rules.get(&xid).unwrap_or(&self.unlisted)
    }
}

/// The action that the driver names in its message, if it names one (XID 154).
pub fn named_action(text: &str) -> Option<Action> {
    let text = text.to_ascii_lowercase();
    // The message names the old action and the new one: the last counts.
    let to = text.rsplit_once(" to ").map_or(text.as_str(), |(_, to)| to);
    let named = [
        ("reboot", Action::Reboot),
        ("drain and reset", Action::Reset),
        ("reset", Action::Reset),
        // A reset of the function alone, as drivers of 2026 name it: `PF FLR`.
        ("flr", Action::Reset),
        ("drain p2p", Action::Drain),
        ("none", Action::Record),
    ];
    named.into_iter().find(|(word, _)| to.contains(word)).map(|(_, action)| action)
}
