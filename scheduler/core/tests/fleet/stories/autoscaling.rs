//! Counts that follow the load that gateways report.

use wharfage_scheduler_core::words::because::scaling::{DesiredBecause, Requests, Target};
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Scaling, ScalingMode, Spec};
use wharfage_scheduler_core::words::event::deployment::Event as Fact;
use wharfage_scheduler_core::{Event, Heard};
use wharfage_shared::gateway::GatewayReport;
use wharfage_shared::ids::GatewayName;
use wharfage_shared::time::Millis;

use crate::world::{World, id, spec};

/// One GPU a replica, one request a replica, a window of ten seconds, half a minute of delay.
fn small(name: &str, min: u32, max: u32) -> Spec {
    let bounds = Bounds::new(min, max).expect("the stories' bounds are good");
    let scaling = Scaling {
        bounds,
        window_seconds: 10,
        scale_down_delay_seconds: 30,
        utilization_percent: 100,
        ..Scaling::baseten()
    };
    Spec { gpus: GpuCount::new(1).expect("one"), scaling, ..spec(name) }
}

/// Two nodes, a gateway that has been heard for a while, and a small deployment.
fn world(min: u32, max: u32) -> World {
    let mut world = World::with_nodes(2, 0);
    world.add_gateway("g");
    world.run(20);
    world.deploy(small("chat", min, max));
    world.run(20);
    world
}

/// From now on so many requests are there.
fn load(world: &mut World, requests: u32) {
    let gateway = world.gateways.get_mut(&GatewayName::from("g")).expect("it has enrolled");
    gateway.parked.clear();
    if requests > 0 {
        gateway.parked.insert(id("chat"), requests);
    }
}

fn desired(world: &World) -> u32 {
    world.fleet().deployment(&id("chat")).expect("it is there").desired
}

/// Every change of the count, with its reason.
fn changes(world: &World) -> Vec<(u32, DesiredBecause)> {
    let scaled = world.log.iter().filter_map(|event| match event {
        Event::Deployment(Fact::Scaled { desired, because, .. }) => Some((*desired, *because)),
        _other => None,
    });
    scaled.collect()
}

#[test]
fn the_count_follows_the_load_up_at_once_and_down_in_halves_after_the_delay() {
    let mut world = world(1, 9);
    load(&mut world, 9);
    world.until(15, "the window is full of it", |world| desired(world) == 9);
    world.until(30, "all serve", |world| world.ready("chat").len() == 9);
    load(&mut world, 0);
    world.run(29);
    assert_eq!(desired(&world), 9, "the delay is not over");
    world.run(300);
    assert_eq!(desired(&world), 1);
    let told = changes(&world);
    let ups = told.iter().filter(|(_, why)| *why == DesiredBecause::DemandAboveTarget);
    assert!(ups.count() >= 1, "{told:?}");
    let below = |(_, why): &&(u32, DesiredBecause)| *why == DesiredBecause::DemandBelowTarget;
    let downs: Vec<u32> = told.iter().filter(below).map(|(count, _)| *count).collect();
    assert_eq!(downs, [5, 3, 2, 1], "half of the excess over what is wished for at that time");
    world.until(60, "one is left", |world| world.replicas("chat").len() == 1);
}

#[test]
fn a_parked_request_wakes_what_sleeps_in_the_step_that_reports_it() {
    let mut world = world(0, 4);
    assert!(world.replicas("chat").is_empty());
    let report = GatewayReport {
        gateway: Some(GatewayName::from("g")),
        number: 1_000,
        parked: [(id("chat"), 1)].into(),
        ..GatewayReport::default()
    };
    world.hear(Heard::Gateway(report));
    assert_eq!(changes(&world).last(), Some(&(1, DesiredBecause::Woken)));
    assert_eq!(world.replicas("chat").len(), 1, "its replica is made in the same step");
    world.until(120, "it sleeps again", |world| world.replicas("chat").is_empty());
    assert_eq!(desired(&world), 0);
}

