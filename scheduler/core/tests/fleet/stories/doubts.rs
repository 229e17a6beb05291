//! The scheduler's own doubts: a clock that is off, hardware that fails again and again.

use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::node::Health;
use wharfage_scheduler_core::words::policy::Policy;
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::health::{Action as Becomes, Health as Report, Incident, NodeHealth, Repair};
use wharfage_shared::ids::NodeId;
use wharfage_shared::time::{Boottime, Millis};

use crate::world::{World, spec};

fn why_unfit(world: &World) -> Option<String> {
    match &world.fleet().node(&NodeId::from("node-1")).expect("it is known").health {
        Health::Unfit { because } => Some(because.clone()),
        Health::Fit | Health::Qualifying => None,
    }
}

/// An incident as its agent tells it once it was repaired.
fn incident(number: u64, action: Becomes) -> Incident {
    Incident {
        number,
        gpu: None,
        xids: vec![48],
        action,
        first_at: Boottime(number),
        last_at: Boottime(number),
        because: "a story".to_owned(),
        injected: false,
        closed: Some(Repair::Reset),
    }
}

fn tells(world: &mut World, incidents: &[Incident]) {
    let number = world.fresh();
    let report =
        Report { node: NodeHealth::Fit, incidents: incidents.to_vec(), ..Report::default() };
    let agent = world.agent("node-1");
    (agent.health, agent.health_hash) = (Some(report), format!("health-{number}"));
    world.run(6);
}

fn uncordon(world: &mut World) {
    let reason = "the riser was replaced".to_owned();
    let uncordon = Nodes::Uncordon { node: "node-1".into(), reason };
    world.command(Action::Node(uncordon)).expect("an operator's word");
    world.run(6);
}

#[test]
fn a_clock_that_is_off_closes_the_node_for_what_is_new_until_it_is_right_for_a_minute() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    for (ahead_ms, expected) in [
        (
            5_000,
            "gate G1 (enrolment and clock) fails: its wall clock is 5 s ahead of the scheduler's",
        ),
        (-3_600_000, "gate G1 (enrolment and clock) fails: its wall clock is 3600 s behind"),
    ] {
        world.agent("node-1").clock_ahead_ms = ahead_ms;
        world.run(20);
        let because = why_unfit(&world).expect("it is off");
        assert!(because.starts_with(expected), "{because}");
        assert_eq!(world.ready("chat").len(), 1, "what runs goes on");
        world.agent("node-1").clock_ahead_ms = 4_999;
        world.run(50);
        assert!(why_unfit(&world).is_some(), "not yet a minute");
        world.run(30);
        assert_eq!(why_unfit(&world), None);
    }
}

#[test]
fn reports_that_were_long_on_their_way_are_no_clock_that_is_behind() {
    let mut world = World::with_nodes(1, 0);
    world.run(30);
    for _ in 0..4 {
        world.agent("node-1").clock_ahead_ms = -8_000;
        world.run(8);
        world.agent("node-1").clock_ahead_ms = 0;
        world.run(6);
        assert_eq!(why_unfit(&world), None);
    }
}

#[test]
fn three_faults_of_hardware_within_four_weeks_close_the_node_until_an_operator_says_so() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    let mut told = vec![incident(1, Becomes::Reset), incident(2, Becomes::Reboot)];
    tells(&mut world, &told);
    tells(&mut world, &told);
    assert_eq!(why_unfit(&world), None, "the same incident is counted once");
    told.push(Incident { injected: true, ..incident(3, Becomes::Reset) });
    told.push(incident(4, Becomes::RestartReplica));
    tells(&mut world, &told);
    assert_eq!(why_unfit(&world), None, "drills and faults of programs are not counted");
    told.push(incident(5, Becomes::CordonGpu));
    tells(&mut world, &told);
    let because = why_unfit(&world).expect("once too often");
    assert!(because.contains("gate G22"), "{because}");
    assert!(because.contains("3 incidents within 28 days; uncordon it"), "{because}");
    world.deploy(spec("chat"));
    world.restart_scheduler();
    world.run(90);
    assert_eq!(world.pending("chat"), 1, "time and starts forgive nothing");
    uncordon(&mut world);
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    told.push(incident(6, Becomes::Reset));
    tells(&mut world, &told);
    assert_eq!(why_unfit(&world), None, "what was forgiven is not counted again");
}

#[test]
fn faults_that_lie_further_apart_are_not_counted_together() {
    let mut world = World::under(Policy { repeated_incident_days: 1, ..Policy::default() });
    world.add_nodes(1, ComputeClass::Standard);
    world.run(10);
    let two = [incident(1, Becomes::Reset), incident(2, Becomes::Reset)];
    tells(&mut world, &two);
    world.now = world.now + Millis::from_seconds(86_400 + 60);
    world.run(10);
    let third = [two[0].clone(), two[1].clone(), incident(3, Becomes::Reset)];
    tells(&mut world, &third);
    assert_eq!(why_unfit(&world), None);
}
