//! XIDs, gates and the verdict: what closes a GPU, what closes the node, what brings them back.

use proptest::prelude::*;
use wharfage_agent_core::health::policy::{BadPolicy, PolicyFile, SHIPPED, XidPolicy};
use wharfage_agent_core::health::{Evidence, Memory, Saw, Settings, XidSeen, XidSource};
use wharfage_agent_core::input::FoundReplica;
use wharfage_agent_core::{Agent, Config, Effect, Found, Input};
use wharfage_shared::health::{Action, Ask, Asked, GateId, GateState, Health, NodeHealth, Repair};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::order::RunOrder;
use wharfage_shared::telemetry::{GpuIdentity, Inventory};
use wharfage_shared::time::Boottime;

use crate::builders::order;
use crate::host::Host;

pub fn policy() -> XidPolicy {
    let file: PolicyFile = toml::from_str(SHIPPED).expect("the shipped policy is TOML");
    XidPolicy::default().overridden_by(file).expect("the shipped policy is consistent")
}

fn identity(number: usize) -> GpuIdentity {
    let uuid = GpuUuid::from(format!("GPU-{number}").as_str());
    GpuIdentity::whole(uuid, "H100", 81_559)
}

/// An instance of the first GPU.
fn instance(number: usize) -> GpuIdentity {
    let uuid = GpuUuid::from(format!("MIG-{number}").as_str());
    GpuIdentity { uuid, part_of: Some(identity(0).uuid.into()), ..identity(0) }
}

fn seen(at: Boottime, xid: u32, text: String, source: XidSource, sequence: Option<u64>) -> XidSeen {
    XidSeen { at, gpu: None, parts: Vec::new(), pci: None, xid, text, source, sequence }
}

/// A node of two GPUs whose agent hears what is told, second by second.
pub struct Node {
    agent: Agent,
    memory: Memory,
    now: u64,
    records: u64,
}

impl Node {
    fn new() -> Self {
        Self::remembering(Memory::default(), "boot-1")
    }

    fn remembering(memory: Memory, boot: &str) -> Self {
        Self::running(memory, boot, None)
    }

    /// A node on whose first GPU a replica of this model runs.
    fn running(memory: Memory, boot: &str, model: Option<&str>) -> Self {
        let adopted = model.map(|model| FoundReplica {
            order: RunOrder {
                gpus: vec![identity(0).uuid],
                model_name: model.to_owned(),
                ..order(1)
            },
            address: None,
            started_at: Boottime(0),
            was_ready: true,
            ended: None,
        });
        let replicas = adopted.into_iter().collect();
        let (health, records) = (memory.clone(), memory.sequence);
        let mut found = Found { health, boot: boot.into(), replicas, ..Host::found() };
        found.inventory.gpus = (0..2).map(identity).collect();
        let health = Settings { policy: policy(), ..Settings::default() };
        let (agent, _) = Agent::new(found, Config { health, ..Config::default() });
        Self { agent, memory, now: 100, records }
    }

    pub fn qualified() -> Self {
        let mut node = Self::new();
        node.looks(Saw::Pass);
        assert_eq!(node.verdict().node, NodeHealth::Fit);
        node
    }

    fn tell(&mut self, input: Input) {
        for effect in self.agent.step(Boottime(self.now * 1000), input) {
            if let Effect::KeepHealth(memory) = effect {
                self.memory = *memory;
            }
        }
    }

    fn look(&mut self, gate: u8, gpu: Option<usize>, saw: Saw) {
        let gate = GateId::new(gate).expect("a gate");
        let gpu = gpu.map(|gpu| identity(gpu).uuid);
        let evidence = format!("{gate} saw {saw:?}");
        self.tell(Input::Evidence(vec![Evidence { gate, gpu, saw, evidence }]));
    }

    /// Every gate is looked at and sees the same.
    fn looks(&mut self, saw: Saw) {
        let look = |gate, gpu| Evidence { gate, gpu, saw, evidence: "seen".to_owned() };
        let mut all: Vec<Evidence> = GateId::of_node().map(|gate| look(gate, None)).collect();
        for gpu in 0..2 {
            all.extend(GateId::of_gpu().map(|gate| look(gate, Some(identity(gpu).uuid))));
        }
        self.tell(Input::Evidence(all));
    }

    pub fn xid(&mut self, xid: u32, gpu: usize) {
        self.xid_says(xid, gpu, XidSource::Kmsg, "");
    }

