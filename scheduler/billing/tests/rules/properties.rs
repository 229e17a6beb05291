//! What holds for every usage, whatever the terms.

use proptest::prelude::*;
use wharfage_billing::invoice::{Draft, DraftRequest, draft};
use wharfage_billing::meter::{Contributes, Interval};
use wharfage_billing::money::InstanceMs;
use wharfage_billing::usage::Usage;
use wharfage_billing::{Bill, Line, LineKind, rate};
use wharfage_shared::capacity::ComputeClass;
use wharfage_shared::ids::{NodeId, OrganizationId};
use wharfage_shared::segment::Activity;

use crate::oracle::{self, is_rounded_half_even, lines_by_key};
use crate::worlds::{LENGTH, World, at, world};

fn bill(world: &World, usage: &[Usage]) -> Bill {
    rate(&world.terms, usage, at(0), at(LENGTH)).expect("every use has a price")
}

fn drafts(world: &World, intervals: &[Interval]) -> Vec<Draft> {
    let request = |organization| DraftRequest {
        organization: OrganizationId::from(organization),
        from: at(0),
        to: at(LENGTH),
        as_of: at(LENGTH),
    };
    ["acme", "zeta"].map(|name| draft(&request(name), &world.terms, intervals)).into()
}

fn lines(drafts: &[Draft]) -> Vec<&Line> {
    drafts.iter().flat_map(|draft| &draft.lines).map(|line| &line.line).collect()
}

fn accounts(drafts: &[Draft]) -> Vec<(&'static str, u128)> {
    let sum = drafts.iter().fold(Default::default(), |sum: wharfage_billing::Accounts, draft| {
        sum.plus(draft.accounts)
    });
    let all = [
        ("claim", sum.claim.0),
        ("flex", sum.flex.0),
        ("on_demand", sum.on_demand.0),
        ("provider", sum.provider.0),
        ("reserved", sum.reserved.0),
        ("spot", sum.spot.0),
        ("unproven", sum.unproven.0),
    ];
    all.into_iter().filter(|(_, ms)| *ms > 0).collect()
}

/// A usage row cannot say more than "active": the same intervals without the rest.
fn plain(world: &World) -> Vec<Interval> {
    let plain = world.intervals.iter().cloned().map(|interval| Interval {
        claim: None,
        activity: Activity::Serving,
        contributes: Contributes::Customer,
        ..interval
    });
    plain.collect()
}

