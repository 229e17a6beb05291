//! `make gpu-check`: reads every field of every GPU and compares it with `nvidia-smi`.
//!
//! Where no NVIDIA driver is it says so loudly and ends well: what was not checked is never said
//! to be right. Exit 0: all agree, or skipped; 1: a field differs; 69: `nvidia-smi` failed.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use wharfage_agent_sys::nvml::{Fast, Gpu, Reader, SECTIONS, Section, Value};

/// What differs by how much between two looks at a GPU that is in use.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Agreement {
    /// Letter by letter.
    Same,
    /// By at most so much.
    Within(f64),
    /// Both have it; it changes too fast to be compared.
    Both,
}

use Agreement::{Both, Same, Within};

/// One field: `nvidia-smi`'s name, our value as it would print it, and how they must agree.
type Field = (&'static str, Option<String>, Agreement);

fn main() -> ExitCode {
    let library = std::env::args_os().nth(1);
    let reader = match Reader::open(library.as_deref()) {
        Ok(reader) => reader,
        Err(trouble) => {
            println!("GPU CHECK SKIPPED: {trouble}. Nothing was compared on this host.");
            return ExitCode::SUCCESS;
        }
    };
    let program = std::env::var_os("NVIDIA_SMI").unwrap_or_else(|| OsString::from("nvidia-smi"));
    match check(&reader, &program) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(differing) => {
            println!("{differing} fields differ");
            ExitCode::FAILURE
        }
        Err(because) => {
            eprintln!("{because}");
            ExitCode::from(69)
        }
    }
}

/// How many fields differ.
fn check(reader: &Reader, program: &OsString) -> Result<usize, String> {
    let versions = reader.versions();
    println!("driver {}", versions.driver.as_deref().unwrap_or("unknown"));
    let mut differing = 0;
    for index in 0..reader.count().map_err(|trouble| trouble.to_string())? {
        let mut gpu = reader.gpu(index).map_err(|trouble| format!("GPU {index}: {trouble}"))?;
        let began = Instant::now();
        let fields = fields(&mut gpu);
        let took = began.elapsed();
        let board = gpu.board();
        println!("GPU {index}: {} {}, read in {took:?}", board.name, board.uuid);
        let names: Vec<&str> = fields.iter().map(|field| field.0).collect();
        let theirs = ask(program, &["--query-gpu", &names.join(",")], index)?;
        for ((name, ours, agreement), theirs) in fields.iter().zip(&theirs) {
            differing += usize::from(!tell(name, ours.as_deref(), theirs, *agreement));
        }
        let (names, ours) = remapped(&mut gpu);
        let theirs = ask(program, &["--query-remapped-rows", &names.join(",")], index);
        for ((name, ours), theirs) in names.iter().zip(&ours).zip(&theirs.unwrap_or_default()) {
            differing += usize::from(!tell(name, ours.as_deref(), theirs, Same));
        }
    }
    Ok(differing)
}

/// What `nvidia-smi` says of one GPU.
fn ask(program: &OsString, query: &[&str; 2], index: u32) -> Result<Vec<String>, String> {
    let mut command = Command::new(program);
    command.arg(format!("{}={}", query[0], query[1]));
    command.args(["--format=csv,noheader,nounits", "-i", &index.to_string()]);
    let said = command.output().map_err(|error| format!("cannot run {program:?}: {error}"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        return Err(format!("{program:?} {}: {text}", said.status));
    }
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(',').map(|value| value.trim().to_owned()).collect())
}

/// Says how a field compares; whether it agrees.
fn tell(name: &str, ours: Option<&str>, theirs: &str, agreement: Agreement) -> bool {
    let agrees = agree(ours, theirs, agreement);
    let ours = ours.unwrap_or("unsupported");
    println!("  {} {name}: {ours} | {theirs}", if agrees { "ok  " } else { "DIFF" });
    agrees
}

