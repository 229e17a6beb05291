//! The development engine as a program of its own, which the agent's journeys define as an engine.

use std::process::ExitCode;

use clap::Parser;
use wharfage_fake_engine::EngineArgs;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    engine: EngineArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match wharfage_fake_engine::run(Program::parse().engine).await {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
