//! P8 from file to bill: a month of 500,000 usage rows through `wharfage rate`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use wharfage_tests::program;

use crate::cost::children_seconds;

const NODES: usize = 10_000;
const ROWS_PER_NODE: usize = 50;
const ORGANIZATIONS: usize = 100;
const PLACES: usize = 64;

/// What the command wants to know of time.
const PERIOD: [&str; 4] = ["--from", "2026-06-01T00:00:00Z", "--to", "2026-07-01T00:00:00Z"];

/// Milliseconds of June.
const MONTH: usize = 30 * 86_400_000;

/// A made month, then the jobs of a public trace where there is one.
pub fn measure() {
    let folder = Folder::new();
    let (terms, usage) = (folder.0.join("terms.toml"), folder.0.join("usage.csv"));
    std::fs::write(&terms, self::terms()).expect("the folder can be written");
    std::fs::write(&usage, self::usage()).expect("the folder can be written");
    bill("made", &terms, &usage, &folder.0.join("bill.json"));
    match std::env::var_os("WHARFAGE_DATA").map(|data| PathBuf::from(data).join("jobs")) {
        Some(jobs) => {
            let (terms, usage) = (jobs.join("terms_openb.toml"), jobs.join("usage_openb.csv"));
            bill("traced", &terms, &usage, &folder.0.join("bill.json"));
        }
        None => println!("skipped: the bill of a public trace's jobs needs WHARFAGE_DATA"),
    }
}

/// Runs the program and prints what it cost.
fn bill(which: &str, terms: &Path, usage: &Path, bill: &Path) {
    let rows = std::fs::read_to_string(usage).expect("the usage").lines().count() - 1;
    let output = std::fs::File::create(bill).expect("a file");
    let (begun, before) = (Instant::now(), children_seconds());
    let status = Command::new(program("wharfage"))
        .arg("rate")
        .arg("--terms")
        .arg(terms)
        .arg("--usage")
        .arg(usage)
        .args(PERIOD)
        .args(["--format", "json"])
        .stdout(Stdio::from(output))
        .status()
        .expect("wharfage starts");
    let (cpu, wall) = (children_seconds() - before, begun.elapsed().as_secs_f64());
    assert!(status.success(), "`wharfage rate` ended with {status}");
    let bill = std::fs::read(bill).expect("the bill");
    let bill: serde_json::Value = serde_json::from_slice(&bill).expect("JSON");
    let lines = bill["lines"].as_array().map_or(0, Vec::len);
    assert!(lines > 0, "something was used");
    println!("{rows} {which} rows, file to bill: {cpu:.2} CPU s, {wall:.2} s, {lines} lines");
}

fn place(number: usize) -> (String, String) {
    (format!("REGION-{}", number % PLACES / 8), format!("sku-{}", number % 8))
}

/// A price and, for each organization, a Reserved and a Flex instance in each place.
fn terms() -> String {
    let mut text = String::from("currency = \"USD\"\n");
    for number in 0..PLACES {
        let (region, sku) = place(number);
        let at = format!("sku = \"{sku}\"\nregion = \"{region}\"\n");
        let _ = write!(text, "[[price]]\n{at}on_demand = \"68.80\"\nspot = \"34.11\"\ngpus = 8\n");
        for organization in 0..ORGANIZATIONS {
            for (plan, rates) in [
                ("reserved", "rate = \"40.00\""),
                ("flex", "holding_rate = \"24.00\"\nusage_rate = \"30.00\""),
            ] {
                let _ = write!(
                    text,
                    "[[contract]]\nid = \"{plan}-{number}-{organization}\"\n\
                     organization = \"org-{organization:03}\"\nplan = \"{plan}\"\n{at}instances = 1\n\
                     start = \"2026-05-01T00:00:00Z\"\nend = \"2026-08-01T00:00:00Z\"\n{rates}\n"
                );
            }
        }
    }
    text
}

/// Each node's month in rows, each for an organization by chance, with a pause between.
fn usage() -> String {
    let mut state = 7u64;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let slice = MONTH / ROWS_PER_NODE;
    let mut text = String::from("organization,region,sku,compute_class,node,start,end\n");
    for node in 0..NODES {
        let (region, sku) = place(node);
        for row in 0..ROWS_PER_NODE {
            let organization = below(ORGANIZATIONS);
            let start = row * slice + below(slice / 3);
            let end = start + 1 + below(slice * 2 / 3);
            let (start, end) = (moment(start), moment(end));
            let _ = writeln!(
                text,
                "org-{organization:03},{region},{sku},standard,node-{node:05},{start},{end}"
            );
        }
    }
    text
}

/// So many milliseconds after the start of June.
fn moment(ms: usize) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    format!("2026-06-{:02}T{hours:02}:{minutes:02}:{:02}.{ms:03}Z", days + 1, seconds % 60)
}

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("wharfage-bench-rate-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Files left in the temporary folder harm nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
