//! `wharfage-agent`: the daemon on a GPU host, and the programs that it starts from itself.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use wharfage_agent::config::Config;
use wharfage_agent::exit::{self, Failure};
use wharfage_agent::health::socket::{self, Answer, Request};
use wharfage_agent::hooks::keeper;
use wharfage_agent::hooks::store::{asked, moving};
use wharfage_agent::{cuda, cuda_checkpoint, daemon, doctor, gpu, guard};
use wharfage_shared::health::Repair;

/// Runs GPU inference replicas on this host as the scheduler orders, and proves what it did.
#[derive(Parser)]
#[command(name = "wharfage-agent", version)]
struct Arguments {
    /// The configuration, `agent.toml`.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Checks the configuration, the engines and the hooks, and ends.
    CheckConfig,
    /// Shows what works on this host and the fix for each thing that does not; exit 1 when something
    /// that is needed is broken.
    Doctor {
        /// How the page is written.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Drills: takes a fault for heard, where `health.allow_injection` is set.
    Inject {
        #[command(subcommand)]
        what: Injection,
    },
    /// Says that a GPU (or the whole node) is well again: closes its incidents.
    Repaired {
        /// The GPU: its number in NVML's order, or its UUID (default: the whole node).
        #[arg(long, value_name = "GPU")]
        gpu: Option<String>,
        /// What was done.
        #[arg(long, value_enum, default_value = "operator")]
        by: By,
    },
    /// Guards one replica; started by the agent.
    #[command(hide = true)]
    Guard {
        /// The replica's parameter file.
        #[arg(long, value_name = "FILE")]
        params: PathBuf,
    },
    /// Keeps one run of a hook; started by the agent.
    #[command(hide = true)]
    KeepHook(keeper::Asked),
    /// Moves checkpoints between this host and the object store; started by the agent.
    #[command(hide = true)]
    CheckpointStore(asked::Asked),
    /// Says in one line of JSON whether CUDA starts; started by the agent and by `doctor`.
    #[command(hide = true)]
    CudaProbe {
        /// The library's path.
        #[arg(long, value_name = "PATH")]
        library: Option<OsString>,
    },
    /// Puts processes' GPU memory into the host's memory or back; started by the agent.
    #[command(hide = true)]
    CudaCheckpoint(cuda_checkpoint::Asked),
    /// Reads GPUs through NVML; started by the agent.
    #[command(hide = true)]
    NvmlHelper {
        /// The library's path, or `default`.
        #[arg(long, value_name = "PATH")]
        library: Option<OsString>,
    },
}

#[derive(Subcommand)]
enum Injection {
    /// An XID of the driver.
    Xid {
        /// Its number.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=9999))]
        xid: u32,
        /// The GPU: its number in NVML's order, or its UUID.
        #[arg(long, value_name = "GPU")]
        gpu: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// The GPU was reset.
    Reset,
    /// Somebody saw to it.
    Operator,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A page for people.
    Text,
    /// One object for programs.
    Json,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed terminal cannot be told; the code still says what happened.
            drop(error.print());
            return if error.use_stderr() { exit::USAGE.into() } else { exit::FINE.into() };
        }
    };
    match run(arguments) {
        Ok(code) => code.into(),
        Err(failure) => {
            // `eprintln!` would panic where the disk under standard error is full.
            drop(writeln!(std::io::stderr(), "wharfage-agent: {failure}"));
            failure.code.into()
        }
    }
}

fn run(arguments: Arguments) -> Result<u8, Failure> {
    match arguments.verb {
        Some(Verb::Guard { params }) => {
            guard::run(&params).map_err(Failure::unavailable).map(|()| exit::FINE)
        }
        Some(Verb::NvmlHelper { library }) => {
            Ok(gpu::helper::run(library.filter(|library| library != "default")))
        }
        Some(Verb::KeepHook(asked)) => keeper::run(&asked).map_err(Failure::unavailable),
        Some(Verb::CheckpointStore(asked)) => {
            let done = moving::run(&asked).map_err(Failure::unavailable)?;
            // Who asked has given up meanwhile.
            drop(writeln!(std::io::stdout(), "{done}"));
            Ok(exit::FINE)
        }
        Some(Verb::CudaProbe { library }) => {
            // Who asked has given up meanwhile.
            drop(cuda::answer(library));
            Ok(exit::FINE)
        }
        Some(Verb::CudaCheckpoint(asked)) => {
            // Who asked has given up meanwhile.
            drop(cuda_checkpoint::answer(&asked));
            Ok(exit::FINE)
        }
        Some(Verb::CheckConfig) => {
            daemon::check(&load(arguments.config)?)?;
            println!("the configuration is good");
            Ok(exit::FINE)
        }
        Some(Verb::Doctor { output }) => {
            let config = load(arguments.config)?;
            let runtime = threads()?;
            let page = runtime.block_on(doctor::examine(&config));
            runtime.shutdown_background();
            let page = page?;
            let text = match output {
                Output::Text => page.to_string(),
                Output::Json => format!("{}\n", page.json()),
            };
            // Whoever closed the pipe has seen enough; the code still says what was found.
            drop(std::io::stdout().write_all(text.as_bytes()));
            Ok(if page.broken() == 0 { exit::FINE } else { exit::FAILED })
        }
        Some(Verb::Inject { what: Injection::Xid { xid, gpu } }) => {
            ask(&load(arguments.config)?, &Request::InjectXid { xid, gpu })
        }
        Some(Verb::Repaired { gpu, by }) => {
            let by = match by {
                By::Reset => Repair::Reset,
                By::Operator => Repair::Operator,
            };
            ask(&load(arguments.config)?, &Request::Repaired { gpu, by })
        }
        None => {
            let path = arguments.config.clone().unwrap_or_default();
            let config = load(arguments.config)?;
            log();
            let runtime = threads()?;
            // On one of its threads: beside them, each event would wake this one too.
            let done = runtime.block_on(runtime.spawn(daemon::run(config, path)));
            let done = done.map_err(|error| Failure::unavailable(format!("it broke: {error}")))?;
            // Helpers that hang in the driver must not keep the agent from ending.
            runtime.shutdown_background();
            done.map(|()| exit::FINE)
        }
    }
}

/// Asks the agent that runs with this configuration.
fn ask(config: &Config, request: &Request) -> Result<u8, Failure> {
    let answer = socket::ask(&config.state_dir, request).map_err(|error| {
        let path = socket::path(&config.state_dir);
        Failure::unavailable(format!("`{}`: {error}: does the agent run?", path.display()))
    })?;
    match answer {
        Answer::Done(said) => {
            println!("{said}");
            Ok(exit::FINE)
        }
        Answer::Refused(message) => Err(Failure { code: exit::FAILED, message }),
    }
}

fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    // The agent waits nearly always: a thread for each core of a large host would only cost memory.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unavailable(format!("no threads: {error}")))
}

fn load(path: Option<PathBuf>) -> Result<Config, Failure> {
    let path = path.ok_or_else(|| Failure {
        code: exit::USAGE,
        message: "--config FILE is needed".to_owned(),
    })?;
    Ok(Config::load(&path)?)
}

fn log() {
    let filter = EnvFilter::try_from_env("WHARFAGE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a full disk with a panic.
        .log_internal_errors(false)
        .init();
}