    pub fn xid_says(&mut self, xid: u32, gpu: usize, source: XidSource, text: &str) {
        self.records += 1;
        let sequence = (source == XidSource::Kmsg).then_some(self.records);
        let (at, gpu) = (Boottime(self.now * 1000), Some(identity(gpu).uuid));
        let text = text.to_owned();
        self.tell(Input::Xid(XidSeen { gpu, ..seen(at, xid, text, source, sequence) }));
    }

    pub fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds;
        self.tell(Input::Wake);
        self
    }

    /// The first GPU is split into two instances, and all of it is well.
    pub fn split() -> Self {
        let mut node = Self::qualified();
        let slots = [instance(1), instance(2), identity(1)];
        let gpus = slots.to_vec();
        node.tell(Input::Inventory(Inventory { gpus, ..Inventory::default() }));
        let look = |gpu: &GpuIdentity, gate| Evidence {
            gate,
            gpu: Some(gpu.uuid.clone()),
            saw: Saw::Pass,
            evidence: "seen".to_owned(),
        };
        let looks = slots.iter().flat_map(|gpu| GateId::of_gpu().map(move |gate| look(gpu, gate)));
        node.tell(Input::Evidence(looks.collect()));
        assert_eq!(node.gpus(), [None, None, None]);
        node
    }

    /// An XID of the first GPU, or of these instances of it.
    pub fn xid_of_parts(&mut self, xid: u32, parts: &[usize]) -> &mut Self {
        let (at, gpu) = (Boottime(self.now * 1000), Some(identity(0).uuid));
        let parts = parts.iter().map(|part| instance(*part).uuid).collect();
        let told = seen(at, xid, String::new(), XidSource::Nvml, None);
        self.tell(Input::Xid(XidSeen { gpu, parts, ..told }));
        self
    }

    pub fn verdict(&self) -> Health {
        (*self.agent.report(Boottime(self.now * 1000)).health).clone()
    }

    /// Why each GPU is unfit.
    pub fn gpus(&self) -> Vec<Option<String>> {
        let because = |gpu: wharfage_shared::health::GpuHealth| gpu.unfit.map(|why| why.because);
        self.verdict().gpus.into_iter().map(because).collect()
    }

    pub fn asks(&self) -> Vec<Asked> {
        self.verdict().asks.iter().map(|ask| ask.what).collect()
    }
}

#[test]
fn a_gate_that_nobody_looked_at_keeps_the_node_qualifying_and_each_gpu_closed() {
    let mut node = Node::new();
    assert_eq!(node.verdict().node, NodeHealth::Qualifying);
    assert!(node.gpus().iter().all(Option::is_some));
    node.looks(Saw::Unknown);
    assert!(matches!(node.verdict().node, NodeHealth::Unfit(_)), "unknown is no pass");
    node.looks(Saw::NotApplicable);
    assert_eq!(node.verdict().node, NodeHealth::Fit, "what is not there cannot fail");
}

#[test]
fn a_gpu_that_fails_a_gate_is_closed_alone_and_returns_after_three_passes_over_a_minute() {
    let mut node = Node::qualified();
    node.look(8, Some(1), Saw::Fail);
    assert_eq!(node.gpus(), [None, Some("gate G8 (row remapping) fails: G8 saw Fail".to_owned())]);
    assert_eq!(node.verdict().node, NodeHealth::Fit);
    // What is open of incidents is looked at by the node itself.
    for gate in [4, 5, 6, 7, 8, 10, 11, 12, 13, 15] {
        let mut node = Node::qualified();
        node.look(gate, Some(1), Saw::Fail);
        let closed = node.gpus()[1].clone().expect("it is closed");
        assert!(closed.starts_with(&format!("gate G{gate} (")), "{closed}");
        for (wait, closed) in [(20, true), (20, true), (20, true), (20, false)] {
            node.later(wait).look(gate, Some(1), Saw::Pass);
            assert_eq!(node.gpus()[1].is_some(), closed, "G{gate} at {} s", node.now);
            assert_eq!(node.gpus()[0], None, "the other one is well");
        }
    }
}

#[test]
fn a_gate_of_the_node_closes_the_node_and_the_inhibitor_only_spot() {
    let mut node = Node::qualified();
    node.look(18, None, Saw::Fail);
    let verdict = node.verdict();
    assert_eq!(verdict.node, NodeHealth::Fit);
    assert!(verdict.no_spot.expect("said").because.contains("G18"));
    node.look(16, None, Saw::Fail);
    let NodeHealth::Unfit(unfit) = node.verdict().node else { panic!("the disk is full") };
    assert_eq!((unfit.rule.as_str(), unfit.because.contains("disk")), ("G16", true));
}

