//! One GPU at fault, the whole node at fault, what nodes ask for, and the brake.

use wharfage_scheduler_core::capacity::ledger;
use wharfage_scheduler_core::explain;
use wharfage_scheduler_core::policies::repair;
use wharfage_scheduler_core::words::command::Action;
use wharfage_scheduler_core::words::command::nodes::Action as Nodes;
use wharfage_scheduler_core::words::deployment::{GpuCount, Spec};
use wharfage_scheduler_core::words::node::Health;
use wharfage_scheduler_core::words::policy::Policy;
use wharfage_shared::capacity::CapacityType;
use wharfage_shared::health::{
    Ask, Asked, GpuHealth, Health as Report, Incident, NodeHealth, Unfit,
};
use wharfage_shared::ids::{GpuUuid, NodeId};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Boottime;

use crate::world::{World, id, spec};

fn sized(name: &str, gpus: u32) -> Spec {
    Spec { gpus: GpuCount::new(gpus).expect("allowed"), ..spec(name) }
}

fn gpu(world: &World, node: &str, at: usize) -> GpuUuid {
    world.fleet().node(&NodeId::from(node)).expect("it is known").slots[at].gpu.clone()
}

fn why(xid: u32) -> Unfit {
    Unfit { rule: format!("XID {xid}"), because: format!("cordoned by XID {xid}: a story") }
}

fn ask(what: Asked, gpu: Option<GpuUuid>, xid: u32) -> Ask {
    let Unfit { rule, because } = why(xid);
    let (incident, only_multi_gpu, injected) = (1, false, false);
    Ask { incident, what, gpu, only_multi_gpu, rule, because, injected }
}

/// A node whose GPUs are fit but for one.
fn one_unfit(gpu: GpuUuid, xid: u32, asks: Vec<Ask>) -> Report {
    let gpus = vec![GpuHealth { gpu, unfit: Some(why(xid)) }];
    Report { node: NodeHealth::Fit, gpus, asks, ..Report::default() }
}

fn says(world: &mut World, node: &str, report: Report) {
    let number = world.fresh();
    let agent = world.agent(node);
    (agent.health, agent.health_hash) = (Some(report), format!("health-{number}"));
}

fn well() -> Report {
    Report { node: NodeHealth::Fit, ..Report::default() }
}

fn health(world: &World, node: &str) -> Health {
    world.fleet().node(&NodeId::from(node)).expect("it is known").health.clone()
}

#[test]
fn a_gpu_at_fault_closes_its_slot_and_not_its_node() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    let bad = gpu(&world, "node-1", 0);
    says(&mut world, "node-1", one_unfit(bad.clone(), 48, Vec::new()));
    world.run(10);
    assert_eq!(health(&world, "node-1"), Health::Fit);
    world.deploy(sized("whole", 8));
    world.deploy(sized("part", 4));
    world.until(60, "there is room on the others", |world| world.ready("part") == ["node-1"]);
    let seat = world.replicas("part")[0].phase.seat().expect("it is placed").clone();
    assert!(!seat.gpus.contains(&bad));
    assert_eq!(world.pending("whole"), 1);
}

#[test]
fn a_gpu_that_is_split_is_one_of_its_nodes_gpus_and_breaks_as_one() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    world.agent("node-1").split(0, 3);
    world.run(10);
    assert_eq!(health(&world, "node-1"), Health::Fit, "it has eight GPUs, one of them split");
    let slots: Vec<GpuUuid> = (0..3).map(|at| gpu(&world, "node-1", at)).collect();
    assert!(slots.iter().all(|slot| slot.text().starts_with("MIG-")), "{slots:?}");
    let unfit = slots.iter().map(|slot| GpuHealth { gpu: slot.clone(), unfit: Some(why(119)) });
    let drains = slots.iter().map(|slot| ask(Asked::Drain, Some(slot.clone()), 119));
    let board = GpuUuid::from("GPU-node-1-0");
    let reset = ask(Asked::Reset, Some(board.clone()), 119);
    let incident = Incident {
        number: 1,
        gpu: Some(board),
        xids: vec![119],
        action: wharfage_shared::health::Action::Reset,
        first_at: Boottime(1),
        last_at: Boottime(1),
        because: why(119).because,
        injected: false,
        closed: None,
    };
    let report = Report {
        node: NodeHealth::Fit,
        gpus: unfit.collect(),
        asks: drains.chain([reset]).collect(),
        incidents: vec![incident],
        ..Report::default()
    };
    says(&mut world, "node-1", report);
    world.run(10);
    let node = world.fleet().node(&NodeId::from("node-1")).expect("it is known");
    assert_eq!(node.health, Health::Fit);
    let closed = node.slots.iter().filter(|slot| slot.unfit.is_some());
    assert_eq!(closed.map(|slot| slot.gpu.clone()).collect::<Vec<_>>(), slots);
    assert_eq!(node.doubts.incidents.len(), 1, "one XID is one incident, not three of hardware");
}