fn agree(ours: Option<&str>, theirs: &str, agreement: Agreement) -> bool {
    let is_absent = |text: &str| {
        let text = text.trim_matches(['[', ']']);
        ["N/A", "Not Supported", "Not Found", "Unknown Error"].contains(&text)
    };
    let Some(ours) = ours else { return is_absent(theirs) };
    if is_absent(theirs) {
        return false;
    }
    match agreement {
        Same => ours == theirs || numbers(ours, theirs).is_some_and(|(a, b)| a == b),
        Within(most) => numbers(ours, theirs).is_some_and(|(a, b)| (a - b).abs() <= most),
        Both => true,
    }
}

fn numbers(ours: &str, theirs: &str) -> Option<(f64, f64)> {
    Some((ours.parse().ok()?, theirs.parse().ok()?))
}

fn text<T: ToString>(value: &Value<T>) -> Option<String> {
    value.known().map(ToString::to_string)
}

fn word(value: &Value<bool>, words: [&str; 2]) -> Option<String> {
    value.get().map(|is_so| words[usize::from(is_so)].to_owned())
}

fn watts(value: &Value<u64>) -> Option<String> {
    value.get().map(|mw| format!("{}.{:02}", mw / 1000, mw % 1000 / 10))
}

fn mib(value: &Value<u64>) -> Option<String> {
    value.get().map(|bytes| (bytes / (1024 * 1024)).to_string())
}

const ON: [&str; 2] = ["Disabled", "Enabled"];

/// Each section once; performance counters need two looks.
fn sections(gpu: &mut Gpu<'_>) -> Vec<Section> {
    let mut sections: Vec<Section> = (0..SECTIONS).filter_map(|n| gpu.section(n).0).collect();
    std::thread::sleep(Duration::from_millis(200));
    sections.extend(gpu.section(SECTIONS - 1).0);
    sections
}

fn fields(gpu: &mut Gpu<'_>) -> Vec<Field> {
    let board = gpu.board().clone();
    let mut fields = vec![
        ("index", Some(board.index.to_string()), Same),
        ("uuid", Some(board.uuid.to_string()), Same),
        ("name", Some(board.name.clone()), Same),
        ("serial", text(&board.serial), Same),
        ("pci.bus_id", text(&board.pci), Same),
        ("vbios_version", text(&board.vbios), Same),
        ("compute_cap", text(&board.compute_capability), Same),
    ];
    if let Some(read) = gpu.read().into_iter().next().filter(|_| board.slots.len() == 1) {
        fields.extend(of_moment(&read.fast));
    }
    for section in sections(gpu) {
        match section {
            Section::Power(power) => fields.extend([
                ("enforced.power.limit", watts(&power.power_limit_mw), Same),
                ("power.default_limit", watts(&power.power_limit_default_mw), Same),
                ("power.min_limit", watts(&power.power_limit_min_mw), Same),
                ("power.max_limit", watts(&power.power_limit_max_mw), Same),
                ("clocks.sm", text(&power.clocks_mhz.sm), Both),
                ("clocks.mem", text(&power.clocks_mhz.memory), Both),
                ("clocks.max.sm", text(&power.max_clocks_mhz.sm), Same),
                ("clocks.max.mem", text(&power.max_clocks_mhz.memory), Same),
                ("pstate", power.performance_state.get().map(|state| format!("P{state}")), Both),
            ]),
            Section::Ecc(ecc) => fields.extend([
                ("ecc.mode.current", word(&ecc.is_enabled, ON), Same),
                ("ecc.mode.pending", word(&ecc.will_be_enabled, ON), Same),
                ("ecc.errors.corrected.volatile.total", text(&ecc.volatile_corrected), Same),
                ("ecc.errors.uncorrected.volatile.total", text(&ecc.volatile_uncorrected), Same),
                ("ecc.errors.corrected.aggregate.total", text(&ecc.aggregate_corrected), Same),
                ("ecc.errors.uncorrected.aggregate.total", text(&ecc.aggregate_uncorrected), Same),
                ("retired_pages.single_bit_ecc.count", text(&ecc.retired_pages.single_bit), Same),
                ("retired_pages.double_bit.count", text(&ecc.retired_pages.double_bit), Same),
                ("retired_pages.pending", word(&ecc.retired_pages.is_pending, ["No", "Yes"]), Same),
            ]),
            Section::Pcie(pcie) => fields.extend([
                ("pcie.link.gen.current", text(&pcie.generation), Both),
                ("pcie.link.gen.max", text(&pcie.max_generation), Same),
                ("pcie.link.width.current", text(&pcie.width), Same),
                ("pcie.link.width.max", text(&pcie.max_width), Same),
            ]),
            Section::Modes(modes) => fields.extend([
                ("mig.mode.current", word(&modes.is_mig, ON), Same),
                ("persistence_mode", word(&modes.is_persistent, ON), Same),
                ("compute_mode", modes.compute_mode.known().map(|mode| capitals(mode)), Same),
            ]),
            // What `nvidia-smi` cannot be asked for is shown as it was read.
            Section::Nvlink(nvlink) => println!("  read nvlink: {nvlink:?}"),
            Section::Gpm(gpm) => println!("  read gpm: {gpm:?}"),
        }
    }
    fields
}

