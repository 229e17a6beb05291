//! The loads that counts of replicas follow: a window for each deployment that has requests or more
//! replicas than its `min`. Known to this scheduler alone, never logged; a decision is a fact with
//! what it was decided on.
//!
//! What is not here rests: no request, no replica above `min`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharfage_shared::ids::{DeploymentId, GatewayName};
use wharfage_shared::time::{Millis, Timestamp};

use super::plan::GatewayHeard;
use crate::fleet::Fleet;
use crate::fleet::rows::deployment::DeploymentRow;
use crate::fleet::table::Table;
use crate::policies::autoscale::work::{self, Standing, Terms};
use crate::policies::autoscale::{self, Decision, Load, Mean, Target, Window, Wish};
use crate::words::because::scaling::{Requests, ScaledOn};
use crate::words::deployment::{Scaling, ScalingMode};
use crate::words::replica::Phase;

/// How often every load is looked at.
pub const INTERVAL: Millis = Millis(1000);

/// A gateway that was not heard for so long may have requests that nobody knows of.
const FRESH: Millis = Millis(5000);

/// So long the last word of a gateway that fell silent stands: its requests may still be answered.
const STANDS: Millis = Millis::from_seconds(600);

/// The most samples of a window, so that memory is bounded however long it is.
const MOST_SAMPLES: u64 = 60;

/// How long a start takes where none has been seen.
const FIRST_START: Millis = Millis::from_seconds(60);

type Heard = BTreeMap<GatewayName, GatewayHeard>;

/// What gateways say of all loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// Every connected gateway has said something, so that there is a number.
    pub is_known: bool,
    /// Each of them lately, so that a lower number may take replicas away.
    pub is_fresh: bool,
    /// Since when there has been a number without a gap.
    pub since: Option<Timestamp>,
}

impl Hearing {
    /// As of now. Where no gateway ever enrolled there is no way in, and the load is zero.
    pub fn of(fleet: &Fleet, heard: &Heard, began: Timestamp, now: Timestamp) -> Self {
        if fleet.gateway_processes().next().is_none() {
            return Self { is_known: true, is_fresh: true, since: Some(began) };
        }
        let mut hearing = Self { is_known: false, is_fresh: true, since: None };
        for process in fleet.gateway_processes().filter(|process| process.connected) {
            let Some(word) = heard.get(&process.name) else {
                return Self { is_known: false, is_fresh: false, since: None };
            };
            hearing.is_known = true;
            hearing.is_fresh &= now < word.at + FRESH;
            hearing.since = Some(hearing.since.map_or(word.since, |since| since.min(word.since)));
        }
        hearing.is_fresh &= hearing.is_known;
        hearing
    }
}

/// Since when a gateway has been heard without a gap, once it is heard at `now`.
pub fn heard_since(before: Option<&GatewayHeard>, now: Timestamp) -> Timestamp {
    before.filter(|word| now < word.at + FRESH).map_or(now, |word| word.since)
}

/// One gateway's requests by deployment: at replicas, in its queues, parked.
pub fn requests_by_deployment(
    fleet: &Fleet,
    report: &wharfage_shared::gateway::GatewayReport,
) -> BTreeMap<DeploymentId, Requests> {
    let mut requests: BTreeMap<DeploymentId, Requests> = BTreeMap::new();
    for (replica, count) in &report.in_flight {
        let Some(row) = fleet.replica(*replica) else { continue };
        let of = requests.entry(row.deployment.clone()).or_default();
        of.in_flight = of.in_flight.saturating_add(*count);
    }
    for (id, count) in &report.queued {
        let of = requests.entry(id.clone()).or_default();
        of.queued = of.queued.saturating_add(*count);
    }
    for (id, count) in &report.parked {
        let of = requests.entry(id.clone()).or_default();
        of.parked = of.parked.saturating_add(*count);
    }
    requests
}

/// Every load that does not rest. A copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    live: Table<DeploymentId, Arc<Live>>,
    next: Timestamp,
}

