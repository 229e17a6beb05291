//! Worked invoices: who pays in each case of the table, and what a line opens to.

use wharfage_billing::invoice::{Blocked, Draft, DraftRequest, draft};
use wharfage_billing::meter::{Claim, Contributes, Interval, Pays, Site, Tier, pays};
use wharfage_billing::terms::{Contract, Price, Terms};
use wharfage_shared::capacity::{CapacityType, ComputeClass, Region, Sku};
use wharfage_shared::ids::{ClaimId, OrganizationId};
use wharfage_shared::order::HeldFor;
use wharfage_shared::segment::{Activity, Segment};
use wharfage_shared::time::{Boottime, ClockOffset};
use wharfage_shared::version::Epoch;

use crate::worlds::{START, at, flex, interval, price, rate_of, reserved, usd, used};

const HOUR: i64 = 3_600_000;

fn drafted(contracts: Vec<Contract>, intervals: &[Interval]) -> Draft {
    let prices = vec![price("gpu", "36.00", Some("9.00"))];
    let terms = Terms::new(usd(), prices, contracts).expect("good terms");
    draft(&request(10), &terms, intervals)
}

fn request(hours: i64) -> DraftRequest {
    let organization = OrganizationId::from("acme");
    DraftRequest { organization, from: at(0), to: at(10 * HOUR), as_of: at(hours * HOUR) }
}

/// A draft as `line hours = amount (node#number hours, ...)`.
fn story(draft: &Draft) -> Vec<String> {
    let story = draft.lines.iter().map(|line| {
        let amount = line.line.charge.amount().map_or("no price".to_owned(), |a| a.to_string());
        let segments: Vec<String> = line
            .segments
            .iter()
            .map(|s| format!("{}#{} {}", s.segment.node, s.segment.number, s.quantity_ms.hours()))
            .collect();
        let (kind, hours) = (line.line.kind, line.line.quantity.hours());
        format!("{kind} {hours} = {amount} ({})", segments.join(", "))
    });
    story.collect()
}

#[test]
fn the_table_of_who_pays() {
    let activities = [
        Activity::Starting,
        Activity::Serving,
        Activity::Draining,
        Activity::IdleHeld,
        Activity::Quarantined,
        Activity::Unusable,
        Activity::Orphaned,
    ];
    let tiers = [Tier::Reserved, Tier::Flex, Tier::OnDemand, Tier::Spot, Tier::Claim];
    let mut table = Vec::new();
    for activity in activities {
        let row = tiers.map(|tier| format!("{:?}", pays(activity, tier)));
        table.push(format!("{activity:?}: {}", row.join(" ")));
        for tier in tiers {
            assert_eq!(seen_to_pay(activity, tier), pays(activity, tier), "{activity:?} {tier:?}");
        }
    }
    let expected = [
        "Starting: Customer Customer Customer Customer Customer",
        "Serving: Customer Customer Customer Customer Customer",
        "Draining: Customer Customer Customer Customer Customer",
        "IdleHeld: Customer Customer Customer Customer Customer",
        "Quarantined: Credit Credit Provider Provider Credit",
        "Unusable: Credit Credit Provider Provider Credit",
        "Orphaned: Provider Provider Provider Provider Provider",
    ];
    assert_eq!(table, expected);
}

/// Who pays on a draft with one node that stands in `tier` for an hour.
fn seen_to_pay(activity: Activity, tier: Tier) -> Pays {
    let mut one = interval(&used("a", 0, HOUR), activity, 1);
    let contracts = match tier {
        Tier::Reserved => vec![reserved(1, "10").contract("c", 0, HOUR)],
        Tier::Flex => vec![flex(1, "5", "7").contract("c", 0, HOUR)],
        Tier::OnDemand => vec![],
        Tier::Spot => {
            one.compute_class = ComputeClass::Spot;
            vec![]
        }
        Tier::Claim => {
            let id = ClaimId::from("hold");
            one.claim = Some(Claim { id, capacity_type: CapacityType::Serverless });
            vec![]
        }
    };
    let draft = drafted(contracts, &[one]);
    assert_eq!(draft.blocked, []);
    let flat = match tier {
        Tier::Reserved => 1000,
        Tier::Flex => 500,
        Tier::OnDemand | Tier::Spot | Tier::Claim => 0,
    };
    let extra = draft.total.units() - flat;
    let credited = draft.lines.iter().any(|line| line.line.kind.as_str() == "credit");
    let ours = draft.accounts.provider.0 > 0;
    match (credited, ours) {
        (true, true) => {
            assert_eq!(draft.total.units(), 0, "all that is charged comes back");
            Pays::Credit
        }
        (false, true) => {
            assert_eq!(extra, 0, "use adds nothing");
            Pays::Provider
        }
        (false, false) => {
            assert_eq!(extra > 0, tier != Tier::Reserved, "Reserved is flat");
            Pays::Customer
        }
        (true, false) => panic!("a credit for time that is not ours"),
    }
}

