//! The node's decisions as one state that is stepped.

use wharfage_shared::segment::Segment;
use wharfage_shared::time::Boottime;
use wharfage_shared::version::DesiredVersion;

use crate::config::Config;
use crate::effect::Effect;
use crate::input::{Found, Input};
use crate::report::Report;
use crate::status::{ControlLease, Status};

/// Decides for one node.
#[derive(Clone, Debug)]
pub struct Agent {
    config: Config,
    found: Found,
    now: Boottime,
}

impl Agent {
    /// Takes over what an earlier agent left: adopts replicas, closes its open segment.
    pub fn new(found: Found, config: Config) -> (Agent, Vec<Effect>) {
        (Agent { config, found, now: Boottime(0) }, Vec::new())
    }

    /// Hears one thing and answers what to do, in order.
    pub fn step(&mut self, now: Boottime, input: Input) -> Vec<Effect> {
        drop(input);
        self.now = self.now.max(now);
        Vec::new()
    }

    /// When `step` must be called again with `Input::Wake` if nothing else happens before.
    pub fn next_wake(&self) -> Option<Boottime> {
        None
    }

    /// What a heartbeat carries of the core.
    pub fn report(&self, _now: Boottime) -> Report {
        Report {
            epoch: None,
            persisted: DesiredVersion::default(),
            applied: DesiredVersion::default(),
            replicas: Vec::new(),
            gone: Vec::new(),
            open_segment: None,
            last_segment: self.found.last_segment,
            notices: Vec::new(),
        }
    }

    /// Closed segments that are not yet acknowledged, in order.
    pub fn closed_segments(&self) -> &[Segment] {
        &self.found.unacknowledged
    }

    /// What `/status` shows.
    pub fn status(&self) -> Status {
        let _margin = self.config.stop_margin;
        Status {
            node: self.found.node.clone(),
            boot: self.found.boot.clone(),
            now: self.now,
            epoch: None,
            term: wharfage_shared::version::Term::default(),
            applied: DesiredVersion::default(),
            cordoned: false,
            held_for: None,
            control_lease: ControlLease { until: None, live: false },
            replicas: Vec::new(),
            gone: Vec::new(),
            notices: Vec::new(),
            evacuation: None,
            open_segment: None,
            segments_waiting: 0,
            gpu_trouble: std::collections::BTreeMap::new(),
        }
    }
}
