//! `wharfage drill ...`.

use clap::{Args, Subcommand, ValueEnum};

use super::Output;

/// `wharfage drill`.
#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Begin one.
    Run(Box<DrillRun>),
    /// Begin one again and again.
    Schedule(Box<DrillSchedule>),
    /// All drills.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// How one went, or goes.
    Show {
        /// Its id.
        id: String,
        /// The report as a document.
        #[arg(long, value_enum)]
        format: Option<ReportFormat>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Give one up: notices are withdrawn and nothing more begins.
    Abort {
        /// Its id.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// The report as a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For programs: all of it.
    Json,
    /// For what runs tests: a case for each demand.
    Junit,
    /// A page with a drawing.
    Html,
}

/// `wharfage drill run`.
#[derive(Debug, Args)]
pub struct DrillRun {
    /// What is practised, and where.
    #[command(flatten)]
    pub pattern: Pattern,
    /// Print the timeline until it is over; exit 1 unless it passed.
    #[arg(long)]
    pub wait: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `wharfage drill schedule`.
#[derive(Debug, Args)]
pub struct DrillSchedule {
    /// What is practised, and where.
    #[command(flatten)]
    pub pattern: Pattern,
    /// When: minute hour day-of-month month day-of-week, as in "30 3 * * MON".
    #[arg(long)]
    pub cron: String,
    /// The time zone that this is meant in.
    #[arg(long, default_value = "UTC")]
    pub time_zone: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A drill as it is asked for.
#[derive(Debug, Args)]
pub struct Pattern {
    /// On this node.
    #[arg(long, required_unless_present_any = ["pool", "deployment"])]
    pub node: Option<String>,
    /// On each node of this pool.
    #[arg(long, conflicts_with = "node")]
    pub pool: Option<String>,
    /// On nodes that this deployment (id or name) serves from.
    #[arg(long, conflicts_with_all = ["node", "pool"])]
    pub deployment: Option<String>,
    /// On so many of the deployment's nodes, rounded up.
    #[arg(long, requires = "deployment")]
    pub percent: Option<u32>,
    /// aws-120, gcp-30, azure-30, coreweave-420, no-notice or custom.
    #[arg(long)]
    pub profile: String,
    /// Seconds from the notice to the deadline, for profile custom.
    #[arg(long)]
    pub window: Option<u32>,
    /// A name, for people.
    #[arg(long)]
    pub name: Option<String>,
    /// Nodes at once.
    #[arg(long, default_value_t = 1)]
    pub at_once: u32,
    /// What has not begun within so many hours is left out.
    #[arg(long, default_value_t = 24)]
    pub within_hours: u32,
    /// Give it up when a deployment there has fewer ready replicas than this.
    #[arg(long)]
    pub fewer_than: Option<u32>,
    /// Give it up when more requests than this got no whole answer at what stood on drilled nodes.
    #[arg(long)]
    pub more_cut_than: Option<u32>,
    /// Go on also when a deployment falls below its min.
    #[arg(long)]
    pub go_on: bool,
    /// Target: the first step within so many seconds of the notice.
    #[arg(long)]
    pub first_action: Option<u32>,
    /// Target: so many percent of the checkpoints completed.
    #[arg(long)]
    pub checkpoints: Option<u32>,
    /// Target: so many percent of the window used.
    #[arg(long)]
    pub window_used: Option<u32>,
    /// Target: so many requests without a whole answer at most.
    #[arg(long)]
    pub requests_cut: Option<u32>,
    /// Target: as many replicas ready as before within so many seconds.
    #[arg(long)]
    pub capacity_back: Option<u32>,
}
