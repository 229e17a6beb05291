//! One plan for everything that leaves this node, and each replica's part of it.

use std::collections::BTreeMap;

use wharfage_shared::ids::ReplicaId;
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use super::{Agent, hardware_of};
use crate::estimates::run_kind;
use crate::evacuation::plan::{Leaver, plan};
use crate::out::Out;
use crate::replica::{Fact, Leaving, Phase};

impl Agent {
    /// Brings the plan up to what must leave now. It is made anew only when a deadline, a replica
    /// or a checkpoint's end has changed, so that what was promised stays.
    pub(super) fn plan_leaving(&mut self, out: &mut Out) {
        let (facts, leavers) = self.leavers(out);
        if facts != self.planned {
            let carries = self.estimates.carries(&self.config);
            for (id, row) in plan(self.now, carries, &leavers) {
                if let Some(replica) = self.replicas.get_mut(&id) {
                    replica.take(&row, out);
                }
            }
            self.planned = facts;
        }
        let mut runs = self.writes_checkpoint();
        for replica in self.replicas.values_mut() {
            if replica.begin_checkpoint(out) {
                self.estimates.history.runs.checkpoint_begins(self.now, runs);
                runs = true;
            }
        }
    }

    /// Requests that came to their end tell how long that takes here.
    pub(super) fn measure_quiet(&mut self) {
        for replica in self.replicas.values_mut() {
            if let Some(took) = replica.quiet_took.take() {
                self.estimates.history.runs.quiet_took(&replica.order.deployment, took);
            }
        }
    }

    /// A hook ended, and was done when it tells what it took and wrote.
    pub(super) fn measure_hook(
        &mut self,
        id: ReplicaId,
        kind: HookKind,
        ran: Option<(Millis, Option<u64>)>,
    ) {
        let runs = &mut self.estimates.history.runs;
        if let Some(((took, bytes), replica)) = ran.zip(self.replicas.get(&id)) {
            let hardware = hardware_of(&replica.order, &self.gpu_names);
            if let Some(run) = run_kind(&replica.order, kind, &hardware) {
                runs.hook_ran(run, took, bytes);
            }
        }
        if kind == HookKind::Checkpoint && !self.writes_checkpoint() {
            self.estimates.history.runs.checkpoints_end(self.now);
        }
    }

    /// An engine ended: after a signal it tells how long that takes here.
    pub(super) fn measure_end(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get(&id) else { return };
        let (now, runs) = (self.now, &mut self.estimates.history.runs);
        if let Phase::Killing { since, .. } = replica.phase {
            runs.kill_took(now.since(since));
        } else if let Phase::Terminating { since, .. } = replica.phase {
            runs.stop_took(&replica.order.engine, now.since(since));
        }
    }

    /// What is still open at the deadline is told, once.
    pub(super) fn tell_open(&mut self, out: &mut Out) {
        let Some(evacuation) = &mut self.evacuation else { return };
        if !evacuation.deadline_passes(self.now) {
            return;
        }
        for (id, replica) in &self.replicas {
            if let Some(open) = replica.open_at_the_end() {
                out.note(Some(*id), format!("still stands at the deadline: {open}"));
            }
        }
    }

    fn writes_checkpoint(&self) -> bool {
        self.replicas.values().any(|replica| replica.hook_runs(HookKind::Checkpoint))
    }

    fn leavers(&mut self, out: &mut Out) -> (BTreeMap<ReplicaId, Fact>, Vec<Leaver>) {
        let notice = self.notices.binding();
        let margin = self.estimates.margin(&self.config);
        let (mut facts, mut leavers) = (BTreeMap::new(), Vec::new());
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        for id in ids {
            let standing = self.standing(id);
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            let hardware = hardware_of(&replica.order, &self.gpu_names);
            let leaving = Leaving {
                config: &self.config,
                estimates: &self.estimates,
                hardware: &hardware,
                stop: self.estimates.stop(&replica.order.engine, &self.config),
                margin,
                standing,
                notice: notice.as_ref(),
            };
            if let Some((fact, leaver)) = replica.leaver(&leaving, out) {
                facts.insert(id, fact);
                leavers.push(leaver);
            }
        }
        (facts, leavers)
    }
}
