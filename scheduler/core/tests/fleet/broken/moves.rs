//! Moves that no decision would make: the check of moves finds each.

use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::Fleet;
use wharfage_scheduler_core::words::deployment::{Priority, Spec};
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::replica::Move;
use wharfage_shared::capacity::CapacityClass;
use wharfage_shared::gateway::RoutesVersion;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;
use wharfage_shared::time::{Millis, Timestamp};

use super::{ON_DEMAND, after, changed, created, finds, held, of, placed, seat};

const SUCCESSOR: ReplicaId = ReplicaId(50);

/// `one` moves from node-1 to node-2, where its successor starts.
fn makes_room(fleet: &Fleet, room_for: &str, at: Timestamp) -> Vec<Event> {
    let (replica, mover) = (of(fleet, room_for).id, of(fleet, "one").id);
    let to = "node-2".into();
    let moves = vec![Move { replica: mover, successor: SUCCESSOR, to, load: Millis(0) }];
    vec![
        created(fleet, SUCCESSOR.0, "one", at),
        Event::Replica(Replicas::RoomMade { replica, seat: seat("node-1", 0, 4), moves, at }),
        held("node-2", "acme", at),
        placed(SUCCESSOR, seat("node-2", 0, 4), ON_DEMAND, at),
    ]
}

#[test]
fn a_fair_move_is_no_finding() {
    assert_eq!(after(|fleet, at| makes_room(fleet, "wait", at)), Vec::<String>::new());
}

#[test]
fn one_that_moves_has_nobody_who_stands_in_or_waits_within_its_organization() {
    let found = after(|fleet, at| makes_room(fleet, "wait", at)[..2].to_vec());
    finds(&found, "moves", "nothing of its deployment stands in for it elsewhere");
    let found = after(|fleet, at| makes_room(fleet, "zeta-wait", at));
    finds(&found, "moves", "it does so for another organization");
}

#[test]
fn one_moves_that_must_not() {
    type Change = fn(&mut Spec);
    let cases: [(Change, &str); 3] = [
        (|spec| spec.extension.consolidation = false, "its deployment must not be moved"),
        (|spec| spec.extension.single_copy = true, "its deployment must not be moved"),
        (|spec| spec.priority = Priority::new(1).expect("in range"), "its priority is higher"),
    ];
    for (change, words) in cases {
        let found = after(|fleet, at| {
            let mut events = vec![changed(fleet, "one", at, change)];
            events.extend(makes_room(fleet, "wait", at));
            events
        });
        finds(&found, "moves", words);
    }
}

#[test]
fn one_leaves_before_its_successor_serves() {
    let found = after(|fleet, at| {
        let mut events = makes_room(fleet, "wait", at);
        let (replica, because) = (of(fleet, "one").id, StopCause::Moved);
        let (deadline, routes) = (at + Millis::from_seconds(30), RoutesVersion::default());
        events.push(Event::Replica(Replicas::Leaving { replica, because, deadline, routes, at }));
        events
    });
    finds(&found, "moves", "leaves before r-50 serves");
}

/// `one` goes back to what is taken for spot, where its successor starts.
fn goes_back(fleet: &Fleet, to: &str, at: Timestamp) -> Vec<Event> {
    let (replica, class) = (of(fleet, "one").id, CapacityClass::Spot);
    let moves = Replicas::GoesBack { replica, successor: SUCCESSOR, to: to.into(), class, at };
    vec![
        created(fleet, SUCCESSOR.0, "one", at),
        Event::Replica(moves),
        held(to, "acme", at),
        placed(SUCCESSOR, seat(to, 0, 4), ON_DEMAND, at),
    ]
}

#[test]
fn one_goes_back_to_spot_that_is_none_or_that_nobody_asked_for() {
    let found = after(|fleet, at| goes_back(fleet, "node-2", at));
    finds(&found, "moves", "it does not go to a spot node");
    finds(&found, "moves", "does not name spot before the ground that it stands on");
}
