//! Contracts: their periods, and a Flex agreement that becomes a Reserved one.

use wharfage_scheduler_core::words::command::money::Action as Money;
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms};
use wharfage_scheduler_core::{Action, Refusal, ledger, meter};
use wharfage_shared::capacity::{Region, Sku};
use wharfage_shared::ids::ContractId;
use wharfage_shared::time::{Millis, Timestamp};

use crate::world::{SKU, World, spec};

const HOUR: Millis = Millis::from_seconds(3600);

fn flex(world: &mut World, id: &str, instances: u32, days: u64) {
    let organization = world.organization("acme");
    let contract = Contract {
        id: ContractId::from(id),
        organization,
        region: Region::new("US-EAST-04"),
        sku: Sku::new(SKU),
        instances,
        start: world.now,
        end: world.now + Millis::from_seconds(days * 86_400),
        terms: ContractTerms::Flex { holding_rate: "10".into(), usage_rate: "20".into() },
    };
    world.command(Action::Money(Money::Sign(contract))).expect("there is room");
    world.run(1);
}

fn amend(
    world: &mut World,
    contract: &str,
    id: &str,
    from: Timestamp,
) -> Result<wharfage_scheduler_core::Answer, Refusal> {
    let (contract, id, rate) = (contract.into(), id.into(), "25".to_owned());
    world.command(Action::Money(Money::Amend { contract, id, from, rate }))
}

#[test]
fn a_flex_contract_becomes_a_reserved_one_at_an_instant_and_is_cited() {
    let mut world = World::with_nodes(1, 0);
    flex(&mut world, "f-1", 1, 1);
    let began = world.now;
    let turns = world.now + HOUR;
    amend(&mut world, "f-1", "r-1", turns).expect("within its period");
    world.deploy(spec("chat"));
    world.run(3500);
    let guaranteed = |world: &World| {
        let shares = ledger::capacity(world.fleet())[0].organizations[&"acme".into()];
        (shares.flex, shares.reserved)
    };
    assert_eq!(guaranteed(&world), (1, 0));
    world.run(200);
    assert_eq!(guaranteed(&world), (0, 1), "guaranteed all the time");
    let row = world.fleet().contract(&"r-1".into()).expect("it follows");
    assert_eq!(row.amends, Some("f-1".into()));
    world.run(3600);
    let draft = meter::draft(world.fleet(), &"acme".into(), began, began + HOUR + HOUR);
    let draft = draft.expect("terms").canonical_json();
    let draft: serde_json::Value = serde_json::from_str(&draft).expect("JSON");
    let lines: Vec<String> = draft["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .filter(|line| line["line"] != "flex_usage")
        .map(|line| format!("{} {} {}", line["contract"], line["line"], line["quantity_hours"]))
        .collect();
    let expected = [r#""f-1" "flex_holding" "1.000000""#, r#""r-1" "reserved" "1.000000""#];
    assert_eq!(lines, expected, "{draft}");
}

#[test]
fn an_amendment_is_refused_outside_the_period_twice_and_of_a_reserved_contract() {
    let mut world = World::with_nodes(2, 0);
    flex(&mut world, "f-1", 1, 1);
    let (now, hour) = (world.now, world.now + HOUR);
    amend(&mut world, "f-1", "r-1", now.minus(HOUR)).expect_err("in the past");
    amend(&mut world, "f-1", "r-1", now + Millis::from_seconds(90_000)).expect_err("after it");
    amend(&mut world, "nobody", "r-1", hour).expect_err("unknown");
    amend(&mut world, "f-1", "f-1", hour).expect_err("its own id");
    amend(&mut world, "f-1", "r-1", hour).expect("once");
    amend(&mut world, "f-1", "r-2", hour).expect_err("twice");
    amend(&mut world, "r-1", "r-2", hour).expect_err("it is Reserved");
    world.sign("zeta", 1, 2).expect("one of two, beside the one that goes on");
    world.sign("zeta", 1, 2).expect_err("both are guaranteed");
}
