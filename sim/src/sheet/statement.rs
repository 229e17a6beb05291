//! What a line of a sheet says, checked.

use wharfage_scheduler_core::words::drill::{AbortRules, Profile, Targets};
use wharfage_shared::capacity::{CapacityClass, CapacityType, ComputeClass, Region, Sku, Zone};
use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId};
use wharfage_shared::notice::Leaves;
use wharfage_shared::time::Millis;

/// A whole sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Its file name, for errors and timelines.
    pub file: String,
    /// Its statements with the lines they stand on, in order.
    pub statements: Vec<Line>,
}

/// One statement and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The text without its comment.
    pub text: String,
    /// What it says.
    pub statement: Statement,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Which nodes there are.
    Fleet(Vec<FleetGroup>),
    /// Another organization.
    Org(OrganizationId),
    /// A contract.
    Contract(Contract),
    /// A claim.
    Claim(Claim),
    /// A deployment.
    Deploy(Box<Deploy>),
    /// Load on a deployment from now on.
    Load {
        /// Its name.
        deployment: DeploymentId,
        /// Requests in flight at any time.
        in_flight: u32,
    },
    /// Let time pass.
    Run(Run),
    /// Something must hold.
    Expect(Expect),
    /// The node hears a notice.
    Notice {
        /// Which node.
        node: NodeId,
        /// From now to the deadline.
        within: Millis,
        /// What ends.
        leaves: Leaves,
    },
    /// The notice is taken back.
    Withdraw(NodeId),
    /// Something breaks.
    Fault(Fault),
    /// An operator or owner acts.
    Do(Verb),
    /// Print something.
    Show(Show),
}

/// Nodes of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetGroup {
    /// How many.
    pub count: u32,
    /// Their SKU.
    pub sku: Sku,
    /// How they are sold.
    pub compute_class: ComputeClass,
    /// Their zone.
    pub zone: Zone,
    /// When they join.
    pub joins_after: Millis,
    /// Whether their disks carry one checkpoint at a time.
    pub shared_disk: bool,
}

/// A contract; times count from the sheet's beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// `reserved` or `flex`.
    pub is_flex: bool,
    /// Whose.
    pub organization: OrganizationId,
    /// Of what.
    pub sku: Sku,
    /// Where.
    pub region: Region,
    /// How many.
    pub instances: u32,
    /// First instant.
    pub from: Millis,
    /// First instant after it.
    pub to: Millis,
}

/// A capacity claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Whose.
    pub organization: OrganizationId,
    /// Where its instances come from.
    pub capacity_type: CapacityType,
    /// Of what.
    pub sku: Sku,
    /// Where.
    pub zone: Zone,
    /// How many.
    pub count: u32,
}

/// A deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    /// Its name, which is its id too.
    pub name: DeploymentId,
    /// GPUs of a replica.
    pub gpus: u32,
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas; `min` when absent.
    pub max: Option<u32>,
    /// 0 to 1000.
    pub priority: u32,
    /// In-flight requests a replica should have.
    pub concurrency: u32,
    /// Where its replicas may run, in order.
    pub classes: Vec<CapacityClass>,
    /// How long a load takes.
    pub load: Millis,
    /// How long its checkpoint takes; zero = no checkpoint hook.
    pub checkpoint: Millis,
    /// How long its drain hook takes.
    pub drain: Millis,
    /// The SKU; the fleet's first when absent.
    pub sku: Option<Sku>,
    /// The zone; any when absent.
    pub zone: Option<Zone>,
    /// Whose.
    pub organization: OrganizationId,
    /// Two of a replica must never run.
    pub single_copy: bool,
}

/// How long to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// So long.
    For(Millis),
    /// Until every deployment has as many ready replicas as it wants, at most so long.
    UntilReady(Millis),
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// A replica of the deployment stands (or does not stand) on the node.
    On {
        /// Which deployment; any when absent.
        deployment: Option<DeploymentId>,
        /// Whether it must not.
        not: bool,
        /// The node.
        node: NodeId,
    },
    /// So many replicas of the deployment are ready, desired or pending.
    Count {
        /// Which deployment.
        deployment: DeploymentId,
        /// Of what.
        what: Count,
        /// How many.
        count: u32,
    },
    /// So many requests were cut off.
    RequestsCut(u64),
    /// Usage on one kind of line, within one percent.
    Usage {
        /// Whose.
        organization: OrganizationId,
        /// The word of `line` (`on_demand`).
        line: String,
        /// Instance-hours.
        hours: f64,
    },
    /// A word of one of the node's four axes.
    Axis {
        /// The node.
        node: NodeId,
        /// Which axis.
        axis: Axis,
        /// The word.
        word: String,
    },
    /// The newest drill has come to this verdict.
    Drill(String),
    /// The statement before was refused.
    Refused,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Ready replicas.
    Ready,
    /// Wanted replicas.
    Desired,
    /// Replicas that are nowhere yet.
    Pending,
}

/// The axes of a node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// joining, connected, silent, lost.
    Reach,
    /// qualifying, fit, unfit.
    Health,
    /// open, cordoned, draining, retired.
    Intent,
    /// none, noticed.
    Departure,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The agent's process dies and is started again.
    CrashAgent(NodeId),
    /// The node cannot reach the scheduler for so long.
    Cut(NodeId, Millis),
    /// Calls about this GPU never return.
    HangDriver(NodeId, u32),
    /// The kernel reports this XID.
    Xid(NodeId, u32, u32),
    /// The host is gone for good.
    Lose(NodeId),
    /// The host's wall clock steps by so many milliseconds.
    Clock(NodeId, i64),
    /// The scheduler dies and is started again.
    SchedulerCrash,
}

/// Who acts.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Nothing new there.
    Cordon(NodeId),
    /// Usable again.
    Uncordon(NodeId),
    /// Empty it.
    Drain(NodeId),
    /// Take spot capacity back on the configured timeline.
    Reclaim(NodeId),
    /// New bounds.
    Scale {
        /// Which deployment.
        deployment: DeploymentId,
        /// Fewest.
        min: Option<u32>,
        /// Most.
        max: Option<u32>,
    },
    /// Remove it.
    Delete(DeploymentId),
    /// Practise a notice.
    Drill(Box<SheetDrill>),
    /// Give the newest drill up.
    AbortDrill,
}

/// A drill.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetDrill {
    /// A node, or a deployment whose nodes are meant.
    pub on: String,
    /// What is practised.
    pub profile: Profile,
    /// Of the deployment's nodes so many percent.
    pub percent: u8,
    /// Nodes at once.
    pub at_once: u32,
    /// When it is given up.
    pub abort: AbortRules,
    /// What it is measured by.
    pub targets: Targets,
}

/// What is printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// Everything that happened on the node.
    Timeline(NodeId),
    /// The organization's usage.
    Usage(OrganizationId),
    /// Why the deployment's replicas are where they are.
    Explain(DeploymentId),
}
