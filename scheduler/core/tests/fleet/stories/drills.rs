//! Drills: a node is told to leave as if under a notice, and is open again afterwards. The world
//! checks after every step that the budget holds and that nothing real is drilled.

use wharfage_scheduler_core::fleet::rows::drill::{Begun, Course, DrillRow};
use wharfage_scheduler_core::words::command::drills::Action as Drills;
use wharfage_scheduler_core::words::deployment::Bounds;
use wharfage_scheduler_core::words::drill::{
    AbortRules, Budget, Drill, Outcome, Profile, Scope, Targets,
};
use wharfage_scheduler_core::{Action, Refusal};
use wharfage_shared::ids::NodeId;
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

use crate::world::{Link, World, cordon, spec};

pub fn seconds(seconds: u64) -> Millis {
    Millis::from_seconds(seconds)
}

/// A drill of a minute, one node at a time, that is never given up.
pub fn drill(scope: Scope) -> Drill {
    Drill {
        id: "d-1".into(),
        name: "weekly".to_owned(),
        scope,
        profile: Profile::Custom(seconds(60)),
        budget: Budget { at_once: 1, within: seconds(3600) },
        abort: AbortRules::default(),
        targets: Targets::default(),
        scheduled: None,
    }
}

fn on(node: &str) -> Scope {
    Scope::Node(node.into())
}

pub fn close(world: &mut World, node: &str) {
    let action = Action::Node(cordon(node.into(), "a look".to_owned()));
    world.command(action).expect("known");
}

fn begin(world: &mut World, drill: Drill) -> Result<(), Refusal> {
    world.command(Action::Drill(Drills::Create(Box::new(drill)))).map(|_| ())
}

fn row(world: &World) -> &DrillRow {
    world.fleet().drill(&"d-1".into()).expect("it was asked for")
}

fn is_finished(world: &World) -> bool {
    row(world).finished_at.is_some()
}

fn begun<'a>(world: &'a World, node: &str) -> &'a Begun {
    row(world).runs[&NodeId::from(node)].begun().expect("it has begun")
}

fn outcome(world: &World, node: &str) -> Outcome {
    match begun(world, node).course {
        Course::Ended { outcome, .. } => outcome,
        Course::Running | Course::Withdrawn { .. } => panic!("{node} is not done"),
    }
}

/// chat serves once from the first of so many nodes.
pub fn serving(nodes: usize) -> World {
    let mut world = World::with_nodes(nodes, 0);
    world.deploy(spec("chat"));
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world
}

#[test]
fn a_drill_goes_the_way_of_a_notice_and_the_node_is_open_again_after_its_deadline() {
    let mut world = serving(2);
    let asked = world.now;
    begin(&mut world, drill(on("node-1"))).expect("sound");
    world.until(60, "the successor serves alone", |world| world.ready("chat") == ["node-2"]);
    assert!(begun(&world, "node-1").back_at.is_some(), "it serves elsewhere");
    let node = |world: &World| world.fleet().node(&"node-1".into()).expect("known").clone();
    assert!(node(&world).may_place().is_err(), "until the deadline nothing new comes");
    world.until(90, "it is over", is_finished);
    assert_eq!(outcome(&world, "node-1"), Outcome::Completed);
    assert!(world.now >= asked + seconds(60), "the window was not cut short");
    assert_eq!(node(&world).may_place(), Ok(()));
    assert!(node(&world).departed_at.is_none(), "nothing of the host was closed");
}

#[test]
fn where_nothing_else_has_room_the_capacity_is_back_on_the_node_itself() {
    let mut world = serving(1);
    begin(&mut world, drill(on("node-1"))).expect("sound");
    world.until(90, "it was emptied", |world| world.ready("chat").is_empty());
    assert_eq!(begun(&world, "node-1").back_at, None);
    world.until(90, "it is over", is_finished);
    assert_eq!(outcome(&world, "node-1"), Outcome::Completed);
    assert_eq!(world.ready("chat"), ["node-1"]);
}

#[test]
fn a_pool_is_drilled_node_by_node_and_a_closed_node_is_left_out() {
    let mut world = serving(3);
    close(&mut world, "node-3");
    let pool = world.fleet().node(&"node-1".into()).expect("known").pool.clone();
    begin(&mut world, drill(Scope::Pool(pool))).expect("sound");
    world.run(30);
    assert_eq!(row(&world).runs.values().filter(|run| run.is_on()).count(), 1);
    world.until(3700, "it is over", is_finished);
    for node in ["node-1", "node-2"] {
        assert_eq!(outcome(&world, node), Outcome::Completed);
    }
    let left_out = format!("{:?}", row(&world).runs[&NodeId::from("node-3")]);
    assert!(left_out.contains("node-3 is not open"), "{left_out}");
}

#[test]
fn a_part_of_a_deployments_nodes_is_drilled_rounded_up() {
    let mut world = World::with_nodes(3, 0);
    let mut chat = spec("chat");
    chat.scaling.bounds = Bounds::new(3, 3).expect("in order");
    world.deploy(chat);
    world.until(60, "all serve", |world| world.ready("chat").len() == 3);
    let deployment = world.fleet().deployments().next().expect("one").id.clone();
    begin(&mut world, drill(Scope::Deployment { deployment, percent: 34 })).expect("sound");
    let nodes: Vec<_> = row(&world).runs.keys().map(NodeId::to_string).collect();
    assert_eq!(nodes, ["node-1", "node-2"]);
}