#[test]
fn a_gateway_that_is_not_heard_takes_no_replica_away() {
    let mut world = world(1, 4);
    load(&mut world, 4);
    world.until(15, "four are wanted", |world| desired(world) == 4);
    load(&mut world, 0);
    world.run(5);
    let gateway = |world: &mut World, is_up| {
        world.gateways.get_mut(&GatewayName::from("g")).expect("it has enrolled").is_up = is_up;
    };
    gateway(&mut world, false);
    world.run(900);
    assert_eq!(desired(&world), 4, "its lease has lapsed, and nothing is known of the load");
    assert!(!world.controller.scaling(&id("chat"), world.now).is_fresh);
    gateway(&mut world, true);
    world.run(25);
    assert_eq!(desired(&world), 4, "the delay began anew");
    world.until(200, "nothing is there, and that is a number", |world| desired(world) == 1);
}

#[test]
fn a_new_scheduler_keeps_the_count_until_it_has_seen_a_whole_delay() {
    let mut world = world(1, 4);
    load(&mut world, 4);
    world.until(15, "four are wanted", |world| desired(world) == 4);
    load(&mut world, 0);
    world.run(25);
    world.restart_scheduler();
    world.run(28);
    assert_eq!(desired(&world), 4);
    world.until(200, "it follows the load again", |world| desired(world) == 1);
    world.replay_everything();
}

#[test]
fn a_decision_is_a_fact_with_what_it_was_made_on() {
    let mut world = world(1, 9);
    load(&mut world, 5);
    world.until(15, "five are wanted", |world| desired(world) == 5);
    let row = world.fleet().deployment(&id("chat")).expect("it is there");
    let on = row.scaled_on.expect("the load decided");
    assert_eq!(on.requests, Requests { parked: 5, ..Requests::default() });
    assert_eq!(on.wish.expect("a wish").replicas, 5);
    let mean = on.mean.expect("a mean");
    assert!(mean.amount > 4 * mean.weight && mean.amount <= 5 * mean.weight, "{mean:?}");
    let now = world.controller.scaling(&id("chat"), world.now);
    assert_eq!(now.requests.parked, 5);
    assert!(now.is_fresh && now.age <= Some(Millis(1000)), "{now:?}");
}

#[test]
fn a_lower_min_is_followed_after_the_delay_and_a_lower_max_at_once() {
    let mut world = world(3, 6);
    let mut lower = world.spec_of("chat");
    lower.scaling.bounds = Bounds::new(1, 6).expect("1 to 6");
    world.replace(lower.clone()).expect("good settings");
    world.run(25);
    assert_eq!(desired(&world), 3, "it was not too much a moment ago");
    lower.scaling.bounds = Bounds::new(1, 2).expect("1 to 2");
    world.replace(lower).expect("good settings");
    assert_eq!(desired(&world), 2);
    world.until(60, "one is enough", |world| desired(world) == 1);
}

#[test]
fn a_load_that_does_not_change_changes_the_count_once() {
    let mut world = world(0, 8);
    load(&mut world, 3);
    world.until(15, "three are wanted", |world| desired(world) == 3);
    let settled = changes(&world).len();
    world.run(600);
    assert_eq!(changes(&world).len(), settled);
}

#[test]
fn in_work_mode_the_count_follows_the_offered_work_and_tells_its_terms() {
    let mut world = world(1, 6);
    let mut chat = world.spec_of("chat");
    chat.extension.scaling = ScalingMode::Work;
    chat.scaling.utilization_percent = 100;
    world.replace(chat).expect("good settings");
    // Two requests a second, two in flight: each takes a second once there are slots for both.
    let first = world.replicas("chat")[0].id;
    let g = GatewayName::from("g");
    for second in 1..=1_200 {
        let gateway = world.gateways.get_mut(&g).expect("it has enrolled");
        gateway.in_flight.insert(first, 2);
        gateway.finished.insert(id("chat"), 2 * second);
        world.run(1);
    }
    assert_eq!(desired(&world), 4, "two slots of work: of three 44 % would wait, of four 17 %");
    let now = world.controller.scaling(&id("chat"), world.now);
    let terms = now.terms.expect("it is in work mode");
    assert!((1_900..=2_010).contains(&terms.offered_millislots), "{terms:?}");
    assert_eq!((terms.base, terms.forecast), (4, 0), "{terms:?}");
    let wish = now.decision.and_then(|decision| decision.wish).expect("a wish");
    assert_eq!((wish.replicas, wish.target), (4, Target::Work));
    let changed = changes(&world).len();
    world.gateways.get_mut(&g).expect("it has enrolled").in_flight.clear();
    world.until(1_100, "a quarter of an hour without a request", |world| desired(world) == 1);
    assert!(changes(&world).len() - changed <= 4, "{:?}", changes(&world));
}
