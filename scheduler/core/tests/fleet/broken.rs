//! Each rule broken once, by facts that no decision would make: the check of that rule finds it.

mod drills;
mod gangs;
mod lending;
mod moves;

use wharfage_scheduler_core::words::because::placement::{Placement, Score};
use wharfage_scheduler_core::words::contract::{Contract, ContractTerms};
use wharfage_scheduler_core::words::deployment::{Bounds, GpuCount, Priority, Spec};
use wharfage_scheduler_core::words::event::access::Event as Access;
use wharfage_scheduler_core::words::event::claim::Event as Claims;
use wharfage_scheduler_core::words::event::deployment::Event as Deployments;
use wharfage_scheduler_core::words::event::meter::Event as Meter;
use wharfage_scheduler_core::words::event::money::{Event as Money, Invoice};
use wharfage_scheduler_core::words::event::node::Event as Nodes;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::node::{Hardware, Intent, NoticeFact, Pool};
use wharfage_scheduler_core::words::replica::{Phase, Seat};
use wharfage_scheduler_core::{Event, Fleet, invariants};
use wharfage_shared::capacity::{
    CapacityClass, CapacityType, ComputeClass, Region, Sku, Tenancy, Zone,
};
use wharfage_shared::ids::{BootId, ContractId, GpuUuid, NodeId, NoticeId, PoolId, ReplicaId};
use wharfage_shared::notice::{Leaves, NoticeKind, NoticeSource};
use wharfage_shared::order::{HeldFor, StopCause};
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::segment::{Activity, Segment, SegmentKey};
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{Epoch, Term};

use crate::world::{SKU, START, World, ZONE, claimed, id, spec};

/// acme's `one` stands on node-1; node-2 is idle, node-3 is spot and idle. Then `facts`.
fn after(facts: impl Fn(&Fleet, Timestamp) -> Vec<Event>) -> Vec<String> {
    let mut world = World::with_nodes(2, 1);
    let mut one = spec("one");
    one.gpus = GpuCount::new(4).expect("allowed");
    world.deploy(one);
    let mut wait = spec("wait");
    wait.gpus = GpuCount::new(4).expect("allowed");
    wait.classes = vec![CapacityClass::Reserved];
    world.deploy(wait.clone());
    wait.name = "zeta-wait".to_owned();
    world.deploy_for("zeta", wait).expect("a deployment");
    world.until(60, "it serves", |world| world.ready("one") == ["node-1"]);
    world.run(1);
    let facts = facts(world.fleet(), world.now);
    breaks(&world, &[], &facts)
}

/// What one step of these facts breaks, after others that were before it.
fn breaks(world: &World, before: &[Event], facts: &[Event]) -> Vec<String> {
    let mut fleet = world.fleet().clone();
    before.iter().for_each(|event| fleet.apply(event));
    let earlier = fleet.clone();
    facts.iter().for_each(|event| fleet.apply(event));
    let found = invariants::check_step(&earlier, &fleet);
    found.iter().map(ToString::to_string).collect()
}

/// Some finding of the rule says this.
#[track_caller]
fn finds(found: &[String], rule: &str, words: &str) {
    let prefix = format!("{rule}: ");
    let hit = found.iter().any(|text| text.starts_with(&prefix) && text.contains(words));
    assert!(hit, "nothing of {rule} about `{words}` in {found:#?}");
}

fn of<'a>(
    fleet: &'a Fleet,
    name: &str,
) -> &'a wharfage_scheduler_core::fleet::rows::replica::ReplicaRow {
    fleet.replicas_of(&id(name)).next().expect("it has one")
}

fn seat(node: &str, from: usize, count: usize) -> Seat {
    let gpu = |at| GpuUuid::new(format!("GPU-{node}-{at}"));
    Seat::alone(NodeId::from(node), (from..from + count).map(gpu).collect())
}