#[test]
fn a_contract_is_not_promised_a_node_that_lacks_a_gpu_and_small_asks_still_go_there() {
    let mut world = World::with_nodes(2, 0);
    world.run(10);
    let bad = gpu(&world, "node-1", 0);
    says(&mut world, "node-1", one_unfit(bad, 48, Vec::new()));
    world.run(10);
    let sums = |world: &World| {
        let row = &ledger::capacity(world.fleet())[0];
        (row.usable, row.impaired, row.whole())
    };
    assert_eq!(sums(&world), (2, 1, 1));
    let refused = world.sign("zeta", 2, 30).expect_err("one is not whole");
    assert!(refused.to_string().contains("1 are usable there"), "{refused}");
    world.deploy(sized("part", 4));
    world.deploy(sized("whole", 8));
    world.until(60, "both serve", |world| {
        world.ready("part") == ["node-1"] && world.ready("whole") == ["node-2"]
    });
    assert_eq!(sums(&world), (2, 0, 2), "what serves somebody is theirs as it is");
}

#[test]
fn what_lacks_a_gpu_stands_for_no_guarantee_and_small_asks_may_have_it_all_the_same() {
    let mut world = World::with_nodes(2, 0);
    world.run(10);
    world.sign("zeta", 1, 30).expect("one of two");
    let bad = gpu(&world, "node-1", 0);
    says(&mut world, "node-1", one_unfit(bad, 48, Vec::new()));
    world.run(10);
    world.deploy(sized("whole", 8));
    world.deploy(sized("part", 4));
    world.until(60, "it serves", |world| world.ready("part") == ["node-1"]);
    assert_eq!(world.pending("whole"), 1, "the only whole one is guaranteed to zeta");
    world.deploy_for("zeta", sized("own", 8)).expect("a deployment");
    world.until(60, "the guarantee is kept", |world| world.ready("own") == ["node-2"]);
}

#[test]
fn a_claim_takes_no_instance_that_lacks_a_gpu_not_even_its_owners() {
    let mut world = World::new();
    let node = world.add_owned("acme");
    world.run(10);
    let bad = gpu(&world, node.as_str(), 0);
    says(&mut world, node.as_str(), one_unfit(bad, 48, Vec::new()));
    world.run(10);
    world.claim("hold", CapacityType::Customer, 1).expect("within what acme owns");
    assert_eq!(world.counts("hold"), (0, 1), "it waits");
    says(&mut world, node.as_str(), well());
    world.until(30, "it is whole", |world| world.counts("hold") == (1, 0));
}

#[test]
fn explain_names_the_xid_that_closed_a_gpu() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    let bad = gpu(&world, "node-1", 3);
    says(&mut world, "node-1", one_unfit(bad, 48, Vec::new()));
    world.run(10);
    world.deploy(sized("whole", 8));
    let policy = Policy::default();
    let explained = explain::deployment(world.fleet(), &policy, &id("whole"), world.now);
    let text = String::from_utf8(explained.expect("it exists").json()).expect("text");
    assert!(text.contains("7 are free and fit"), "{text}");
    assert!(text.contains("cordoned by XID 48"), "{text}");
}

#[test]
fn a_rule_about_the_whole_node_closes_the_node() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    says(&mut world, "node-1", Report { node: NodeHealth::Unfit(why(79)), ..Report::default() });
    world.run(10);
    let because = "cordoned by XID 79: a story".to_owned();
    assert_eq!(health(&world, "node-1"), Health::Unfit { because });
    world.deploy(sized("chat", 1));
    assert_eq!(world.pending("chat"), 1);
    says(&mut world, "node-1", well());
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
}

#[test]
fn what_stands_on_a_gpu_that_is_to_be_drained_leaves_once_its_successor_serves() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(sized("chat", 4));
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    let first = world.replicas("chat")[0];
    let (old, seat) = (first.id, first.phase.seat().expect("it is placed").clone());
    let bad = seat.gpus[0].clone();
    let asks = vec![ask(Asked::Drain, Some(bad.clone()), 119)];
    says(&mut world, seat.node.as_str(), one_unfit(bad, 119, asks));
    let served = |world: &World| !world.ready("chat").is_empty();
    world.until(60, "a successor serves and the old one leaves", |world| {
        assert!(served(world), "there is always one that serves");
        world.fleet().replica(old).is_some_and(|row| row.phase.leaving().is_some())
    });
    let row = world.fleet().replica(old).expect("it is known");
    assert_eq!(row.phase.leaving().expect("it leaves").because, StopCause::HardwareRepair);
}

