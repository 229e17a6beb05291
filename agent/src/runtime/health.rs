//! What the runtime tells the core of health: gates that the readings show, the kernel's XIDs.

use std::collections::BTreeMap;

use wharfage_agent_core::health::{XidSeen, XidSource};
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_agent_sys::nvml::Board;
use wharfage_shared::ids::{GpuUuid, ReplicaId};

use super::Runtime;
use crate::health::evidence::gpu;
use crate::health::kmsg::{Heard, Said};
use crate::pci::Pci;

impl Runtime {
    /// Looks at every gate that the newest readings show.
    pub(super) fn look_at_gpus(&mut self) {
        let now = clock::boottime();
        let mut held: BTreeMap<GpuUuid, ReplicaId> = BTreeMap::new();
        for replica in self.parts.agent.report(now).replicas {
            held.extend(replica.gpus.into_iter().map(|gpu| (gpu, replica.replica)));
        }
        // A replica is gone only once a reading has shown its GPUs free: that reading or a newer
        // one is looked at, whatever the runtime was told last.
        let newest = self.parts.driver.gpus.borrow().clone();
        self.gpu_past.note(&newest, now);
        let settings = &self.parts.driver.config().health;
        let looks = gpu::look(&newest, &held, &self.gpu_past, settings, now);
        if !looks.is_empty() {
            self.step(Input::Evidence(looks));
        }
    }

    pub(super) fn hear_kernel(&mut self, said: Said) {
        match said {
            Said::Xid(heard) => self.hear_xid(heard),
            Said::Overrun(count) => {
                let text = format!("the kernel's log overran {count} times: XIDs may be missing");
                self.note(None, text.clone());
                self.kernel_alarm = Some(text);
            }
            Said::Ended(why) => {
                let text =
                    format!("the kernel's log is not read ({why}): XIDs come from NVML only");
                self.note(None, text.clone());
                // Switched off by its owner is no alarm.
                self.kernel_alarm = self.parts.driver.config().health.read_kmsg.then_some(text);
            }
        }
    }

    /// The GPU at the address, whole: NVML names it so too, however it is split.
    fn hear_xid(&mut self, heard: Heard) {
        let line = heard.line;
        let is_there = |board: &&Board| {
            let known = board.pci.known().and_then(|pci| Pci::parse(pci));
            known.is_some() && known == line.pci
        };
        let board = self.gpus.boards.iter().chain(self.gpus.gone.iter()).find(is_there);
        let parts = board.zip(line.place).map(|(board, place)| board.slots_at(place));
        let gpu = board.map(|board| board.uuid.clone());
        self.step(Input::Xid(XidSeen {
            at: heard.at,
            gpu,
            parts: parts.unwrap_or_default(),
            pci: line.pci.map(|pci| pci.to_string()),
            xid: line.xid,
            text: line.text,
            source: XidSource::Kmsg,
            sequence: Some(heard.sequence),
        }));
    }
}
