//! A replica as the fleet holds it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharfage_billing::timestamp::to_rfc3339;
use wharfage_shared::ids::{DeploymentId, EngineVersion, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::replica::{Ended, ReportedPhase};
use wharfage_shared::time::{Millis, Timestamp};

use super::rarely::{Rare, Rarely};
use crate::words::because::placement::{Blocked, Placement};
use crate::words::replica::{Awaits, MemberFact, Move, Moving, Phase, Seat, Taker};
use wharfage_shared::order::StopCause;

/// A replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRow {
    /// Its id, used for one placement only.
    pub id: ReplicaId,
    /// Of which deployment.
    pub deployment: DeploymentId,
    /// Whose.
    pub organization: OrganizationId,
    /// Which of the deployment's specs it runs.
    pub revision: u32,
    /// When it was first wanted.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it stands where it stands.
    pub placement: Option<Arc<Placement>>,
    /// The engine's version, from its placement on.
    pub engine_version: EngineVersion,
    /// How long its start may take.
    pub start_deadline: Millis,
    /// It was ready at some time.
    pub was_ready: bool,
    /// It is taken from, it moves, it is a gang, it has ended: what few have of that.
    #[serde(flatten)]
    pub rare: Rarely<RareReplica>,
    /// Its model lay in the cache of its node when it was placed.
    #[serde(default)]
    pub was_cached: bool,
}

/// What few replicas have; read as if it were the row's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RareReplica {
    /// How its engine ended.
    pub ended: Option<Ended>,
    /// Those that left for it when its seat was promised.
    #[serde(default)]
    pub took_from: Vec<ReplicaId>,
    /// The node that is called back from spot for it, while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<Awaits>,
    /// For whom it was told to leave.
    #[serde(default)]
    pub taken_by: Option<Arc<Taker>>,
    /// Those that move for it while its seat is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Where it moves and for whom, until it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Arc<Moving>>,
    /// What is known of a gang's members by node, beside what its leader says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<NodeId, MemberFact>,
}

impl Rare for RareReplica {
    const NONE: &'static Self = &Self {
        ended: None,
        took_from: Vec::new(),
        awaits: None,
        taken_by: None,
        moves: Vec::new(),
        moving: None,
        members: BTreeMap::new(),
    };
}

impl Deref for ReplicaRow {
    type Target = RareReplica;

    fn deref(&self) -> &RareReplica {
        &self.rare
    }
}

impl DerefMut for ReplicaRow {
    fn deref_mut(&mut self) -> &mut RareReplica {
        &mut self.rare
    }
}

impl ReplicaRow {
    /// The node that it stands or stood on.
    pub fn node(&self) -> Option<&NodeId> {
        self.phase.seat().map(|seat| &seat.node)
    }

    /// The nodes that it stands or stood on, by rank.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.phase.seat().into_iter().flat_map(Seat::nodes)
    }

    /// Whether the end of its member on this node is proven.
    pub fn is_gone_from(&self, node: &NodeId) -> bool {
        self.members.get(node) == Some(&MemberFact::Gone)
    }

    /// Where its host on this node says that it is.
    pub fn seen_on(&self, node: &NodeId) -> Option<ReportedPhase> {
        match self.members.get(node) {
            Some(MemberFact::Seen(phase)) => Some(*phase),
            Some(MemberFact::Gone) => None,
            None if self.node() == Some(node) => self.phase.seen().map(|seen| seen.phase),
            None => None,
        }
    }

    /// Since when it is in its phase.
    pub fn since(&self) -> Timestamp {
        match &self.phase {
            Phase::Pending { .. } => self.created_at,
            Phase::Promised { since, .. } => *since,
            Phase::Placed { since, seen, .. } => {
                seen.as_ref().map_or(*since, |seen| seen.since.max(*since))
            }
            Phase::Leaving { leaving, .. } => leaving.since,
            Phase::Stopped { at, .. } => *at,
        }
    }

    /// Why it is where it is, as one sentence.
    pub fn because(&self) -> Option<String> {
        match &self.phase {
            Phase::Pending { blocked } => Some(self.wait(*blocked)),
            Phase::Promised { seat, .. } => Some(self.promise(&seat.node)),
            Phase::Placed { seen, .. } => self
                .moving
                .as_ref()
                .map(|moving| format!("it moves: {moving}"))
                .or_else(|| {
                    seen.as_ref().and_then(|seen| seen.because.as_deref().map(str::to_owned))
                })
                .or_else(|| self.placement.as_ref().map(|why| why.said())),
            Phase::Leaving { leaving, .. } => Some(self.end(leaving.because)),
            Phase::Stopped { because, .. } => Some(self.end(*because)),
        }
    }

    /// Why it is nowhere, and by when it is somewhere.
    fn wait(&self, blocked: Blocked) -> String {
        match self.awaits.as_ref().filter(|_| blocked == Blocked::Reclaims) {
            Some(Awaits { node, until }) => {
                let until = to_rfc3339(*until);
                format!("will run at {until} or sooner: reclaims {node}, which is lent as spot")
            }
            None => blocked.to_string(),
        }
    }

    /// Whose place is kept for it.
    fn promise(&self, node: &NodeId) -> String {
        if !self.moves.is_empty() {
            let each = self.moves.iter().map(|of| format!("{} to {}", of.replica, of.to));
            let each: Vec<String> = each.collect();
            let load = self.moves.iter().map(|of| of.load).max().unwrap_or_default();
            let moves = if each.len() == 1 { "moves" } else { "move" };
            let each = each.join(" and ");
            return format!(
                "{each} {moves} from {node} to make room for it, of all plans the one that loads \
                 least ({load})"
            );
        }
        let victims: Vec<String> = self.took_from.iter().map(ToString::to_string).collect();
        match victims.as_slice() {
            [] => format!("its seat on {node} is kept while others leave"),
            [one] => format!("it takes the place of {one} on {node}, which leaves"),
            several => format!("it takes the places of {} on {node}", several.join(", ")),
        }
    }

    /// Why it went, and for whom.
    fn end(&self, because: StopCause) -> String {
        if let Some(moving) = self.moving.as_ref().filter(|_| because == StopCause::Moved) {
            return format!("{because}: {moving}");
        }
        match self.taken_by.as_ref().filter(|_| because == StopCause::Preempted) {
            Some(taker) => format!("{because}: {taker}"),
            None => because.to_string(),
        }
    }
}
