//! Stories of the whole controller with perfect agents. After every step the rules hold and a
//! second pass changes nothing.

mod world;

use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Leaves, NoticeKind};
use wharfage_shared::time::Millis;

use self::world::World;
use crate::words::command::{Action, deployments, nodes};
use crate::words::deployment::{Priority, Spec};
use crate::words::node::Reach;
use crate::words::refusal::Refusal;

#[test]
fn a_deployment_is_placed_becomes_ready_and_is_replaced_before_a_noticed_node_goes() {
    let mut world = World::new(2, 1);
    world.deploy("batch", 8, 1, |spec| {
        spec.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    });
    assert_eq!(world.replicas("batch"), ["r-1 fetching node-3"]);
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 ready node-3"]);

    world.notice("node-3", 120, Leaves::Node);
    let at_once = ["r-1 ready node-3", "r-2 fetching node-1"];
    assert_eq!(world.replicas("batch"), at_once);
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-3", "r-2 ready node-1"]);
    world.run(120);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-3", "r-2 ready node-1"]);
    let bill = world.invoice();
    assert!(bill.contains("\"spot\"") && bill.contains("\"on_demand\""), "{bill}");
    world.replay();
}

#[test]
fn a_reclaim_cordons_at_once_drains_at_two_minutes_and_ends_at_seven() {
    let mut world = World::new(0, 1);
    world.deploy("batch", 8, 1, |spec| spec.classes = vec![CapacityClass::Spot]);
    world.run(30);
    let (node, reason) = ("node-1".into(), "capacity".to_owned());
    let (drain_after, gone_after) = (None, None);
    let leaves = Leaves::Replicas;
    let reclaim = nodes::Action::Reclaim { node, reason, leaves, drain_after, gone_after };
    world.must(Action::Node(reclaim));
    assert_eq!(world.replicas("batch"), ["r-1 ready node-1", "r-2 pending -"]);
    world.run(115);
    assert_eq!(world.replicas("batch"), ["r-1 ready node-1", "r-2 pending -"]);
    world.run(10);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-1", "r-2 pending -"]);
    world.run(290);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-1", "r-2 pending -"]);
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-1", "r-2 ready node-1"]);
    world.replay();
}

#[test]
fn a_preemption_that_is_handed_to_the_scheduler_is_one_notice_however_often_it_comes() {
    let mut world = World::new(1, 1);
    world.deploy("batch", 8, 1, |spec| {
        spec.classes = vec![CapacityClass::Spot, CapacityClass::OnDemand];
    });
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 ready node-2"]);
    let announce = |seconds| {
        Action::Node(nodes::Action::Announce {
            node: "node-2".into(),
            notice: NoticeId::new("oci-1"),
            kind: NoticeKind::Preempt,
            gone_after: Millis::from_seconds(seconds),
        })
    };
    world.must(announce(120));
    assert_eq!(world.replicas("batch"), ["r-1 ready node-2", "r-2 fetching node-1"]);
    world.run(5);
    world.must(announce(3600));
    world.run(30);
    assert_eq!(world.replicas("batch"), ["r-1 stopped node-2", "r-2 ready node-1"]);
    let departed = |world: &World| {
        let fleet = world.controller.fleet();
        fleet.node(&"node-2".into()).is_some_and(|row| row.departed_at.is_some())
    };
    assert!(!departed(&world));
    world.run(90);
    assert!(departed(&world), "the first word of its end counts");
    world.replay();
}

#[test]
fn a_lost_node_is_replaced_and_what_serves_longest_stays_when_it_returns() {
    let mut world = World::new(2, 0);
    world.deploy("chat", 8, 1, |_| ());
    world.run(30);
    world.agents.get_mut(&"node-1".into()).expect("it is there").talks = false;
    world.run(29);
    assert_eq!(world.replicas("chat"), ["r-1 ready node-1"]);
    world.run(30);
    assert_eq!(world.replicas("chat"), ["r-1 unreachable node-1", "r-2 ready node-2"]);
    world.agents.get_mut(&"node-1".into()).expect("it is there").talks = true;
    world.run(30);
    assert_eq!(world.replicas("chat"), ["r-1 ready node-1", "r-2 stopped node-2"]);
    world.replay();
}