#[test]
fn a_gate_that_its_owner_switched_off_is_shown_and_decides_nothing() {
    let disk = GateId::new(16).expect("a gate");
    let mut found = Host::found();
    found.inventory.gpus = vec![identity(0)];
    let off = [(disk, "a small disk".to_owned())].into();
    let health = Settings { policy: policy(), off };
    let (agent, _) = Agent::new(found, Config { health, ..Config::default() });
    let mut node = Node { agent, memory: Memory::default(), now: 100, records: 0 };
    node.looks(Saw::Pass);
    node.look(16, None, Saw::Fail);
    let verdict = node.verdict();
    assert_eq!(verdict.node, NodeHealth::Fit);
    let gate = verdict.gates.iter().find(|gate| gate.id == disk).expect("it is shown");
    assert_eq!(gate.state, GateState::Off { reason: "a small disk".to_owned() });
}

#[test]
fn xid_79_closes_the_node_and_asks_for_its_drain_and_reboot() {
    let mut node = Node::qualified();
    node.xid(79, 0);
    let NodeHealth::Unfit(unfit) = node.verdict().node else { panic!("the node is closed") };
    assert_eq!(unfit.because, "cordoned by XID 79: the GPU has fallen off the bus");
    assert_eq!(unfit.rule, "XID 79");
    assert_eq!(node.asks(), [Asked::Drain, Asked::Reboot]);
    assert!(node.verdict().asks.iter().all(|ask| ask.gpu.is_none()));
}

#[test]
fn an_xid_on_a_split_gpu_is_one_incident_that_closes_its_instances() {
    let mut node = Node::split();
    // The kernel's log names the GPU, and so does NVML; a drill may name an instance.
    for (gpu, source) in [
        (identity(0), XidSource::Nvml),
        (identity(0), XidSource::Kmsg),
        (instance(2), XidSource::Nvml),
    ] {
        let at = Boottime(node.now * 1000);
        let (gpu, text) = (Some(gpu.uuid), String::new());
        node.tell(Input::Xid(XidSeen { gpu, ..seen(at, 119, text, source, None) }));
    }
    let verdict = node.verdict();
    assert_eq!(verdict.incidents.len(), 1, "{:?}", verdict.incidents);
    assert_eq!(verdict.incidents[0].gpu, Some(identity(0).uuid));
    let [first, second, other] = &node.gpus()[..] else { panic!("three slots") };
    assert_eq!((first.is_some(), second.is_some(), other.is_some()), (true, true, false));
    let of = |ask: &Ask| (ask.what, ask.gpu.as_ref().map(GpuUuid::to_string));
    let asks: Vec<_> = verdict.asks.iter().map(of).collect();
    let asks: Vec<_> = asks.iter().map(|(what, gpu)| (*what, gpu.as_deref())).collect();
    assert_eq!(
        asks,
        [
            (Asked::RestartReplica, Some("MIG-1")),
            (Asked::RestartReplica, Some("MIG-2")),
            (Asked::Drain, Some("MIG-1")),
            (Asked::Drain, Some("MIG-2")),
            (Asked::Reset, Some("GPU-0")),
        ],
        "what runs there leaves its slots, and the GPU is reset whole"
    );
    node.later(10).tell(Input::Repaired { gpu: Some(instance(1).uuid), by: Repair::Reset });
    assert_eq!(node.asks(), [], "who names an instance means its GPU");
}

#[test]
fn in_a_burst_the_worst_wins_and_a_new_burst_is_a_new_incident() {
    let mut node = Node::qualified();
    node.xid(45, 0);
    node.later(100).xid(13, 0);
    node.later(100).xid(119, 0);
    node.later(100).xid(45, 0);
    let incidents = node.verdict().incidents;
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!((incidents[0].action, &incidents[0].xids[..]), (Action::Reset, &[45, 13, 119][..]));
    assert_eq!(node.asks(), [Asked::RestartReplica, Asked::Drain, Asked::Reset]);
    assert_eq!(node.gpus()[1], None, "the other GPU may be used");
    node.later(181).xid(43, 0);
    assert_eq!(node.verdict().incidents.len(), 2);
}

