//! Claims: what is set aside, for whom, by whose word it is used, and how it is given back. Numbers
//! in names are lines of the checklist of the claims' seed.

use wharfage_scheduler_core::words::command::claims::Action as Claims;
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount};
use wharfage_scheduler_core::{Action, Refusal};
use wharfage_shared::capacity::CapacityClass::{OnDemand, Reserved};
use wharfage_shared::capacity::CapacityType::{Customer, Serverless};
use wharfage_shared::order::StopCause;
use wharfage_shared::time::Millis;

use crate::world::{Link, World, claimed, cordon, spec, uncordon};

fn exhausted(answer: Result<wharfage_scheduler_core::Answer, Refusal>) -> String {
    match answer {
        Err(Refusal::Exhausted { description, .. }) => description,
        other => panic!("not refused for lack of capacity: {other:?}"),
    }
}

#[test]
fn line_16_on_demand_alone_never_runs_on_a_claim_that_is_idle() {
    let mut world = World::with_nodes(1, 0);
    world.claim("hold", Serverless, 1).expect("one is free");
    let mut chat = spec("chat");
    chat.classes = vec![OnDemand];
    world.deploy(chat);
    world.run(30);
    assert_eq!((world.pending("chat"), world.counts("hold")), (1, (1, 0)));
}

#[test]
fn line_17_reserved_alone_runs_on_claims_of_both_types_and_nowhere_else() {
    let mut world = World::with_nodes(3, 0);
    world.sign("acme", 1, 30).expect("a contract");
    world.run(1);
    world.claim("managed", Serverless, 1).expect("one is free");
    world.claim("own", Customer, 1).expect("within the contract");
    for name in ["one", "two", "three"] {
        let mut wanted = spec(name);
        wanted.classes = vec![Reserved];
        world.deploy(wanted);
    }
    world.run(30);
    let placed = ["one", "two", "three"].map(|name| world.ready(name).len());
    assert_eq!(placed, [1, 1, 0], "the third node is free and unclaimed\n{}", world.picture());
}

#[test]
fn line_18_unset_uses_claims_then_what_is_free() {
    let mut world = World::with_nodes(2, 0);
    world.claim("hold", Serverless, 1).expect("one is free");
    let mut chat = spec("chat");
    chat.scaling.bounds = bounds(2);
    world.deploy(chat);
    world.until(60, "both serve", |world| world.ready("chat").len() == 2);
}

fn bounds(count: u32) -> Bounds {
    Bounds::new(count, count).expect("in order")
}

#[test]
fn line_19_the_first_class_that_can_be_satisfied_wins() {
    for (classes, on_claim) in [(vec![Reserved, OnDemand], true), (vec![OnDemand, Reserved], false)]
    {
        let mut world = World::with_nodes(2, 0);
        world.claim("hold", Serverless, 1).expect("one is free");
        let mut chat = spec("chat");
        chat.classes = classes;
        world.deploy(chat);
        world.until(60, "it serves", |world| world.ready("chat").len() == 1);
        let node = world.fleet().node(&world.ready("chat")[0].as_str().into()).expect("known");
        assert_eq!(node.is_allocated(), on_claim);
    }
}

#[test]
fn line_20_a_claim_alone_schedules_nothing() {
    let mut world = World::with_nodes(2, 0);
    let mut chat = spec("chat");
    chat.classes = vec![OnDemand];
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    let replica = world.replicas("chat")[0].id;
    world.claim("hold", Serverless, 1).expect("the other one is free");
    world.run(60);
    assert_eq!(world.replicas("chat")[0].id, replica, "nothing moved");
    let on_claim = world.fleet().nodes().filter(|node| node.is_allocated());
    assert_eq!(on_claim.map(|node| node.replicas.len()).sum::<usize>(), 0);
}

