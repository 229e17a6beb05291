//! Who takes whose place, and who never does.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;
use wharfage_scheduler_core::capacity::ask::Ask;
use wharfage_scheduler_core::policies::preemption;
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::policy::PlacementPolicy;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Event, Fleet, Policy, PriorityScope};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::ReplicaId;
use wharfage_shared::order::StopCause;

use crate::world::{World, cordon, id, spec};

fn with(name: &str, gpus: u32, priority: u32) -> Spec {
    let gpus = GpuCount::new(gpus).expect("allowed");
    Spec { gpus, priority: Priority::new(priority).expect("in range"), ..spec(name) }
}

/// `low` holds one more than its `min`: the second one of a rollout, which is still starting.
fn low_above_its_min(world: &mut World, priority: u32) -> ReplicaId {
    world.deploy(with("low", 8, priority));
    world.until(60, "it serves", |world| world.ready("low") == ["node-1"]);
    world.agent("node-2").loads_hang = true;
    let mut changed = with("low", 8, priority);
    changed.runtime.config.insert("seed".to_owned(), "1".to_owned());
    world.replace(changed).expect("a replacement");
    world.run(1);
    world.replica_on("low", "node-2").expect("the new one starts beside the old one")
}

fn preempted(world: &World) -> Vec<ReplicaId> {
    let rows = world.fleet().replicas();
    let leaving = rows.filter(|row| match &row.phase {
        Phase::Leaving { leaving, .. } => leaving.because == StopCause::Preempted,
        _ => false,
    });
    leaving.map(|row| row.id).collect()
}

#[test]
fn what_is_held_above_min_makes_room_for_a_higher_priority_with_its_full_grace() {
    let mut world = World::with_nodes(2, 0);
    let victim = low_above_its_min(&mut world, 100);
    world.deploy(with("high", 8, 900));
    assert_eq!(preempted(&world), [victim]);
    let row = world.fleet().replica(victim).expect("it leaves").clone();
    let leaving = row.phase.leaving().expect("it leaves");
    assert_eq!(leaving.deadline.since(leaving.since).0, 30_000, "the default grace");
    let taker = world.replicas("high")[0];
    assert!(matches!(taker.phase, Phase::Promised { .. }), "{:?}", taker.phase);
    assert_eq!(
        row.because().as_deref(),
        Some(
            format!(
                "a replica of higher priority takes its place: {} of high (priority 900) needs \
                 its place for its min",
                taker.id
            )
            .as_str()
        )
    );
    assert_eq!(
        taker.because().as_deref(),
        Some(format!("it takes the place of {victim} on node-2, which leaves").as_str())
    );
    world.agent("node-2").loads_hang = false;
    world.until(90, "it has the place", |world| world.ready("high") == ["node-2"]);
    assert_eq!(world.ready("low"), ["node-1"], "its min is left alone");
    assert_eq!(world.pending("low"), 1, "its rollout waits");
    world.replay_everything();
}

#[test]
fn nobody_makes_room_for_the_same_or_a_lower_priority() {
    for priority in [0, 100] {
        let mut world = World::with_nodes(2, 0);
        low_above_its_min(&mut world, 100);
        world.deploy(with("other", 8, priority));
        world.run(5);
        assert_eq!(preempted(&world), [], "for priority {priority}");
        assert_eq!(world.pending("other"), 1);
    }
}

#[test]
fn what_is_beyond_its_own_min_takes_nobodys_place() {
    let mut world = World::with_nodes(2, 0);
    low_above_its_min(&mut world, 100);
    world.add_nodes(1, ComputeClass::Standard);
    world.run(10);
    world.deploy(with("high", 8, 900));
    world.until(60, "it serves", |world| world.ready("high") == ["node-3"]);
    let mut changed = with("high", 8, 900);
    changed.runtime.config.insert("seed".to_owned(), "1".to_owned());
    world.replace(changed).expect("a replacement");
    world.run(5);
    assert_eq!((preempted(&world), world.pending("high")), (vec![], 1), "its rollout waits");
}