fn of_moment(fast: &Fast) -> Vec<Field> {
    println!("  read throttle reasons: {:?}", fast.throttle_reasons);
    println!("  read processes: {:?}", fast.processes);
    vec![
        ("memory.total", mib(&fast.memory.total_bytes), Same),
        ("memory.reserved", mib(&fast.memory.reserved_bytes), Within(1.0)),
        ("memory.used", mib(&fast.memory.used_bytes), Within(64.0)),
        ("memory.free", mib(&fast.memory.free_bytes), Within(64.0)),
        ("utilization.gpu", text(&fast.utilization.gpu_percent), Both),
        ("utilization.memory", text(&fast.utilization.memory_percent), Both),
        ("temperature.gpu", text(&fast.temperature.gpu_c), Within(3.0)),
        ("temperature.memory", text(&fast.temperature.memory_c), Within(3.0)),
        ("power.draw", watts(&fast.power_mw), Both),
    ]
}

/// `exclusive_process` as `nvidia-smi` writes it: `Exclusive_Process`.
fn capitals(mode: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{}{rest}", first.to_uppercase())
    };
    mode.split('_').map(capital).collect::<Vec<_>>().join("_")
}

/// Remapped rows, which have a query of their own.
fn remapped(gpu: &mut Gpu<'_>) -> ([&'static str; 4], Vec<Option<String>>) {
    let names = [
        "remapped_rows.correctable",
        "remapped_rows.uncorrectable",
        "remapped_rows.pending",
        "remapped_rows.failure",
    ];
    let ecc = (0..SECTIONS).find_map(|number| match gpu.section(number).0 {
        Some(Section::Ecc(ecc)) => Some(ecc.remapped_rows),
        _ => None,
    });
    let ours = ecc.map(|rows| {
        let flag = |value: &Value<bool>| value.get().map(|is_so| u8::from(is_so).to_string());
        let counts = [text(&rows.correctable), text(&rows.uncorrectable)];
        let flags = [flag(&rows.is_pending), flag(&rows.has_failed)];
        counts.into_iter().chain(flags).collect()
    });
    (names, ours.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_agree_as_their_kind_demands() {
        assert!(agree(Some("81559"), "81559", Same));
        assert!(agree(Some("700.00"), "700.0", Same));
        assert!(!agree(Some("4"), "5", Same));
        assert!(agree(Some("4"), "60", Within(64.0)));
        assert!(!agree(Some("4"), "69", Within(64.0)));
        assert!(agree(None, "[N/A]", Same) && agree(None, "[Not Supported]", Both));
        assert!(!agree(None, "0", Both), "unsupported is no zero");
        assert!(!agree(Some("0"), "[N/A]", Both));
        assert_eq!(capitals("exclusive_process"), "Exclusive_Process");
    }
}
