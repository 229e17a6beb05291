//! Schedules of drills, what gateways and GPUs tell of them, and drills that went worse than before.

use wharfage_scheduler_core::Action;
use wharfage_scheduler_core::explain::drill::{Verdict, held_besides, judge, requests};
use wharfage_scheduler_core::words::command::drills::Action as Drills;
use wharfage_scheduler_core::words::drill::{Drill, Fired, Schedule, Scope, Targets};
use wharfage_shared::gateway::Served;
use wharfage_shared::ids::DrillId;
use wharfage_shared::time::{Millis, Timestamp};

use super::drills::{close, drill, seconds, serving};
use crate::world::World;

fn ask(world: &mut World, action: Drills) {
    world.command(Action::Drill(action)).expect("sound");
}

fn fire(world: &mut World, run: &str, due: Timestamp) -> Option<Fired> {
    ask(world, Drills::Fire { schedule: "s-1".into(), run: run.into(), due });
    world.fleet().schedule(&"s-1".into()).and_then(|row| row.fired.clone())
}

fn begun(run: &str) -> Option<Fired> {
    Some(Fired::Begun(DrillId::from(run)))
}

fn missed(text: &str) -> Option<Fired> {
    Some(Fired::Missed(text.to_owned()))
}

/// The whole deployment, wherever it serves from.
fn everywhere(world: &World) -> Scope {
    let deployment = world.fleet().deployments().next().expect("one").id.clone();
    Scope::Deployment { deployment, percent: 100 }
}

fn until_finished(world: &mut World, id: &str) {
    let is_finished =
        |world: &World| world.fleet().drill(&id.into()).is_some_and(|d| d.finished_at.is_some());
    world.until(200, "it is over", is_finished);
}

#[test]
fn a_schedule_begins_a_drill_at_each_of_its_times_once() {
    let mut world = serving(2);
    let pattern = Drill { id: "s-1".into(), ..drill(everywhere(&world)) };
    let schedule = Schedule { cron: "0 3 * * *".to_owned(), time_zone: "UTC".to_owned() };
    ask(&mut world, Drills::Schedule { drill: Box::new(pattern), schedule });
    assert_eq!(world.fleet().drills().count(), 0, "its time has not come");
    let due = world.now;
    assert_eq!(fire(&mut world, "d-1", due + Millis(1)), None, "nor has this one");
    assert_eq!(fire(&mut world, "d-1", due), begun("d-1"));
    let row = world.fleet().drill(&"d-1".into()).expect("it began");
    assert_eq!(row.drill.scheduled, Some("s-1".into()));
    assert_eq!(fire(&mut world, "d-2", due), begun("d-1"), "each time is acted upon once");
    world.run(5);
    let due = world.now;
    let under_way = "drill d-1 of this schedule is under way";
    assert_eq!(fire(&mut world, "d-2", due), missed(under_way));
    until_finished(&mut world, "d-1");
    let due = world.now;
    world.run(3_600);
    let late = "its time passed while no scheduler ran";
    assert_eq!(fire(&mut world, "d-2", due), missed(late));
    close(&mut world, "node-1");
    close(&mut world, "node-2");
    let due = world.now;
    assert_eq!(fire(&mut world, "d-2", due), begun("d-2"), "what is closed is left out later");
    ask(&mut world, Drills::Abort { id: "s-1".into(), reason: String::new() });
    world.run(1);
    let due = world.now;
    assert_eq!(fire(&mut world, "d-3", due), begun("d-2"), "it has ended");
    assert_eq!(world.fleet().drills().count(), 2);
}

#[test]
fn a_drill_that_goes_worse_than_the_one_before_is_told() {
    let mut world = serving(2);
    let pattern = drill(everywhere(&world));
    ask(&mut world, Drills::Create(Box::new(pattern.clone())));
    until_finished(&mut world, "d-1");
    let first = world.fleet().drill(&"d-1".into()).expect("known");
    assert_eq!((judge(first).0, &first.worse), (Verdict::Passed, &None));
    // The node that it came from is closed now: it can only come back where it is.
    close(&mut world, "node-1");
    ask(&mut world, Drills::Create(Box::new(Drill { id: "d-2".into(), ..pattern.clone() })));
    until_finished(&mut world, "d-2");
    let second = world.fleet().drill(&"d-2".into()).expect("known");
    let worse = second.worse.as_ref().expect("it took longer");
    assert_eq!(worse.than, "d-1".into());
    assert!(worse.because.starts_with("the capacity was back after"), "{}", worse.because);
    let targets = Targets { first_action: Some(seconds(1)), ..Targets::default() };
    let judged = Drill { id: "d-3".into(), targets, ..pattern };
    ask(&mut world, Drills::Create(Box::new(judged)));
    until_finished(&mut world, "d-3");
    let third = world.fleet().drill(&"d-3".into()).expect("known");
    assert_eq!(judge(third).0, Verdict::Failed, "what nobody measured meets no target");
    let worse = third.worse.as_ref().map(|worse| worse.because.as_str());
    assert_eq!(worse, Some("the one before passed, this one did not"));
}

#[test]
fn requests_and_the_time_of_gpus_are_counted_and_never_taken_for_zero() {
    let mut world = serving(2);
    let old = world.fleet().replicas().next().expect("it serves").id;
    let asked = drill(everywhere(&world));
    ask(&mut world, Drills::Create(Box::new(asked)));
    world.run(10);
    let row = |world: &World| {
        let row = world.fleet().drill(&"d-1".into()).expect("known");
        row.runs.values().next().and_then(|run| run.begun()).expect("it has begun").clone()
    };
    assert_eq!(requests(&row(&world)), None, "nobody has told of any");
    let told = |completed, moved, cut| Served { completed, moved, cut };
    world.add_gateway("g-1");
    world.add_gateway("g-2");
    for (name, counts) in [("g-1", told(3, 1, 0)), ("g-2", told(2, 0, 1)), ("g-1", told(0, 0, 0))] {
        let gateway = world.gateways.get_mut(&name.into()).expect("enrolled");
        gateway.left = [(old, counts)].into();
        world.run(2);
    }
    assert_eq!(requests(&row(&world)), Some(told(5, 1, 1)), "a new start undoes no count");
    until_finished(&mut world, "d-1");
    let (beyond, short) = held_besides(&row(&world), world.now);
    let gpus = u64::from(u32::from(world.fleet().deployments().next().expect("one").spec.gpus));
    let both = beyond.0 / gpus;
    assert!(both > 0 && both < 60_000, "two stood in the place of one for {both} ms");
    assert_eq!(short, Millis(0));
}