#[test]
fn a_replica_on_a_gpu_that_is_not_to_be_trusted_ends_once_and_its_successor_stays() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(sized("chat", 8));
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    let old = world.replicas("chat")[0].id;
    let asks = vec![ask(Asked::RestartReplica, Some(gpu(&world, "node-1", 0)), 31)];
    says(&mut world, "node-1", Report { asks, ..well() });
    world.until(120, "another one serves", |world| {
        let mut on = world.replicas("chat").into_iter();
        on.any(|row| row.id != old && row.phase.is_ready())
    });
    let last = world.fleet().replica(old).expect("it is kept for an hour");
    let because = format!("{:?}", last.phase);
    assert!(because.contains("HardwareFault"), "{because}");
    let new = world.replicas("chat").into_iter().map(|row| row.id).max();
    world.run(120);
    assert_eq!(world.replicas("chat").into_iter().map(|row| row.id).max(), new, "only once");
}

#[test]
fn replicas_on_one_gpu_stay_where_only_links_between_gpus_are_at_fault() {
    let mut world = World::with_nodes(2, 0);
    world.deploy(sized("single", 1));
    world.deploy(sized("double", 2));
    world.until(60, "both serve", |world| {
        world.ready("single").len() + world.ready("double").len() == 2
    });
    let node = world.ready("double")[0].clone();
    assert_eq!(world.ready("single"), std::slice::from_ref(&node), "they stand on one node");
    let links = Ask { only_multi_gpu: true, ..ask(Asked::Drain, None, 74) };
    let report = Report { node: NodeHealth::Unfit(why(74)), asks: vec![links], ..well() };
    says(&mut world, &node, report);
    world.until(120, "the one on two GPUs has moved", |world| {
        world.ready("double").iter().any(|at| *at != node)
    });
    assert_eq!(world.ready("single"), [node]);
}

#[test]
fn a_rule_that_hits_many_nodes_at_once_drains_nothing_until_an_operator_says_so() {
    let mut world = World::with_nodes(5, 0);
    world.run(10);
    world.deploy(sized("chat", 8));
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    let at = world.ready("chat")[0].clone();
    let others: Vec<String> =
        (1..=5).map(|n| format!("node-{n}")).filter(|node| *node != at).collect();
    let hit = |world: &mut World, node: &str| {
        let asks = vec![ask(Asked::Drain, None, 79), ask(Asked::Reboot, None, 79)];
        says(world, node, Report { node: NodeHealth::Unfit(why(79)), asks, ..well() });
        world.run(6);
    };
    hit(&mut world, &others[0]);
    hit(&mut world, &others[1]);
    assert_eq!(world.fleet().brakes().count(), 0, "two nodes are not many");
    hit(&mut world, &at);
    let (rule, pulled) = world.fleet().brakes().next().expect("three of five are");
    assert_eq!((rule, pulled.nodes, pulled.of), ("XID 79", 3, 5));
    world.run(300);
    assert_eq!(world.ready("chat"), std::slice::from_ref(&at), "what runs goes on");
    assert!(matches!(health(&world, &at), Health::Unfit { .. }), "and nothing new is placed there");
    let (rule, reason) = ("XID 79".to_owned(), "it is real".to_owned());
    world.command(Action::Node(Nodes::ReleaseBrake { rule, reason })).expect("an operator's word");
    world.until(120, "it has moved", |world| world.ready("chat").iter().any(|node| *node != at));
    assert_eq!(world.fleet().brakes().count(), 0, "what was hit before does not pull it again");
}

/// A node that needs to boot anew because of its first GPU.
fn needs_a_reboot(world: &mut World, node: &str) {
    let asks = vec![ask(Asked::Drain, None, 79), ask(Asked::Reboot, None, 79)];
    says(world, node, Report { node: NodeHealth::Unfit(why(79)), asks, ..well() });
    world.run(6);
}

fn waits(world: &World, node: &str, incident: u64) -> Option<String> {
    let node = world.fleet().node(&NodeId::from(node)).expect("it is known");
    repair::waits_because(world.fleet(), node, incident)
}

fn under_repair(world: &World) -> Vec<String> {
    let nodes = world.fleet().nodes().filter(|node| node.doubts.repair.is_some());
    nodes.map(|node| node.id.to_string()).collect()
}

#[test]
fn one_node_of_a_small_fleet_is_repaired_at_a_time_and_the_next_one_when_that_is_over() {
    let mut world = World::with_nodes(6, 0);
    world.run(10);
    needs_a_reboot(&mut world, "node-4");
    needs_a_reboot(&mut world, "node-2");
    assert_eq!(under_repair(&world), ["node-4"], "who asked first");
    assert_eq!(waits(&world, "node-4", 1), None);
    assert_eq!(waits(&world, "node-2", 1).as_deref(), Some("repairs of node-4 go first"));
    world.restart_scheduler();
    world.run(60);
    assert_eq!(under_repair(&world), ["node-4"], "a start changes no turn");
    says(&mut world, "node-4", well());
    world.run(10);
    assert_eq!(under_repair(&world), ["node-2"]);
    says(&mut world, "node-2", well());
    world.run(10);
    assert!(under_repair(&world).is_empty());
}

