//! The words of the command line.

pub mod drill;
pub mod rehearse;

use std::path::PathBuf;

use crate::demo::DemoArgs;
use crate::dev::DevArgs;
use crate::dev::keeper::KeeperArgs;
use crate::emulator::EmulatorArgs;
use clap::{Parser, Subcommand, ValueEnum};
use wharfage_fake_engine::EngineArgs;

/// Runs GPU inference replicas on a fleet of GPU hosts and bills for them.
#[derive(Debug, Parser)]
#[command(name = "wharfage", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A whole installation on this host: real daemons, fake GPUs, development engine.
    Dev(DevArgs),
    /// `dev` plus the story of the README, each step told by what was observed.
    Demo(DemoArgs),
    /// Ends what `dev` started, once `dev` is gone.
    #[command(hide = true)]
    DevKeeper(KeeperArgs),
    /// The development engine: OpenAI-compatible, loads a real model file.
    EngineStub(EngineArgs),
    /// The metadata services of the clouds on this host: what they announce is told by a script.
    NoticeEmulator(EmulatorArgs),
    /// Rate a usage file with the billing core: no scheduler needed.
    Rate(RateArgs),
    /// Recorded traffic against a deployment's replicas, with drills in it: what would it be like?
    Rehearse(Box<rehearse::RehearseArgs>),
    /// Run drills on the production cores under virtual time.
    Simulate(SimulateArgs),
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Verbs that talk to a scheduler.
    #[command(flatten)]
    Verb(Verb),
}

/// `wharfage simulate FILE` and `wharfage simulate random`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SimulateArgs {
    /// What else than a sheet.
    #[command(subcommand)]
    pub kind: Option<Simulation>,
    /// A drill sheet.
    #[arg(required = true)]
    pub sheet: Option<PathBuf>,
    /// Decides everything that chance decides.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Simulations that are no sheet.
#[derive(Debug, Subcommand)]
pub enum Simulation {
    /// Random worlds with faults; prints the command that replays a failing one.
    Random {
        /// How many worlds.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first one's seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Asks of 1, 2, 4 and 8 GPUs that come and go: how many find no node although GPUs are free.
    Churn(ChurnArgs),
    /// A trace's whole-GPU pods on a trace's nodes: how many of the GPUs can be given away.
    Placement(PlacementArgs),
    /// The autoscaling rule on a recorded load: the first decision and each change.
    Autoscaling(AutoscalingArgs),
}

/// `wharfage simulate autoscaling`.
#[derive(Debug, clap::Args)]
pub struct AutoscalingArgs {
    /// Settings in Baseten's names, and initial_replica (default min_replica).
    #[arg(long, value_name = "JSON")]
    pub settings: PathBuf,
    /// The load: t_seconds, in_flight. One decision is made at each row.
    #[arg(long, value_name = "CSV")]
    pub load: PathBuf,
    /// Print the changes as JSON, with why.
    #[arg(long)]
    pub json: bool,
}

/// `wharfage simulate churn`.
#[derive(Debug, clap::Args)]
pub struct ChurnArgs {
    /// Nodes of eight GPUs.
    #[arg(long, default_value_t = 200)]
    pub nodes: u32,
    /// GPUs asked for at a time, as a share of all.
    #[arg(long, default_value_t = 0.95)]
    pub load: f64,
    /// How often 1, 2, 4 and 8 GPUs are asked for, as weights.
    #[arg(long, value_name = "W1,W2,W4,W8", value_delimiter = ',', default_value = "70,15,10,5")]
    pub mix: Vec<u32>,
    /// How a seat is chosen.
    #[arg(long, value_enum, default_value_t = PlacementChoice::BestFit)]
    pub policy: PlacementChoice,
    /// Replicas that may move to make room for one ask.
    #[arg(long, default_value_t = 0)]
    pub moves: usize,
    /// Runs, each with a seed of its own.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `wharfage simulate placement`.
#[derive(Debug, clap::Args)]
pub struct PlacementArgs {
    /// Nodes: node_id, gpu_count, gpu_model.
    #[arg(long, value_name = "CSV")]
    pub nodes: PathBuf,
    /// Pods: pod_id, num_gpu, gpu_milli, gpu_spec.
    #[arg(long, value_name = "CSV")]
    pub pods: PathBuf,
    /// How a seat is chosen.
    #[arg(long, value_enum, default_value_t = PlacementChoice::BestFit)]
    pub policy: PlacementChoice,
    /// Runs, each with a seed of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a seat is chosen in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum PlacementChoice {
    /// The fullest node with room.
    BestFit,
    /// The emptiest node.
    Spread,
    /// Any node with room, to compare with.
    Random,
}

/// `wharfage rate`.
#[derive(Debug, clap::Args)]
pub struct RateArgs {
    /// Prices and contracts (TOML).
    #[arg(long, value_name = "FILE")]
    pub terms: PathBuf,
    /// Usage (CSV).
    #[arg(long, value_name = "FILE")]
    pub usage: PathBuf,
    /// First instant of the period, RFC 3339 UTC.
    #[arg(long, value_name = "T")]
    pub from: String,
    /// First instant after it.
    #[arg(long, value_name = "T")]
    pub to: String,
    /// How to print the lines.
    #[arg(long, value_enum, default_value_t = RateFormat::Table)]
    pub format: RateFormat,
}

/// How `rate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RateFormat {
    /// For people.
    Table,
    /// For programs: exact quantities, decimals as strings.
    Json,
    /// One line a row.
    Csv,
    /// FOCUS 1.4 columns (CSV).
    Focus,
}

/// How verbs print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs: what the API answered.
    Json,
}