proptest! {
    // 512, and more where more are asked for.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases * 2))]

    #[test]
    fn a_bill_is_what_counting_every_millisecond_gives(world in world()) {
        let bill = bill(&world, &world.usage());
        let counted = oracle::count(&world.terms, &plain(&world), at(0), at(LENGTH));
        prop_assert_eq!(lines_by_key(bill.lines.iter()), counted.lines);
        prop_assert!(bill.lines.iter().all(is_rounded_half_even));
        let total: i128 = bill.lines.iter().filter_map(|l| l.charge.amount()).map(|a| a.units()).sum();
        prop_assert_eq!(bill.total.units(), total);
        prop_assert!(bill.lines.is_sorted_by(|a, b| a.order(b).is_lt()));
    }

    #[test]
    fn a_draft_is_what_counting_every_millisecond_gives(world in world()) {
        let drafts = drafts(&world, &world.intervals);
        let counted = oracle::count(&world.terms, &world.intervals, at(0), at(LENGTH));
        prop_assert_eq!(lines_by_key(lines(&drafts).into_iter()), counted.lines);
        prop_assert_eq!(accounts(&drafts), counted.accounts.into_iter().collect::<Vec<_>>());
        prop_assert!(lines(&drafts).into_iter().all(is_rounded_half_even));
    }

    #[test]
    fn every_active_millisecond_is_attributed_once_and_opens_to_its_segments(world in world()) {
        for draft in drafts(&world, &world.intervals) {
            prop_assert_eq!(&draft.blocked, &vec![]);
            prop_assert_eq!(draft.accounts.sum(), draft.time);
            let proven = |kinds: &[LineKind]| -> u128 {
                let lines = draft.lines.iter().filter(|line| kinds.contains(&line.line.kind));
                lines.flat_map(|line| &line.segments).map(|evidence| evidence.quantity_ms.0).sum()
            };
            prop_assert_eq!(proven(&[LineKind::Reserved]), draft.accounts.reserved.0);
            prop_assert_eq!(proven(&[LineKind::FlexUsage]), draft.accounts.flex.0);
            prop_assert_eq!(proven(&[LineKind::OnDemand]), draft.accounts.on_demand.0);
            prop_assert_eq!(proven(&[LineKind::Spot]), draft.accounts.spot.0);
        }
    }

    #[test]
    fn no_contract_is_used_beyond_its_band(world in world()) {
        for line in bill(&world, &world.usage()).lines {
            if line.kind == LineKind::FlexUsage {
                let contract = world.terms.contracts().find(|c| Some(&c.id) == line.contract.as_ref());
                let band = u128::from(contract.expect("its contract").instances);
                prop_assert!(line.quantity.0 <= band * u128::from(line.end.since(line.start).0));
            }
        }
    }

    #[test]
    fn a_plan_is_used_only_once_the_plans_before_it_are_full(world in world(), ms in 0..LENGTH) {
        let one = rate(&world.terms, &world.usage(), at(ms), at(ms + 1)).expect("a bill");
        for (organization, sku) in [("acme", "gpu"), ("acme", "big"), ("zeta", "gpu"), ("zeta", "big")] {
            let own = |l: &&Line| l.organization.as_str() == organization && l.sku.as_str() == sku;
            let sum = |kind| -> u128 {
                one.lines.iter().filter(own).filter(|l| l.kind == kind).map(|l| l.quantity.0).sum()
            };
            if sum(LineKind::OnDemand) > 0 {
                prop_assert_eq!(sum(LineKind::FlexUsage), sum(LineKind::FlexHolding));
            }
        }
    }

    #[test]
    fn spot_changes_no_other_line(world in world()) {
        let usage = world.usage();
        let without: Vec<Usage> =
            usage.iter().filter(|row| row.compute_class == ComputeClass::Standard).cloned().collect();
        let mut lines = bill(&world, &usage).lines;
        lines.retain(|line| line.kind != LineKind::Spot);
        prop_assert_eq!(lines, bill(&world, &without).lines);
    }

    #[test]
    fn holding_does_not_depend_on_use(world in world()) {
        let flat = |kind| matches!(kind, LineKind::Reserved | LineKind::FlexHolding);
        let mut lines = bill(&world, &world.usage()).lines;
        lines.retain(|line| flat(line.kind));
        for line in &mut lines {
            prop_assert!(line.used <= line.quantity);
            line.used = InstanceMs(0);
        }
        prop_assert_eq!(lines, bill(&world, &[]).lines);
    }

    #[test]
    fn a_period_split_anywhere_has_the_same_quantities(world in world(), middle in 1..LENGTH) {
        let usage = world.usage();
        let part = |from, to| rate(&world.terms, &usage, at(from), at(to)).expect("a bill").lines;
        let parts = [part(0, middle), part(middle, LENGTH)].concat();
        let whole = bill(&world, &usage).lines;
        prop_assert_eq!(lines_by_key(parts.iter()), lines_by_key(whole.iter()));
    }

    #[test]
    fn rows_permuted_repeated_and_cut_give_the_same_bytes(
        world in world(), seed in any::<u64>(), cut in 0..LENGTH,
    ) {
        let usage = world.usage();
        let mut other = usage.clone();
        for row in &usage {
            if row.start < at(cut) && at(cut) < row.end {
                other.push(Usage { start: at(cut), ..row.clone() });
                other.push(Usage { end: at(cut), ..row.clone() });
            }
        }
        shuffle(&mut other, seed);
        prop_assert_eq!(bill(&world, &usage).to_json(), bill(&world, &other).to_json());
        let mut again = [world.intervals.clone(), world.intervals.clone()].concat();
        shuffle(&mut again, seed);
        let bytes = |intervals: &[Interval]| {
            drafts(&world, intervals).iter().map(Draft::canonical_json).collect::<Vec<_>>()
        };
        prop_assert_eq!(bytes(&world.intervals), bytes(&again));
    }

    #[test]
    fn renaming_nodes_changes_no_line(world in world()) {
        let renamed: Vec<Interval> = world
            .intervals
            .iter()
            .cloned()
            .map(|mut interval| {
                let number = interval.node.as_str().trim_start_matches("node-").to_owned();
                interval.node = NodeId::new(format!("z-{}", 9 - number.parse::<i32>().expect("a number")));
                interval.evidence.node = interval.node.clone();
                interval
            })
            .collect();
        let (before, after) = (drafts(&world, &world.intervals), drafts(&world, &renamed));
        prop_assert_eq!(lines(&before), lines(&after));
        prop_assert_eq!(accounts(&before), accounts(&after));
    }
}

/// A fixed permutation for each seed.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for last in (1..items.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (state >> 33) as usize % (last + 1));
    }
}
