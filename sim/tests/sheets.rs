//! Every sheet of `sheets/` passes, and its timeline is the one that is written beside it.
//!
//! `BLESS=1 cargo test -p wharfage-sim --test sheets` writes the timelines anew: read the difference.

#![expect(clippy::expect_used, reason = "a test states what it relies on")]

use std::fs;
use std::path::PathBuf;

fn sheets() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sheets");
    let entries = fs::read_dir(folder).expect("the folder of sheets can be read");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let mut sheets: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "sheet")).collect();
    sheets.sort();
    sheets
}

#[test]
fn every_sheet_passes_and_tells_the_story_that_is_written_beside_it() {
    let mut wrong = Vec::new();
    let sheets = sheets();
    assert!(sheets.len() >= 8, "the sheets were not found: {sheets:?}");
    for path in sheets {
        let text = fs::read_to_string(&path).expect("a sheet is UTF-8");
        let name = path.file_name().expect("a sheet has a name").to_string_lossy().into_owned();
        let outcome = wharfage_sim::sheet::run(&text, &name, 1).expect("a sheet can be read");
        wrong.extend(outcome.failure_lines());
        let told = outcome.timeline.join("\n") + "\n";
        let golden = path.with_extension("timeline");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &told).expect("a timeline can be written");
        }
        let written = fs::read_to_string(&golden).unwrap_or_default();
        if let Some((number, (told, written))) = first_difference(&told, &written) {
            wrong.push(format!("{name}, line {number} of the timeline:\n+{told}\n-{written}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(told: &str, written: &str) -> Option<(usize, (String, String))> {
    let (told, written): (Vec<&str>, Vec<&str>) =
        (told.lines().collect(), written.lines().collect());
    let line = |lines: &[&str], at: usize| lines.get(at).copied().unwrap_or("(end)").to_owned();
    (0..told.len().max(written.len()))
        .map(|at| (at + 1, (line(&told, at), line(&written, at))))
        .find(|(_, (told, written))| told != written)
}

/// A sheet whose expectations are wrong fails, line by line: passing means something.
#[test]
fn a_sheet_that_expects_what_is_not_fails_and_says_what_was_found() {
    let text = "fleet 1x gd-8xh100ib-i128 standard US-EAST-04A\n\
        deploy chat gpus=8\n\
        run until ready or 1m\n\
        expect chat ready=2\n\
        expect no replica on node-1\n\
        expect requests cut=1\n\
        expect node-1 health=unfit\n\
        expect refused\n\
        do drain node-7\n\
        claim hold acme SERVERLESS gd-8xh100ib-i128 US-EAST-04A count=1\n\
        expect refused\n";
    let outcome = wharfage_sim::sheet::run(text, "wrong.sheet", 1).expect("it can be read");
    let found: Vec<String> = outcome.failure_lines().collect();
    let expected = [
        "wrong.sheet:4: expect chat ready=2: ready = 1",
        "wrong.sheet:5: expect no replica on node-1: chat r-1 stands there",
        "wrong.sheet:6: expect requests cut=1: requests cut = 0",
        "wrong.sheet:7: expect node-1 health=unfit: it is fit",
        "wrong.sheet:8: expect refused: the statement before was carried out",
        "wrong.sheet:9: do drain node-7: refused: there is no node `node-7`",
    ];
    assert_eq!(found, expected);
    assert!(!outcome.passed);
    assert!(outcome.to_json().contains("\"passed\": false"));
}

#[test]
fn a_name_that_a_sheet_never_makes_is_an_error_with_its_line() {
    let fleet = "fleet 2x gd-8xh100ib-i128 standard US-EAST-04A\ndeploy chat gpus=1\n";
    let cases = [
        ("expect chta ready=1", "x.sheet:3: `chta` where a deployment of this sheet"),
        ("notice node-3 in 5s", "`node-3` where a node from node-1 to node-2"),
        ("fault node-01 lose", "`node-01` where a node from node-1 to node-2"),
        ("fault node-1 xid 79 gpu=8", "gpu=8 where a GPU of node-1, 0 to 7"),
        ("show usage of nobody", "`nobody` where an organization was expected (acme)"),
    ];
    for (line, expected) in cases {
        let text = format!("{fleet}{line}\n");
        let error = wharfage_sim::sheet::run(&text, "x.sheet", 1).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn one_seed_is_one_story_and_another_seed_another() {
    let text = "fleet 3x gd-8xh100ib-i128 standard US-EAST-04A\n\
        deploy chat gpus=8 min=2\nload chat in_flight=9\nrun until ready or 1m\n\
        fault node-1 crash-agent\nfault scheduler crash\nrun 5m\n";
    let trace =
        |seed| wharfage_sim::sheet::run(text, "x.sheet", seed).expect("it can be read").trace;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
