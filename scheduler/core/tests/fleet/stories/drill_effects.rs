//! What drills would do, when cut requests give them up, what they make GPUs cost, and how long
//! they are remembered.

use wharfage_scheduler_core::explain::drill::held_besides;
use wharfage_scheduler_core::words::command::Command;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::drills::Action as Drills;
use wharfage_scheduler_core::words::deployment::{Bounds, ScalingPatch};
use wharfage_scheduler_core::words::drill::{AbortRules, Budget, Drill, Profile, Schedule, Scope};
use wharfage_scheduler_core::{Action, Caller, Drilled};
use wharfage_shared::gateway::Served;
use wharfage_shared::time::Millis;

use super::drills::{close, drill, seconds, serving};
use crate::world::{World, bytes, id, spec};

fn create(drill: Drill) -> Action {
    Action::Drill(Drills::Create(Box::new(drill)))
}

fn finish(world: &mut World, id: &str) {
    let is_finished =
        |world: &World| world.fleet().drill(&id.into()).is_some_and(|d| d.finished_at.is_some());
    world.until(300, "it is over", is_finished);
}

/// A line for each node that a drill would take; that a dry run changes nothing is part of it.
fn dry_run(world: &World, drill: Drill) -> Vec<String> {
    let before = bytes(world.fleet());
    let command = Command { caller: Caller::provider(), action: create(drill) };
    let outcome = world.controller.what_if(world.now, command).expect("a good command");
    assert_eq!(bytes(world.fleet()), before);
    let line = |drilled: &Drilled| {
        let moved = drilled.replicas.iter().map(|moved| match &moved.goes_to {
            Some(node) => format!("{} to {node}", moved.replica),
            None => format!("{} nowhere", moved.replica),
        });
        let moved: Vec<String> = moved.collect();
        let waits = drilled.waits.as_deref().unwrap_or("begins");
        format!("{}: {} ({waits})", drilled.node, moved.join(", "))
    };
    outcome.drilled.iter().map(line).collect()
}

#[test]
fn a_dry_run_tells_each_node_what_stands_there_and_where_that_would_go() {
    let mut world = World::with_nodes(4, 0);
    let mut chat = spec("chat");
    chat.scaling.bounds = Bounds::new(2, 2).expect("in order");
    world.deploy(chat);
    world.until(60, "both serve", |world| world.ready("chat") == ["node-1", "node-2"]);
    close(&mut world, "node-4");
    let pool = world.fleet().node(&"node-1".into()).expect("known").pool.clone();
    let asked = drill(Scope::Pool(pool));
    let one_by_one = dry_run(&world, asked.clone());
    assert_eq!(
        one_by_one,
        [
            "node-1: r-1 to node-3 (begins)",
            "node-2: r-2 to node-3 (begins)",
            "node-3:  (begins)",
            "node-4:  (node-4 is not open)",
        ]
    );
    let budget = Budget { at_once: 2, ..asked.budget };
    let together = dry_run(&world, Drill { budget, ..asked.clone() });
    let both = ["node-1: r-1 to node-3 (begins)", "node-2: r-2 nowhere (begins)"];
    assert_eq!(together[..2], both, "there is room for one");
    let abort = AbortRules { fewer_than: Some(3), ..AbortRules::default() };
    let kept_back = dry_run(&world, Drill { abort, ..asked });
    let first = "node-1: r-1 nowhere (chat has 2 ready replicas, at least 3 must be)";
    assert!(kept_back.iter().any(|line| line == first), "{kept_back:?}");
}

