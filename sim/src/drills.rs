//! Drills of every window against hooks of every habit: the scheduler's own drill on a simulated
//! host, and what the fleet knows of it afterwards.

use std::collections::BTreeMap;

use wharfage_scheduler_core::explain::drill::checkpoints;
use wharfage_scheduler_core::fleet::rows::drill::{Begun, Course, Run};
use wharfage_scheduler_core::words::command::{Action, drills};
use wharfage_scheduler_core::words::drill::{
    AbortRules, Budget, Drill, Outcome, Profile, Scope, Targets,
};
use wharfage_scheduler_core::{Caller, Policy};
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::ids::{DeploymentId, DrillId, HookId, NodeId};
use wharfage_shared::replica::{HookKind, HookOutcome};
use wharfage_shared::time::Millis;

use crate::sheet::furnish;
use crate::sheet::statement::Deploy;
use crate::stage::Violation;
use crate::world::{ACME, Plan, PlannedHost, World};

/// So long after its deadline a drill is over.
const MOST: Millis = Millis::from_seconds(1_200);

/// What a hook is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookHabit {
    /// It does what it is for.
    #[default]
    Finishes,
    /// It never ends.
    Hangs,
    /// It leaves children behind and ends well; its keeper ends them.
    Forks,
    /// It prints until it is cut off.
    Floods,
    /// It gives up.
    Fails,
    /// Something kills it.
    Killed,
}

impl HookHabit {
    /// Every habit.
    pub const ALL: [Self; 6] =
        [Self::Finishes, Self::Hangs, Self::Forks, Self::Floods, Self::Fails, Self::Killed];

    /// How long it runs when nothing ends it, how it ends then, and what is said of that: the
    /// sentences of the agent's hands.
    pub(crate) fn ends(self, alone: Millis) -> (Millis, HookOutcome, Option<String>) {
        let failed = |text: &str| (HookOutcome::Failed, Some(text.to_owned()));
        let (takes, (outcome, detail)) = match self {
            HookHabit::Finishes => (alone, (HookOutcome::Done, None)),
            HookHabit::Hangs => (Millis::from_seconds(1 << 30), (HookOutcome::Done, None)),
            HookHabit::Forks => (Millis(alone.0 / 2), (HookOutcome::Done, None)),
            HookHabit::Floods => (Millis(300), failed("it printed more than 16 MiB")),
            HookHabit::Fails => (Millis(alone.0 / 4), failed("it exited with 1")),
            HookHabit::Killed => (Millis(alone.0 / 3), failed("it exited with 137")),
        };
        (takes, outcome, detail)
    }
}

/// What is known of a drill after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Practised {
    /// How it ended on the node; nothing while it has not.
    pub outcome: Option<Outcome>,
    /// How the checkpoint hook ended; nothing where it never began.
    pub hook: Option<HookOutcome>,
    /// What is said of that.
    pub detail: Option<String>,
    /// Checkpoints completed, of how many.
    pub checkpoints: Option<(usize, usize)>,
    /// Whether something new may be placed on the node.
    pub is_open: bool,
    /// Whether the replica serves again.
    pub serves: bool,
    /// Rules that were broken on the way.
    pub violations: Vec<Violation>,
}

/// One drill: a replica with a checkpoint hook that takes so long by itself, and another node that
/// could have it.
pub fn practise(seed: u64, window: Millis, habit: HookHabit, alone: Millis) -> Practised {
    let hook = HookId::new("checkpoint");
    let host = PlannedHost {
        sku: Sku::new("gd-8xh100ib-i128"),
        zone: Zone::new("US-EAST-04A"),
        compute_class: ComputeClass::Standard,
        joins_after: Millis(0),
        drift_ppm: 0,
        shared_disk: false,
    };
    let mut world = World::make(Plan {
        seed,
        hosts: vec![host; 2],
        organizations: vec![ACME.into()],
        gateways: 1,
        hooks: BTreeMap::from([(hook.clone(), alone)]),
        keeps_lines: false,
        policy: Policy::default(),
    });
    world.stage.hook_habits.insert(hook.clone(), habit);
    furnish(&mut world, &served(), &[(HookKind::Checkpoint, hook)]);
    let node = serving(&mut world);
    let id = DrillId::from("drill-1");
    let drill = Drill {
        id: id.clone(),
        name: "practice".to_owned(),
        scope: Scope::Node(node.clone()),
        profile: Profile::Custom(window),
        budget: Budget { at_once: 1, within: Millis::from_seconds(3_600) },
        abort: AbortRules::default(),
        targets: Targets::default(),
        scheduled: None,
    };
    let asked = Action::Drill(drills::Action::Create(Box::new(drill)));
    if let Err(refusal) = world.submit(Caller::provider(), asked) {
        world.stage.broken("world", format!("no drill begins: {refusal}"));
    }
    let until = world.stage.now + window + MOST;
    let is_over = |world: &World| world.fleet().drill(&id).is_none_or(|d| d.finished_at.is_some());
    while world.stage.now < until && world.violations().is_empty() && !is_over(&world) {
        world.run_until(world.stage.now + Millis::from_seconds(1));
    }
    world.check_now();
    known(&world, &id, &node)
}

/// One replica on a whole node.
fn served() -> Deploy {
    Deploy {
        name: DeploymentId::new("served"),
        gpus: 8,
        min: 1,
        max: None,
        priority: 0,
        concurrency: 8,
        classes: Vec::new(),
        load: Millis::from_seconds(1),
        checkpoint: Millis(0),
        drain: Millis(0),
        sku: None,
        zone: None,
        organization: ACME.into(),
        single_copy: false,
    }
}

/// The node that the replica serves from.
fn serving(world: &mut World) -> NodeId {
    let from = |world: &World| {
        let mut ready = world.fleet().replicas().filter(|row| row.phase.is_ready());
        ready.next().and_then(|row| row.node().cloned())
    };
    for _ in 0..600 {
        if let Some(node) = from(world) {
            return node;
        }
        world.run_until(world.stage.now + Millis::from_seconds(1));
    }
    world.stage.broken("world", "the replica does not serve".to_owned());
    NodeId::new("none")
}

fn known(world: &World, id: &DrillId, node: &NodeId) -> Practised {
    let row = world.fleet().drill(id);
    let begun: Option<&Begun> = row.and_then(|row| row.runs.get(node)).and_then(Run::begun);
    let run =
        begun.and_then(|begun| begun.hooks.iter().find(|run| run.kind == HookKind::Checkpoint));
    Practised {
        outcome: begun.and_then(|begun| match begun.course {
            Course::Ended { outcome, .. } => Some(outcome),
            Course::Running | Course::Withdrawn { .. } => None,
        }),
        hook: run.map(|run| run.outcome),
        detail: run.and_then(|run| run.detail.clone()),
        checkpoints: begun.and_then(checkpoints),
        is_open: world.fleet().node(node).is_some_and(|row| row.may_place().is_ok()),
        serves: world.fleet().replicas().any(|row| row.phase.is_ready()),
        violations: world.violations().to_vec(),
    }
}
