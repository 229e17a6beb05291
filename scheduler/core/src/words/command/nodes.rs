//! Commands about pools and nodes; the provider's only (and enrolment, by the machine listener).

use serde::{Deserialize, Serialize};
use wharfage_shared::ids::{JoinId, NodeId, NoticeId, PoolId};
use wharfage_shared::notice::{Leaves, NoticeKind};
use wharfage_shared::time::Millis;

use crate::words::node::{Pool, PoolSize};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a pool.
    CreatePool(Pool),
    /// Make a pool that is to have so many nodes.
    CreateSizedPool {
        /// The pool.
        pool: Pool,
        /// How many.
        size: PoolSize,
    },
    /// How many nodes a pool is to have. The scheduler buys none: it says what is wanted.
    SizePool {
        /// Which.
        pool: PoolId,
        /// How many.
        size: PoolSize,
    },
    /// A host has presented a join's secret: admit it (S8 of enrolment: counted, not expired,
    /// the join's pool). A known name needs `AllowRejoin` first.
    Enroll {
        /// The name it wants.
        node: NodeId,
        /// The join that its secret belongs to.
        join: JoinId,
        /// The pool that the host's own configuration names, if it does.
        pool: Option<PoolId>,
        /// SHA-256 (hex) of its new public key.
        key: String,
    },
    /// An operator's word that a known name may enrol anew.
    AllowRejoin {
        /// Which.
        node: NodeId,
    },
    /// Nothing new there.
    Cordon {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Usable again.
    Uncordon {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Empty it, replacement first, each replica with its grace.
    Drain {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Take spot capacity back by a deadline: warn and cordon now, drain, end. Refused on
    /// standard nodes and superchips.
    Reclaim {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
        /// What ends.
        leaves: Leaves,
        /// From now to the drain; absent = the configured 120 s.
        drain_after: Option<Millis>,
        /// From now to the end; absent = the configured 420 s.
        gone_after: Option<Millis>,
    },
    /// The provider has said, in an event that was handed to the scheduler, that it takes the node.
    /// The same event may come again: it is one notice.
    Announce {
        /// Which.
        node: NodeId,
        /// The event.
        notice: NoticeId,
        /// Why; a reclaim is the scheduler's own.
        kind: NoticeKind,
        /// From now to the end.
        gone_after: Millis,
    },
    /// The brake of a health rule is released by an operator's word.
    ReleaseBrake {
        /// The rule.
        rule: String,
        /// Why.
        reason: String,
    },
    /// It will not come back.
    Retire {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
}