#[test]
fn two_nodes_for_half_a_tick_stand_on_two_accounts() {
    let intervals = [
        interval(&used("a", 0, 15_000), Activity::Serving, 1),
        interval(&used("b", 0, 15_000), Activity::Serving, 1),
    ];
    let draft = drafted(vec![reserved(1, "10").contract("floor", 0, HOUR)], &intervals);
    assert_eq!((draft.accounts.reserved.0, draft.accounts.on_demand.0), (15_000, 15_000));
    assert_eq!(draft.time, draft.accounts.sum());
}

#[test]
fn the_node_that_is_active_longest_takes_the_first_seat() {
    let intervals = [
        interval(&used("a", 2 * HOUR, 4 * HOUR), Activity::Serving, 1),
        interval(&used("b", 0, 2 * HOUR), Activity::Starting, 1),
        interval(&used("b", 2 * HOUR, 3 * HOUR), Activity::Serving, 2),
    ];
    let draft = drafted(vec![reserved(1, "10").contract("floor", 0, 10 * HOUR)], &intervals);
    let expected = [
        "on_demand 1.000000 = 36.00 (a#1 1.000000)",
        "reserved 10.000000 = 100.00 (a#1 1.000000, b#1 2.000000, b#2 1.000000)",
    ];
    assert_eq!(story(&draft), expected);
}

#[test]
fn an_unusable_node_takes_the_last_seat_and_is_credited() {
    let contracts = || {
        vec![
            reserved(1, "10").contract("floor", 0, HOUR),
            flex(1, "5", "7").contract("flex", 0, HOUR),
        ]
    };
    let works = interval(&used("b", 0, HOUR), Activity::Serving, 1);
    let fails = interval(&used("a", 0, HOUR), Activity::Unusable, 1);
    let expected = [
        "credit 1.000000 = -5.00 (a#1 1.000000)",
        "flex_holding 1.000000 = 5.00 ()",
        "reserved 1.000000 = 10.00 (b#1 1.000000)",
    ];
    assert_eq!(story(&drafted(contracts(), &[works.clone(), fails.clone()])), expected);
    let more = interval(&used("c", 0, HOUR), Activity::Serving, 1);
    let expected = [
        "flex_holding 1.000000 = 5.00 ()",
        "flex_usage 1.000000 = 7.00 (c#1 1.000000)",
        "reserved 1.000000 = 10.00 (b#1 1.000000)",
    ];
    assert_eq!(story(&drafted(contracts(), &[works, fails, more])), expected);
}

#[test]
fn a_claimed_instance_costs_its_gpus_or_exactly_the_on_demand_rate() {
    let claim = |capacity_type| Some(Claim { id: ClaimId::from("hold"), capacity_type });
    let held = interval(&used("a", 0, HOUR), Activity::IdleHeld, 1);
    let serverless = Interval { claim: claim(CapacityType::Serverless), ..held.clone() };
    let customer = Interval { claim: claim(CapacityType::Customer), ..held };
    let floor = || vec![reserved(1, "10").contract("floor", 0, HOUR)];
    let flat = "reserved 1.000000 = 10.00 ()";
    let found = story(&drafted(floor(), std::slice::from_ref(&serverless)));
    assert_eq!(found, ["claim 1.000000 = 36.00 (a#1 1.000000)", flat]);
    let found = story(&drafted(floor(), &[customer]));
    assert_eq!(found, ["reserved 1.000000 = 10.00 (a#1 1.000000)"]);
    let by_gpu =
        Price { gpus: Some(8), gpu_hour: Some(rate_of("5.00")), ..price("gpu", "36.00", None) };
    let terms = Terms::new(usd(), vec![by_gpu], vec![]).expect("good terms");
    let found = story(&draft(&request(10), &terms, &[serverless]));
    assert_eq!(found, ["claim 1.000000 = 40.00 (a#1 1.000000)"]);
}