#[test]
fn given_up_by_an_operator_the_replica_stays_and_the_node_is_open() {
    let mut world = serving(1);
    begin(&mut world, drill(on("node-1"))).expect("sound");
    world.run(10);
    let abort = || Drills::Abort { id: "d-1".into(), reason: "a sale".to_owned() };
    world.command(Action::Drill(abort())).expect("it is under way");
    world.until(30, "it is over", is_finished);
    assert_eq!(outcome(&world, "node-1"), Outcome::Aborted);
    let because = row(&world).aborted.as_ref().map(|aborted| aborted.because.as_str());
    assert_eq!(because, Some("an operator gave it up: a sale"));
    assert_eq!(world.ready("chat"), ["node-1"]);
    world.run(120);
    assert_eq!(world.ready("chat"), ["node-1"]);
    let again = world.command(Action::Drill(abort())).expect_err("over");
    assert_eq!(again.to_string(), "drill d-1 is over already");
}

#[test]
fn what_would_leave_too_few_ready_replicas_gives_the_drill_up() {
    let mut world = serving(1);
    let abort = AbortRules { below_min: true, fewer_than: None, ..AbortRules::default() };
    begin(&mut world, Drill { abort, ..drill(on("node-1")) }).expect("sound");
    world.until(90, "it is over", is_finished);
    let because = row(&world).aborted.as_ref().map(|aborted| aborted.because.as_str());
    assert_eq!(because, Some("chat has 0 ready replicas, at least 1 must be"));
    world.until(60, "it serves again", |world| world.ready("chat") == ["node-1"]);
    assert_eq!(world.replicas("chat").len(), 1, "the same one: {}", world.picture());
    assert_eq!(world.replicas("chat")[0].id.to_string(), "r-1");
}

#[test]
fn a_real_notice_ends_the_drill_and_is_followed() {
    let mut world = serving(2);
    begin(&mut world, drill(on("node-1"))).expect("sound");
    world.run(5);
    let now = world.now;
    let agent = world.agents.get_mut(&"node-1".into()).expect("a host");
    agent.notice("real", 40, Leaves::Node, now);
    world.until(90, "it is over", is_finished);
    assert_eq!(outcome(&world, "node-1"), Outcome::Overtaken);
    world.run(60);
    assert!(world.fleet().node(&"node-1".into()).expect("known").departed_at.is_some());
}

#[test]
fn an_agent_that_dies_in_a_drill_leaves_no_drill_behind() {
    let mut world = serving(2);
    begin(&mut world, drill(on("node-1"))).expect("sound");
    world.run(3);
    world.agents.get_mut(&"node-1".into()).expect("a host").link = Link::Cut;
    world.until(120, "it is over", is_finished);
    assert_eq!(outcome(&world, "node-1"), Outcome::Lost);
    world.agents.get_mut(&"node-1".into()).expect("a host").link = Link::Up;
    world.run(30);
    let notices = &world.fleet().node(&"node-1".into()).expect("known").notices;
    assert!(notices.is_empty(), "it is back without the drill's notice");
    assert_eq!(world.fleet().node(&"node-1".into()).expect("known").may_place(), Ok(()));
}

#[test]
fn a_drill_that_cannot_be_is_refused_with_the_field() {
    let mut world = serving(2);
    close(&mut world, "node-2");
    let budget = |at_once, within| Budget { at_once, within: seconds(within) };
    let deployment = world.fleet().deployments().next().expect("one").id.clone();
    let targets = Targets { window_used_percent: Some(101), ..Targets::default() };
    let cases = [
        (drill(on("node-9")), "there is no node `node-9`"),
        (drill(on("node-2")), "node-2 is not open: no drill begins"),
        (drill(Scope::Pool("none".into())), "there is no pool `none`"),
        (drill(Scope::Deployment { deployment, percent: 0 }), "scope.percent: 0; accepted: 1 to"),
        (Drill { name: String::new(), ..drill(on("node-1")) }, "name: 0 characters; accepted"),
        (
            Drill { profile: Profile::Custom(seconds(90_000)), ..drill(on("node-1")) },
            "window_seconds: 90000s; accepted: at most 86400s",
        ),
        (Drill { budget: budget(0, 60), ..drill(on("node-1")) }, "budget.nodes_at_once: 0;"),
        (Drill { budget: budget(1, 0), ..drill(on("node-1")) }, "budget.within_hours: 0"),
        (Drill { targets, ..drill(on("node-1")) }, "targets.window_used_percent: 101;"),
    ];
    for (asked, says) in cases {
        let refusal = begin(&mut world, asked).expect_err(says).to_string();
        assert!(refusal.contains(says), "{refusal} does not say {says}");
    }
    begin(&mut world, drill(on("node-1"))).expect("sound");
    let twice = begin(&mut world, drill(on("node-1"))).expect_err("the id is used");
    assert_eq!(twice.to_string(), "a drill named `d-1` exists already");
    let another = Drill { id: "d-2".into(), ..drill(on("node-1")) };
    let refusal = begin(&mut world, another).expect_err("it is in one").to_string();
    assert!(refusal.contains("node-1 is"), "{refusal}");
}
