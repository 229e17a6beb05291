//! What befalls a host: notices, lost GPUs, hanging drivers, reboots, power.

use wharfage_agent_core::Input;
use wharfage_shared::ids::{GpuUuid, NoticeId, ReplicaId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::Millis;

use super::clock::HostClock;
use super::{Host, HostNotice, Power};
use crate::checks::stops;
use crate::stage::{AtHost, Stage};

/// XIDs that a program causes: its engine ends, the GPU is well (NVIDIA's catalogue: 13 graphics
/// exception, 31 page fault, 43 stopped processing, 45 preemptive cleanup).
const OF_PROGRAMS: [u32; 4] = [13, 31, 43, 45];

/// The XID of a GPU that has fallen off the bus: nothing of it can be read any more.
const LOST: u32 = 79;

/// How long a machine is away when it boots anew.
const REBOOT: Millis = Millis::from_seconds(90);

impl Host {
    /// The host's source hears of a deadline.
    pub fn notice(&mut self, stage: &mut Stage, within: Millis, leaves: Leaves) {
        self.notices_so_far += 1;
        let id = NoticeId::new(format!("{}-notice-{}", self.node, self.notices_so_far));
        let notice =
            HostNotice { gone_at: stage.now + within, heard_at: self.clock.at(stage.now), leaves };
        self.notices.insert(id.clone(), notice);
        self.plan(stage, within, AtHost::NoticeDue { id: id.clone() });
        self.tell_notice(stage, &id);
    }

    /// The source takes back what it told. Whether there was anything.
    pub fn withdraw(&mut self, stage: &mut Stage) -> bool {
        let ids: Vec<NoticeId> = std::mem::take(&mut self.notices).into_keys().collect();
        for id in &ids {
            self.step(stage, Input::NoticeWithdrawn(id.clone()));
        }
        !ids.is_empty()
    }

    /// A notice's deadline: what it said happens.
    pub(super) fn notice_due(&mut self, stage: &mut Stage, id: &NoticeId) {
        let Some(notice) = self.notices.get(id).cloned() else { return };
        stops::judge_deadline(self, stage, &notice);
        match notice.leaves {
            Leaves::Node => self.power_off(stage, "the host is taken away"),
            Leaves::Replicas => {
                self.notices.remove(id);
                self.step(stage, Input::NoticeWithdrawn(id.clone()));
            }
        }
    }

    /// The host is gone for good, with everything on it.
    pub fn power_off(&mut self, stage: &mut Stage, why: &str) {
        stage.trace.line(stage.now, Some(self.node.clone()), why.to_owned());
        self.everything_ends(stage);
        self.power = Power::Gone;
        self.agent = None;
    }

    /// The machine boots anew: nothing runs, the disk is as it was.
    pub fn reboot(&mut self, stage: &mut Stage) {
        stage.trace.line(stage.now, Some(self.node.clone()), "the host boots anew".to_owned());
        self.everything_ends(stage);
        if self.agent.take().is_some() {
            self.unwatched.push((stage.now, None));
        }
        self.life += 1;
        self.kernel_records = 0;
        let drift = self.clock.drift_ppm();
        self.clock = HostClock::booted(stage.now + REBOOT, Millis(20_000), drift);
        for process in self.processes.values_mut() {
            // The guard's record is of a boot whose clock is gone.
            process.started_at = wharfage_shared::time::Boottime(0);
            if let Some(end) = &mut process.end {
                end.ended = Ended::Unknown;
                end.at = stage.now + REBOOT;
                end.memory_back = stage.now + REBOOT;
            }
        }
        for notice in self.notices.values_mut() {
            notice.heard_at = self.clock.at(stage.now + REBOOT);
        }
        self.plan(stage, REBOOT, AtHost::AgentStarts { life: self.life });
    }

    fn everything_ends(&mut self, stage: &mut Stage) {
        let replicas: Vec<ReplicaId> = self.processes.keys().copied().collect();
        self.agent.take_if(|_| self.power == Power::Gone);
        for replica in replicas {
            self.end_engine(stage, replica, Ended::Unknown);
        }
    }

    fn one_that_runs(&self, which: u64) -> Option<ReplicaId> {
        let running = self.processes.iter().filter(|(_, process)| process.runs());
        let running: Vec<ReplicaId> = running.map(|(replica, _)| *replica).collect();
        let count = std::num::NonZeroU64::new(running.len() as u64)?;
        Some(running[(which % count) as usize])
    }

    /// An engine stops answering for ever, its processes and its memory stay.
    pub fn engine_hangs(&mut self, stage: &mut Stage, which: u64) {
        let Some(replica) = self.one_that_runs(which) else { return };
        let text = format!("the engine of {replica} hangs");
        stage.trace.line(stage.now, Some(self.node.clone()), text);
        if let Some(process) = self.processes.get_mut(&replica) {
            process.hangs = true;
        }
    }

    /// An engine ends by itself. Whether one ran.
    pub fn engine_crashes(&mut self, stage: &mut Stage, which: u64) -> bool {
        let Some(replica) = self.one_that_runs(which) else { return false };
        let text = format!("the engine of {replica} crashes");
        stage.trace.line(stage.now, Some(self.node.clone()), text);
        self.end_engine(stage, replica, Ended::Signaled { signal: 11 });
        true
    }

    /// Calls about a GPU never return.
    pub fn driver_hangs(&mut self, stage: &mut Stage, gpu: &GpuUuid) {
        self.silent_gpus.push(gpu.clone());
        self.trouble(stage, gpu, "the driver does not answer".to_owned());
    }

    /// The kernel reports an XID.
    pub fn xid(&mut self, stage: &mut Stage, xid: u32, gpu: &GpuUuid) {
        let on_it = |process: &super::Process| process.order.gpus.contains(gpu) && process.runs();
        let hit: Vec<ReplicaId> =
            self.processes.iter().filter(|(_, p)| on_it(p)).map(|(id, _)| *id).collect();
        if OF_PROGRAMS.contains(&xid) {
            for replica in hit {
                self.end_engine(stage, replica, Ended::Signaled { signal: 6 });
            }
            return self.kernel_says(stage, xid, gpu);
        }
        let breaks = self.breaks_engines(xid);
        for replica in hit.into_iter().filter(|_| breaks) {
            if let Some(process) = self.processes.get_mut(&replica) {
                process.broken = Some(format!("XID {xid} broke its GPU"));
            }
        }
        self.kernel_says(stage, xid, gpu);
        if xid == LOST {
            self.trouble(stage, gpu, "the GPU is lost".to_owned());
        }
    }

    fn trouble(&mut self, stage: &mut Stage, gpu: &GpuUuid, why: String) {
        stage.trace.line(stage.now, Some(self.node.clone()), format!("{gpu}: {why}"));
        self.gpu_trouble.insert(gpu.clone(), why.clone());
        self.step(stage, Input::GpuTrouble { gpu: gpu.clone(), trouble: Some(why) });
        self.look_at_gates(stage);
        self.report_now(stage);
    }

    /// A technician has been there: every GPU answers.
    pub fn gpus_heal(&mut self, stage: &mut Stage) {
        self.silent_gpus.clear();
        let broken = self.processes.iter().filter(|(_, process)| process.broken.is_some());
        for replica in broken.map(|(replica, _)| *replica).collect::<Vec<_>>() {
            self.end_engine(stage, replica, Ended::Signaled { signal: 6 });
        }
        for (gpu, _) in std::mem::take(&mut self.gpu_trouble) {
            self.step(stage, Input::GpuTrouble { gpu, trouble: None });
        }
        self.is_repaired(stage);
    }

    /// Somebody sets the wall clock right.
    pub fn clock_is_right(&mut self) {
        self.wall_step = 0;
    }

    /// The wall clock steps.
    pub fn clock_steps(&mut self, step: i64) {
        self.wall_step = self.wall_step.saturating_add(step);
    }
}