#[test]
fn xid_45_beside_another_one_says_nothing_and_alone_restarts_the_replica() {
    let mut node = Node::qualified();
    node.xid(43, 0);
    node.xid(45, 0);
    assert_eq!(node.verdict().incidents[0].action, Action::Record);
    node.xid(45, 1);
    assert_eq!(node.verdict().incidents[1].action, Action::RestartReplica);
    node.later(200);
    assert_eq!(node.asks(), [], "a mild incident passes by itself");
    assert_eq!(node.verdict().incidents[1].closed, Some(Repair::Passed));
}

#[test]
fn the_driver_names_what_a_gpu_needs_and_a_milder_word_does_not_undo_a_worse_xid() {
    let mut node = Node::qualified();
    let says = "154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)";
    node.xid_says(154, 0, XidSource::Kmsg, says);
    assert_eq!(node.verdict().incidents[0].action, Action::Reboot);
    let says = "154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)";
    node.xid(119, 1);
    node.xid_says(154, 1, XidSource::Kmsg, says);
    assert_eq!(node.verdict().incidents[1].action, Action::Reset);
}

#[test]
fn an_incident_is_closed_by_an_operator_and_the_gpu_qualifies_anew() {
    let mut node = Node::qualified();
    node.xid(119, 0);
    node.later(10).tell(Input::Repaired { gpu: Some(identity(0).uuid), by: Repair::Operator });
    assert_eq!(node.asks(), []);
    assert!(node.gpus()[0].is_some(), "it has not passed three times yet");
    for _ in 0..4 {
        node.later(25).looks(Saw::Pass);
    }
    assert_eq!(node.gpus(), [None, None]);
}

#[test]
fn a_reboot_closes_what_was_open_and_after_two_that_did_not_help_the_gpu_is_replaced() {
    let mut memory = Memory::default();
    for (boot, expected) in [("boot-1", Action::Reset), ("boot-2", Action::Reset)] {
        let mut node = Node::remembering(memory, boot);
        node.looks(Saw::Pass);
        node.xid(119, 0);
        assert_eq!(node.verdict().incidents.last().expect("one").action, expected);
        memory = node.memory;
    }
    let mut node = Node::remembering(memory, "boot-3");
    node.looks(Saw::Pass);
    assert!(node.gpus()[0].is_some(), "it qualifies anew after its incident");
    assert_eq!(node.gpus()[1], None);
    node.xid(119, 0);
    assert_eq!(node.asks(), [Asked::RestartReplica, Asked::Drain, Asked::Replace]);
}

#[test]
fn a_new_agent_of_the_same_boot_goes_on_with_the_incident_and_hears_no_record_twice() {
    let mut node = Node::qualified();
    node.xid(119, 0);
    let mut next = Node::remembering(node.memory, "boot-1");
    next.looks(Saw::Pass);
    assert!(next.gpus()[0].as_deref().expect("closed").contains("XID 119"));
    next.records = 0;
    next.xid(31, 1);
    assert_eq!(next.verdict().incidents.len(), 1, "the kernel's log is read from its beginning");
}

#[test]
fn a_log_that_counts_anew_is_heard_and_a_storm_stays_one_short_incident() {
    let mut node = Node::qualified();
    node.records = u64::MAX - 1;
    node.xid(13, 0);
    // Its numbers go back; its records are younger.
    node.records = 0;
    node.later(1).xid(119, 1);
    assert_eq!(node.verdict().incidents.len(), 2);
    node.records = 0;
    node.xid(48, 1);
    assert_eq!(node.verdict().incidents[1].xids, [119], "the same records again are old news");
    for xid in 200..400 {
        node.later(1).xid(xid, 1);
    }
    let storm = &node.verdict().incidents[1];
    assert_eq!((storm.xids.len(), storm.xids[0], storm.xids[31]), (32, 119, 399));
    assert_eq!(storm.action, Action::Reset, "what decided stays");
    // A record of the future ends like any other.
    let gpu = Some(identity(0).uuid);
    let told = seen(Boottime(u64::MAX), 31, String::new(), XidSource::Nvml, None);
    node.tell(Input::Xid(XidSeen { gpu, ..told }));
    node.later(200);
    assert!(node.verdict().incidents.iter().all(|one| one.closed.is_some() || one.xids[0] == 119));
}