/// The load of one deployment.
#[derive(Clone, Debug)]
pub struct Live {
    /// As gateways said last.
    pub requests: Requests,
    /// The decision in force.
    pub decision: Option<Decision>,
    window: Window,
    /// The sample that is being taken: sum and count, and since when.
    sum: u64,
    count: u64,
    opened_at: Timestamp,
    below_since: Option<Timestamp>,
    /// Since when it was known to have no request before it was followed.
    quiet_since: Option<Timestamp>,
    /// In work mode.
    work: Option<Box<Worked>>,
}

/// The work of a deployment in work mode.
#[derive(Clone, Debug)]
struct Worked {
    work: work::Work,
    terms: Terms,
    /// Since the last sample: requests that ended, slots in use times milliseconds.
    ended: u64,
    served: u64,
    /// When the last sample was taken, and how many requests were there then.
    opened_at: Timestamp,
    there: u64,
    looked_at: Timestamp,
}

impl Worked {
    fn new(there: u64, since: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            work: work::Work::quiet_since(since),
            terms: Terms::default(),
            ended: 0,
            served: 0,
            opened_at: now,
            there,
            looked_at: now,
        }
    }

    /// Takes in what is there now.
    fn sample(&mut self, requests: Requests, slots: u64, now: Timestamp) {
        let span = now.since(self.looked_at).0;
        self.looked_at = now;
        self.served += u64::from(requests.in_flight).min(slots) * span;
        if now < self.opened_at + work::SAMPLE {
            return;
        }
        let all = requests.all();
        let arrivals = (all + self.ended).saturating_sub(self.there);
        self.work.sample(now, now.since(self.opened_at), (arrivals, self.ended, self.served));
        (self.ended, self.served, self.opened_at, self.there) = (0, 0, now, all);
    }
}

/// The replicas of a deployment in work mode.
struct Replicas {
    ready: u32,
    /// When each of those on their way is expected to serve.
    starting: Vec<Timestamp>,
    load: Millis,
}

impl Replicas {
    fn of(fleet: &Fleet, row: &DeploymentRow, now: Timestamp) -> Self {
        let load = row.last_start.unwrap_or(FIRST_START);
        let (mut ready, mut starting) = (0, Vec::new());
        for replica in fleet.replicas_of(&row.id) {
            match &replica.phase {
                Phase::Placed { .. } if replica.phase.is_ready() => ready += 1,
                Phase::Placed { since, .. } => starting.push((*since + load).max(now)),
                Phase::Pending { .. } | Phase::Promised { .. } => starting.push(now + load),
                Phase::Leaving { .. } | Phase::Stopped { .. } => {}
            }
        }
        starting.sort_unstable();
        Self { ready, starting, load }
    }

    fn slots(&self, scaling: &Scaling) -> u64 {
        u64::from(self.ready) * u64::from(scaling.concurrency)
    }
}

impl Live {
    /// Full of nothing as far back as gateways have been heard.
    fn at_rest(scaling: &Scaling, hearing: Hearing, now: Timestamp) -> Self {
        let step = step(scaling);
        let heard_for = hearing.since.map_or(0, |since| now.since(since).0 / step.0.max(1));
        let most = u64::from(scaling.window_seconds) * 1000 / step.0.max(1);
        let samples = u32::try_from(heard_for.min(most)).unwrap_or(0);
        Self {
            requests: Requests::default(),
            decision: None,
            window: Window::at_rest(now, step, samples, step.0 / INTERVAL.0),
            sum: 0,
            count: 0,
            opened_at: now,
            below_since: None,
            quiet_since: hearing.since,
            work: None,
        }
    }

    /// Takes in what is there now.
    fn sample(&mut self, scaling: &Scaling, now: Timestamp) {
        self.sum = self.sum.saturating_add(self.requests.all());
        self.count += 1;
        if now >= self.opened_at + step(scaling) {
            self.window.push(now, self.sum, self.count);
            (self.sum, self.count, self.opened_at) = (0, 0, now);
        }
        self.window.forget(now, Millis::from_seconds(u64::from(scaling.window_seconds)));
    }

