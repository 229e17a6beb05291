//! Figures P1 and P3: placements a second in the core with the view published each time, and the
//! cost of a steady heartbeat. Prints a table; arguments name the fleet sizes.
//!
//! Every time is CPU time of the one thread that decides, so that other work on the machine does
//! not count.

mod fleet;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wharfage_scheduler_core::capacity::ask::Ask;
use wharfage_scheduler_core::policies::preemption;
use wharfage_scheduler_core::words::command::deployments;
use wharfage_scheduler_core::words::deployment::{Bounds, Priority, Scaling, Spec};
use wharfage_scheduler_core::words::event;
use wharfage_scheduler_core::words::replica::Phase;
use wharfage_scheduler_core::{Action, Event, Heard, PriorityScope, explain};
use wharfage_shared::ids::{DeploymentId, NodeId, ReplicaId};
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::replica::{Ended, Gone};
use wharfage_shared::time::Boottime;

use self::fleet::{BenchFleet, NOW, create, deployment, spec};

fn main() {
    let sizes = std::env::args().filter_map(|argument| argument.parse().ok());
    let mut sizes: Vec<usize> = sizes.collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    println!("times are CPU times of one thread; a second = a CPU second");
    let heads = ["what", "nodes", "a second", "mean us", "p50 us", "p99 us"];
    let [what, nodes, rate, mean, p50, p99] = heads;
    println!("{what:<44} {nodes:>8} {rate:>12} {mean:>10} {p50:>10} {p99:>10}");
    let mut before: Option<(usize, f64)> = None;
    for nodes in sizes {
        let mean = measure(nodes);
        if let Some((fewer, then)) = before {
            let growth = mean / then;
            println!("one placement costs {growth:.2} times as much as at {fewer} nodes");
        }
        before = Some((nodes, mean));
    }
}

/// The mean of one placement, in microseconds.
fn measure(nodes: usize) -> f64 {
    let mut fleet = BenchFleet::new(nodes);
    let mut filling = Vec::new();
    // Asks of 1, 2, 4 and 8 GPUs until nine tenths of the fleet are taken.
    let mut gpus = 0;
    let mut number = 0;
    while gpus < nodes * 8 * 9 / 10 {
        let ask = [1, 2, 4, 8][number % 4];
        filling.push(fleet.place(number, ask));
        gpus += ask as usize;
        number += 1;
    }
    let mean = report("create, place, publish, one by one", nodes, &mut filling);
    let batch = 100;
    let mut batches = Vec::new();
    while batches.len() * batch * 2 < nodes {
        batches.push(fleet.place_many(number, batch as u32) / batch as u32);
        number += 1;
    }
    report("placements of 100 in one record, each", nodes, &mut batches);
    // Whole nodes until nothing fits any more; then each freed node is given to the next.
    fleet.place(number, 8);
    while fleet.is_placed(number) {
        number += 1;
        fleet.place(number, 8);
    }
    let mut refilling = Vec::new();
    for (replica, of, node) in fleet.placed(8).into_iter().take(500) {
        number += 1;
        fleet.place(number, 8);
        refilling.push(fleet.free(replica, of, node));
        assert!(fleet.is_placed(number - 1), "the freed node is given to the oldest");
    }
    report("placement on a full fleet, 8 GPUs freed", nodes, &mut refilling);
    let mut steady = fleet.steady_heartbeats(20_000);
    report("steady heartbeat, 8 GPUs and 8 replicas", nodes, &mut steady);
    report("preemption, everybody above min", nodes, &mut fleet.preemptions(number, 0));
    report("preemption, nobody above min", nodes, &mut fleet.preemptions(number, 1));
    report("tick with nothing to do", nodes, &mut fleet.idle_ticks());
    report("why it waits, rendered", nodes, &mut fleet.explanations(number));
    let full = fleet.clone();
    let mut noticed = fleet.notices(nodes.min(1000));
    drop(fleet);
    let sum: Duration = noticed.iter().sum();
    report("a node is noticed on a full fleet", nodes, &mut noticed);
    let (count, ms) = (noticed.len(), sum.as_secs_f64() * 1e3);
    println!("{count} of {nodes} nodes noticed at once: {ms:.1} ms in all");
    let mut nearly = full.nearly_full(number);
    report("placements at 95 % full, asks of 8 waiting", nodes, &mut nearly);
    mean
}

