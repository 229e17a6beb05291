//! The cost of closing a month: 10,000 nodes, 500,000 segments, 6,400 series.
//!
//! Prints CPU seconds of this process and nanoseconds per segment for each way in: attribution of
//! series that are already grouped (what the scheduler keeps), rating of usage rows, and drafting
//! one organization's invoice with its evidence.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use wharfage_billing::invoice::{DraftRequest, draft};
use wharfage_billing::meter::{Contributes, Interval};
use wharfage_billing::money::MicroRate;
use wharfage_billing::series::{SeriesKey, Stream, Streams, attribute};
use wharfage_billing::spans::{Period, Span, Standing};
use wharfage_billing::terms::{Contract, Plan, Price, Terms};
use wharfage_billing::usage::Usage;
use wharfage_billing::{Accounts, rate};
use wharfage_shared::capacity::{ComputeClass, Region, Sku};
use wharfage_shared::ids::{BootId, ContractId, NodeId, OrganizationId, SegmentLogId};
use wharfage_shared::segment::{Activity, SegmentKey};
use wharfage_shared::time::Timestamp;

const NODES: usize = 10_000;
const SEGMENTS_PER_NODE: usize = 50;
const SEGMENTS: usize = NODES * SEGMENTS_PER_NODE;
const ORGANIZATIONS: usize = 100;
const REGIONS: usize = 8;
const SKUS: usize = 8;
const START: i64 = 1_780_272_000_000;
const MONTH: i64 = 30 * 86_400_000;

fn main() {
    let period = Period { from: Timestamp(START), to: Timestamp(START + MONTH) };
    let terms = terms();
    let usage = usage();
    let series = series(&usage);
    println!("{SEGMENTS} segments, {NODES} nodes, {} series", series.len());

    let (accounts, seconds) = cpu(|| {
        let mut sum = Accounts::default();
        for (key, streams) in series {
            sum = sum.plus(attribute(&terms, &key, &streams.united(), period).accounts);
        }
        sum
    });
    print("attribution of grouped series", seconds);
    let time: u128 = usage.iter().map(|row| u128::from(row.end.since(row.start).0)).sum();
    assert_eq!(accounts.sum().0, time, "every millisecond stands on one account");

    let (bill, seconds) = cpu(|| rate(&terms, &usage, period.from, period.to));
    print("rating of usage rows", seconds);
    assert!(bill.expect("every use has a price").lines.len() > ORGANIZATIONS);

    let intervals = intervals(&usage, "org-007");
    let request = DraftRequest {
        organization: OrganizationId::from("org-007"),
        from: period.from,
        to: period.to,
        as_of: period.to,
    };
    let (draft, seconds) = cpu(|| draft(&request, &terms, &intervals));
    let (bytes, json) = cpu(|| draft.canonical_json().len());
    assert_eq!(draft.blocked, []);
    println!(
        "draft of one organization: {} segments, {:.4} CPU s; its {bytes} canonical bytes: {:.4} CPU s",
        intervals.len(),
        seconds,
        json
    );
}

fn print(what: &str, seconds: f64) {
    let each = seconds * 1e9 / SEGMENTS as f64;
    println!("{what}: {seconds:.4} CPU s, {each:.0} ns per segment");
}

/// What `work` gives, and the CPU seconds that it took.
fn cpu<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = now();
    let result = work();
    (result, now() - before)
}

fn micros(micros: u64) -> MicroRate {
    MicroRate::from_micros(micros).expect("within bounds")
}

fn terms() -> Terms {
    let mut prices = Vec::new();
    let mut contracts = Vec::new();
    for place in 0..REGIONS * SKUS {
        let (region, sku) = place_of(place);
        prices.push(Price {
            sku: sku.clone(),
            region: region.clone(),
            on_demand: micros(68_800_000),
            spot: Some(micros(34_110_000)),
            gpus: Some(8),
            gpu_hour: None,
            from: None,
        });
        for organization in 0..ORGANIZATIONS {
            let contract = |id: &str, instances, plan| Contract {
                id: ContractId::new(format!("{id}-{place}-{organization}")),
                organization: organization_of(organization),
                sku: sku.clone(),
                region: region.clone(),
                instances,
                start: Timestamp(START - MONTH),
                end: Timestamp(START + 2 * MONTH),
                plan,
            };
            contracts.push(contract("floor", 1, Plan::Reserved { rate: micros(40_000_000) }));
            let plan =
                Plan::Flex { holding_rate: micros(24_000_000), usage_rate: micros(30_000_000) };
            contracts.push(contract("flex", 1, plan));
        }
    }
    Terms::new("USD".parse().expect("a currency"), prices, contracts).expect("good terms")
}

fn place_of(place: usize) -> (Region, Sku) {
    (Region::new(&format!("REGION-{}", place / SKUS)), Sku::new(&format!("sku-{}", place % SKUS)))
}

fn organization_of(number: usize) -> OrganizationId {
    OrganizationId::new(format!("org-{number:03}"))
}

/// Each node's month is cut into 50 segments, each for an organization by chance, with a pause.
fn usage() -> Vec<Usage> {
    let mut state = 7u64;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let organizations: Vec<_> = (0..ORGANIZATIONS).map(organization_of).collect();
    let slice = MONTH / SEGMENTS_PER_NODE as i64;
    let mut usage = Vec::with_capacity(SEGMENTS);
    for number in 0..NODES {
        let node = NodeId::new(format!("node-{number:05}"));
        let (region, sku) = place_of(number % (REGIONS * SKUS));
        for segment in 0..SEGMENTS_PER_NODE as i64 {
            let start = START + segment * slice + below(slice as usize / 3) as i64;
            usage.push(Usage {
                organization: organizations[below(ORGANIZATIONS)].clone(),
                region: region.clone(),
                sku: sku.clone(),
                compute_class: ComputeClass::Standard,
                node: node.clone(),
                start: Timestamp(start),
                end: Timestamp(start + 1 + below(slice as usize * 2 / 3) as i64),
            });
        }
    }
    // The order in which segments of many nodes come in.
    for last in (1..usage.len()).rev() {
        usage.swap(last, below(last + 1));
    }
    usage
}

fn series(usage: &[Usage]) -> BTreeMap<SeriesKey, Streams> {
    let mut series: BTreeMap<SeriesKey, Streams> = BTreeMap::new();
    for row in usage {
        let key = SeriesKey {
            organization: row.organization.clone(),
            region: row.region.clone(),
            sku: row.sku.clone(),
        };
        let node = row.node.as_str().trim_start_matches("node-").parse().expect("a number");
        let span = Span { node, start: row.start, end: row.end, standing: Standing::Active };
        series.entry(key).or_default().add(Stream::Fill, span);
    }
    series
}

fn intervals(usage: &[Usage], organization: &str) -> Vec<Interval> {
    let own = usage.iter().filter(|row| row.organization.as_str() == organization);
    let intervals = (1..).zip(own).map(|(number, row)| Interval {
        organization: row.organization.clone(),
        region: row.region.clone(),
        sku: row.sku.clone(),
        compute_class: row.compute_class,
        node: row.node.clone(),
        claim: None,
        start: row.start,
        end: row.end,
        activity: Activity::Serving,
        contributes: Contributes::Customer,
        evidence: SegmentKey {
            node: row.node.clone(),
            boot: BootId::from("boot"),
            log: SegmentLogId::from("log"),
            number,
        },
    });
    intervals.collect()
}