    /// The mean over the window and the sample that is being taken.
    pub fn mean(&self) -> Option<Mean> {
        let window = self.window.mean().unwrap_or(Mean { amount: 0, weight: 0 });
        let amount = window.amount.saturating_add(self.sum);
        let weight = window.weight + self.count;
        (weight > 0).then_some(Mean { amount, weight })
    }

    fn load(&self) -> Option<Load> {
        let is_there_now = self.requests.all() > 0;
        // One that came a moment ago is there, though it is in no sample yet.
        let requests = self.mean().or(is_there_now.then_some(Mean::of(0)))?;
        Some(Load { requests, tokens: None, is_there_now })
    }

    /// What the work of a deployment in work mode wants.
    fn work_wish(&mut self, scaling: &Scaling, replicas: &Replicas, now: Timestamp) -> Wish {
        let (requests, there) = (self.requests, self.requests.all());
        let since = self.quiet_since;
        let worked = self.work.get_or_insert_with(|| Box::new(Worked::new(there, since, now)));
        let slots = replicas.slots(scaling);
        worked.sample(requests, slots, now);
        let standing = Standing {
            waiting: there.saturating_sub(u64::from(requests.in_flight).min(slots)),
            ready: replicas.ready,
            starting: &replicas.starting,
            load: replicas.load,
        };
        worked.terms = worked.work.wish(scaling, standing, now);
        Wish { replicas: worked.terms.wish().max(u32::from(there > 0)), target: Target::Work }
    }

    fn decide(
        &mut self,
        fleet: &Fleet,
        row: &DeploymentRow,
        hearing: Hearing,
        now: Timestamp,
    ) -> Decision {
        let mut scaling = row.spec.scaling.clone();
        let wish = match row.spec.extension.scaling {
            ScalingMode::InFlight => {
                self.work = None;
                self.load().map(|load| autoscale::wish(&scaling, &load))
            }
            ScalingMode::Work => {
                // The wish holds what it wants to keep by itself: it is followed both ways.
                (scaling.scale_down_delay_seconds, scaling.max_scale_down_percent) = (0, 100);
                let replicas = Replicas::of(fleet, row, now);
                let wish = self.work_wish(&scaling, &replicas, now);
                hearing.is_known.then_some(wish)
            }
        };
        // Of what not all is known may be more than is seen: never less.
        let enough = |replicas: u32| scaling.bounds.clamp(replicas) >= row.desired;
        let wish = wish.filter(|wish| hearing.is_fresh || enough(wish.replicas));
        let decision = autoscale::decide(&scaling, wish, row.desired, self.below_since, now);
        self.below_since = decision.below_since;
        self.decision = Some(decision);
        decision
    }

    fn rests(&self, row: &DeploymentRow) -> bool {
        let quiet = self.requests.all() == 0 && self.sum == 0 && self.window.is_quiet();
        let is_over = self.work.as_ref().is_none_or(|worked| worked.work.is_over());
        quiet && is_over && row.desired == row.spec.scaling.bounds.min()
    }

    /// The terms of the last wish, in work mode.
    pub fn terms(&self) -> Option<Terms> {
        self.work.as_ref().map(|worked| worked.terms)
    }

    /// What the decision was made on.
    pub fn scaled_on(&self) -> Option<ScaledOn> {
        let decision = self.decision?;
        let (requests, mean, wish) = (self.requests, self.mean(), decision.wish);
        Some(ScaledOn { requests, mean, wish })
    }
}

/// The distance of samples in a window of this length.
fn step(scaling: &Scaling) -> Millis {
    let seconds = u64::from(scaling.window_seconds).div_ceil(MOST_SAMPLES);
    Millis::from_seconds(seconds.max(1))
}

/// Whether the count follows the load at all.
fn follows(row: &DeploymentRow) -> bool {
    let bounds = row.spec.scaling.bounds;
    row.deleting.is_none() && !row.spec.disabled && bounds.min() < bounds.max()
}

fn requests_of(heard: &Heard, id: &DeploymentId, now: Timestamp) -> Requests {
    let words = heard.values().filter(|word| now < word.at + STANDS);
    words
        .filter_map(|word| word.requests.get(id))
        .fold(Requests::default(), |sum, one| sum.and(*one))
}

