//! Random worlds: a fleet, tenants who change their minds, and every fault that the world knows;
//! then peace, and everything must come to rest where it should.
//!
//! Nothing is shrunk: a failing seed is replayed with `wharfage simulate random --seeds 1 --from S`.

mod drills;
mod mischief;

use serde::Serialize;
use wharfage_scheduler_core::Policy;
use wharfage_shared::capacity::{ComputeClass, Sku, Zone};
use wharfage_shared::ids::{HookId, OrganizationId};
use wharfage_shared::time::Millis;

use crate::rng::Rng;
use crate::sheet::clock;
use crate::stage::Habits;
use crate::world::{Plan, PlannedHost, World};
use drills::Drills;
use mischief::Mischief;

/// After the last fault everything has so long to come to rest: the longest start deadline, the
/// longest wait after failures, and the two leases.
const PEACE: Millis = Millis::from_seconds(1_200);

/// So much of the peace has passed when counts must have come to rest.
const QUIET_AFTER: Millis = Millis::from_seconds(300);

/// So many of the last lines are told with a failure.
const LAST_LINES: usize = 120;

/// What a random world came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// Its nodes.
    pub nodes: usize,
    /// What was done to it.
    pub acts: u32,
    /// Records in the scheduler's log.
    pub records: usize,
    /// Virtual milliseconds times nodes, in seconds.
    pub node_seconds: u64,
    /// A hash over everything that happened: two runs of one seed share it.
    pub trace: String,
}

/// A random world in which a rule was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("seed {seed}: rule {rule} is broken at {at}: {found}\nreplay: {replay}")]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which rule.
    pub rule: String,
    /// When.
    pub at: String,
    /// What was found.
    pub found: String,
    /// The command that does it again.
    pub replay: String,
    /// The last lines before it.
    pub timeline: Vec<String>,
}

/// Runs the world of a seed.
pub fn run(seed: u64) -> Result<Summary, Box<Failure>> {
    let (world, summary) = live(seed, false);
    if world.violations().is_empty() {
        return Ok(summary);
    }
    // Once more, with lines: the same seed does the same again.
    let (world, _) = live(seed, true);
    Err(Box::new(failure(seed, &world)))
}

fn failure(seed: u64, world: &World) -> Failure {
    let entries = world.stage.trace.entries();
    let last = entries.len().saturating_sub(LAST_LINES);
    let timeline = entries[last..].iter().map(|entry| crate::sheet::told(entry, world.zero));
    let violation = world.violations().first();
    Failure {
        seed,
        rule: violation.map_or("world".to_owned(), |violation| violation.rule.clone()),
        at: violation.map_or(String::new(), |violation| clock(violation.at, world.zero)),
        found: violation.map_or("it did not fail again".to_owned(), |v| v.found.clone()),
        replay: format!("wharfage simulate random --seeds 1 --from {seed}"),
        timeline: timeline.collect(),
    }
}

fn live(seed: u64, keeps_lines: bool) -> (World, Summary) {
    // The plan's luck is apart from the world's, so that a change in one moves not the other.
    let mut rng = Rng::new(seed ^ 0x005e_ed0f_a01d);
    let plan = plan(&mut rng, seed, keeps_lines);
    let nodes = plan.hosts.len();
    let organizations = plan.organizations.clone();
    let mut world = World::make(plan);
    world.stage.habits = habits(&mut rng);
    let mut mischief = Mischief::new(rng, organizations, Drills::of(seed));
    let turmoil = Millis::from_seconds(mischief.rng.between(300, 1_500));
    let until = world.zero + turmoil;
    while world.stage.now < until && world.violations().is_empty() {
        let pause = Millis(mischief.rng.between(100, 20_000));
        world.run_until((world.stage.now + pause).min(until));
        mischief.act(&mut world);
    }
    if world.violations().is_empty() {
        mischief.peace(&mut world);
        let since = world.stage.now;
        world.run_until(since + PEACE);
        if world.violations().is_empty() {
            world.check_end(since + QUIET_AFTER);
        }
    }
    let summary = Summary {
        seed,
        nodes,
        acts: mischief.acts,
        records: world.scheduler.records(),
        node_seconds: nodes as u64 * world.stage.now.0 / 1000,
        trace: format!("{:016x}", world.stage.trace.hash()),
    };
    (world, summary)
}

fn plan(rng: &mut Rng, seed: u64, keeps_lines: bool) -> Plan {
    let zones = [Zone::new("US-EAST-04A"), Zone::new("US-EAST-04B"), Zone::new("EU-SOUTH-01A")];
    let zones = &zones[..rng.between(1, 3) as usize];
    let skus = [Sku::new("gd-8xh100ib-i128"), Sku::new("gd-1xgh200"), Sku::new("gb200-4x")];
    let skus = &skus[..if rng.chance(300) { 3 } else { 1 }];
    let drifting = rng.chance(500);
    let mut hosts = Vec::new();
    for _ in 0..rng.between(1, 9) {
        let sku = rng.pick(skus).expect("the list is not empty").clone();
        let spot = rng.chance(300) && !sku.is_superchip();
        hosts.push(PlannedHost {
            sku,
            zone: rng.pick(zones).expect("the list is not empty").clone(),
            compute_class: if spot { ComputeClass::Spot } else { ComputeClass::Standard },
            joins_after: Millis(if rng.chance(150) { rng.between(1_000, 300_000) } else { 0 }),
            drift_ppm: if drifting { rng.between(0, 600) as i64 - 300 } else { 0 },
            shared_disk: false,
        });
    }
    let organizations = ["acme", "borealis", "cirrus"].map(OrganizationId::from);
    let organizations = organizations[..rng.between(1, 3) as usize].to_vec();
    let hooks = [("checkpoint-1", 5), ("checkpoint-2", 60), ("drain-1", 2), ("drain-2", 20)];
    let hooks = hooks.map(|(id, takes)| (HookId::from(id), Millis::from_seconds(takes)));
    Plan {
        seed,
        hosts,
        organizations,
        gateways: rng.between(1, 2) as usize,
        hooks: hooks.into(),
        keeps_lines,
        policy: Policy::default(),
    }
}

fn habits(rng: &mut Rng) -> Habits {
    Habits {
        start: Millis(rng.between(10, 2_000)),
        stop: Millis(rng.between(50, 8_000)),
        kill: Millis(rng.between(1, 300)),
        memory_back: Millis(rng.between(0, 6_000)),
        look: Millis(rng.between(1, 300)),
        agent_restart: Millis(rng.between(500, 10_000)),
        scheduler_restart: Millis(rng.between(500, 20_000)),
        stubborn_permille: rng.between(0, 100) as u32,
        dies_amid_effects_permille: if rng.chance(300) { 1 } else { 0 },
        dies_at_record_permille: if rng.chance(300) { 5 } else { 0 },
    }
}