#[test]
fn what_an_owner_needs_for_its_min_is_never_taken() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(with("low", 8, 0));
    world.until(60, "it serves", |world| world.ready("low") == ["node-1"]);
    world.deploy(with("high", 8, 1000));
    world.run(60);
    assert_eq!(preempted(&world), []);
    assert_eq!((world.ready("low").len(), world.pending("high")), (1, 1));
}

#[test]
fn nobody_leaves_for_what_would_still_not_fit() {
    let mut world = World::with_nodes(2, 0);
    low_above_its_min(&mut world, 100);
    let mut elsewhere = with("elsewhere", 8, 900);
    elsewhere.runtime.version = "0.1.0".to_owned();
    world.deploy(elsewhere);
    let mut far = with("far", 8, 900);
    far.zone = Some(wharfage_shared::capacity::Zone::new("US-EAST-06A"));
    world.deploy(far);
    world.run(5);
    assert_eq!(preempted(&world), []);
    assert_eq!((world.pending("elsewhere"), world.pending("far")), (1, 1));
}

#[test]
fn another_organization_keeps_its_places_unless_priority_orders_the_whole_fleet() {
    for scope in [PriorityScope::Organization, PriorityScope::Fleet] {
        let mut world = World::under(Policy { priority_scope: scope, ..Policy::default() });
        world.add_nodes(2, ComputeClass::Standard);
        world.run(10);
        let victim = low_above_its_min(&mut world, 100);
        world.deploy_for("zeta", with("high", 8, 900)).expect("a deployment");
        world.run(1);
        match scope {
            PriorityScope::Organization => assert_eq!(preempted(&world), []),
            PriorityScope::Fleet => {
                assert_eq!(preempted(&world), [victim]);
                world.agent("node-2").loads_hang = false;
                world.until(90, "it has the node", |world| world.ready("high") == ["node-2"]);
            }
        }
    }
}

/// Found by random worlds: the seat was kept on GPUs that nobody held, and the rule looked for the
/// victim on them.
#[test]
fn a_node_of_another_organization_is_emptied_for_a_seat_on_gpus_that_were_free() {
    let priority_scope = PriorityScope::Fleet;
    let placement = PlacementPolicy::Spread;
    let mut world = World::under(Policy { priority_scope, placement, ..Policy::default() });
    world.add_nodes(2, ComputeClass::Standard);
    world.run(10);
    world.deploy(with("low", 1, 100));
    world.until(60, "it serves", |world| world.ready("low") == ["node-1"]);
    world.agent("node-2").loads_hang = true;
    let mut changed = with("low", 1, 100);
    changed.runtime.config.insert("seed".to_owned(), "1".to_owned());
    world.replace(changed).expect("a replacement");
    world.run(1);
    let victim = world.replica_on("low", "node-2").expect("the new one starts beside the old one");
    world.deploy_for("zeta", with("high", 1, 900)).expect("a deployment");
    assert_eq!(preempted(&world), [victim]);
    let Phase::Promised { seat, .. } = &world.replicas("high")[0].phase else {
        panic!("no seat is kept: {}", world.picture());
    };
    let held = world.fleet().replica(victim).and_then(|row| row.phase.seat().cloned());
    assert!(held.is_some_and(|held| held.node == seat.node && held.gpus != seat.gpus));
    world.agent("node-2").loads_hang = false;
    world.until(90, "it has the node", |world| world.ready("high") == ["node-2"]);
}

#[test]
fn a_promise_ends_with_its_node_and_the_replica_waits_again() {
    let mut world = World::with_nodes(2, 0);
    low_above_its_min(&mut world, 100);
    world.deploy(with("high", 8, 900));
    world.verb(cordon, "node-2").expect("a cordon");
    assert_eq!(world.pending("high"), 1, "nothing is kept on a closed node");
    world.run(60);
    assert_eq!(world.pending("high"), 1, "and nobody else has to go");
}