#[test]
fn a_single_copy_is_replaced_only_after_lease_and_margin() {
    let mut world = World::new(2, 0);
    world.deploy("one", 8, 1, |spec| spec.extension.single_copy = true);
    world.run(30);
    world.agents.get_mut(&"node-1".into()).expect("it is there").talks = false;
    world.run(55);
    assert_eq!(world.replicas("one"), ["r-1 unreachable node-1"]);
    world.run(4);
    assert_eq!(world.replicas("one"), ["r-1 unreachable node-1", "r-2 fetching node-2"]);
    world.replay();
}

#[test]
fn new_settings_roll_out_with_the_new_one_ready_first() {
    let mut world = World::new(2, 0);
    world.deploy("chat", 4, 2, |_| ());
    world.run(30);
    let mut spec = world::spec("chat", 4, 2);
    spec.model.path = "other".to_owned();
    let spec = spec.into();
    let replace = deployments::Action::Replace { id: "chat".into(), spec };
    world.must(Action::Deployment(replace));
    assert_eq!(
        world.replicas("chat"),
        ["r-1 ready node-1", "r-2 ready node-1", "r-3 fetching node-2"]
    );
    world.run(120);
    assert_eq!(
        world.replicas("chat"),
        ["r-1 stopped node-1", "r-2 stopped node-1", "r-3 ready node-2", "r-4 ready node-2"]
    );
    world.must(Action::Deployment(deployments::Action::Delete { id: "chat".into() }));
    world.run(30);
    assert!(world.controller.fleet().deployment(&"chat".into()).is_none());
    world.replay();
}

#[test]
fn a_drained_node_is_emptied_replacement_first() {
    let mut world = World::new(2, 0);
    world.deploy("chat", 8, 1, |_| ());
    world.run(30);
    let (node, reason) = ("node-1".into(), "new kernel".to_owned());
    world.must(Action::Node(nodes::Action::Drain { node, reason }));
    assert_eq!(world.replicas("chat"), ["r-1 ready node-1", "r-2 fetching node-2"]);
    world.run(30);
    assert_eq!(world.replicas("chat"), ["r-1 stopped node-1", "r-2 ready node-2"]);
    assert_eq!(
        world.controller.fleet().node(&"node-1".into()).and_then(|n| n.held_for.clone()),
        None
    );
    world.replay();
}

#[test]
fn a_scheduler_that_starts_waits_57_seconds_before_anyone_is_lost() {
    let mut world = World::new(1, 0);
    world.run(10);
    world.crash();
    world.agents.get_mut(&"node-1".into()).expect("it is there").talks = false;
    world.run(56);
    let reach = |world: &World| world.controller.fleet().node(&"node-1".into()).map(|n| n.reach);
    assert_eq!(reach(&world), Some(Reach::Silent));
    world.run(2);
    assert_eq!(reach(&world), Some(Reach::Lost));
}

#[test]
fn what_is_guaranteed_to_one_is_not_given_to_another() {
    let mut world = World::new(2, 0);
    world.organization("globex");
    world.sign("flex-1", "globex", 1);
    world.deploy("first", 8, 2, |_| ());
    assert_eq!(world.replicas("first"), ["r-1 fetching node-1", "r-2 pending -"]);
    world.deploy_for("globex", "own", 8, 1, |_| ());
    assert_eq!(world.replicas("own"), ["r-3 fetching node-2"]);
    let refused = world.try_sign("flex-2", "globex", 2);
    assert!(matches!(refused, Err(Refusal::Exhausted { .. })), "{refused:?}");
    world.replay();
}

#[test]
fn higher_priority_goes_first_whatever_the_arrival() {
    let mut world = World::new(1, 0);
    let priority = |priority| {
        move |spec: &mut Spec| {
            spec.priority = Priority::new(priority).expect("a priority of the story");
        }
    };
    world.cordon("node-1", true);
    world.deploy("low", 8, 1, priority(100));
    world.deploy("high", 8, 1, priority(1000));
    world.cordon("node-1", false);
    assert_eq!(world.replicas("low"), ["r-1 pending -"]);
    assert_eq!(world.replicas("high"), ["r-2 fetching node-1"]);
}