impl Loads {
    /// When every load is looked at again.
    pub fn next(&self) -> Option<Timestamp> {
        (!self.live.is_empty()).then_some(self.next)
    }

    /// A deployment's load, unless it rests.
    pub fn of(&self, id: &DeploymentId) -> Option<&Live> {
        self.live.get(id).map(|live| &**live)
    }

    /// Begins to follow a deployment's load, if it has one or more replicas than its `min`.
    pub fn follow(&mut self, row: &DeploymentRow, heard: &Heard, hearing: Hearing, now: Timestamp) {
        if !follows(row) {
            self.live.remove(&row.id);
            return;
        }
        if self.live.contains(&row.id) {
            return;
        }
        let requests = requests_of(heard, &row.id, now);
        if requests.all() > 0 || row.desired > row.spec.scaling.bounds.min() {
            self.begin(row, heard, hearing, now);
        }
    }

    fn begin(&mut self, row: &DeploymentRow, heard: &Heard, hearing: Hearing, now: Timestamp) {
        if self.live.contains(&row.id) {
            return;
        }
        if self.live.is_empty() {
            self.next = now + INTERVAL;
        }
        let requests = requests_of(heard, &row.id, now);
        let live = Live { requests, ..Live::at_rest(&row.spec.scaling, hearing, now) };
        self.live.insert(row.id.clone(), Arc::new(live));
    }

    /// So many requests have ended. In work mode that is followed even where each was over before a
    /// gateway told of it.
    pub fn ended(
        &mut self,
        row: &DeploymentRow,
        ended: u64,
        heard: &Heard,
        hearing: Hearing,
        now: Timestamp,
    ) {
        if !follows(row) || row.spec.extension.scaling != ScalingMode::Work {
            return;
        }
        self.begin(row, heard, hearing, now);
        let Some(live) = self.live.get_mut(&row.id) else { return };
        let live = Arc::make_mut(live);
        let there = live.requests.all();
        let since = live.quiet_since;
        let worked = live.work.get_or_insert_with(|| Box::new(Worked::new(there, since, now)));
        worked.ended = worked.ended.saturating_add(ended);
    }

    /// Requests are there: one that has no replica does not wait for the next look. Says whether
    /// its count is to change.
    pub fn wake(
        &mut self,
        fleet: &Fleet,
        row: &DeploymentRow,
        heard: &Heard,
        now: Timestamp,
    ) -> bool {
        let Some(live) = self.live.get_mut(&row.id).filter(|_| row.desired == 0) else {
            return false;
        };
        let live = Arc::make_mut(live);
        live.requests = requests_of(heard, &row.id, now);
        // More replicas are wanted, never fewer: it does not matter what is not known.
        let hearing = Hearing { is_known: true, is_fresh: false, since: None };
        live.decide(fleet, row, hearing, now).desired != row.desired
    }

    /// Looks at every load, if it is time; answers whose count is to change.
    pub fn look(
        &mut self,
        fleet: &Fleet,
        heard: &Heard,
        hearing: Hearing,
        now: Timestamp,
    ) -> Vec<DeploymentId> {
        if self.next().is_none_or(|next| next > now) {
            return Vec::new();
        }
        self.next = now + INTERVAL;
        let (mut changes, mut over) = (Vec::new(), Vec::new());
        let ids: Vec<DeploymentId> = self.live.keys().cloned().collect();
        for id in ids {
            let Some(row) = fleet.deployment(&id).filter(|row| follows(row)) else {
                over.push(id);
                continue;
            };
            let Some(live) = self.live.get_mut(&id) else { continue };
            let live = Arc::make_mut(live);
            live.requests = requests_of(heard, &id, now);
            if hearing.is_known {
                live.sample(&row.spec.scaling, now);
            }
            if live.decide(fleet, row, hearing, now).desired != row.desired {
                changes.push(id);
            } else if hearing.is_fresh && live.rests(row) {
                over.push(id);
            }
        }
        for id in over {
            self.live.remove(&id);
        }
        changes
    }
}