#[test]
fn an_overlap_that_we_caused_is_taken_out_before_the_fill() {
    let old = interval(&used("a", 0, 3 * HOUR), Activity::Draining, 1);
    let ours = Interval {
        contributes: Contributes::Provider,
        ..interval(&used("a", 2 * HOUR, 3 * HOUR), Activity::Draining, 1)
    };
    let new = interval(&used("b", 2 * HOUR, 5 * HOUR), Activity::Serving, 1);
    let draft = drafted(vec![], &[old, ours, new]);
    assert_eq!(story(&draft), ["on_demand 5.000000 = 180.00 (a#1 2.000000, b#1 3.000000)"]);
    assert_eq!(draft.accounts.provider.hours(), "1.000000");
}

#[test]
fn a_draft_knows_nothing_after_its_instant_and_estimates_nothing() {
    let contract = || vec![reserved(1, "10").contract("floor", 0, 10 * HOUR)];
    let terms = Terms::new(usd(), vec![], contract()).expect("good terms");
    let early = draft(&request(4), &terms, &[]);
    assert_eq!(story(&early), ["reserved 4.000000 = 40.00 ()"]);
    assert_eq!(story(&draft(&request(-1), &terms, &[])), Vec::<String>::new());
    assert_eq!(story(&draft(&request(99), &terms, &[])), ["reserved 10.000000 = 100.00 ()"]);
    let backwards = DraftRequest { to: at(-1), ..request(4) };
    let refused = draft(&backwards, &terms, &[]);
    assert_eq!(refused.blocked, [Blocked::Period { from: at(0), to: at(-1) }]);
}

#[test]
fn an_unknown_price_is_a_line_that_says_so_and_blocks_the_invoice() {
    let terms = Terms::new(usd(), vec![], vec![]).expect("good terms");
    let draft = draft(&request(10), &terms, &[interval(&used("a", 0, HOUR), Activity::Serving, 1)]);
    assert_eq!(story(&draft), ["on_demand 1.000000 = no price (a#1 1.000000)"]);
    let blocked: Vec<String> = draft.blocked.iter().map(ToString::to_string).collect();
    assert_eq!(
        blocked,
        ["there is no on_demand price for SKU `gpu` in region `US` from 2026-06-01T00:00:00Z to \
          2026-06-01T10:00:00Z"]
    );
}

#[test]
fn the_bytes_of_a_draft_are_fixed() {
    let intervals = [interval(&used("a", 0, HOUR), Activity::Serving, 7)];
    let draft = drafted(vec![], &intervals);
    let expected = concat!(
        r#"{"accounts":{"claim":0,"flex":0,"on_demand":3600000,"provider":0,"reserved":0,"#,
        r#""spot":0,"unproven":0},"as_of":"2026-06-01T10:00:00Z","blocked":[],"currency":"USD","#,
        r#""from":"2026-06-01T00:00:00Z","lines":[{"amount":"36.00","contract":null,"#,
        r#""end":"2026-06-01T10:00:00Z","line":"on_demand","organization":"acme","#,
        r#""quantity_hours":"1.000000","quantity_ms":3600000,"rate":"36.00","#,
        r#""rate_type":"Standard rate","region":"US","segments":[{"boot":"boot","log":"log","#,
        r#""node":"a","number":7,"quantity_ms":3600000}],"sku":"gpu","#,
        r#""start":"2026-06-01T00:00:00Z"}],"organization":"acme","rules":1,"time_ms":3600000,"#,
        r#""to":"2026-06-01T10:00:00Z","total":"36.00"}"#,
    );
    assert_eq!(draft.canonical_json(), expected);
    let again = drafted(vec![], &[intervals.clone(), intervals].concat());
    assert_eq!(again.sha256(), draft.sha256());
}

#[test]
fn a_segment_becomes_an_interval_on_wall_time() {
    let held = HeldFor {
        organization: OrganizationId::from("acme"),
        claim: None,
        compute_class: ComputeClass::Standard,
    };
    let expected = interval(&used("a", 1_000, 5_000), Activity::Serving, 3);
    let mut segment = Segment {
        key: expected.evidence.clone(),
        epoch: Epoch(1),
        held_for: Some(held),
        activity: Activity::Serving,
        replicas: vec![],
        start: Boottime(61_000),
        end: Boottime(65_000),
    };
    let site = Site {
        region: Region::new("US"),
        sku: Sku::new("gpu"),
        offset: ClockOffset(START - 60_000),
        claimed: None,
    };
    assert_eq!(Interval::of_segment(&segment, &site), Some(expected));
    segment.held_for = None;
    assert_eq!(Interval::of_segment(&segment, &site), None);
}
