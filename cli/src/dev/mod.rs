//! `wharfage dev`: a whole installation on this host, of the real binaries as real processes, with
//! fake GPUs and the development engine.

pub mod fleet;
pub mod keeper;
mod layout;
mod prices;
pub mod processes;
pub mod ready;
mod setup;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use self::fleet::DevNode;
use self::keeper::Keeper;
use self::layout::Layout;
use self::processes::{Daemons, Deaths, Programs};
use crate::client::Client;
use crate::exit::Failure;

/// How long a whole installation may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// So many lines of each daemon's log are told where an installation fails: it goes with its files.
const LAST_WORDS: usize = 5;

/// `wharfage dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// The fleet file; two standard nodes and one spot without it.
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// Keep everything here and go on with it next time; a temporary folder without it.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON line when all is up.
    #[arg(long)]
    json: bool,
    /// End when standard input ends.
    #[arg(long)]
    until_eof: bool,
}

/// What a program needs to know of a running installation: the line that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// The public listener.
    pub scheduler_url: String,
    /// The listener for machines.
    pub agents_url: String,
    /// The gateway.
    pub gateway_url: String,
    /// The tenant's token.
    pub token: String,
    /// The provider's token.
    pub admin_token: String,
    /// The tenant.
    pub organization: String,
    /// The tenant's gateway resource.
    pub gateway_id: String,
    /// Where everything lies.
    pub state_dir: PathBuf,
    /// The nodes.
    pub nodes: Vec<DescribedNode>,
}

/// One node of it.
#[derive(Clone, Debug, Serialize)]
pub struct DescribedNode {
    /// Its name.
    pub id: String,
    /// Its agent's status page.
    pub status_url: String,
    /// Where a notice file is heard.
    pub notice_file: PathBuf,
    /// Its fake GPU folder.
    pub fake_dir: PathBuf,
}

/// A running installation.
pub struct Running {
    /// What a program needs to know of it.
    pub described: Described,
    /// Its daemons.
    pub daemons: Daemons,
    layout: Layout,
    programs: Programs,
    keeper: Keeper,
}

/// Runs until a signal or the end of input ends it.
pub async fn run(args: &DevArgs) -> Result<(), Failure> {
    let nodes = match &args.nodes {
        Some(path) => fleet::read(path)?,
        None => fleet::default_fleet(),
    };
    let mut end = Ending::new(args.until_eof)?;
    let starting = start(&nodes, args.state_dir.as_deref());
    let (running, mut deaths) = tokio::select! {
        started = starting => started?,
        () = end.asked() => return Ok(()),
    };
    if args.json {
        println!("{}", serde_json::to_string(&running.described).unwrap_or_default());
    } else {
        describe(&running.described);
    }
    stay(&mut end, &mut deaths).await;
    running.stop()
}

/// Returns when somebody asks for the end. A daemon that dies is told and stays dead: what the others
/// make of it is what an installation is tried for, and whoever killed it starts it again.
pub async fn stay(end: &mut Ending, deaths: &mut Deaths) {
    loop {
        tokio::select! {
            () = end.asked() => break,
            Some(died) = deaths.recv() => eprintln!(
                "wharfage: {}; its log: {}; the rest runs on; it starts again with `{}`",
                died.sentence, died.log.display(), died.command
            ),
        }
    }
}

/// Prints what a person needs.
pub fn describe(up: &Described) {
    println!("dashboard   {}/", up.scheduler_url);
    println!("gateway     {}", up.gateway_url);
    println!("token       {}   (organization {}, every tenant role)", up.token, up.organization);
    println!("admin token {}   (provider)", up.admin_token);
    println!("state       {}", up.state_dir.display());
    for node in &up.nodes {
        println!("{:11} {}   notice file {}", node.id, node.status_url, node.notice_file.display());
    }
    println!("Ctrl-C ends it all.");
}

/// What ends an installation from outside.
pub struct Ending {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    until_eof: bool,
}

impl Ending {
    /// Listens from now on, so that a signal during the start is heard too.
    pub fn new(until_eof: bool) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::check(format!("cannot hear signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            until_eof,
        })
    }

    /// Returns when somebody asks for the end.
    pub async fn asked(&mut self) {
        let until_eof = self.until_eof;
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            () = input_ends(), if until_eof => {}
        }
    }
}

async fn input_ends() {
    let mut input = tokio::io::stdin();
    // An error is an end as well.
    let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
}

/// Starts everything and returns when all of it was seen to be up.
pub async fn start(
    nodes: &[DevNode],
    state_dir: Option<&Path>,
) -> Result<(Running, Deaths), Failure> {
    let programs = Programs::beside_this_one()?;
    let (dir, is_temporary) = match state_dir {
        Some(dir) => (dir.to_owned(), false),
        None => (temporary_dir()?, true),
    };
    let layout = Layout::open(&dir)?;
    let keeper = Keeper::start(&layout.dir, is_temporary)?;
    let (daemons, deaths) = Daemons::new();
    let mut starting = Starting { layout, programs, daemons, deaths };
    match starting.all(nodes).await {
        Ok(described) => {
            let Starting { layout, programs, daemons, deaths } = starting;
            Ok((Running { described, daemons, layout, programs, keeper }, deaths))
        }
        Err(failure) => {
            let logs = last_words(&starting.layout.dir);
            starting.daemons.end_all();
            keeper.clean_up()?;
            Err(failure.with(&logs))
        }
    }
}

fn temporary_dir() -> Result<PathBuf, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::unavailable(format!("no randomness: {error}")))?;
    Ok(std::env::temp_dir().join(format!("wharfage-dev-{}", hex::encode(random))))
}

struct Starting {
    layout: Layout,
    programs: Programs,
    daemons: Daemons,
    deaths: Deaths,
}

