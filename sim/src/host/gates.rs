//! What a host's collectors see of its gates, and the XIDs that its kernel reports.

use std::sync::LazyLock;

use wharfage_agent_core::Input;
use wharfage_agent_core::health::policy::{PolicyFile, SHIPPED, XidPolicy};
use wharfage_agent_core::health::{Evidence, Saw, Settings, XidSeen, XidSource};
use wharfage_shared::health::{Action, GateId, Repair};
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::time::Millis;

use super::Host;
use crate::stage::{AtHost, Stage};

/// Looks after a change: as many, over as long, as bring a gate back that failed.
const LOOKS: [Millis; 3] = [Millis(1), Millis::from_seconds(31), Millis::from_seconds(62)];

/// What a production agent decides by when its owner overrides nothing.
pub(crate) fn settings() -> Settings {
    static POLICY: LazyLock<XidPolicy> = LazyLock::new(|| {
        let file: PolicyFile = toml::from_str(SHIPPED).expect("tests read what is shipped");
        XidPolicy::default().overridden_by(file).expect("tests check what is shipped")
    });
    Settings { policy: POLICY.clone(), ..Settings::default() }
}

impl Host {
    /// A new agent looks at everything at once, and again while something is on its way back. The
    /// steady looks in between see nothing new.
    pub(super) fn look_at_gates_for_a_while(&mut self, stage: &mut Stage) {
        self.look_at_gates(stage);
        for length in LOOKS {
            self.plan(stage, length, AtHost::Look);
        }
    }

    pub(super) fn look_at_gates(&mut self, stage: &mut Stage) {
        let look = |gate, gpu, saw, evidence: &str| {
            let evidence = evidence.to_owned();
            Evidence { gate, gpu, saw, evidence }
        };
        let mut looks: Vec<Evidence> =
            GateId::of_node().map(|gate| look(gate, None, Saw::Pass, "it is well")).collect();
        let all_silent = self.gpus.iter().all(|gpu| self.silent_gpus.contains(gpu));
        if all_silent {
            let said = "the driver does not answer about any GPU";
            looks.push(look(GateId::DRIVER, None, Saw::Fail, said));
        }
        for gpu in &self.gpus {
            for gate in GateId::of_gpu() {
                let trouble = self.gpu_trouble.get(gpu).filter(|_| gate == GateId::ANSWERS);
                let (saw, evidence) = match trouble {
                    Some(trouble) => (Saw::Fail, trouble.as_str()),
                    None => (Saw::Pass, "it is well"),
                };
                looks.push(look(gate, Some(gpu.clone()), saw, evidence));
            }
        }
        self.step(stage, Input::Evidence(looks));
    }

    /// The kernel's log has a line about a GPU.
    pub(super) fn kernel_says(&mut self, stage: &mut Stage, xid: u32, gpu: &GpuUuid) {
        self.kernel_records += 1;
        let seen = XidSeen {
            at: self.clock.at(stage.now),
            gpu: Some(gpu.clone()),
            parts: Vec::new(),
            pci: None,
            xid,
            text: format!("NVRM: Xid: {xid}"),
            source: XidSource::Kmsg,
            sequence: Some(self.kernel_records),
        };
        let text = format!("{gpu}: the kernel reports XID {xid}");
        stage.trace.line(stage.now, Some(self.node.clone()), text);
        self.step(stage, Input::Xid(seen));
    }

    /// Whether what runs on the GPU is broken by the XID.
    pub(super) fn breaks_engines(&self, xid: u32) -> bool {
        let rule = self.config.health.policy.rule(xid);
        rule.action >= Action::Reset || rule.only_multi_gpu
    }

    /// Somebody saw to all of the node's GPUs.
    pub(super) fn is_repaired(&mut self, stage: &mut Stage) {
        self.repair_waits = self.agent.is_none();
        self.step(stage, Input::Repaired { gpu: None, by: Repair::Operator });
        self.look_at_gates_for_a_while(stage);
    }
}