#[test]
fn whoever_is_promised_a_seat_takes_one_that_is_free_sooner() {
    let mut world = World::with_nodes(2, 0);
    low_above_its_min(&mut world, 100);
    world.deploy(with("high", 8, 900));
    world.agent("node-2").link = crate::world::Link::Cut;
    world.add_nodes(1, ComputeClass::Standard);
    world.until(30, "it serves on the new node", |world| world.ready("high") == ["node-3"]);
}

#[test]
fn a_second_one_in_need_takes_no_place_that_is_promised_already() {
    let mut world = World::with_nodes(2, 0);
    let victim = low_above_its_min(&mut world, 100);
    world.deploy(with("high", 8, 500));
    world.deploy(with("higher", 8, 900));
    assert_eq!(preempted(&world), [victim]);
    world.agent("node-2").loads_hang = false;
    world.until(90, "the first has it", |world| world.ready("high") == ["node-2"]);
    assert_eq!(world.pending("higher"), 1);
}

/// What one random deployment holds.
#[derive(Clone, Debug)]
struct Holder {
    gpus: u32,
    priority: u32,
    min: u32,
    /// Node, whether it serves, whether it leaves; since when by its place in the list.
    replicas: Vec<(usize, bool, bool)>,
}

fn holder() -> impl Strategy<Value = Holder> {
    let replicas = proptest::collection::vec((0usize..3, any::<bool>(), any::<bool>()), 0..6);
    (0u32..3, 0u32..4, 0u32..3, replicas).prop_map(|(gpus, priority, min, mut replicas)| {
        for (at, replica) in replicas.iter_mut().enumerate() {
            // Few leave: else nobody is ever needed.
            replica.2 &= at % 3 == 0;
        }
        Holder { gpus: 1 << gpus, priority: priority * 100, min, replicas }
    })
}

/// A fleet in which these stand where there is room.
fn stands(holders: &[Holder]) -> (World, Fleet) {
    let mut world = World::with_nodes(3, 0);
    world.organization("acme");
    let now = world.now;
    let mut fleet = world.fleet().clone();
    let mut events = Vec::new();
    let mut number = 0;
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, holder) in holders.iter().enumerate() {
        let mut spec = with(&format!("d{at}"), holder.gpus, holder.priority);
        spec.scaling.bounds = Bounds::new(holder.min, 9).expect("in order");
        events.push(super::facts::deployed("acme", spec, now));
        for (order, (node, serves, leaves)) in holder.replicas.iter().enumerate() {
            let from = taken.entry(*node).or_default();
            if *from + holder.gpus as usize > 8 {
                continue;
            }
            number += 1;
            let since = now.minus(wharfage_shared::time::Millis((order * 7 + at) as u64 * 1000));
            let standing = super::facts::Standing {
                replica: ReplicaId(number),
                of: &format!("d{at}"),
                node: &format!("node-{}", node + 1),
                from: *from,
                gpus: holder.gpus as usize,
                serves: *serves,
                since,
            };
            events.extend(super::facts::stands(&standing));
            if *leaves {
                events.push(super::facts::leaves(ReplicaId(number), now));
            }
            *from += holder.gpus as usize;
        }
    }
    events.push(super::facts::deployed("acme", with("high", 8, 250), now));
    for event in &events {
        fleet.apply(event);
    }
    (world, fleet)
}