fn placed(replica: ReplicaId, seat: Seat, class: CapacityClass, at: Timestamp) -> Event {
    let score = Score {
        class: 0,
        lends: false,
        breaks_whole_node: false,
        crowding: 0,
        gpus_left: 0,
        opens_node: false,
        seconds_to_ready: 0,
        siblings: 0,
        node: seat.node.clone(),
    };
    let because = Placement { class, score, sentence: "a test".into() };
    Event::Replica(Replicas::Placed {
        replica,
        seat,
        engine_version: "0.11.0".into(),
        start_deadline: Millis::from_seconds(600),
        because: because.into(),
        at,
    })
}

fn held(node: &str, organization: &str, at: Timestamp) -> Event {
    let compute_class = ComputeClass::Standard;
    let held_for = HeldFor { organization: organization.into(), claim: None, compute_class };
    Event::Node(Nodes::Held { node: node.into(), held_for: Some(held_for), at })
}

fn changed(fleet: &Fleet, name: &str, at: Timestamp, change: impl Fn(&mut Spec)) -> Event {
    let row = fleet.deployment(&id(name)).expect("it was deployed");
    let mut spec = (*row.spec).clone();
    change(&mut spec);
    let (deployment, revision) = (row.id.clone(), row.revision);
    Event::Deployment(Deployments::Replaced { deployment, spec: spec.into(), revision, at })
}

fn created(fleet: &Fleet, number: u32, name: &str, at: Timestamp) -> Event {
    let row = fleet.deployment(&id(name)).expect("it was deployed");
    let (deployment, revision) = (row.id.clone(), row.revision);
    Event::Replica(Replicas::Created { replica: ReplicaId(number), deployment, revision, at })
}

const ON_DEMAND: CapacityClass = CapacityClass::OnDemand;

#[test]
fn nothing_is_found_in_a_good_fleet() {
    assert_eq!(after(|_, _| Vec::new()), Vec::<String>::new());
}

#[test]
fn s1_two_replicas_on_one_gpu() {
    let found = after(|fleet, now| {
        vec![placed(of(fleet, "wait").id, seat("node-1", 3, 4), ON_DEMAND, now)]
    });
    finds(&found, "S1", "GPU-node-1-3 of node-1 is held by");
}

#[test]
fn s1_a_seat_of_another_size_or_of_no_gpu_of_the_node() {
    let found = after(|fleet, now| {
        vec![
            held("node-2", "acme", now),
            placed(of(fleet, "wait").id, seat("node-2", 6, 3), ON_DEMAND, now),
        ]
    });
    finds(&found, "S1", "has 3 GPUs, its spec asks for 4");
    finds(&found, "S1", "are no slots of their nodes");
}

#[test]
fn s1_a_slot_that_is_kept_and_whose_holder_stays() {
    let found = after(|fleet, at| {
        let (replica, seat) = (of(fleet, "wait").id, seat("node-1", 0, 4));
        vec![Event::Replica(Replicas::Promised { replica, seat, victims: Vec::new(), at })]
    });
    finds(&found, "S4", "is promised GPUs of node-1 that");
}

#[test]
fn s2_one_more_is_started_than_max() {
    let found = after(|fleet, now| {
        vec![
            created(fleet, 50, "one", now),
            placed(ReplicaId(50), seat("node-1", 4, 4), ON_DEMAND, now),
        ]
    });
    finds(&found, "S2", "one has started 2 replicas that count, at most 1");
    finds(&found, "S2", "one has 2 replicas that count, 1 are allowed");
}

fn claim(capacity_type: CapacityType, instances: u32, at: Timestamp) -> Event {
    let spec = claimed("hold", capacity_type, instances);
    let (claim, organization) = ("hold".into(), "acme".into());
    Event::Claim(Claims::Created { claim, organization, spec, at })
}

fn bound(node: &str, at: Timestamp) -> Event {
    Event::Claim(Claims::Bound { claim: "hold".into(), node: node.into(), at })
}