#[test]
fn line_25_a_customer_claim_over_its_quota_is_refused_and_succeeds_once_it_frees() {
    let mut world = World::with_nodes(3, 0);
    world.organization("acme");
    let why = exhausted(world.claim("first", Customer, 1));
    assert!(why.contains("quota there is 0"), "{why}");
    world.sign("acme", 2, 30).expect("a contract");
    world.run(1);
    world.claim("first", Customer, 2).expect("within the contract");
    exhausted(world.claim("second", Customer, 1));
    world.resize("first", 1).expect("less");
    world.claim("second", Customer, 1).expect("one is back in the quota");
    exhausted(world.resize("second", 2));
    world.quota("acme", Some(3));
    world.resize("second", 2).expect("the quota that was set");
    world.quota("acme", Some(0));
    world.run(10);
    assert_eq!(world.counts("second"), (2, 0), "a smaller quota takes nothing back");
}

#[test]
fn a_contract_that_has_ended_is_no_quota() {
    let mut world = World::with_nodes(1, 0);
    world.sign_flex("acme", 1, 60).expect("a contract");
    world.run(1);
    world.claim("first", Customer, 1).expect("within the contract");
    world.unclaim("first").expect("it is there");
    world.run(70);
    let why = exhausted(world.claim("second", Customer, 1));
    assert!(why.contains("quota there is 0"), "{why}");
}

#[test]
fn line_26_a_customer_claim_waits_for_nodes_to_join() {
    let mut world = World::with_nodes(1, 0);
    world.quota("acme", Some(3));
    world.claim("hold", Customer, 3).expect("within the quota");
    assert_eq!(world.counts("hold"), (1, 2));
    world.add_owned("acme");
    world.run(10);
    assert_eq!(world.counts("hold"), (2, 1));
    world.add_nodes(1, wharfage_shared::capacity::ComputeClass::Standard);
    world.run(10);
    assert_eq!(world.counts("hold"), (3, 0));
}

#[test]
fn owned_nodes_serve_their_owners_customer_claims_alone_and_go_first() {
    let mut world = World::with_nodes(1, 0);
    world.add_owned("acme");
    world.run(10);
    world.deploy(spec("chat"));
    world.deploy(spec("more"));
    world.run(20);
    assert_eq!(world.pending("more"), 1, "an owned node is nobody's on demand");
    exhausted(world.claim("managed", Serverless, 1));
    world.claim("hold", Customer, 1).expect("what it owns is its quota");
    world.until(60, "it runs on the claim", |world| world.ready("more") == ["node-2"]);
    world.unclaim("hold").expect("it is there");
    world.until(60, "the node leaves the fleet", |world| world.pending("more") == 1);
    let node = world.fleet().node(&"node-2".into()).expect("known");
    assert_eq!(node.held_for, None, "unmetered");
}

#[test]
fn line_29_a_claim_grows_and_a_serverless_one_is_refused_what_is_not_there() {
    let mut world = World::with_nodes(3, 0);
    world.claim("hold", Serverless, 1).expect("one of three");
    world.resize("hold", 3).expect("all three");
    assert_eq!(world.counts("hold"), (3, 0));
    let why = exhausted(world.resize("hold", 4));
    assert!(why.contains("3 are free there or about to be"), "{why}");
    assert_eq!(world.counts("hold"), (3, 0), "nothing changed");
}

#[test]
fn a_claim_gives_back_what_is_idle_then_where_least_runs() {
    let mut world = World::with_nodes(3, 0);
    world.quota("acme", Some(3));
    world.claim("hold", Customer, 3).expect("within the quota");
    for node in ["node-1", "node-2"] {
        world.verb(cordon, node).expect("a cordon");
    }
    for (name, gpus, node, next) in
        [("large", 8, "node-3", "node-2"), ("small", 2, "node-2", "node-1")]
    {
        let mut wanted = spec(name);
        wanted.classes = vec![Reserved];
        wanted.gpus = GpuCount::new(gpus).expect("allowed");
        world.deploy(wanted);
        world.until(60, "it serves", |world| world.ready(name) == [node]);
        world.verb(uncordon, next).expect("an uncordon");
    }
    world.resize("hold", 2).expect("less");
    assert_eq!((world.ready("small").len(), world.ready("large").len()), (1, 1));
    world.resize("hold", 1).expect("less");
    assert_eq!((world.ready("small").len(), world.ready("large").len()), (0, 1));
}

