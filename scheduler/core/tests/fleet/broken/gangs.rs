//! Gangs that no decision would seat or end so: the checks find each.

use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::words::deployment::{GpuCount, Spec};
use wharfage_scheduler_core::words::event::node::Event as Nodes;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::replica::{Member, Seat};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::order::{HeldFor, StopCause};
use wharfage_shared::replica::Ended;

use super::{ON_DEMAND, breaks, created, finds, held, of, placed, seat};
use crate::world::{World, spec};

/// A deployment of one replica with sixteen GPUs: two nodes.
fn gang(name: &str) -> Spec {
    Spec { gpus: GpuCount::new(16).expect("16 is allowed"), ..spec(name) }
}

/// GPUs of two nodes as one seat.
fn two(leader: Seat, follower: Seat) -> Seat {
    let Seat { node, gpus, others: _ } = follower;
    Seat { others: [Member { node, gpus }].into(), ..leader }
}

/// `large` waits, because node-1 and node-2 have nothing in common. Then it is seated.
fn seated(apart: impl Fn(&mut World), seat: Seat, more: &[Event]) -> Vec<String> {
    let mut world = World::new();
    apart(&mut world);
    world.deploy(gang("large"));
    world.run(1);
    assert_eq!(world.pending("large"), 1);
    let nodes: Vec<_> = seat.nodes().cloned().collect();
    let mut facts: Vec<Event> =
        nodes.iter().map(|node| held(node.as_str(), "acme", world.now)).collect();
    facts.extend_from_slice(more);
    facts.push(placed(of(world.fleet(), "large").id, seat, ON_DEMAND, world.now));
    breaks(&world, &[], &facts)
}

fn two_zones(world: &mut World) {
    world.add_standard("US-EAST-04A");
    world.add_standard("US-EAST-04B");
    world.run(10);
}

#[test]
fn s3_one_gang_in_two_zones_or_on_two_fabrics() {
    let both = || two(seat("node-1", 0, 8), seat("node-2", 0, 8));
    let found = seated(two_zones, both(), &[]);
    finds(&found, "S3", "of large on node-1 stretches over node-1 and node-2");
    let two_fabrics = |world: &mut World| {
        world.add_nodes(2, ComputeClass::Standard);
        world.run(10);
        world.agent("node-1").on_fabric("rail-1");
        world.agent("node-2").on_fabric("rail-2");
        world.run(5);
    };
    let found = seated(two_fabrics, both(), &[]);
    finds(&found, "S3", "of large on node-1 stretches over node-1 and node-2");
}

#[test]
fn s3_one_gang_on_two_grounds() {
    let mut world = World::with_nodes(1, 1);
    world.deploy(gang("large"));
    world.run(1);
    let at = world.now;
    let (organization, compute_class) = ("acme".into(), ComputeClass::Spot);
    let held_for = Some(HeldFor { organization, claim: None, compute_class });
    let seat = two(seat("node-1", 0, 8), seat("node-2", 0, 8));
    let facts = [
        held("node-1", "acme", at),
        Event::Node(Nodes::Held { node: "node-2".into(), held_for, at }),
        placed(of(world.fleet(), "large").id, seat, ON_DEMAND, at),
    ];
    finds(&breaks(&world, &[], &facts), "S3", "stretches over node-1 and node-2");
}

#[test]
fn s1_two_members_on_one_node_or_fewer_gpus_than_it_asks_for() {
    let found = seated(two_zones, two(seat("node-1", 0, 4), seat("node-1", 4, 4)), &[]);
    finds(&found, "S1", "of large on node-1 stands on node-1 as two members");
    finds(&found, "S1", "has 8 GPUs, its spec asks for 16");
    let found = seated(two_zones, two(seat("node-1", 0, 8), seat("node-2", 0, 4)), &[]);
    finds(&found, "S1", "has 12 GPUs, its spec asks for 16");
}

/// `large` serves on node-1 and node-2.
fn serving() -> World {
    let mut world = World::with_nodes(2, 0);
    world.deploy(gang("large"));
    world.until(60, "it serves", |world| world.ready("large") == ["node-1"]);
    world
}

#[test]
fn s12_all_of_it_is_free_before_each_member_is_proven_gone() {
    let world = serving();
    let (replica, at) = (of(world.fleet(), "large").id, world.now);
    let (because, ended) = (StopCause::Crashed, Ended::Unknown);
    let gone = Event::Replica(Replicas::Gone { replica, because, ended: ended.clone(), at });
    let idle = |node: &str| Event::Node(Nodes::Held { node: node.into(), held_for: None, at });
    let all = [gone, idle("node-1"), idle("node-2")];
    let found = breaks(&world, &[], &all);
    finds(&found, "S12", "of large has ended, and 2 of its members are not proven gone");
    let node = "node-2".into();
    let member = Event::Replica(Replicas::MemberGone { replica, node, ended, at });
    assert_eq!(breaks(&world, &[member], &all), Vec::<String>::new(), "the last one's end is all");
}

#[test]
fn s1_what_a_member_has_left_is_given_away_before_the_others_have_left() {
    let mut world = serving();
    world.deploy(spec("next"));
    world.run(1);
    let (replica, at) = (of(world.fleet(), "large").id, world.now);
    let (node, ended) = ("node-2".into(), Ended::Unknown);
    let member = Event::Replica(Replicas::MemberGone { replica, node, ended, at });
    let facts = [
        created(world.fleet(), 50, "next", at),
        placed(wharfage_shared::ids::ReplicaId(50), seat("node-2", 0, 8), ON_DEMAND, at),
    ];
    finds(&breaks(&world, &[member], &facts), "S1", "GPU-node-2-0 of node-2 is held by");
}

#[test]
fn s6_a_member_is_placed_on_a_closed_node() {
    let at = crate::world::START;
    let reason = "a test".to_owned();
    let intent = wharfage_scheduler_core::words::node::Intent::Cordoned { reason };
    let closes = Event::Node(Nodes::IntentChanged { node: "node-2".into(), intent, at });
    let found = seated(two_zones, two(seat("node-1", 0, 8), seat("node-2", 0, 8)), &[closes]);
    finds(&found, "S6", "of large on node-1 was placed on node-2, which is cordoned");
}
