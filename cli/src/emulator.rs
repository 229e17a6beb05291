//! `wharfage notice-emulator`: the clouds' metadata services on a loopback port, by a script.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use wharfage_fake_notices::{Cloud, Emulator, Script};

use crate::exit::Failure;

/// `wharfage notice-emulator`.
#[derive(Debug, clap::Args)]
pub struct EmulatorArgs {
    /// Whose metadata service: aws, gcp, azure, nebius, alibaba, tencent or oci; several by commas.
    #[arg(long, value_name = "CLOUD", required = true, value_delimiter = ',')]
    pub cloud: Vec<Cloud>,
    /// What it announces, takes back and how it fails, and when.
    #[arg(long, value_name = "FILE")]
    pub script: PathBuf,
    /// Where it listens; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Say each request and its answer on standard error.
    #[arg(long)]
    pub verbose: bool,
}

/// Prints its URL when it listens, and runs until a signal ends it.
pub async fn run(args: &EmulatorArgs) -> Result<(), Failure> {
    let script = Script::load(&args.script, &args.cloud);
    let script = script.map_err(|error| Failure::data(error.to_string()))?;
    let heard = |kind| {
        signal(kind).map_err(|error| Failure::check(format!("cannot hear signals: {error}")))
    };
    let (mut interrupt, mut terminate) =
        (heard(SignalKind::interrupt())?, heard(SignalKind::terminate())?);
    let emulator = Emulator::start(args.listen, &args.cloud, script, args.verbose).await;
    let emulator = emulator.map_err(|error| {
        Failure::unavailable(format!("cannot listen at {}: {error}", args.listen))
    })?;
    println!("{}", emulator.url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