#[test]
fn line_30_a_second_decrease_within_the_hour_waits_for_its_end() {
    let mut world = World::with_nodes(3, 0);
    world.claim("hold", Serverless, 3).expect("three");
    world.resize("hold", 2).expect("the first decrease");
    assert_eq!(world.counts("hold"), (2, 0));
    world.run(60);
    world.resize("hold", 1).expect("the second one");
    assert_eq!(world.counts("hold"), (2, 0));
    world.run(3500);
    assert_eq!(world.counts("hold"), (2, 0));
    world.run(100);
    assert_eq!(world.counts("hold"), (1, 0));
    world.resize("hold", 3).expect("more is not limited");
    assert_eq!(world.counts("hold"), (3, 0));
}

#[test]
fn a_decrease_that_waits_is_called_off_by_an_increase() {
    let mut world = World::with_nodes(3, 0);
    world.claim("hold", Serverless, 3).expect("three");
    world.resize("hold", 2).expect("the first decrease");
    world.resize("hold", 1).expect("the second one");
    world.resize("hold", 2).expect("and back");
    world.run(4000);
    assert_eq!(world.counts("hold"), (2, 0));
}

#[test]
fn line_31_a_deleted_claim_evicts_and_reschedules_what_may_run_elsewhere() {
    let mut world = World::with_nodes(2, 0);
    world.claim("hold", Serverless, 1).expect("one of two");
    let mut chat = spec("chat");
    chat.gpus = GpuCount::new(4).expect("4 is allowed");
    world.deploy(chat.clone());
    chat.name = "strict".to_owned();
    chat.classes = vec![Reserved];
    world.deploy(chat);
    world.until(60, "both serve", |world| {
        world.ready("chat").len() == 1 && world.ready("strict") == world.ready("chat")
    });
    let evicted = [world.replicas("chat")[0].id, world.replicas("strict")[0].id];
    world.unclaim("hold").expect("it is there");
    for id in evicted {
        let row = world.fleet().replica(id).expect("it leaves");
        assert_eq!(row.phase.leaving().expect("at once").because, StopCause::ClaimEnded);
    }
    world.until(60, "one runs elsewhere", |world| world.ready("chat").len() == 1);
    world.run(60);
    assert_eq!(world.pending("strict"), 1, "no claim is left for it");
    world.unclaim("hold").expect_err("it is gone");
}

#[test]
fn line_32_a_deleted_customer_claim_is_back_in_the_quota_at_once() {
    let mut world = World::with_nodes(2, 0);
    world.sign("acme", 1, 30).expect("a contract");
    world.run(1);
    world.claim("first", Customer, 1).expect("within the contract");
    let mut chat = spec("chat");
    chat.classes = vec![Reserved];
    chat.extension.grace_seconds = 60;
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat").len() == 1);
    world.unclaim("first").expect("it is there");
    world.claim("second", Customer, 1).expect("at once");
    assert_eq!(world.counts("second"), (1, 0), "the other node");
}

#[test]
fn an_instance_whose_last_replica_leaves_counts_as_free_and_is_pending_until_it_is_gone() {
    let mut world = World::with_nodes(1, 0);
    let mut other = spec("other");
    other.extension.grace_seconds = 40;
    world.deploy_for("zeta", other).expect("a deployment");
    world.until(60, "it serves", |world| world.ready("other").len() == 1);
    exhausted(world.claim("hold", Serverless, 1));
    world.delete("other").expect("it is there");
    world.claim("hold", Serverless, 1).expect("it is about to be free");
    assert_eq!(world.counts("hold"), (0, 1));
    world.deploy_for("zeta", spec("late")).expect("a deployment");
    world.until(60, "release is proven", |world| world.counts("hold") == (1, 0));
    world.run(10);
    assert_eq!(world.pending("late"), 1, "it is kept for the claim");
}