impl Starting {
    async fn all(&mut self, nodes: &[DevNode]) -> Result<Described, Failure> {
        self.layout.prepare(nodes, &self.programs)?;
        start_scheduler(&self.daemons, &self.programs, &self.layout)?;
        let scheduler_url = format!("http://127.0.0.1:{}", self.layout.port_of("scheduler"));
        let http = reqwest::Client::new();
        let url = format!("{scheduler_url}/readyz");
        self.watch(ready::until("the scheduler is ready", UP_WITHIN, || {
            ready::answers(&http, &url)
        }))
        .await?;
        let admin_token = setup::admin_token(&self.layout.scheduler_state())?;
        let admin = Client::new(scheduler_url.clone(), admin_token.clone())?;
        let is_new = self.layout.installation.token.is_none();
        if is_new {
            let token = setup::tenant(&admin, nodes).await?;
            let joins = setup::pools(&admin, nodes).await?;
            for node in nodes {
                let pool = setup::pool_of(node);
                let join = joins.get(&pool).map_or("", String::as_str);
                self.layout.prepare_agent(node, &pool, join, &self.programs)?;
            }
            let join = setup::gateway_join(&admin).await?;
            self.layout.prepare_gateway(&join)?;
            self.layout.installation.gateway_id = Some(setup::gateway(&admin, nodes).await?);
            self.layout.installation.token = Some(token);
            self.layout.remember()?;
        }
        let (Some(token), Some(gateway_id)) =
            (self.layout.installation.token.clone(), self.layout.installation.gateway_id.clone())
        else {
            return Err(Failure::data("the folder's installation is incomplete; remove it"));
        };
        start_gateway(&self.daemons, &self.programs, &self.layout)?;
        for node in nodes {
            start_agent_later(&self.daemons, &self.programs, &self.layout, node)?;
        }
        let tenant = Client::new(scheduler_url.clone(), token.clone())?;
        let ids: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        let latest = nodes.iter().map(|node| node.joins_after_ms).max().unwrap_or(0);
        let within = UP_WITHIN + Duration::from_millis(latest);
        self.watch(ready::until("every node is connected, fit and read", within, || {
            ready::nodes(&admin, &ids)
        }))
        .await?;
        self.watch(ready::until("the gateway is connected and ready", UP_WITHIN, || {
            ready::gateway(&tenant, &gateway_id)
        }))
        .await?;
        Ok(self.described(nodes, scheduler_url, token, admin_token, gateway_id))
    }

    /// Waits for `work`, or for the first daemon that ends by itself.
    async fn watch<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            Some(died) = self.deaths.recv() => Err(Failure::unavailable(died.sentence)),
        }
    }

    fn described(
        &self,
        nodes: &[DevNode],
        scheduler_url: String,
        token: String,
        admin_token: String,
        gateway_id: String,
    ) -> Described {
        let port = |name: &str| self.layout.port_of(name);
        Described {
            scheduler_url,
            agents_url: format!("https://127.0.0.1:{}", port("machines")),
            gateway_url: format!("http://127.0.0.1:{}", port("gateway")),
            token,
            admin_token,
            organization: setup::TENANT.to_owned(),
            gateway_id,
            state_dir: self.layout.dir.clone(),
            nodes: nodes
                .iter()
                .map(|node| DescribedNode {
                    id: node.id.to_string(),
                    status_url: format!(
                        "http://127.0.0.1:{}",
                        port(&format!("status-{}", node.id))
                    ),
                    notice_file: self.layout.notice_file(node),
                    fake_dir: self.layout.fake_dir(node),
                })
                .collect(),
        }
    }
}

/// The last lines of every daemon's log of an installation that failed.
pub fn last_words(dir: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(dir.join("logs")) else { return String::new() };
    let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    logs.sort();
    let mut words = String::new();
    for log in logs {
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
            words.push_str(&format!("\n  {name}: {line}"));
        }
    }
    words
}

impl Running {
    /// Starts the scheduler again after it was killed.
    pub fn restart_scheduler(&self) -> Result<(), Failure> {
        start_scheduler(&self.daemons, &self.programs, &self.layout)
    }

    /// Ends every process and removes what is temporary.
    pub fn stop(self) -> Result<(), Failure> {
        self.daemons.end_all();
        self.keeper.clean_up()
    }
}

fn start_scheduler(daemons: &Daemons, at: &Programs, layout: &Layout) -> Result<(), Failure> {
    let mut command = Command::new(at.path("wharfage-scheduler"));
    command.arg("--config").arg(layout.config("scheduler"));
    daemons.start("scheduler", &mut command, &layout.log("scheduler"))
}

fn start_gateway(daemons: &Daemons, at: &Programs, layout: &Layout) -> Result<(), Failure> {
    let mut command = Command::new(at.path("wharfage-gateway"));
    command.arg("--config").arg(layout.config("gateway"));
    daemons.start("gateway", &mut command, &layout.log("gateway"))
}

/// Starts an agent now, or when its node is to join.
fn start_agent_later(
    daemons: &Daemons,
    at: &Programs,
    layout: &Layout,
    node: &DevNode,
) -> Result<(), Failure> {
    let mut command = Command::new(at.path("wharfage-agent"));
    command.arg("--config").arg(layout.config(node.id.as_str()));
    let (name, log) = (node.id.to_string(), layout.log(node.id.as_str()));
    if node.joins_after_ms == 0 {
        return daemons.start(&name, &mut command, &log);
    }
    let (daemons, after) = (daemons.clone(), Duration::from_millis(node.joins_after_ms));
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // A failure shows as a node that does not join.
        if let Err(failure) = daemons.start(&name, &mut command, &log) {
            eprintln!("wharfage: {failure}");
        }
    });
    Ok(())
}
