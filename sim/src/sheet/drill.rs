//! Drills of a sheet: `do drill`, `do abort-drill`, `expect drill`.

use wharfage_scheduler_core::explain::drill::{Verdict, judge};
use wharfage_scheduler_core::fleet::rows::drill::DrillRow;
use wharfage_scheduler_core::words::command::{Action, drills};
use wharfage_scheduler_core::words::drill::{AbortRules, Budget, Drill, Profile, Scope, Targets};
use wharfage_scheduler_core::{Caller, Refusal};
use wharfage_shared::ids::{DeploymentId, DrillId, NodeId};
use wharfage_shared::time::Millis;

use super::parse::yes_or_no;
use super::statement::{Expect, SheetDrill};
use super::words::{Expected, Words, length, number};
use crate::world::World;

/// What stands behind the node or the deployment.
const KEYS: [&str; 11] = [
    "profile",
    "window",
    "percent",
    "at_once",
    "go_on",
    "fewer_than",
    "first_action",
    "checkpoints",
    "window_used",
    "requests_cut",
    "capacity_back",
];

/// No provider gives a longer notice.
const LONGEST_WINDOW: Millis = Millis::from_seconds(86_400);

/// A drill that has not begun on a node after a day is over there.
const WITHIN: Millis = Millis::from_seconds(86_400);

pub(super) fn parse(words: &mut Words<'_>) -> Result<SheetDrill, Expected> {
    let on = words.word("a node or a deployment")?.to_owned();
    let (mut profile, mut go_on) = (None, None);
    let (mut percent, mut at_once) = (100, 1);
    let (mut abort, mut targets) = (AbortRules::default(), Targets::default());
    while let Some((key, value)) = words.pair(&KEYS)? {
        match key {
            "profile" => profile = Some(named(value)?),
            "window" => profile = Some(custom(value)?),
            "percent" => percent = of_hundred(value, 1)?,
            "at_once" => at_once = number(value, 1, 10_000)?,
            "go_on" => go_on = Some(yes_or_no(value)?),
            "fewer_than" => abort.fewer_than = Some(number(value, 0, 10_000)?),
            "first_action" => targets.first_action = Some(length(value)?),
            "checkpoints" => targets.checkpoints_percent = Some(of_hundred(value, 0)?),
            "window_used" => targets.window_used_percent = Some(of_hundred(value, 0)?),
            "requests_cut" => targets.requests_cut = Some(number(value, 0, u32::MAX)?),
            _ => targets.capacity_back = Some(length(value)?),
        }
    }
    let profile = profile.ok_or("the line ends where profile=... or window=... was expected")?;
    // As over the API: where there is no notice, a gap is what is practised.
    abort.below_min = !go_on.unwrap_or(profile.window() == Millis(0));
    Ok(SheetDrill { on, profile, percent, at_once, abort, targets })
}

fn named(word: &str) -> Result<Profile, Expected> {
    let words = "aws-120, gcp-30, azure-30, coreweave-420 or no-notice";
    Profile::named(word).ok_or_else(|| format!("`{word}` where one of {words} was expected"))
}

fn custom(text: &str) -> Result<Profile, Expected> {
    let window = length(text)?;
    if window > LONGEST_WINDOW {
        return Err(format!("`{text}` where at most a day was expected"));
    }
    Ok(Profile::Custom(window))
}

fn of_hundred(text: &str, lowest: u32) -> Result<u8, Expected> {
    number(text, lowest, 100).map(|percent| u8::try_from(percent).unwrap_or(100))
}

/// What `expect drill` waits for.
pub(super) fn verdict(words: &mut Words<'_>) -> Result<Expect, Expected> {
    let accepted = "running, passed, failed or aborted";
    match words.word(accepted)? {
        word @ ("running" | "passed" | "failed" | "aborted") => Ok(Expect::Drill(word.to_owned())),
        word => Err(format!("`{word}` where {accepted} was expected")),
    }
}

/// Begins it.
pub(super) fn begin(world: &mut World, asked: &SheetDrill) -> Result<(), Refusal> {
    let node = NodeId::from(asked.on.as_str());
    let scope = match world.fleet().node(&node) {
        Some(_) => Scope::Node(node),
        None => {
            let deployment = DeploymentId::from(asked.on.as_str());
            Scope::Deployment { deployment, percent: asked.percent }
        }
    };
    let number = world.fleet().drills().count() + 1;
    let drill = Drill {
        id: DrillId::from(format!("drill-{number}").as_str()),
        name: "by the sheet".to_owned(),
        scope,
        profile: asked.profile,
        budget: Budget { at_once: asked.at_once, within: WITHIN },
        abort: asked.abort,
        targets: asked.targets,
        scheduled: None,
    };
    let action = drills::Action::Create(Box::new(drill));
    world.submit(Caller::provider(), Action::Drill(action)).map(|_| ())
}

/// Gives the newest one up.
pub(super) fn abort(world: &mut World) -> Result<(), Refusal> {
    let id = newest(world).map_or_else(|| DrillId::from("none"), |row| row.drill.id.clone());
    let action = drills::Action::Abort { id, reason: "by the sheet".to_owned() };
    world.submit(Caller::provider(), Action::Drill(action)).map(|_| ())
}

/// `Err` is what was found instead.
pub(super) fn evaluate(world: &World, expected: &str) -> Result<(), String> {
    let Some(row) = newest(world) else { return Err("there is no drill".to_owned()) };
    let (verdict, judged) = judge(row);
    let word = match verdict {
        Verdict::Running => "running",
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Aborted => "aborted",
    };
    if word == expected {
        return Ok(());
    }
    let missed = judged.iter().filter(|judged| !judged.met);
    let missed = missed.map(|judged| format!("{}: {}", judged.node, judged.sentence));
    let because = row.aborted.iter().map(|aborted| aborted.because.clone());
    let why: Vec<String> = because.chain(missed).collect();
    Err(if why.is_empty() {
        format!("it is {word}")
    } else {
        format!("{word}: {}", why.join("; "))
    })
}

fn newest(world: &World) -> Option<&DrillRow> {
    world
        .fleet()
        .drills()
        .max_by_key(|row| (row.created_at, row.drill.id.as_str().len(), &row.drill.id))
}