#[test]
fn s2_a_claim_holds_what_is_not_its_own_or_more_than_it_may() {
    let serverless = CapacityType::Serverless;
    let found = after(|_, at| vec![claim(serverless, 1, at), bound("node-3", at)]);
    finds(&found, "S2", "node-3 is not what the claim hold asks for");
    let found =
        after(|_, at| vec![claim(serverless, 1, at), bound("node-1", at), bound("node-2", at)]);
    finds(&found, "S2", "hold holds 2 instances and is to hold 1");
    let found = after(|_, at| vec![claim(CapacityType::Customer, 1, at)]);
    finds(&found, "S2", "hold makes 1 claimed instances of a quota of 0");
    let found = after(|_, at| {
        let deleted = Event::Claim(Claims::Deleted { claim: "hold".into(), at });
        vec![claim(serverless, 1, at), bound("node-2", at), deleted]
    });
    finds(&found, "S2", "node-2 is set aside for hold, which has ended");
}

#[test]
fn s3_on_demand_on_what_a_claim_holds() {
    let found = after(|fleet, at| {
        let on_demand = changed(fleet, "wait", at, |spec| spec.classes = vec![ON_DEMAND]);
        let node = NodeId::from("node-2");
        let (organization, claim_id) = ("acme".into(), Some("hold".into()));
        let compute_class = ComputeClass::Standard;
        let held_for = Some(HeldFor { organization, claim: claim_id, compute_class });
        vec![
            on_demand,
            claim(CapacityType::Serverless, 1, at),
            bound("node-2", at),
            Event::Node(Nodes::Held { node, held_for, at }),
            placed(of(fleet, "wait").id, seat("node-2", 0, 4), ON_DEMAND, at),
        ]
    });
    finds(&found, "S3", "stands on claimed capacity, which its classes forbid");
}

#[test]
fn s3_on_demand_on_spot_and_on_another_organizations_node() {
    let found = after(|fleet, now| {
        vec![
            created(fleet, 50, "one", now),
            held("node-3", "acme", now),
            placed(ReplicaId(50), seat("node-3", 0, 4), ON_DEMAND, now),
        ]
    });
    finds(&found, "S3", "stands on spot capacity, which its classes forbid");
    let found = after(|fleet, now| {
        let open = changed(fleet, "zeta-wait", now, |spec| spec.classes.clear());
        vec![open, placed(of(fleet, "zeta-wait").id, seat("node-1", 4, 4), ON_DEMAND, now)]
    });
    finds(&found, "S3", "node-1 is dedicated and holds acme and zeta");
    finds(&found, "S3", "stands there while the node serves acme");
}

#[test]
fn s3_a_superchip_is_sold_as_spot() {
    let found = after(|_, at| {
        let pool = Pool {
            id: PoolId::from("super"),
            zone: Zone::new(ZONE),
            sku: Sku::new("gb200-4x"),
            compute_class: ComputeClass::Spot,
            tenancy: Tenancy::Dedicated,
            owner: None,
        };
        let (pool_id, node) = (pool.id.clone(), NodeId::from("super-1"));
        let (join, key) = ("join-x".into(), "00".to_owned());
        vec![
            Event::Node(Nodes::PoolCreated { pool }),
            Event::Node(Nodes::Enrolled { node, pool: pool_id, join, key, at }),
        ]
    });
    finds(&found, "S3", "super-1 is sold as spot, which gb200-4x never is");
}

fn preempted(victim: ReplicaId, preemptor: ReplicaId, at: Timestamp) -> Vec<Event> {
    let deadline = at + Millis::from_seconds(30);
    let routes = wharfage_shared::gateway::RoutesVersion::default();
    let because = StopCause::Preempted;
    let seat = seat("node-1", 0, 4);
    vec![
        Event::Replica(Replicas::Leaving { replica: victim, because, deadline, routes, at }),
        Event::Replica(Replicas::Promised { replica: preemptor, seat, victims: vec![victim], at }),
    ]
}

