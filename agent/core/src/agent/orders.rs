//! Brings the host up to the newest orders and notices: what one step decides after it has heard.

use wharfage_shared::ids::{GpuUuid, ReplicaId};
use wharfage_shared::order::{Desired, Order};

use super::{Agent, Departed};
use crate::effect::Effect;
use crate::evacuation::Evacuation;
use crate::lease::NoStart;
use crate::out::Out;
use crate::replica::{Around, Phase, Replica, Standing, Turn, never_started};
use crate::status::Moment;

/// The most forgotten ids that are remembered: the scheduler counts ids up and never repeats one,
/// so only the newest could come up again in a late answer.
const MOST_RETIRED: usize = 10_000;

/// Turns that replicas may cause one another in one step (a slot that is free lets the next start).
const MOST_ROUNDS: usize = 8;

impl Agent {
    pub(super) fn reconcile(&mut self, out: &mut Out) {
        for drill in self.notices.end_drills(self.now) {
            out.note(None, format!("drill `{drill}` is over"));
            out.report_now();
        }
        for id in self.notices.expire(self.now) {
            let text = format!(
                "notice_expired_but_alive: the deadline of `{id}` passed long ago and the node is \
                 still there; nothing new starts until its source takes it back"
            );
            out.note(None, text);
            out.report_now();
        }
        self.notices.reclaim(self.desired.reclaim.as_ref(), &self.clock, self.now);
        self.take_drill(out);
        self.map_deadlines();
        self.begin_evacuation();
        self.take_orders(out);
        self.note_lease_end(out);
        self.plan_leaving(out);
        for _ in 0..MOST_ROUNDS {
            if !self.advance_all(out) {
                break;
            }
        }
        self.measure_quiet();
        self.renew_serving(out);
        self.forget(out);
        self.tell_open(out);
        self.follow_evacuation(out);
        let picture = self.picture();
        self.meter.settle(picture, self.epoch, &self.config, out);
    }

    /// An ordered drill is heard like any notice, and withdrawn like one.
    fn take_drill(&mut self, out: &mut Out) {
        let said = self.desired.drill.as_ref();
        if let Some(text) = self.notices.ordered(said, &self.clock, self.now) {
            out.note(None, text);
            out.report_now();
        }
    }

    /// Stop deadlines on the host's clock: each wording is mapped once, so that no later step of
    /// the scheduler's clock moves it.
    fn map_deadlines(&mut self) {
        let known = std::mem::take(&mut self.stop_deadlines);
        for order in &self.desired.orders {
            let Order::Stop(stop) = order else { continue };
            let same = known.get(&stop.replica).filter(|(said, _)| *said == stop.deadline);
            let mapped = same.map(|(_, at)| *at).or_else(|| self.clock.boottime(stop.deadline));
            if let Some(at) = mapped {
                self.stop_deadlines.insert(stop.replica, (stop.deadline, at));
            }
        }
    }

    pub(super) fn standing(&self, id: ReplicaId) -> Standing {
        match self.desired.orders.iter().find(|order| order.replica() == id) {
            Some(Order::Run(_)) => Standing::Run,
            Some(Order::Stop(stop)) => Standing::Stop {
                because: stop.because,
                deadline: self.stop_deadlines.get(&id).map(|(_, at)| *at),
                quiet: stop.quiet,
            },
            None => Standing::Unordered,
        }
    }

    fn take_orders(&mut self, out: &mut Out) {
        let desired: Desired = std::mem::take(&mut self.desired);
        for order in &desired.orders {
            let id = order.replica();
            if self.departed.contains_key(&id) || self.left_alone.contains(&id) {
                continue;
            }
            match (order, self.replicas.get_mut(&id)) {
                (Order::Run(run), Some(replica)) => replica.reordered(run),
                (Order::Stop(_), Some(_)) => {}
                (Order::Run(_), None) if self.retired.contains(&id) => {
                    self.refuse(id, "it has been here before: an id is used once", out);
                }
                (Order::Run(run), None) => {
                    let replica = Replica::ordered((**run).clone(), self.now);
                    self.replicas.insert(id, replica);
                }
                (Order::Stop(_), None) => self.refuse(id, "it never stood on this host", out),
            }
        }
        self.desired = desired;
        // An order that was taken back before anything was begun for it was only an intent.
        let orders = &self.desired.orders;
        self.replicas.retain(|id, replica| {
            replica.phase != Phase::Waiting || orders.iter().any(|order| order.replica() == *id)
        });
    }

    fn refuse(&mut self, id: ReplicaId, because: &str, out: &mut Out) {
        out.note(Some(id), format!("reported as gone: {because}"));
        out.report_now();
        let gone = never_started(id, because.to_owned(), self.now);
        self.departed.insert(id, Departed { gone, since: self.now, post_hook_runs: false });
    }

    fn note_lease_end(&mut self, out: &mut Out) {
        let over = matches!(self.leases.may_start(self.now), Err(NoStart::LeaseOver { .. }));
        if over && !std::mem::replace(&mut self.lease_end_noted, true) {
            out.note(None, "the control lease is over: nothing new starts, serving goes on");
        }
    }