#[test]
fn a_lost_instance_is_replaced_and_comes_back_to_everybody() {
    let mut world = World::with_nodes(2, 0);
    world.claim("hold", Serverless, 1).expect("one of two");
    let mut chat = spec("chat");
    chat.classes = vec![Reserved];
    world.deploy(chat);
    world.until(60, "it serves", |world| world.ready("chat") == ["node-1"]);
    world.run(60);
    world.agent("node-1").link = Link::Cut;
    world.until(120, "it moved", |world| world.ready("chat") == ["node-2"]);
    assert_eq!(world.counts("hold"), (1, 0));
    world.agent("node-1").link = Link::Up;
    world.run(120);
    assert_eq!(world.counts("hold"), (1, 0));
    let back = world.fleet().node(&"node-1".into()).expect("known");
    assert_eq!((back.claimed.as_ref(), back.held_for.as_ref()), (None, None));
}

#[test]
fn a_claim_without_a_spare_waits_for_its_lost_instance() {
    let mut world = World::with_nodes(1, 0);
    world.claim("hold", Serverless, 1).expect("the one");
    world.run(60);
    world.agent("node-1").link = Link::Cut;
    world.run(60);
    assert_eq!(world.counts("hold"), (0, 1));
    world.agent("node-1").link = Link::Up;
    world.run(10);
    assert_eq!(world.counts("hold"), (1, 0));
}

#[test]
fn line_33_everything_but_the_count_is_fixed() {
    let mut world = World::with_nodes(1, 0);
    world.claim("hold", Serverless, 1).expect("the one");
    let mut wanted = claimed("held", Customer, 1);
    wanted.zone = wharfage_shared::capacity::Zone::new("US-EAST-04B");
    wanted.sku = wharfage_shared::capacity::Sku::new("b200-8x");
    let id = "hold".into();
    let action = Claims::Replace { id, spec: wanted };
    let refusal = world.command(Action::Claim(action));
    let Err(Refusal::Invalid { violations }) = refusal else { panic!("{refusal:?}") };
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let all = ["name", "resources.instanceId", "resources.capacityType", "resources.zones"];
    assert_eq!(fields, all);
}

#[test]
fn line_27_and_28_a_claim_is_billed_from_its_allocation_until_it_ends_by_its_type() {
    let mut world = World::with_nodes(2, 0);
    world.sign("acme", 1, 30).expect("a contract");
    world.run(1);
    world.claim("managed", Serverless, 1).expect("one is free");
    world.claim("own", Customer, 1).expect("within the contract");
    let from = world.now;
    world.run(3600);
    world.unclaim("managed").expect("it is there");
    world.unclaim("own").expect("it is there");
    world.run(600);
    let intervals = wharfage_scheduler_core::meter::intervals(
        world.fleet(),
        &"acme".into(),
        from,
        from + Millis::from_seconds(7200),
    );
    let seconds = |capacity_type| {
        let of = intervals.iter().filter(|interval| {
            interval.claim.as_ref().map(|claim| claim.capacity_type) == Some(capacity_type)
        });
        of.map(|interval| interval.end.since(interval.start).0 / 1000).sum::<u64>()
    };
    for capacity_type in [Serverless, Customer] {
        let billed = seconds(capacity_type);
        assert!((3590..=3610).contains(&billed), "{capacity_type:?}: {billed} s idle and claimed");
    }
    let unclaimed = intervals.iter().filter(|interval| interval.claim.is_none());
    assert_eq!(unclaimed.count(), 0, "nothing else was used");
}

#[test]
fn a_contract_is_quota_in_one_zone_of_its_region_at_a_time() {
    let mut world = World::with_nodes(1, 0);
    world.add_standard("US-EAST-04B");
    world.run(10);
    world.sign("acme", 1, 30).expect("one of two");
    world.run(1);
    world.claim("here", Customer, 1).expect("its contract");
    let mut there = claimed("there", Customer, 1);
    there.zone = wharfage_shared::capacity::Zone::new("US-EAST-04B");
    let refused = exhausted(world.claim_for("acme", there.clone()));
    assert!(refused.contains("0 are left of it"), "{refused}");
    world.unclaim("here").expect("it is there");
    world.claim_for("acme", there).expect("it is free for the other zone");
}