/// Things that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listable {
    /// GPU hosts.
    #[value(alias = "node")]
    Nodes,
    /// Deployments.
    #[value(alias = "deployment")]
    Deployments,
    /// Replicas.
    #[value(alias = "replica")]
    Replicas,
    /// Gateway resources.
    #[value(alias = "gateway")]
    Gateways,
    /// Pools of nodes.
    #[value(alias = "nodepool", alias = "pools")]
    Nodepools,
    /// Capacity claims.
    #[value(alias = "claim", alias = "capacityclaims")]
    Claims,
    /// Instance quotas.
    #[value(alias = "quota")]
    Quotas,
    /// Contracts.
    #[value(alias = "contract")]
    Contracts,
    /// List prices.
    #[value(alias = "price")]
    Prices,
    /// Invoices.
    #[value(alias = "invoice")]
    Invoices,
    /// The capacity ledger.
    Capacity,
}

/// Things that can be described one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Describable {
    /// A GPU host.
    Node,
    /// A deployment.
    Deployment,
    /// A replica.
    Replica,
}

/// Things whose placement can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Explainable {
    /// All replicas of a deployment.
    Deployment,
    /// One replica.
    Replica,
}

/// Verbs that talk to a scheduler (`WHARFAGE_URL`, `WHARFAGE_TOKEN`).
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List things.
    Get {
        /// What.
        what: Listable,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Everything about one thing.
    Describe {
        /// What.
        what: Describable,
        /// Its id (a deployment's name works too).
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Why here, why not there: candidate by candidate.
    Explain {
        /// What.
        what: Explainable,
        /// Its id (a deployment's name works too).
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Place nothing new on a node.
    Cordon(NodeVerb),
    /// Make a node usable again.
    Uncordon(NodeVerb),
    /// Empty a node: replacement first, each replica with its grace.
    Drain(NodeVerb),
    /// Take a spot node's capacity back on the stated timeline.
    Reclaim(NodeVerb),
    /// Brakes: health rules that hit so many nodes that nothing is drained by itself.
    #[command(subcommand)]
    Brake(Brake),
    /// Capacity claims: instances that are set aside.
    #[command(subcommand)]
    Claim(Claim),
    /// Drills: a notice that is practised.
    #[command(subcommand)]
    Drill(drill::Drill),
    /// The capacity ledger: usable, guaranteed, used, free, by region and zone.
    Capacity {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Running invoices: drafts, and their proof.
    #[command(subcommand)]
    Invoice(Invoice),
    /// Usage of a period.
    Usage {
        /// First instant, RFC 3339 UTC; the calendar month's when absent.
        #[arg(long)]
        from: Option<String>,
        /// First instant after it.
        #[arg(long)]
        to: Option<String>,
        /// Whose; the token's own when absent.
        #[arg(long)]
        organization: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Memory and utilization of every GPU, once.
    Top {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// The end of what replicas printed, those that ended last too.
    Logs {
        /// A deployment (id or name), or a replica (`r-12`).
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Facts as they happen; ends with Ctrl-C.
    Events {
        /// Go on from this position instead of from now.
        #[arg(long)]
        since: Option<u64>,
        /// End after so many.
        #[arg(long)]
        count: Option<u64>,
    },
}

/// A verb on one node.
#[derive(Debug, clap::Args)]
pub struct NodeVerb {
    /// The node.
    pub node: String,
    /// Why: shown wherever the node is shown.
    #[arg(long, default_value = "asked for on the command line")]
    pub reason: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `wharfage brake`.
#[derive(Debug, Subcommand)]
pub enum Brake {
    /// The brakes that are on.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Let nodes be drained and repaired by themselves again: the rule was right.
    Release {
        /// The rule as `list` names it, such as `XID 79` or `G8`.
        rule: String,
        /// Why: it stands in the log.
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// `wharfage claim`.
#[derive(Debug, Subcommand)]
pub enum Claim {
    /// Set instances aside.
    Create {
        /// Its name.
        name: String,
        /// The instance type.
        #[arg(long)]
        sku: String,
        /// The zone.
        #[arg(long)]
        zone: String,
        /// How many instances.
        #[arg(long)]
        count: u32,
        /// From the provider's pool, or from the organization's own quota.
        #[arg(long = "type", value_enum, ignore_case = true, default_value_t)]
        capacity_type: CapacityType,
        /// Whose; the token's own when absent.
        #[arg(long)]
        organization: Option<String>,
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// All claims.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one.
    Get {
        /// Its id or its name.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Ask for another count.
    Resize {
        /// Its id or its name.
        id: String,
        /// How many instances.
        #[arg(long)]
        count: u32,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Give all its instances back: what runs there is evicted.
    Delete {
        /// Its id or its name.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Where a claim's instances come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CapacityType {
    /// The provider's pool.
    #[default]
    #[value(alias = "managed")]
    Serverless,
    /// The organization's own instance quota.
    Customer,
}

/// `wharfage invoice`.
#[derive(Debug, Subcommand)]
pub enum Invoice {
    /// State the running invoice of a period as a fact that can be verified.
    Draft {
        /// Whose; the token's own when absent.
        #[arg(long)]
        organization: Option<String>,
        /// First instant, RFC 3339 UTC; the calendar month's when absent.
        #[arg(long)]
        from: Option<String>,
        /// First instant after it.
        #[arg(long)]
        to: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one.
    Get {
        /// Its id.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Recompute one from the log and compare the bytes; exit 1 when they differ.
    Verify {
        /// Its id.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}