#[test]
fn s4_the_victim_is_not_lower_or_of_another_organization_or_needed_for_min() {
    let found = after(|fleet, now| preempted(of(fleet, "one").id, of(fleet, "wait").id, now));
    finds(&found, "S4", "with priority 0 leaves for");
    finds(&found, "S4", "0 are left of its owner's min 1");
    let found = after(|fleet, now| preempted(of(fleet, "one").id, of(fleet, "zeta-wait").id, now));
    finds(&found, "S4", "of another organization");
    let found =
        after(|fleet, now| preempted(of(fleet, "one").id, of(fleet, "wait").id, now)[..1].to_vec());
    finds(&found, "S4", "nobody is promised its seat");
}

#[test]
fn s4_who_leaves_so_that_a_node_changes_hands_is_a_victim_wherever_it_stands_there() {
    let found = after(|fleet, now| {
        let mut events = preempted(of(fleet, "one").id, of(fleet, "zeta-wait").id, now);
        if let Event::Replica(Replicas::Promised { seat: kept, .. }) = &mut events[1] {
            *kept = seat("node-1", 4, 4);
        }
        events
    });
    finds(&found, "S4", "of another organization");
    finds(&found, "S4", "with priority 0 leaves for");
}

#[test]
fn s4_a_strictly_lower_victim_above_its_min_is_fair() {
    let found = after(|fleet, now| {
        let high = Priority::new(500).expect("in range");
        let bounds = Bounds::new(0, 1).expect("0 to 1");
        let mut events = vec![
            changed(fleet, "wait", now, |spec| spec.priority = high),
            changed(fleet, "one", now, |spec| spec.scaling.bounds = bounds),
        ];
        events.extend(preempted(of(fleet, "one").id, of(fleet, "wait").id, now));
        events
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn s6_a_placement_on_each_kind_of_closed_node() {
    let cordoned = || Intent::Cordoned { reason: "a test".to_owned() };
    let draining = || Intent::Draining { reason: "a test".to_owned() };
    for (intent, word) in
        [(cordoned(), "cordoned"), (draining(), "draining"), (Intent::Retired, "retired")]
    {
        let found = after(|fleet, at| {
            let (node, intent) = (NodeId::from("node-2"), intent.clone());
            vec![
                Event::Node(Nodes::IntentChanged { node, intent, at }),
                held("node-2", "acme", at),
                placed(of(fleet, "wait").id, seat("node-2", 0, 4), ON_DEMAND, at),
            ]
        });
        finds(&found, "S6", &format!("was placed on node-2, which is {word}"));
    }
}

#[test]
fn s6_a_placement_on_a_gpu_that_may_not_be_used() {
    let found = after(|fleet, at| {
        let node = NodeId::from("node-2");
        let taken = seat("node-2", 0, 4);
        let unfit = [(taken.gpus[0].clone(), "cordoned by XID 48".to_owned())].into();
        let hardware = Hardware { unfit, ..Hardware::default() };
        vec![
            Event::Node(Nodes::HardwareJudged { node, hardware, at }),
            held("node-2", "acme", at),
            placed(of(fleet, "wait").id, taken, ON_DEMAND, at),
        ]
    });
    finds(&found, "S6", "which is unfit: cordoned by XID 48");
}

fn notice(at: Timestamp) -> Event {
    let gone_at = at + Millis::from_seconds(60);
    let notice = NoticeFact {
        id: NoticeId::from("take"),
        kind: NoticeKind::Preempt,
        source: NoticeSource::Scheduler,
        leaves: Leaves::Node,
        heard_at: at,
        drain_at: gone_at,
        gone_at,
    };
    Event::Node(Nodes::Noticed { node: "node-2".into(), notice })
}

#[test]
fn s6_a_placement_after_our_own_notice_shows_in_the_rows_alone() {
    let found = after(|fleet, now| {
        let earlier = now.minus(Millis::from_seconds(5));
        vec![
            notice(earlier),
            held("node-2", "acme", now),
            placed(of(fleet, "wait").id, seat("node-2", 0, 4), ON_DEMAND, now),
        ]
    });
    finds(&found, "S6", "was placed after the notice take was given");
}

#[test]
fn s6_a_promise_on_a_node_that_closes() {
    let found = after(|fleet, at| {
        let (replica, seat) = (of(fleet, "wait").id, seat("node-2", 0, 4));
        let victims = Vec::new();
        vec![Event::Replica(Replicas::Promised { replica, seat, victims, at }), notice(at)]
    });
    finds(&found, "S6", "is still promised node-2, which is under a notice");
}

#[test]
fn s8_a_replica_gets_less_than_its_grace_or_a_later_deadline() {
    let leave = |fleet: &Fleet, at: Timestamp, seconds| {
        let (replica, because) = (of(fleet, "one").id, StopCause::Terminated);
        let deadline = at + Millis::from_seconds(seconds);
        let number = fleet.routes_number() + 1;
        let routes = wharfage_shared::gateway::RoutesVersion { term: Term(1), number };
        Event::Replica(Replicas::Leaving { replica, because, deadline, routes, at })
    };
    let found = after(|fleet, now| vec![leave(fleet, now, 10)]);
    finds(&found, "S8", "is given 20s less than its grace");

    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("one"));
    world.until(60, "it serves", |world| world.ready("one") == ["node-1"]);
    let mut before = world.fleet().clone();
    before.apply(&leave(world.fleet(), world.now, 30));
    let mut later = before.clone();
    let (replica, because) = (of(&before, "one").id, StopCause::Terminated);
    let deadline = world.now + Millis::from_seconds(60);
    later.apply(&Event::Replica(Replicas::Hastened { replica, because, deadline }));
    let found = invariants::check_step(&before, &later);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    finds(&found, "S8", "was put off");
}

#[test]
fn s9_a_term_or_an_epoch_falls_and_a_replica_comes_back() {
    let found = after(|_, at| vec![Event::Term { term: Term(0), at }]);
    finds(&found, "S9", "the term fell from 1 to 0");
    let found = after(|_, at| {
        let (node, boot) = (NodeId::from("node-1"), BootId::from("boot"));
        let (nonce, epoch) = ("nonce".to_owned(), Epoch(0));
        vec![Event::Node(Nodes::EpochIssued { node, boot, nonce, epoch, at })]
    });
    finds(&found, "S9", "the epoch of node-1 fell from 1 to 0");
    let found = after(|fleet, at| {
        let replica = of(fleet, "one").id;
        vec![Event::Replica(Replicas::PromiseWithdrawn { replica, at })]
    });
    finds(&found, "S9", "went back from");
    let found = after(|fleet, now| vec![created(fleet, 1, "one", now)]);
    finds(&found, "S9", "went back from");
}

#[test]
fn s10_a_decision_takes_what_is_guaranteed_to_others() {
    let contract = |at: Timestamp, instances| Contract {
        id: ContractId::from("c-1"),
        organization: "zeta".into(),
        region: Region::new("US-EAST-04"),
        sku: Sku::new(SKU),
        instances,
        start: at,
        end: at + Millis::from_seconds(86_400),
        terms: ContractTerms::Reserved { rate: "1".to_owned() },
    };
    let found = after(|_, at| {
        let signed = Money::Signed { contract: contract(at, 1), at };
        let started = Money::ContractStarted { contract: "c-1".into(), at };
        vec![Event::Money(signed), Event::Money(started), held("node-2", "acme", at)]
    });
    finds(&found, "S10", "a decision commits 3 of 2");
    let found = after(|_, at| {
        let signed = Money::Signed { contract: contract(at, 3), at };
        vec![Event::Money(signed)]
    });
    finds(&found, "S10", "c-1 guarantees 3");
}

#[test]
fn s11_what_is_settled_changes() {
    let mut before = World::with_nodes(1, 0).fleet().clone();
    let invoice = |body: &str| {
        Event::Money(Money::InvoiceDrafted {
            invoice: Box::new(Invoice {
                id: "i-1".to_owned(),
                organization: "acme".into(),
                from: START,
                to: START + Millis::from_seconds(1),
                as_of: START,
                drafted_at: START,
                rules: 1,
                body: body.to_owned(),
                sha256: String::new(),
            }),
        })
    };
    before.apply(&invoice("first"));
    before.apply(&segment(1, 0, 10));
    let mut later = before.clone();
    later.apply(&invoice("second"));
    later.apply(&segment(1, 0, 20));
    let found = invariants::check_step(&before, &later);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    finds(&found, "S11", "the invoice i-1 changed");
    finds(&found, "S11", "segment 1 of node-1 was counted and changed");
}

#[test]
fn s12_a_replica_is_closed_while_its_node_may_run_it_or_ends_without_proof() {
    let found = after(|fleet, at| {
        let (replica, because) = (of(fleet, "one").id, StopCause::NodeLost);
        vec![Event::Replica(Replicas::Closed { replica, because, at })]
    });
    finds(&found, "S12", "was closed (its node was lost) while its node may still run it");
    let found = after(|fleet, at| {
        let (replica, because) = (of(fleet, "one").id, StopCause::Terminated);
        vec![Event::Replica(Replicas::Dropped { replica, because, at })]
    });
    finds(&found, "S12", "has ended, and nobody said how");
}

fn segment(number: u64, start: u64, end: u64) -> Event {
    let key = SegmentKey { node: "node-1".into(), boot: "b".into(), log: "l".into(), number };
    let segment = Segment {
        key,
        epoch: Epoch(1),
        held_for: None,
        activity: Activity::Serving,
        replicas: Vec::new(),
        start: Boottime(start),
        end: Boottime(end),
    };
    Event::Meter(Meter::SegmentClosed { segment: Box::new(segment), at: START })
}

#[test]
fn time_is_counted_twice_or_before_it_has_passed() {
    let found = after(|_, _| vec![segment(1, 0, 10), segment(2, 9, 20)]);
    finds(&found, "meter", "segment 2 of node-1 overlaps the one before it");
    let found = after(|_, _| vec![segment(1, 10, 0)]);
    finds(&found, "meter", "segment 1 of node-1 ends before it starts");
    let found = after(|_, at| {
        let proven_until = at + Millis::from_seconds(5);
        vec![Event::Meter(Meter::Tick { at, proven_until, behind: Vec::new() })]
    });
    finds(&found, "meter", "5s of the future are proven");
}

#[test]
fn a_row_names_what_does_not_exist() {
    let found = after(|_, at| {
        let (token, organization) = ("t-1".into(), "nobody".into());
        let (roles, name, sha256) = ([].into(), String::new(), "00".to_owned());
        let event = Access::TokenCreated { token, organization, roles, name, sha256, at };
        vec![Event::Access(event)]
    });
    finds(&found, "references", "t-1 is of the unknown organization nobody");
    let found = after(|fleet, at| {
        let replica = of(fleet, "wait").id;
        vec![placed(replica, seat("nowhere", 0, 4), ON_DEMAND, at)]
    });
    finds(&found, "references", "is on the unknown node nowhere");
    let found =
        after(|_, _| vec![Event::Deployment(Deployments::Removed { deployment: id("one") })]);
    finds(&found, "references", "is of the unknown deployment one");
}

#[test]
fn a_replica_that_has_ended_with_proof_is_forgotten_and_no_other_one() {
    let found = after(|fleet, at| {
        let row = of(fleet, "one");
        assert_eq!(row.phase.seen().map(|seen| seen.phase), Some(ReportedPhase::Ready));
        assert!(matches!(row.phase, Phase::Placed { .. }));
        let (replica, because, ended) = (row.id, StopCause::Crashed, Ended::Unknown);
        vec![
            Event::Replica(Replicas::Gone { replica, because, ended, at }),
            Event::Node(Nodes::Held { node: "node-1".into(), held_for: None, at }),
        ]
    });
    assert_eq!(found, Vec::<String>::new());
}