/// Every set of every node, tried out: the one whose dearest victims are the cheapest.
fn brute_force(fleet: &Fleet, gpus: u32, priority: u32) -> Option<Vec<ReplicaId>> {
    let mut best: Option<Vec<_>> = None;
    for node in fleet.nodes() {
        let leaving = fleet.replicas_on(&node.id).filter(|row| row.phase.leaving().is_some());
        let leaving: usize = leaving.map(|row| row.phase.seat().expect("a seat").gpus.len()).sum();
        let room = usize::from(node.free()) + leaving;
        let placed: Vec<_> = fleet
            .replicas_on(&node.id)
            .filter(|row| matches!(row.phase, Phase::Placed { .. }))
            .filter(|row| {
                let of = fleet.deployment(&row.deployment).expect("it exists");
                u32::from(of.spec.priority) < priority
            })
            .collect();
        for chosen in 0u32..1 << placed.len() {
            let set: Vec<_> = (0..placed.len())
                .filter(|at| chosen & (1 << at) != 0)
                .map(|at| placed[at])
                .collect();
            let gained: usize =
                set.iter().map(|row| row.phase.seat().expect("a seat").gpus.len()).sum();
            let spared = set.iter().all(|row| {
                let of = fleet.deployment(&row.deployment).expect("it exists");
                let held: Vec<_> = fleet
                    .replicas_of(&of.id)
                    .filter(|row| matches!(row.phase, Phase::Placed { .. }))
                    .collect();
                let ready = |rows: &[&_]| rows.iter().filter(|row| is_ready(row)).count();
                let going: Vec<_> =
                    set.iter().copied().filter(|row| row.deployment == of.id).collect();
                let min = of.spec.scaling.bounds.min() as usize;
                let serving_left = ready(&held) - ready(&going);
                held.len() - going.len() >= min && (ready(&going) == 0 || serving_left >= min)
            });
            if room + gained < gpus as usize || !spared {
                continue;
            }
            let mut cost: Vec<_> = set.iter().map(|row| dearness(fleet, row)).collect();
            cost.sort_unstable_by(|a, b| b.cmp(a));
            if best.as_ref().is_none_or(|best| cost < *best) {
                best = Some(cost);
            }
        }
    }
    let best = best?;
    let mut victims: Vec<ReplicaId> = best.into_iter().map(|(.., id)| id).collect();
    victims.sort_unstable();
    Some(victims)
}

type Row = wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;

fn is_ready(row: &Row) -> bool {
    row.phase.is_ready()
}

fn dearness(
    fleet: &Fleet,
    row: &Row,
) -> (u32, bool, Reverse<wharfage_shared::time::Timestamp>, ReplicaId) {
    let of = fleet.deployment(&row.deployment).expect("it exists");
    let Phase::Placed { since, ready_since, .. } = &row.phase else { unreachable!("placed") };
    let at = ready_since.unwrap_or(*since);
    (of.spec.priority.into(), ready_since.is_some(), Reverse(at), row.id)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_victims_are_the_cheapest_set_of_all_that_suffice(
        holders in proptest::collection::vec(holder(), 1..6), gpus in 0u32..4, priority in 0u32..5,
    ) {
        let (_world, mut fleet) = stands(&holders);
        let (gpus, priority) = (1 << gpus, priority * 100);
        let high = with("highest", gpus, priority);
        fleet.apply(&super::facts::deployed("acme", high, fleet.deployment(&id("high")).expect("it is there").created_at));
        let row = fleet.deployment(&id("highest")).expect("it was created");
        let ask = Ask::of(&fleet, row);
        prop_assert!(preemption::is_needed(&fleet, row));
        let decided = preemption::decide(&fleet, PriorityScope::Organization, row, &ask);
        let expected = match fleet.nodes().any(|node| u32::from(node.free()) >= gpus) {
            // Placement would have found it.
            true => return Ok(()),
            false => brute_force(&fleet, gpus, priority),
        };
        let victims = decided.as_ref().map(|decision| {
            let mut victims = decision.victims.clone();
            victims.sort_unstable();
            victims
        });
        prop_assert_eq!(&victims, &expected);
        if let Some(decision) = decided {
            prop_assert_eq!(decision.seat.gpus.len() as u32, gpus);
            let promised = Event::Replica(Replicas::Promised {
                replica: ReplicaId(9_999),
                seat: decision.seat,
                victims: decision.victims,
                at: row.created_at,
            });
            let text = serde_json::to_string(&promised).expect("a fact is JSON");
            prop_assert!(text.contains("victims"));
        }
    }
}
