//! Lending that no decision would do: the checks of lent spot find each.

use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::words::event::node::Event as Nodes;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::node::{Hardware, NoticeFact};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{GpuUuid, NoticeId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::order::HeldFor;
use wharfage_shared::time::{Millis, Timestamp};

use super::{breaks, finds};
use crate::world::{World, spec};

/// node-2 serves zeta as spot.
fn lent(at: Timestamp) -> Event {
    let (organization, compute_class) = ("zeta".into(), ComputeClass::Spot);
    let held_for = Some(HeldFor { organization, claim: None, compute_class });
    Event::Node(Nodes::Held { node: "node-2".into(), held_for, at })
}

fn called(at: Timestamp) -> Event {
    let (node, organization) = ("node-2".into(), "acme".into());
    Event::Node(Nodes::Called { node, organization, at })
}

fn noticed(at: Timestamp) -> Event {
    let gone_at = at + Millis::from_seconds(60);
    let notice = NoticeFact {
        id: NoticeId::from("take"),
        kind: NoticeKind::Reclaim,
        source: NoticeSource::Scheduler,
        leaves: Leaves::Replicas,
        heard_at: at,
        drain_at: gone_at,
        gone_at,
    };
    Event::Node(Nodes::Noticed { node: "node-2".into(), notice })
}

#[test]
fn s3_what_is_not_spot_is_taken_back_or_lent_against_the_rules() {
    let mut world = World::with_nodes(2, 0);
    world.organization("zeta");
    let at = world.now;
    let found = breaks(&world, &[], &[noticed(at)]);
    finds(&found, "S3", "node-2 is reclaimed, and it is not sold as spot");
    let found = breaks(&world, &[called(at)], &[lent(at)]);
    finds(&found, "S3", "although it was called back lately");
    let unfit = [(GpuUuid::from("GPU-node-2-1"), "XID 48".to_owned())].into();
    let hardware = Hardware { unfit, ..Hardware::default() };
    let judged = Event::Node(Nodes::HardwareJudged { node: "node-2".into(), hardware, at });
    let found = breaks(&world, &[], &[judged, lent(at)]);
    finds(&found, "S3", "although not all of it can be used");
}

#[test]
fn s10_a_node_is_called_back_for_what_would_still_not_fit() {
    let mut world = World::with_nodes(2, 0);
    world.sign("zeta", 1, 30).expect("one of two");
    world.deploy(spec("one"));
    world.until(60, "it serves", |world| world.ready("one") == ["node-1"]);
    world.deploy(spec("wait"));
    let at = world.now;
    let found = breaks(&world, &[], &[lent(at), noticed(at), called(at)]);
    finds(&found, "S10", "node-2 is called back for acme, which would still not get it");
    let (replica, node, until) = (world.replicas("wait")[0].id, "nowhere".into(), at);
    let found = breaks(&world, &[], &[Event::Replica(Replicas::Awaits { replica, node, until })]);
    finds(&found, "S10", "waits for nowhere, which does not exist");
}