/// Prints a row; the mean in microseconds.
fn report(what: &str, nodes: usize, took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    let sum: Duration = took.iter().sum();
    let rate = took.len() as f64 / sum.as_secs_f64();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1000].as_nanos() as f64 / 1000.0;
    let (mean, p50, p99) = (1_000_000.0 / rate, at(500), at(990));
    println!("{what:<44} {nodes:>8} {rate:>12.0} {mean:>10.1} {p50:>10.1} {p99:>10.1}");
    mean
}

/// How often an explanation is made, of a small fleet.
const MOST_EXPLAINED: usize = 200;

/// CPU time of this thread at one moment.
struct CpuTime(Duration);

impl CpuTime {
    fn now() -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Self(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

impl BenchFleet {
    /// A new deployment of one replica, decided and published.
    fn place(&mut self, number: usize, gpus: u32) -> Duration {
        self.create(number, spec(number, gpus, 1))
    }

    /// A new deployment of several replicas of one GPU, decided and published at once.
    fn place_many(&mut self, number: usize, replicas: u32) -> Duration {
        self.create(number, spec(number, 1, replicas))
    }

    fn create(&mut self, number: usize, spec: Spec) -> Duration {
        let command = create(number, spec);
        let begun = CpuTime::now();
        let decided = self.controller.submit(NOW, command);
        self.publish();
        let took = begun.elapsed();
        decided.expect("the benchmark's commands are sound");
        took
    }

    fn is_placed(&self, number: usize) -> bool {
        let fleet = self.controller.fleet();
        fleet.replicas_of(&deployment(number)).all(|replica| replica.phase.holds().is_some())
    }

    /// Replicas of so many GPUs that are placed, in the order of their ids, with their deployments
    /// and the numbers of their nodes.
    fn placed(&self, gpus: usize) -> Vec<(ReplicaId, DeploymentId, usize)> {
        let numbers: BTreeMap<&NodeId, usize> =
            self.nodes.iter().enumerate().map(|(number, node)| (node, number)).collect();
        let rows = self.controller.fleet().replicas().filter_map(|row| match &row.phase {
            Phase::Placed { seat, .. } if seat.gpus.len() == gpus => {
                Some((row.id, row.deployment.clone(), *numbers.get(&seat.node)?))
            }
            _ => None,
        });
        rows.collect()
    }

    /// A replica is reported gone: what waits takes its place.
    fn free(&mut self, replica: ReplicaId, of: DeploymentId, node: usize) -> Duration {
        self.submit(Action::Deployment(deployments::Action::Delete { id: of }));
        let gone = Gone {
            replica,
            ended: Ended::Exited { code: 0 },
            processes_gone_at: Boottime(1),
            memory_back_at: Boottime(1),
            memory: Vec::new(),
        };
        let heartbeat = self.heartbeat(node, vec![gone]);
        let heard = Heard::Heartbeat(Box::new(heartbeat));
        let begun = CpuTime::now();
        let decided = self.controller.observe(NOW, heard);
        self.publish();
        let took = begun.elapsed();
        assert!(!decided.events.is_empty(), "a proof is a fact");
        took
    }

    fn steady_heartbeats(&mut self, count: usize) -> Vec<Duration> {
        for number in 0..self.nodes.len() {
            let heartbeat = self.heartbeat(number, Vec::new());
            self.observe(heartbeat);
        }
        let mut took = Vec::with_capacity(count);
        for turn in 0..count {
            let number = turn % self.nodes.len();
            let heartbeat = self.heartbeat(number, Vec::new());
            let heard = Heard::Heartbeat(Box::new(heartbeat));
            let begun = CpuTime::now();
            let decided = self.controller.observe(NOW, heard);
            took.push(begun.elapsed());
            assert_eq!(decided.events, Vec::new(), "a steady heartbeat is no fact");
        }
        took
    }

    /// A higher priority looks for victims where every deployment has this `min`.
    fn preemptions(&self, number: usize, min: u32) -> Vec<Duration> {
        let mut fleet = self.controller.fleet().clone();
        let ids: Vec<DeploymentId> = fleet.deployments().map(|row| row.id.clone()).collect();
        for deployment in ids {
            let most = fleet.deployment(&deployment).map_or(1, |row| row.desired.max(1));
            let bounds = Bounds::new(min * most, most).expect("in order");
            let scaling = Scaling::coreweave(bounds, None);
            let changed =
                event::deployment::Event::SettingsChanged { deployment, scaling, at: NOW };
            fleet.apply(&Event::Deployment(changed));
        }
        let mut took = Vec::new();
        for turn in 0..500 {
            let mut spec = spec(number + turn, [1, 2, 4, 8][turn % 4], 1);
            spec.priority = Priority::new(900).expect("in range");
            let id: DeploymentId = format!("high-{turn}").as_str().into();
            let (deployment, spec) = (id.clone(), spec.into());
            let organization = "acme".into();
            fleet.apply(&Event::Deployment(event::deployment::Event::Created {
                deployment,
                organization,
                spec,
                at: NOW,
            }));
            let row = fleet.deployment(&id).expect("it was created");
            let ask = Ask::of(&fleet, row);
            let begun = CpuTime::now();
            let decision = preemption::decide(&fleet, PriorityScope::Organization, row, &ask);
            took.push(begun.elapsed());
            assert_eq!(decision.is_some(), min == 0, "who is above min has to go");
        }
        took
    }

    /// A twentieth of the GPUs is free, one by one, and asks for whole nodes keep coming, which
    /// find neither room nor victims: the time of each placement of one GPU beside them.
    fn nearly_full(mut self, mut number: usize) -> Vec<Duration> {
        let free = self.nodes.len() * 8 / 20;
        for (replica, of, node) in self.placed(1).into_iter().take(free) {
            self.free(replica, of, node);
        }
        let batch = 50;
        let mut took = Vec::new();
        while (took.len() + 1) * batch < free.min(20_000) {
            let mut whole = spec(number + 1, 8, 1);
            whole.priority = Priority::new(900).expect("in range");
            let waits = self.create(number + 1, whole);
            let places = self.create(number + 2, spec(number + 2, 1, batch as u32));
            assert!(self.is_placed(number + 2), "there is room for single GPUs");
            took.push((waits + places) / batch as u32);
            number += 2;
        }
        took
    }

    fn idle_ticks(&mut self) -> Vec<Duration> {
        self.controller.tick(NOW);
        let tick = |_| {
            let begun = CpuTime::now();
            let decided = self.controller.tick(NOW);
            let took = begun.elapsed();
            assert_eq!(decided.events, Vec::new(), "nothing was due");
            took
        };
        (0..500).map(tick).collect()
    }

    fn explanations(&self, number: usize) -> Vec<Duration> {
        let fleet = self.controller.fleet();
        let waits = fleet.replicas_of(&deployment(number)).next().expect("the last one waits").id;
        let explain = |_| {
            let begun = CpuTime::now();
            let why = explain::replica(fleet, self.controller.policy(), waits, NOW);
            let text = why.expect("it exists").json();
            let took = begun.elapsed();
            let each = text.windows(r#"{"rule":"not_enough_gpus""#.len());
            let named = each.filter(|part| *part == br#"{"rule":"not_enough_gpus""#).count();
            assert_eq!(named, self.nodes.len(), "every node is full");
            took
        };
        (0..MOST_EXPLAINED.min(2_000_000 / self.nodes.len())).map(explain).collect()
    }

    /// So many nodes report a notice, one after another.
    fn notices(&mut self, count: usize) -> Vec<Duration> {
        let mut took = Vec::with_capacity(count);
        for number in 0..count {
            let mut heartbeat = self.heartbeat(number, Vec::new());
            heartbeat.notices.push(Notice {
                id: format!("notice-{number}").as_str().into(),
                kind: NoticeKind::Preempt,
                source: NoticeSource::File,
                leaves: Leaves::Node,
                heard_at: Boottime(1000),
                gone_at: Boottime(121_000),
                certainty: Certainty::Certain,
                can_acknowledge: false,
                can_be_withdrawn: true,
            });
            let heard = Heard::Heartbeat(Box::new(heartbeat));
            let begun = CpuTime::now();
            let decided = self.controller.observe(NOW, heard);
            took.push(begun.elapsed());
            assert!(!decided.events.is_empty(), "a notice is a fact");
        }
        took
    }
}
