//! The ledger: who may take an instance that is guaranteed to somebody.

use wharfage_scheduler_core::{explain, ledger};
use wharfage_shared::capacity::{CapacityType, Zone};

use crate::world::{World, id, spec};

#[test]
fn on_demand_does_not_take_what_is_guaranteed_to_others() {
    let mut world = World::with_nodes(2, 0);
    world.sign("zeta", 1, 30).expect("one of two can be guaranteed");
    world.run(1);
    world.deploy_for("acme", spec("first")).expect("a deployment");
    world.deploy_for("acme", spec("second")).expect("a deployment");
    world.run(30);
    assert_eq!((world.places("first").len(), world.pending("second")), (1, 1));
    let row = world.replicas("second")[0];
    assert_eq!(row.because().as_deref(), Some("what is free is guaranteed to others"));
    world.deploy_for("zeta", spec("own")).expect("a deployment");
    world.until(30, "the guarantee is kept", |world| world.ready("own").len() == 1);
}

#[test]
fn more_than_there_is_cannot_be_guaranteed() {
    let mut world = World::with_nodes(2, 1);
    world.sign("acme", 1, 30).expect("one of two");
    world.sign("zeta", 2, 30).expect_err("spot does not count");
    world.sign("zeta", 1, 30).expect("the other one");
    let rows = ledger::capacity(world.fleet());
    assert_eq!((rows[0].usable, rows[0].guaranteed, rows[0].shortfall), (2, 2, 0));
}

#[test]
fn what_serves_another_organization_on_demand_cannot_be_guaranteed_from_now_on() {
    let mut world = World::with_nodes(1, 0);
    world.deploy_for("zeta", spec("theirs")).expect("a deployment");
    world.run(20);
    world.sign("acme", 1, 30).expect_err("on-demand is never taken back for capacity");
    world.sign("zeta", 1, 30).expect("it has the instance already");
}

#[test]
fn a_loss_makes_a_shortfall_that_is_shown_and_nothing_makes_it_worse() {
    let mut world = World::with_nodes(3, 0);
    world.run(60);
    world.sign("acme", 2, 30).expect("two of three");
    world.agent("node-1").link = crate::world::Link::Dead;
    world.agent("node-2").link = crate::world::Link::Dead;
    world.run(60);
    let rows = ledger::capacity(world.fleet());
    assert_eq!((rows[0].usable, rows[0].shortfall), (1, 1));
    world.deploy_for("zeta", spec("other")).expect("a deployment");
    world.run(30);
    assert_eq!(world.pending("other"), 1, "what is left is acme's");
    world.deploy_for("acme", spec("own")).expect("a deployment");
    world.until(30, "acme is served", |world| world.ready("own") == ["node-3"]);
}

#[test]
fn a_contract_ends_and_its_instances_are_anybodys() {
    let mut world = World::with_nodes(1, 0);
    world.sign("zeta", 1, 1).expect("one of one");
    world.deploy(spec("chat"));
    world.run(30);
    assert_eq!(world.pending("chat"), 1);
    world.run(86_400);
    assert_eq!(world.ready("chat").len(), 1);
}

/// The first example: region of zones A and B with three nodes each, four Reserved for X.
#[test]
fn the_third_on_demand_instance_in_a_zone_with_room_is_refused_by_the_regions_sum() {
    let mut world = World::new();
    for zone in ["US-EAST-04A", "US-EAST-04A", "US-EAST-04A"] {
        world.add_standard(zone);
    }
    for zone in ["US-EAST-04B", "US-EAST-04B", "US-EAST-04B"] {
        world.add_standard(zone);
    }
    world.run(10);
    world.sign("x", 4, 30).expect("four of six");
    world.run(1);
    for name in ["one", "two", "three"] {
        let mut wanted = spec(name);
        wanted.zone = Some(Zone::new("US-EAST-04A"));
        world.deploy_for("y", wanted).expect("a deployment");
    }
    world.run(30);
    let placed = ["one", "two", "three"].map(|name| world.places(name).len());
    assert_eq!(placed, [1, 1, 0], "{}", world.picture());
    let row = world.replicas("three")[0];
    assert_eq!(row.because().as_deref(), Some("what is free is guaranteed to others"));
    let ledger = ledger::capacity(world.fleet());
    let a = ledger[0].zones[&Zone::new("US-EAST-04A")];
    assert_eq!((a.usable, a.used, a.idle, a.free), (3, 2, 1, 0));
    assert_eq!((ledger[0].usable, ledger[0].committed, ledger[0].free), (6, 6, 0));
}

/// The second example.
#[test]
fn four_reserved_and_a_customer_claim_of_three_commit_four() {
    let mut world = World::with_nodes(6, 0);
    world.sign("acme", 4, 30).expect("four of six");
    world.run(1);
    world.claim("hold", CapacityType::Customer, 3).expect("within the quota of four");
    assert_eq!(world.counts("hold"), (3, 0));
    let row = &ledger::capacity(world.fleet())[0];
    assert_eq!((row.guaranteed, row.committed, row.used, row.free), (4, 4, 3, 2));
    world.sign("zeta", 2, 30).expect("two are left to guarantee");
    world.sign("zeta", 1, 30).expect_err("none is");
}

#[test]
fn what_a_serverless_claim_holds_adds_to_what_is_guaranteed() {
    let mut world = World::with_nodes(6, 0);
    world.sign("acme", 4, 30).expect("four of six");
    world.run(1);
    world.claim("hold", CapacityType::Serverless, 3).expect_err("two are free");
    world.claim("hold", CapacityType::Serverless, 2).expect("two are");
    let row = &ledger::capacity(world.fleet())[0];
    assert_eq!((row.guaranteed, row.committed, row.free), (6, 6, 0));
    let acme = row.organizations[&"acme".into()];
    assert_eq!((acme.reserved, acme.claimed_serverless, acme.used), (4, 2, 2));
    world.deploy_for("zeta", spec("chat")).expect("a deployment");
    world.run(20);
    assert_eq!(world.pending("chat"), 1, "all is acme's");
}

#[test]
fn explain_names_the_first_rule_that_each_node_fails() {
    let mut world = World::with_nodes(2, 1);
    world.verb(crate::world::cordon, "node-1").expect("a cordon");
    world.deploy_for("zeta", spec("other")).expect("a deployment");
    world.deploy(spec("chat"));
    world.run(5);
    let policy = world.controller.policy().clone();
    let explained = explain::deployment(world.fleet(), &policy, &id("chat"), world.now);
    let explained = explained.expect("it exists");
    let sentences: Vec<String> = explained
        .candidates
        .iter()
        .map(|candidate| format!("{}: {}", candidate.node, candidate.sentence()))
        .collect();
    assert!(sentences[0].contains("cordoned"), "{sentences:#?}");
    assert!(sentences[1].contains("another organization"), "{sentences:#?}");
    assert!(sentences[2].contains("sold as spot"), "{sentences:#?}");
}
