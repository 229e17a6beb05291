//! Worked examples of every plan, with the numbers that a person would write down.

use wharfage_billing::terms::{Contract, Price, RawTerms, Terms};
use wharfage_billing::usage::{Usage, parse_csv};
use wharfage_billing::{Bill, rate};
use wharfage_shared::capacity::ComputeClass;

use crate::worlds::{at, flex, instant, price, reserved, usd, used};

const HOUR: i64 = 3_600_000;

fn terms(prices: Vec<Price>, contracts: Vec<Contract>) -> Terms {
    Terms::new(usd(), prices, contracts).expect("good terms")
}

/// A bill as `line contract hours x rate = amount`.
fn story(bill: &Bill) -> String {
    let mut story = String::new();
    for line in &bill.lines {
        let contract = line.contract.as_ref().map_or("-", |contract| contract.as_str());
        let (rate, amount) = line.charge.rate().zip(line.charge.amount()).expect("a price");
        let hours = line.quantity.hours();
        story.push_str(&format!("{} {contract} {hours} x {rate} = {amount}\n", line.kind));
    }
    story + &format!("total {}", bill.total)
}

fn check(terms: &Terms, usage: &[Usage], hours: i64, expected: &str) {
    let bill = rate(terms, usage, at(0), at(hours * HOUR)).expect("every use has a price");
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(story(&bill).lines().collect::<Vec<_>>(), expected);
}

const MONTH_TERMS: &str = r#"
    currency = "USD"
    price = [
        { sku = "b200", region = "US-EAST-04", on_demand = "68.80", spot = "34.11" },
        { sku = "rtxp6000", region = "US-EAST-04", on_demand = "20.00", spot = "9.00" },
    ]
    [[contract]]
    id = "flex-b200"
    organization = "acme"
    plan = "flex"
    sku = "b200"
    region = "US-EAST-04"
    instances = 1
    start = "2026-06-01T00:00:00Z"
    end = "2027-06-01T00:00:00Z"
    holding_rate = "24.00"
    usage_rate = "30.00"
"#;

const MONTH_USAGE: &str = "\
organization,region,sku,compute_class,node,start,end
acme,US-EAST-04,B200,standard,a,2026-06-02T00:00:00Z,2026-06-07T00:00:00Z
acme,US-EAST-04,b200,standard,a,2026-06-11T00:00:00Z,2026-06-15T04:00:00Z
acme,US-EAST-04,b200,standard,a,2026-06-21T00:00:00Z,2026-06-24T08:00:00Z
acme,US-EAST-04,b200,standard,b,2026-06-12T00:00:00Z,2026-06-12T12:00:00Z
acme,US-EAST-04,rtxp6000,spot,r,2026-06-05T04:00:00Z,2026-06-07T16:00:00Z
acme,US-EAST-04,rtxp6000,spot,r,2026-06-26T00:00:00Z,2026-06-27T16:00:00Z
";

fn month() -> Bill {
    let raw: RawTerms = toml::from_str(MONTH_TERMS).expect("readable terms");
    let usage = parse_csv(MONTH_USAGE).expect("good usage");
    let (from, to) = (instant("2026-06-01T00:00:00Z"), instant("2026-07-01T00:00:00Z"));
    rate(&raw.check().expect("good terms"), &usage, from, to).expect("every use has a price")
}

#[test]
fn the_sample_month_has_four_lines() {
    let expected = "\
flex_holding flex-b200 720.000000 x 24.00 = 17280.00
flex_usage flex-b200 300.000000 x 30.00 = 9000.00
on_demand - 12.000000 x 68.80 = 825.60
spot - 100.000000 x 9.00 = 900.00
total 28005.60";
    assert_eq!(story(&month()), expected);
}