#[test]
fn a_drill_is_given_up_when_more_requests_were_cut_than_may_be() {
    let mut world = serving(2);
    let old = world.fleet().replicas().next().expect("it serves").id;
    let abort = AbortRules { more_cut_than: Some(2), ..AbortRules::default() };
    let asked = Drill { abort, ..drill(Scope::Node("node-1".into())) };
    world.command(create(asked)).expect("sound");
    for gateway in ["g-1", "g-2"] {
        world.add_gateway(gateway);
    }
    let because = |world: &World| {
        let row = world.fleet().drill(&"d-1".into()).expect("known");
        row.aborted.as_ref().map(|aborted| aborted.because.clone())
    };
    for (gateway, cut, told) in
        [("g-1", 2, None), ("g-2", 1, Some("3 requests were cut, at most 2 may be"))]
    {
        let left = [(old, Served { completed: 9, moved: 9, cut })].into();
        world.gateways.get_mut(&gateway.into()).expect("enrolled").left = left;
        world.run(2);
        assert_eq!(because(&world).as_deref(), told);
    }
    finish(&mut world, "d-1");
    assert_eq!(world.ready("chat").len(), 1);
}

#[test]
fn what_autoscaling_takes_beside_a_drill_is_no_effect_of_it() {
    let effect = |scaled: bool| {
        let mut world = serving(4);
        world.command(create(drill(Scope::Node("node-1".into())))).expect("sound");
        world.run(2);
        if scaled {
            let patch = ScalingPatch { min: Some(2), max: Some(2), ..ScalingPatch::default() };
            let settings = Deployments::Settings { id: id("chat"), patch };
            world.command(Action::Deployment(settings)).expect("good settings");
        }
        finish(&mut world, "d-1");
        assert_eq!(world.ready("chat").len(), if scaled { 2 } else { 1 });
        let row = world.fleet().drill(&"d-1".into()).expect("known");
        let begun = row.runs.values().next().and_then(|run| run.begun()).expect("it began");
        held_besides(begun, world.now)
    };
    let (alone, beside) = (effect(false), effect(true));
    assert!(alone.0 > Millis(0), "two stand in the place of one for a while");
    assert_eq!(alone.1, Millis(0));
    assert_eq!(beside, alone);
}

#[test]
fn twenty_finished_drills_of_a_scope_are_remembered() {
    let mut world = World::with_nodes(2, 0);
    world.run(10);
    let asked = |number: u32, node: &str| Drill {
        id: format!("{node}-{number:02}").as_str().into(),
        profile: Profile::Custom(seconds(1)),
        ..drill(Scope::Node(node.into()))
    };
    for number in 1..=22 {
        if number < 3 {
            world.command(create(asked(number, "node-2"))).expect("sound");
            finish(&mut world, &format!("node-2-{number:02}"));
        }
        world.command(create(asked(number, "node-1"))).expect("sound");
        finish(&mut world, &format!("node-1-{number:02}"));
    }
    let kept: Vec<String> = world.fleet().drills().map(|row| row.drill.id.to_string()).collect();
    let newest = (3..=22).map(|number| format!("node-1-{number:02}"));
    let others = ["node-2-01", "node-2-02"].map(str::to_owned);
    assert_eq!(kept, newest.chain(others).collect::<Vec<_>>());
}

#[test]
fn a_hundred_schedules_are_remembered_after_their_end() {
    let mut world = World::with_nodes(1, 0);
    for number in 0..102 {
        let pattern = Drill {
            id: format!("s-{number:03}").as_str().into(),
            ..drill(Scope::Node("n".into()))
        };
        let id = pattern.id.clone();
        let schedule = Schedule { cron: "0 3 * * *".to_owned(), time_zone: "UTC".to_owned() };
        let drill = Box::new(pattern);
        world.command(Action::Drill(Drills::Schedule { drill, schedule })).expect("sound");
        let abort = Drills::Abort { id, reason: String::new() };
        world.command(Action::Drill(abort)).expect("known");
    }
    let kept: Vec<String> = world.fleet().schedules().map(|row| row.drill.id.to_string()).collect();
    assert_eq!((kept.len(), kept[0].as_str(), kept[99].as_str()), (100, "s-002", "s-101"));
}
