//! Every billing case of a data folder, exactly: quantity, rate, amount, total.
//!
//! Reads `billing` and `jobs` of `$WHARFAGE_DATA`; without the variable it says that it is skipped.

use std::fs;
use std::path::Path;

use serde_json::Value;
use wharfage_billing::rate;
use wharfage_billing::terms::RawTerms;
use wharfage_billing::timestamp::parse_rfc3339;
use wharfage_billing::usage::parse_csv;

#[test]
#[expect(clippy::disallowed_methods, reason = "the variable says where the cases are")]
fn every_case_of_the_data_folder_is_met_exactly() {
    let Ok(data) = std::env::var("WHARFAGE_DATA") else {
        println!("skipped: WHARFAGE_DATA names no folder with billing cases");
        return;
    };
    let folder = Path::new(&data).join("billing");
    let cases = fs::read_dir(&folder).expect("the folder of the cases");
    let mut cases: Vec<_> = cases.map(|case| case.expect("an entry").path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    for case in cases {
        check(&case, "");
    }
    check(&Path::new(&data).join("jobs"), "_openb");
}

/// The case in a folder; its files are named `terms<suffix>.toml` and so on.
fn check(case: &Path, suffix: &str) {
    let text = |name: &str| {
        let name = name.replace('.', &format!("{suffix}."));
        fs::read_to_string(case.join(name)).map_err(|error| error.to_string())
    };
    let raw: RawTerms =
        toml::from_str(&text("terms.toml").expect("terms")).expect("readable terms");
    let terms = raw.check().expect("good terms");
    let usage = parse_csv(&text("usage.csv").expect("usage")).expect("good usage");
    let period = text("period.txt")
        .unwrap_or_else(|_| "--start 2026-06-01T00:00:00Z --end 2026-07-01T00:00:00Z".to_owned());
    let mut instants = period.split_whitespace().filter_map(|word| parse_rfc3339(word).ok());
    let (from, to) = instants.next().zip(instants.next()).expect("a period");
    let bill = rate(&terms, &usage, from, to).expect("every use has a price");
    let mut found: Value = serde_json::from_str(&bill.to_json()).expect("JSON");
    for line in found["lines"].as_array_mut().expect("lines") {
        let line = line.as_object_mut().expect("a line");
        assert!(line.remove("start").is_some() && line.remove("end").is_some());
    }
    let expected: Value =
        serde_json::from_str(&text("expected.json").expect("an answer")).expect("JSON");
    assert_eq!(found, expected, "{}", case.display());
}
