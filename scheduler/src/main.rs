//! `wharfage-scheduler --config FILE [check-config]`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use wharfage_scheduler::config::Config;
use wharfage_scheduler::run::{Failure, run};

/// Decides what runs where on a fleet of GPU hosts, keeps the log, answers the API.
#[derive(Parser)]
#[command(name = "wharfage-scheduler", version)]
struct Arguments {
    /// The configuration file (`scheduler.toml`).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Reads and checks the configuration, and does nothing else.
    CheckConfig,
}

/// Bad usage; clap's own code for it is 2.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_answer =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nowhere to print to is no reason for another exit code.
            let _ = error.print();
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic where the disk under standard error is full.
            drop(writeln!(std::io::stderr(), "wharfage-scheduler: {failure}"));
            ExitCode::from(failure.code)
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config).map_err(|error| Failure::configuration(&error))?;
    match arguments.verb {
        Some(Verb::CheckConfig) => {
            println!("{}: good", arguments.config.display());
            Ok(())
        }
        None => {
            let filter =
                EnvFilter::try_from_env("WHARFAGE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                // It would tell of a full disk with a panic.
                .log_internal_errors(false)
                .init();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime =
                runtime.map_err(|error| Failure::unavailable(format!("no runtime: {error}")))?;
            runtime.block_on(run(config))
        }
    }
}
