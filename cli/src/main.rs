//! `wharfage`: the command line for operators, model owners and finance.
//!
//! Tables for people, `-o json` for programs, and the exit codes of `docs/operating.md`.

mod args;
mod client;
mod demo;
mod dev;
mod emulator;
mod exit;
mod files;
mod output;
mod rate;
mod rehearse;
mod simulate;
mod verbs;

use clap::Parser;

use crate::args::{Args, Command};
use crate::exit::Failure;

fn main() -> std::process::ExitCode {
    wharfage_link::tls::install();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Dev(dev) => block_on(dev::run(&dev)),
        Command::Demo(demo) => block_on(demo::run(&demo)),
        Command::DevKeeper(keeper) => dev::keeper::run(&keeper),
        Command::EngineStub(engine) => engine_stub(engine),
        Command::NoticeEmulator(args) => block_on(emulator::run(&args)),
        Command::Rate(rate) => rate::run(&rate),
        Command::Rehearse(rehearse) => block_on(rehearse::run(&rehearse)),
        Command::Simulate(simulate) => simulate::run(&simulate),
        Command::Completion { shell } => {
            let mut command = <Args as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "wharfage", &mut std::io::stdout());
            Ok(())
        }
        Command::Verb(verb) => block_on(verbs::run(verb)),
    }
}

fn engine_stub(args: wharfage_fake_engine::EngineArgs) -> Result<(), Failure> {
    let ended = block_on(async {
        wharfage_fake_engine::run(args).await.map_err(|error| Failure::check(error.to_string()))
    });
    ended.and_then(|code| Failure::quietly(code).map_or(Ok(()), Err))
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::check(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work);
    // A thread that still reads standard input must not keep the program from ending.
    runtime.shutdown_background();
    result
}