#[test]
fn an_injected_xid_is_marked_everywhere_and_starts_no_count_of_repairs() {
    let mut node = Node::qualified();
    node.xid_says(79, 0, XidSource::Injected, "");
    let verdict = node.verdict();
    assert!(verdict.incidents[0].injected && verdict.asks.iter().all(|ask| ask.injected));
    let NodeHealth::Unfit(unfit) = verdict.node else { panic!("the node is closed") };
    assert!(unfit.because.starts_with("cordoned by XID 79 (injected)"), "{}", unfit.because);
    node.tell(Input::Repaired { gpu: None, by: Repair::Reboot });
    assert_eq!(node.memory.repairs, []);
}

#[test]
fn a_policy_file_overrides_rows_and_is_refused_with_what_is_wrong() {
    let file = |text: &str| toml::from_str::<PolicyFile>(text).map_err(|error| error.to_string());
    let own = file("[[rule]]\nxids=[13]\nwhat=\"ours\"\naction=\"record\"\n").expect("read");
    let policy = policy().overridden_by(own).expect("consistent");
    assert_eq!(policy.rule(13).action, Action::Record);
    assert_eq!(policy.rule(31).action, Action::RestartReplica);
    assert_eq!(policy.rule(9_999).action, Action::CordonGpu);
    for (bad, expected) in [
        ("[[rule]]\nxids=[13]\nwhat=\"w\"\naction=\"explode\"\n", "unknown variant `explode`"),
        (
            "[[rule]]\nxids=[13]\nwhat=\"w\"\naction=\"record\"\ncolour=1\n",
            "unknown field `colour`",
        ),
    ] {
        assert!(file(bad).expect_err("refused").contains(expected), "{bad}");
    }
    let refused = |text: &str| -> BadPolicy {
        let file = file(text).expect("it is TOML");
        XidPolicy::default().overridden_by(file).expect_err("refused")
    };
    let twice = "[[rule]]\nxids=[13,13]\nwhat=\"w\"\naction=\"record\"\n";
    assert!(refused(twice).to_string().contains("rule 1: XID 13 stands in rule 1 too"));
    let none = "[[rule]]\nxids=[]\nwhat=\"w\"\naction=\"record\"\n";
    assert!(refused(none).to_string().contains("at least one XID"));
}

#[test]
fn faults_of_programs_close_a_gpu_when_they_come_from_different_models() {
    for (models, closes) in [(["a", "a", "a"], false), (["a", "b", "a"], true)] {
        let mut node = Node::qualified();
        for model in models {
            let now = node.now;
            node = Node::running(node.memory, "boot-1", Some(model));
            node.now = now;
            node.looks(Saw::Pass);
            node.later(300).xid(31, 0);
        }
        assert_eq!(node.gpus()[0].is_some(), closes, "{models:?}");
    }
}

proptest! {
    #[test]
    fn unknown_and_failed_gates_never_leave_their_subject_fit(
        looks in proptest::collection::vec((2u8..=21, 0usize..2, 0u8..4, 0u64..40), 1..60),
    ) {
        let mut node = Node::qualified();
        for (gate, gpu, saw, wait) in looks {
            let saw = [Saw::Pass, Saw::Fail, Saw::Unknown, Saw::NotApplicable][usize::from(saw)];
            let of_node = GateId::of_node().any(|id| Some(id) == GateId::new(gate));
            node.later(wait).look(gate, (!of_node).then_some(gpu), saw);
            let verdict = node.verdict();
            for gate in &verdict.gates {
                let stops = matches!(gate.state, GateState::Fail | GateState::Unknown);
                let closed = match &gate.gpu {
                    Some(gpu) => {
                        let own = verdict.gpus.iter().find(|own| own.gpu == *gpu);
                        own.is_some_and(|own| own.unfit.is_some())
                    }
                    None if gate.id == GateId::INHIBITOR => verdict.no_spot.is_some(),
                    None => verdict.node != NodeHealth::Fit,
                };
                prop_assert!(!stops || closed, "{:?}", gate);
            }
        }
    }

    #[test]
    fn any_order_of_a_bursts_xids_has_the_same_action(
        xids in proptest::collection::vec(0u32..180, 1..8), seed in 0usize..40_320,
    ) {
        let action = |xids: &[u32]| {
            let mut node = Node::qualified();
            for xid in xids {
                node.later(1).xid(*xid, 0);
            }
            node.verdict().incidents.first().map(|incident| incident.action)
        };
        let mut other = xids.clone();
        let by = seed % other.len();
        other.rotate_left(by);
        prop_assert_eq!(action(&xids), action(&other));
    }
}
