//! `make gpu-check`: the whole path on real GPUs. Reads every field and compares it with
//! `nvidia-smi`; lets the real agent run a replica that takes real device memory, kills it, and
//! looks for the proof of release; lets another process hold the memory and looks for the
//! quarantine; puts a process's GPU memory into the host's and back; measures what the agent costs.
//!
//! Where no NVIDIA driver is it says so loudly and ends well: what was not checked is never said
//! to be right. Exit 0: all is right, or skipped; 1: something is not; 69: a part could not be run.

mod agreement;
mod beside;
mod fields;
mod figures;
mod hold;
mod host;
mod saved;
#[path = "../../tests/node/common/scheduler.rs"]
#[expect(dead_code, reason = "the journeys' scheduler can do more than this program asks")]
mod scheduler;
mod smi;
mod story;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use wharfage_agent_sys::nvml::Reader;

use figures::Figures;
use smi::Smi;

/// Checks the agent against the GPUs of this host.
#[derive(Parser)]
struct Arguments {
    /// NVML's library [default: the system's].
    #[arg(long, value_name = "FILE")]
    nvml: Option<PathBuf>,
    /// CUDA's driver library.
    #[arg(long, value_name = "FILE", default_value = "libcuda.so.1")]
    cuda: PathBuf,
    /// The program to compare with.
    #[arg(long, value_name = "FILE", default_value = "nvidia-smi")]
    nvidia_smi: OsString,
    /// Memory that the replica takes.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    take_mib: u32,
    /// How long the agent's cost is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    measure_seconds: u32,
    /// Where to write the figures; they are printed too.
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Only hold memory of this GPU until standard input ends (this program's own use).
    #[arg(long, value_name = "UUID")]
    hold: Option<String>,
}

/// What was seen: what is wrong, and what could not be looked at.
#[derive(Default)]
struct Seen {
    wrong: Vec<String>,
    skipped: Vec<String>,
    /// Values that were read and that nothing here could be held against.
    not_compared: BTreeSet<String>,
}

impl Seen {
    /// Says what holds, or notes what does not.
    fn check(&mut self, holds: bool, what: &str) {
        println!("  {} {what}", if holds { "ok  " } else { "WRONG" });
        if !holds {
            self.wrong.push(what.to_owned());
        }
    }

    /// Notes a value that could not be compared; of several GPUs once.
    fn leave(&mut self, what: &str) {
        println!("  NOT COMPARED {what}");
        self.not_compared.insert(what.to_owned());
    }

    /// Notes what could not be looked at.
    fn skip(&mut self, what: &str) {
        println!("  SKIPPED {what}");
        self.skipped.push(what.to_owned());
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(gpu) = &arguments.hold {
        return hold::run(gpu, &arguments.cuda, arguments.take_mib);
    }
    let reader = match Reader::open(arguments.nvml.as_ref().map(|path| path.as_os_str())) {
        Ok(reader) => reader,
        Err(trouble) => {
            println!("GPU CHECK SKIPPED: {trouble}. Nothing was checked on this host.");
            return ExitCode::SUCCESS;
        }
    };
    let mut seen = Seen::default();
    let mut figures = Figures::default();
    if let Err(because) = checked(&arguments, &reader, &mut seen, &mut figures) {
        eprintln!("{because}");
        return ExitCode::from(69);
    }
    let names = seen.not_compared.iter().filter_map(|what| what.split(": ").next());
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        figures.add(format!("read and not compared: {}", names.join(", ")));
    }
    println!("figures:\n{figures}");
    for skipped in &seen.skipped {
        println!("SKIPPED: {skipped}");
    }
    if !seen.wrong.is_empty() {
        println!("{} checks failed:\n  {}", seen.wrong.len(), seen.wrong.join("\n  "));
        return ExitCode::FAILURE;
    }
    if let Some(path) = &arguments.figures
        && let Err(error) = std::fs::write(path, figures.to_string())
    {
        eprintln!("cannot write `{}`: {error}", path.display());
        return ExitCode::from(69);
    }
    for what in &seen.not_compared {
        println!("NOT COMPARED: {what}");
    }
    match seen.not_compared.len() + seen.skipped.len() {
        0 => println!("all checks passed"),
        open => println!("what could be checked is right; {open} things could not be, see above"),
    }
    ExitCode::SUCCESS
}

fn checked(
    arguments: &Arguments,
    reader: &Reader,
    seen: &mut Seen,
    figures: &mut Figures,
) -> Result<(), String> {
    let smi = Smi { program: arguments.nvidia_smi.clone() };
    let least_used = fields::check(reader, &smi, seen, figures)?;
    match least_used {
        Some(gpu) => {
            story::check(arguments, &gpu, seen, figures)?;
            saved::check(arguments, reader, &gpu, seen, figures)
        }
        None => {
            seen.skip("the replica: no GPU here is one whole slot (MIG is on everywhere)");
            Ok(())
        }
    }
}