#[test]
fn a_bill_reads_as_json_csv_and_a_table() {
    let mut bill = month();
    bill.lines.truncate(1);
    let json = r#"{
 "lines": [
  {
   "organization": "acme",
   "region": "US-EAST-04",
   "sku": "b200",
   "contract": "flex-b200",
   "line": "flex_holding",
   "quantity_ms": 2592000000,
   "quantity_hours": "720.000000",
   "rate": "24.00",
   "amount": "17280.00",
   "start": "2026-06-01T00:00:00Z",
   "end": "2026-07-01T00:00:00Z"
  }
 ],
 "total": "28005.60"
}"#;
    assert_eq!(bill.to_json(), json);
    let csv = "organization,region,sku,contract,line,quantity_ms,quantity_hours,rate,amount,start,end\n\
               acme,US-EAST-04,b200,flex-b200,flex_holding,2592000000,720.000000,24.00,17280.00,\
               2026-06-01T00:00:00Z,2026-07-01T00:00:00Z\n";
    assert_eq!(bill.to_csv(), csv);
    let rows: Vec<String> = bill.to_table_rows().iter().map(|row| row.join(" | ")).collect();
    let expected = [
        "acme | US-EAST-04 | b200 | flex-b200 | Holding rate | 720.000000 | 24.00 | 17280.00",
        "TOTAL USD |  |  |  |  |  |  | 28005.60",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn two_nodes_for_half_a_tick_are_half_reserved_half_on_demand() {
    let terms = terms(
        vec![price("gpu", "36.00", None)],
        vec![reserved(1, "10").contract("floor", 0, HOUR)],
    );
    let usage = [used("a", 0, 15_000), used("b", 0, 15_000)];
    let bill = rate(&terms, &usage, at(0), at(30_000)).expect("a bill");
    let expected =
        "on_demand - 0.004167 x 36.00 = 0.15\nreserved floor 0.008333 x 10 = 0.08\ntotal 0.23";
    assert_eq!(story(&bill), expected);
}

#[test]
fn reserved_is_flat_and_its_use_costs_nothing_more() {
    let terms = terms(
        vec![price("gpu", "36.00", None)],
        vec![reserved(2, "10").contract("floor", 0, 100 * HOUR)],
    );
    let flat = "reserved floor 20.000000 x 10 = 200.00\ntotal 200.00";
    check(&terms, &[], 10, flat);
    check(&terms, &[used("a", 0, 10 * HOUR), used("b", 0, 5 * HOUR)], 10, flat);
    let three = [used("a", 0, 10 * HOUR), used("b", 0, 5 * HOUR), used("c", 4 * HOUR, 5 * HOUR)];
    let expected = "on_demand - 1.000000 x 36.00 = 36.00
                    reserved floor 20.000000 x 10 = 200.00
                    total 236.00";
    check(&terms, &three, 10, expected);
}

#[test]
fn the_flex_contract_with_the_lowest_usage_rate_fills_first() {
    let terms = terms(
        vec![price("gpu", "36.00", None)],
        vec![
            flex(1, "5", "20").contract("dear", 0, 10 * HOUR),
            flex(1, "5", "7").contract("b-later", HOUR, 10 * HOUR),
            flex(1, "5", "7").contract("z-early", 0, 10 * HOUR),
        ],
    );
    let expected = "flex_holding b-later 1.000000 x 5 = 5.00
                    flex_holding dear 2.000000 x 5 = 10.00
                    flex_holding z-early 2.000000 x 5 = 10.00
                    flex_usage b-later 1.000000 x 7 = 7.00
                    flex_usage dear 1.000000 x 20 = 20.00
                    flex_usage z-early 2.000000 x 7 = 14.00
                    total 66.00";
    check(&terms, &[used("a", 0, 2 * HOUR), used("b", 0, 2 * HOUR)], 2, expected);
}

#[test]
fn contracts_fill_only_within_their_own_period() {
    let terms = terms(
        vec![price("gpu", "36.00", None)],
        vec![
            reserved(1, "10").contract("first", -5 * HOUR, HOUR),
            reserved(1, "12").contract("later", 2 * HOUR, 30 * HOUR),
            reserved(1, "99").contract("over", -5 * HOUR, 0),
        ],
    );
    let expected = "on_demand - 1.000000 x 36.00 = 36.00
                    reserved first 1.000000 x 10 = 10.00
                    reserved later 2.000000 x 12 = 24.00
                    total 70.00";
    check(&terms, &[used("a", 0, 4 * HOUR)], 4, expected);
}

#[test]
fn a_price_change_cuts_the_line_it_changes_and_no_other() {
    let later = Price { from: Some(at(HOUR)), ..price("gpu", "40.00", Some("9.00")) };
    let terms = terms(vec![price("gpu", "36.00", Some("9.00")), later], vec![]);
    let spot = Usage { compute_class: ComputeClass::Spot, ..used("s", 0, 2 * HOUR) };
    let expected = "on_demand - 1.000000 x 36.00 = 36.00
                    on_demand - 1.000000 x 40.00 = 40.00
                    spot - 2.000000 x 9.00 = 18.00
                    total 94.00";
    check(&terms, &[used("a", 0, 2 * HOUR), spot.clone()], 2, expected);
    let bill = rate(&terms, &[used("a", 0, 2 * HOUR)], at(0), at(2 * HOUR)).expect("a bill");
    let stretches: Vec<_> = bill.lines.iter().map(|line| (line.start, line.end)).collect();
    assert_eq!(stretches, [(at(0), at(HOUR)), (at(HOUR), at(2 * HOUR))]);
}

#[test]
fn use_without_a_price_is_refused_and_names_sku_and_region() {
    let only_standard = terms(vec![price("gpu", "36.00", None)], vec![]);
    let refusal = |terms: &Terms, usage: Usage| {
        rate(terms, &[usage], at(0), at(HOUR)).expect_err("no price").to_string()
    };
    let spot = Usage { compute_class: ComputeClass::Spot, ..used("s", 0, HOUR) };
    assert_eq!(
        refusal(&only_standard, spot),
        "the terms have no spot price for SKU `gpu` in region `US` from 2026-06-01T00:00:00Z to \
         2026-06-01T01:00:00Z, but `acme` used it"
    );
    let late = Price { from: Some(at(1)), ..price("gpu", "36.00", None) };
    assert!(refusal(&terms(vec![late], vec![]), used("a", 0, HOUR)).contains("no on_demand price"));
    let covered = terms(vec![], vec![reserved(1, "10").contract("floor", 0, HOUR)]);
    check(&covered, &[used("a", 0, HOUR)], 1, "reserved floor 1.000000 x 10 = 10.00\ntotal 10.00");
}

#[test]
fn a_period_without_length_is_refused() {
    let terms = terms(vec![], vec![]);
    for (from, to) in [(0, 0), (1, 0), (0, 4_000_000_000_000)] {
        let refusal = rate(&terms, &[], at(from), at(to)).expect_err("no period").to_string();
        assert!(refusal.contains("accepted: an end after the start"), "{refusal}");
    }
    check(&terms, &[], 1, "total 0.00");
}

#[test]
fn the_costs_of_a_focus_export_add_up_to_the_bill() {
    let bill = month();
    let focus = bill.to_focus("Harbour, Inc.");
    let mut rows = focus.lines();
    let columns: Vec<&str> = rows.next().expect("a header").split(',').collect();
    let rows: Vec<&str> = rows.collect();
    let cents = |column: &str| -> i128 {
        let at = columns.iter().position(|name| *name == column).expect("the column");
        let amounts = rows.iter().map(|row| split(row)[at].replace('.', ""));
        amounts.map(|amount| amount.parse::<i128>().expect("cents")).sum()
    };
    assert_eq!(cents("BilledCost"), bill.total.units());
    assert_eq!(cents("EffectiveCost"), bill.total.units());
    assert!(rows.iter().all(|row| split(row).len() == columns.len()));
    let found: Vec<String> = rows
        .iter()
        .map(|row| [0, 8, 7, 19, 20].map(|at| split(row)[at].clone()).join(" "))
        .collect();
    let expected = [
        "17280.00 Purchase  Committed 720.000000",
        "0.00 Usage Used Committed 300.000000",
        "0.00 Usage Unused Committed 420.000000",
        "9000.00 Usage Used Committed 300.000000",
        "825.60 Usage  Standard 12.000000",
        "900.00 Usage  Dynamic 100.000000",
    ];
    assert_eq!(found, expected);
}

/// The fields of a row; commas within quotes do not separate.
fn split(row: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in row.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("one at least").push(other),
        }
    }
    fields
}
