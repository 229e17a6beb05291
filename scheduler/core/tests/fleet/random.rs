//! Random worlds: commands, faults and notices in any order. The world checks every rule after
//! every step; at the end all faults are healed and every deployment must reach its count (L1).

mod ops;
mod truth;

use std::collections::BTreeMap;

use proptest::prelude::*;
use wharfage_scheduler_core::fleet::rows::replica::ReplicaRow;
use wharfage_scheduler_core::words::command::{Action, access};
use wharfage_scheduler_core::words::policy::PlacementPolicy;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Policy, PriorityScope};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::PoolId;

use crate::world::{SKU, World, ZONE};
use ops::{Op, carry_out, heal, op};
use truth::{decides_as_it_explains, moves_within_budget, reached, routes_are_true, totals_close};

/// What operators choose: priority among whom, and how seats are ranked.
fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), 0u8..4, 0u32..4).prop_map(|(fleet, ranks, moves)| {
        let spread = PlacementPolicy::Spread;
        let spot = PoolId::new(format!("{SKU}-spot-{}", ZONE.to_ascii_lowercase()));
        let pools = if ranks == 2 { BTreeMap::from([(spot, spread)]) } else { BTreeMap::new() };
        Policy {
            priority_scope: if fleet { PriorityScope::Fleet } else { PriorityScope::Organization },
            placement: if ranks == 3 { spread } else { PlacementPolicy::BestFit },
            placement_of_pools: pools,
            consolidation_moves_per_hour: moves * moves,
            spot_return_after_seconds: 20,
            ..Policy::default()
        }
    })
}

fn live(policy: Policy, standard: usize, spot: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::under(policy);
    world.add_nodes(standard, ComputeClass::Standard);
    world.add_nodes(spot, ComputeClass::Spot);
    world.run(10);
    world.add_gateway("gw-1");
    for name in ["acme", "zeta"] {
        world.organization(name);
    }
    for op in ops {
        carry_out(&mut world, op);
        decides_as_it_explains(&world)?;
        routes_are_true(&world)?;
        totals_close(&world)?;
    }
    heal(&mut world);
    world.run(1100);
    // What moves or leaves at this moment comes to rest first.
    let promised = |row: &ReplicaRow| matches!(row.phase, Phase::Promised { .. });
    let at_rest = |world: &World| !world.fleet().replicas().any(promised);
    for _ in 0..300 {
        if at_rest(&world) {
            break;
        }
        world.run(1);
    }
    reached(&world).map_err(TestCaseError::fail)?;
    moves_within_budget(&world)?;
    world.replay_everything();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 96, and more where more are asked for.
        cases: ProptestConfig::default().cases * 3 / 8,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_rule_holds_in_random_worlds_and_deployments_reach_their_counts(
        policy in policy(),
        standard in 1usize..4,
        spot in 0usize..3,
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        live(policy, standard, spot, &ops)?;
    }
}

#[test]
fn a_join_admits_as_often_as_it_says() {
    let mut world = World::with_nodes(1, 0);
    let used = world.fleet().joins().filter(|join| join.used == join.uses).count();
    assert_eq!(used, 1);
    let join = world.fleet().joins().next().expect("one was made").id.clone();
    let gateway = "gw-1".into();
    let action = access::Action::EnrollGateway { gateway, join, key: "00".to_owned() };
    world.command(Action::Access(action)).expect_err("it admits nodes, once");
}
