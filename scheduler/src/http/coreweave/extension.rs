//! Our extension block `wharfage` on any deployment's spec: read and shown again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wharfage_scheduler_core::words::deployment::{Extension, Rollout, ScalingMode};
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::ids::HookId;
use wharfage_shared::replica::HookKind;

use super::resource::{has_control, is_label};
use crate::http::fields::Fields;

/// Longest grace and start deadline: a day.
const LONGEST_SECONDS: u32 = 86_400;

/// Most labels of one deployment.
const MOST_LABELS: usize = 64;

/// Most replicas beyond or below the desired count while a change goes on.
const MOST_ROLLOUT: u32 = 1000;

const HOOKS: [(&str, HookKind); 4] = [
    ("checkpoint", HookKind::Checkpoint),
    ("drain", HookKind::Drain),
    ("restore", HookKind::Restore),
    ("post", HookKind::Post),
];

/// Reads the block; absent = the defaults. The second part are classes to append.
pub fn read(spec: &Fields<'_>, compat_strict: bool) -> Option<(Extension, Vec<CapacityClass>)> {
    let mut extension = Extension::default();
    let Some(block) = spec.object("wharfage") else { return Some((extension, Vec::new())) };
    extension.single_copy = block.flag("single_copy").unwrap_or(false);
    if let Some(seconds) = block.whole("grace_seconds", 0..=LONGEST_SECONDS) {
        extension.grace_seconds = seconds;
    }
    extension.start_deadline_seconds = block.whole("start_deadline_seconds", 1..=LONGEST_SECONDS);
    extension.environment = block.text("environment").map(str::to_owned);
    if extension.environment.as_deref().is_some_and(|name| !is_label(name)) {
        block.wrong("environment", "it is no environment's name", "1 to 63 of a-z, 0-9 and `-`");
    }
    extension.labels = labels(&block);
    let modes = [("in_flight", 1, ScalingMode::InFlight), ("work", 2, ScalingMode::Work)];
    extension.scaling = block.word("scaling", &modes).unwrap_or_default();
    extension.hooks = hooks(&block);
    extension.rollout = rollout(&block, extension.rollout);
    extension.strict = block.flag("strict").unwrap_or(false);
    extension.consolidation = block.flag("consolidation").unwrap_or(true);
    let extra = extra_classes(&block, compat_strict || extension.strict);
    block.finish();
    Some((extension, extra))
}

fn labels(block: &Fields<'_>) -> BTreeMap<String, String> {
    let labels = block.text_map("labels");
    if labels.len() > MOST_LABELS {
        let problem = format!("there are {}", labels.len());
        block.wrong("labels", problem, format!("at most {MOST_LABELS}"));
    }
    for (name, value) in &labels {
        let name_is_good = (1..=63).contains(&name.len()) && !has_control(name);
        if !name_is_good || value.len() > 255 || has_control(value) {
            let field = format!("{}.{name}", block.name("labels"));
            let accepted = "names of 1 to 63 bytes, values of at most 255, no control characters";
            block.problems().note(&field, "it is no label", accepted);
        }
    }
    labels
}

fn hooks(block: &Fields<'_>) -> BTreeMap<HookKind, HookId> {
    let mut hooks = BTreeMap::new();
    let Some(fields) = block.object("hooks") else { return hooks };
    for (key, kind) in HOOKS {
        let Some(text) = fields.text(key) else { continue };
        match HookId::parse(text) {
            Some(id) => {
                hooks.insert(kind, id);
            }
            None => fields.wrong(
                key,
                "it is no hook's id",
                "the id of a hook file on the node: 1 to 32 of a-z, 0-9 and `-`",
            ),
        }
    }
    fields.finish();
    hooks
}

fn rollout(block: &Fields<'_>, default: Rollout) -> Rollout {
    let Some(fields) = block.object("rollout") else { return default };
    let surge = fields.whole("max_surge", 0..=MOST_ROLLOUT).unwrap_or(default.max_surge);
    let missing = fields.whole("max_unavailable", 0..=MOST_ROLLOUT);
    let missing = missing.unwrap_or(default.max_unavailable);
    if surge == 0 && missing == 0 {
        fields.wrong("max_surge", "nothing could ever be replaced", "one of the two above 0");
    }
    fields.finish();
    Rollout { max_surge: surge, max_unavailable: missing }
}

fn extra_classes(block: &Fields<'_>, strict: bool) -> Vec<CapacityClass> {
    let mut classes = Vec::new();
    for (at, value) in block.list("capacity_classes_extra").unwrap_or_default().iter().enumerate() {
        let field = block.entry("capacity_classes_extra", at);
        if strict {
            let problem = "the foreign API has no such class and strictness is on";
            block.problems().note(&field, problem, "no entries");
        } else if let Some(class) =
            block.word_of(&field, value, &[("SPOT", 3, CapacityClass::Spot)])
        {
            classes.push(class);
        }
    }
    classes
}

/// The block as the client reads it: only what differs from the default.
pub fn show(extension: &Extension) -> Option<Value> {
    let default = Extension::default();
    let mut block = Map::new();
    let mut put = |key: &str, differs: bool, value: Value| {
        if differs {
            block.insert(key.to_owned(), value);
        }
    };
    put("single_copy", extension.single_copy, json!(true));
    let grace = extension.grace_seconds;
    put("grace_seconds", grace != default.grace_seconds, json!(grace));
    let deadline = extension.start_deadline_seconds;
    put("start_deadline_seconds", deadline.is_some(), json!(deadline));
    put("environment", extension.environment.is_some(), json!(extension.environment));
    put("labels", !extension.labels.is_empty(), json!(extension.labels));
    let works = extension.scaling != default.scaling;
    put("scaling", works, json!(extension.scaling));
    put("hooks", !extension.hooks.is_empty(), json!(extension.hooks));
    let rollout = extension.rollout;
    put("rollout", rollout != default.rollout, json!(rollout));
    put("strict", extension.strict, json!(true));
    put("consolidation", !extension.consolidation, json!(false));
    (!block.is_empty()).then_some(Value::Object(block))
}