    /// One turn of every replica; whether anything changed.
    fn advance_all(&mut self, out: &mut Out) -> bool {
        let mut may_start = self.leases.may_start(self.now);
        let leaves = self.desired.reclaim.is_some() || self.desired.drill.is_some();
        if self.notices.any() || leaves {
            may_start = Err(NoStart::Noticed);
        }
        let mut changed = false;
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        for id in ids {
            let standing = self.standing(id);
            let slot_held_by = self.slot_holder(id);
            let Some(replica) = self.replicas.get_mut(&id) else { continue };
            let around = Around { config: &self.config, may_start, standing, slot_held_by };
            match replica.advance(&around, out) {
                Turn::Same => {}
                Turn::Changed => changed = true,
                Turn::Gone(gone) => {
                    changed = true;
                    self.depart(Some(gone), out);
                }
            }
        }
        changed
    }

    /// Another replica that may still stand on a GPU of one that is about to start (S1 on the host:
    /// the scheduler may not know of an orphan or of a slot that is held).
    fn slot_holder(&self, id: ReplicaId) -> Option<(GpuUuid, ReplicaId)> {
        let replica = self.replicas.get(&id)?;
        if replica.phase.holds_slots() {
            return None;
        }
        let holders = self.replicas.iter().filter(|(_, other)| other.phase.holds_slots());
        let tended = holders.map(|(holder, other)| (*holder, &other.order));
        let left_alone = self.desired.orders.iter().filter_map(|order| match order {
            Order::Run(run) if self.left_alone.contains(&run.replica) => {
                Some((run.replica, &**run))
            }
            Order::Run(_) | Order::Stop(_) => None,
        });
        tended
            .chain(left_alone)
            .flat_map(|(holder, order)| order.gpus.iter().map(move |gpu| (gpu, holder)))
            .find(|(gpu, _)| replica.order.gpus.contains(gpu))
            .map(|(gpu, holder)| (gpu.clone(), holder))
    }

    fn renew_serving(&mut self, out: &mut Out) {
        for (id, replica) in &mut self.replicas {
            let single = replica.order.single_copy;
            let length = self.config.serving_lease;
            let alive = replica.phase.has_guard()
                && !matches!(replica.phase, Phase::Releasing { .. } | Phase::Quarantined { .. });
            let until = self.leases.serve_until(single, length, replica.serve_until);
            if let Some(until) = until.filter(|_| alive) {
                replica.serve_until = Some(until);
                out.push(Effect::ServeUntil { replica: *id, until: Some(until) });
            }
        }
    }

    /// What the scheduler knows to be gone and no longer names is forgotten: it has acknowledged a
    /// heartbeat that carried the proof, and the newest orders do without it.
    fn forget(&mut self, out: &mut Out) {
        let acknowledged = self.leases.acknowledged();
        let orders = &self.desired.orders;
        let over = |id: &ReplicaId, departed: &Departed| {
            acknowledged > Some(departed.since)
                && !departed.post_hook_runs
                && !orders.iter().any(|order| order.replica() == *id)
        };
        let ids: Vec<ReplicaId> =
            self.departed.iter().filter(|(id, d)| over(id, d)).map(|(id, _)| *id).collect();
        for id in ids {
            self.departed.remove(&id);
            self.retired.insert(id);
            out.push(Effect::Forget { replica: id });
        }
        while self.retired.len() > MOST_RETIRED {
            self.retired.pop_first();
        }
    }

    /// A certain notice opens the story of an evacuation; an earlier deadline carries it on.
    fn begin_evacuation(&mut self) {
        let Some(binding) = self.notices.binding() else { return };
        let margin = self.estimates.margin(&self.config);
        match &mut self.evacuation {
            Some(evacuation) if evacuation.is_under_way() => evacuation.follow(&binding),
            Some(evacuation) if evacuation.is_of(&binding) => {}
            _ => self.evacuation = Some(Evacuation::begin(&binding, margin)),
        }
    }

    /// Writes the step into the evacuation's timeline and closes it when it is over.
    fn follow_evacuation(&mut self, out: &mut Out) {
        let told = out.told();
        let Some(evacuation) = self.evacuation.as_mut().filter(|e| e.is_under_way()) else {
            return;
        };
        evacuation.hear(told);
        let empty = !self.replicas.values().any(|replica| replica.phase != Phase::Waiting);
        let withdrawn = self.notices.binding().is_none();
        if !empty && !withdrawn {
            return;
        }
        let summary = evacuation.summary();
        let text = match (empty, withdrawn) {
            (_, true) => "the evacuation ends: no notice is in force any more".to_owned(),
            (_, false) => format!("the node is empty: {summary}"),
        };
        evacuation.add(Moment { at: out.now, replica: None, what: text.clone() });
        evacuation.end(out.now);
        out.note(None, text);
        if !withdrawn {
            for id in self.notices.acknowledge_all() {
                out.push(Effect::AcknowledgeNotice(id));
            }
        }
    }
}