#[test]
fn more_nodes_of_a_large_fleet_are_repaired_at_once_and_none_while_a_brake_is_on() {
    let mut world = World::with_nodes(30, 0);
    world.run(10);
    for node in 1..=5 {
        needs_a_reboot(&mut world, &format!("node-{node}"));
    }
    assert_eq!(under_repair(&world).len(), 3, "a tenth of thirty");
    for node in 6..=8 {
        needs_a_reboot(&mut world, &format!("node-{node}"));
    }
    assert_eq!(world.fleet().brakes().count(), 1);
    says(&mut world, "node-1", well());
    world.run(10);
    assert_eq!(under_repair(&world).len(), 2, "nobody has the turn of who is done");
    assert_eq!(waits(&world, "node-8", 1).as_deref(), Some("the brake of XID 79 is on"));
    let (rule, reason) = ("XID 79".to_owned(), "it is real".to_owned());
    world.command(Action::Node(Nodes::ReleaseBrake { rule, reason })).expect("an operator's word");
    world.run(10);
    assert_eq!(under_repair(&world).len(), 3);
}

#[test]
fn a_repair_that_nobody_gets_done_keeps_the_next_one_waiting_for_an_hour() {
    let mut world = World::with_nodes(6, 0);
    world.run(10);
    needs_a_reboot(&mut world, "node-1");
    needs_a_reboot(&mut world, "node-2");
    world.run(3_500);
    assert_eq!(under_repair(&world), ["node-1"]);
    world.run(120);
    assert_eq!(under_repair(&world), ["node-1", "node-2"]);
}

#[test]
fn one_repair_of_a_node_goes_before_the_next_one_of_the_same_node() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    let gpus = [gpu(&world, "node-1", 0), gpu(&world, "node-1", 1)];
    let reset = |incident: u64, at: usize| {
        let of = |what| Ask { incident, ..ask(what, Some(gpus[at].clone()), 119) };
        [of(Asked::Drain), of(Asked::Reset)]
    };
    let both: Vec<Ask> = reset(1, 0).into_iter().chain(reset(2, 1)).collect();
    says(&mut world, "node-1", Report { asks: both, ..well() });
    world.run(10);
    assert_eq!(waits(&world, "node-1", 1), None);
    let because = "the repair for incident 1 of this node goes first".to_owned();
    assert_eq!(waits(&world, "node-1", 2), Some(because));
    says(&mut world, "node-1", Report { asks: reset(2, 1).to_vec(), ..well() });
    world.run(10);
    assert_eq!(waits(&world, "node-1", 2), None);
}

#[test]
fn the_brake_is_released_when_the_rule_hits_fewer_nodes_again() {
    let mut world = World::with_nodes(4, 0);
    world.run(10);
    for node in ["node-1", "node-2", "node-3"] {
        let bad = gpu(&world, node, 0);
        says(&mut world, node, one_unfit(bad, 48, Vec::new()));
    }
    world.run(10);
    assert_eq!(world.fleet().brakes().count(), 1);
    let refused = |world: &mut World, rule: &str| {
        let (rule, reason) = (rule.to_owned(), "a story".to_owned());
        world.command(Action::Node(Nodes::ReleaseBrake { rule, reason })).is_err()
    };
    assert!(refused(&mut world, "XID 13"), "that brake is not on");
    says(&mut world, "node-1", well());
    world.run(10);
    assert_eq!(world.fleet().brakes().count(), 0);
}

#[test]
fn a_scheduler_that_starts_anew_asks_for_the_report_and_keeps_the_slot_closed_meanwhile() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    let bad = gpu(&world, "node-1", 0);
    says(&mut world, "node-1", one_unfit(bad, 48, Vec::new()));
    world.run(10);
    world.restart_scheduler();
    world.deploy(sized("whole", 8));
    world.run(30);
    assert_eq!(world.pending("whole"), 1);
    says(&mut world, "node-1", well());
    world.until(60, "it serves", |world| world.ready("whole") == ["node-1"]);
}

#[test]
fn an_agent_that_does_not_judge_its_health_is_judged_by_its_readings() {
    let mut world = World::with_nodes(1, 0);
    world.run(10);
    world.agent("node-1").trouble = Some("the driver does not answer".to_owned());
    world.run(10);
    let Health::Unfit { because } = health(&world, "node-1") else { panic!("nothing is left") };
    assert!(because.ends_with("the driver does not answer"), "{because}");
    world.agent("node-1").trouble = None;
    world.run(10);
    assert_eq!(health(&world, "node-1"), Health::Fit);
}
