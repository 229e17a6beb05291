//! Every field of every GPU, beside what `nvidia-smi` says of it.

use std::time::{Duration, Instant};

use wharfage_agent_sys::nvml::{Fast, Gpu, Reader, SECTIONS, Section, Value};
use wharfage_shared::ids::GpuUuid;

use crate::Seen;
use crate::agreement::Agreement::{self, Flag, Moves, Same, Within};
use crate::agreement::agree;
use crate::beside;
use crate::figures::{Figures, thread_cpu};
use crate::smi::{REASONS, Smi};

/// The same, of a name that is written here.
type Named = (&'static str, Option<String>, Agreement);

/// One field: `nvidia-smi`'s name, our value as it would print it, and how they must agree.
pub type Field = (String, Option<String>, Agreement);

/// Compares all; answers the whole GPU with the least memory in use.
pub fn check(
    reader: &Reader,
    smi: &Smi,
    seen: &mut Seen,
    figures: &mut Figures,
) -> Result<Option<GpuUuid>, String> {
    let versions = reader.versions();
    figures.host(&versions);
    let mut least: Option<(u64, GpuUuid)> = None;
    for index in 0..reader.count().map_err(|trouble| trouble.to_string())? {
        let mut gpu = reader.gpu(index).map_err(|trouble| format!("GPU {index}: {trouble}"))?;
        let board = gpu.board().clone();
        println!("GPU {index}: {} {}", board.name, board.uuid);
        figures.cost_of_reading(&board.name, cost(&gpu));
        let mut all = || {
            let mut fields = fields(&mut gpu);
            fields.push(("driver_version".to_owned(), versions.driver.clone(), Same));
            fields
        };
        compare(smi, "--query-gpu", &mut all, index, seen)?;
        compare(smi, "--query-remapped-rows", &mut || remapped(&mut gpu), index, seen)?;
        beside::check(&mut gpu, smi, seen)?;
        if let [slot] = gpu.read().as_slice()
            && let Some(used) = slot.fast.memory.used_bytes.get()
            && least.as_ref().is_none_or(|(least, _)| used < *least)
        {
            least = Some((used, board.uuid));
        }
    }
    Ok(least.map(|(_, uuid)| uuid))
}

/// Wall and CPU time of one reading of what matters from moment to moment: the median of some.
fn cost(gpu: &Gpu<'_>) -> (Duration, Duration) {
    const LOOKS: usize = 21;
    let mut looks: Vec<(Duration, Duration)> = (0..LOOKS)
        .map(|_| {
            let (began, spent) = (Instant::now(), thread_cpu());
            drop(gpu.read());
            (began.elapsed(), thread_cpu().saturating_sub(spent))
        })
        .collect();
    looks.sort_unstable();
    looks[LOOKS / 2]
}

/// What changes from moment to moment must agree in one of so many looks.
pub const LOOKS: usize = 5;

fn compare(
    smi: &Smi,
    query: &str,
    look: &mut dyn FnMut() -> Vec<Field>,
    index: u32,
    seen: &mut Seen,
) -> Result<(), String> {
    let mut fields = look();
    let names: Vec<String> = fields.iter().map(|field| field.0.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut theirs = smi.ask(query, &names, index)?;
    for _ in 1..LOOKS {
        let differs = |(field, theirs): (&Field, &Option<String>)| {
            let theirs = theirs.as_deref();
            matches!(field.2, Moves(_))
                && theirs.is_some_and(|theirs| !agree(field.1.as_deref(), theirs, field.2))
        };
        let open: Vec<usize> = fields
            .iter()
            .zip(&theirs)
            .enumerate()
            .filter(|(_, pair)| differs(*pair))
            .map(|(at, _)| at)
            .collect();
        if open.is_empty() {
            break;
        }
        let again = look();
        let asked: Vec<&str> = open.iter().map(|at| names[*at]).collect();
        for (at, answer) in open.iter().zip(smi.ask(query, &asked, index)?) {
            if let Some(field) = again.iter().find(|field| field.0 == names[*at]) {
                fields[*at] = field.clone();
                theirs[*at] = answer;
            }
        }
    }
    for ((name, ours, agreement), theirs) in fields.iter().zip(&theirs) {
        match theirs {
            Some(theirs) => tell(name, ours.as_deref(), theirs, *agreement, seen),
            None => seen.leave(&format!("{name}: this nvidia-smi does not know it")),
        }
    }
    Ok(())
}

/// Says how a field compares.
pub fn tell(name: &str, ours: Option<&str>, theirs: &str, agreement: Agreement, seen: &mut Seen) {
    let agrees = agree(ours, theirs, agreement);
    let ours = ours.unwrap_or("unsupported");
    seen.check(agrees, &format!("{name}: {ours} | {theirs}"));
}

pub fn text<T: ToString>(value: &Value<T>) -> Option<String> {
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
const YES: [&str; 2] = ["No", "Yes"];

/// Each section once; performance counters need two looks.
fn sections(gpu: &mut Gpu<'_>) -> Vec<Section> {
    let mut sections: Vec<Section> = (0..SECTIONS).filter_map(|n| gpu.section(n).0).collect();
    std::thread::sleep(Duration::from_millis(200));
    sections.extend(gpu.section(SECTIONS - 1).0);
    sections
}

fn fields(gpu: &mut Gpu<'_>) -> Vec<Field> {
    let of_moment = gpu.read().into_iter().next().filter(|_| gpu.board().slots.len() == 1);
    let reasons = of_moment.iter().flat_map(|read| reasons(&read.fast));
    let reasons: Vec<Field> = reasons.collect();
    let named = |(name, ours, agreement): Named| (name.to_owned(), ours, agreement);
    listed(gpu, of_moment.as_ref().map(|read| &read.fast))
        .into_iter()
        .map(named)
        .chain(reasons)
        .collect()
}

fn listed(gpu: &mut Gpu<'_>, fast: Option<&Fast>) -> Vec<Named> {
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
    fields.extend(fast.into_iter().flat_map(of_moment));
    for section in sections(gpu) {
        match section {
            Section::Power(power) => fields.extend([
                ("enforced.power.limit", watts(&power.power_limit_mw), Same),
                ("power.default_limit", watts(&power.power_limit_default_mw), Same),
                ("power.min_limit", watts(&power.power_limit_min_mw), Same),
                ("power.max_limit", watts(&power.power_limit_max_mw), Same),
                ("power.limit", watts(&power.power_limit_set_mw), Same),
                ("clocks.gr", text(&power.clocks_mhz.graphics), Moves(30.0)),
                ("clocks.video", text(&power.clocks_mhz.video), Moves(30.0)),
                ("clocks.max.gr", text(&power.max_clocks_mhz.graphics), Same),
                ("clocks.sm", text(&power.clocks_mhz.sm), Moves(30.0)),
                ("clocks.mem", text(&power.clocks_mhz.memory), Moves(30.0)),
                ("clocks.max.sm", text(&power.max_clocks_mhz.sm), Same),
                ("clocks.max.mem", text(&power.max_clocks_mhz.memory), Same),
                (
                    "pstate",
                    power.performance_state.get().map(|state| format!("P{state}")),
                    Moves(0.0),
                ),
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
                ("retired_pages.pending", word(&ecc.retired_pages.is_pending, YES), Flag),
            ]),
            Section::Pcie(pcie) => fields.extend([
                ("pcie.link.gen.current", text(&pcie.generation), Moves(0.0)),
                ("pcie.link.gen.max", text(&pcie.max_generation), Same),
                ("pcie.link.gen.gpumax", text(&pcie.gpu_max_generation), Same),
                ("pcie.link.width.current", text(&pcie.width), Moves(0.0)),
                ("pcie.link.width.max", text(&pcie.max_width), Same),
            ]),
            Section::Modes(modes) => fields.extend([
                ("mig.mode.current", word(&modes.is_mig, ON), Same),
                ("mig.mode.pending", word(&modes.will_be_mig, ON), Same),
                ("persistence_mode", word(&modes.is_persistent, ON), Same),
                ("compute_mode", modes.compute_mode.known().map(|mode| capitals(mode)), Same),
            ]),
            Section::Nvlink(nvlink) => {
                let fabric = nvlink.fabric.known();
                let state = fabric.map(|fabric| capitals(&fabric.state).replace('_', " "));
                fields.push(("fabric.state", state, Same));
            }
            // `nvidia-smi` cannot be asked for them; they are shown beside what it tells.
            Section::Gpm(_) => {}
        }
    }
    fields
}

/// What holds the clocks down, each reason as `nvidia-smi` is asked for it.
fn reasons(fast: &Fast) -> Vec<Field> {
    let names = [
        "gpu_idle",
        "applications_clocks_setting",
        "sw_power_cap",
        "hw_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "sw_thermal_slowdown",
        "sync_boost",
    ];
    let field = |name: &str| {
        let known = fast.throttle_reasons.known();
        let is_so = known.map(|reasons| reasons.iter().any(|reason| reason == name));
        let word = is_so.map(|is_so| if is_so { "Active" } else { "Not Active" }.to_owned());
        (format!("{REASONS}{name}"), word, Moves(0.0))
    };
    names.into_iter().map(field).collect()
}

fn of_moment(fast: &Fast) -> Vec<Named> {
    vec![
        ("memory.total", mib(&fast.memory.total_bytes), Same),
        ("memory.reserved", mib(&fast.memory.reserved_bytes), Within(1.0)),
        ("memory.used", mib(&fast.memory.used_bytes), Within(64.0)),
        ("memory.free", mib(&fast.memory.free_bytes), Within(64.0)),
        ("utilization.gpu", text(&fast.utilization.gpu_percent), Moves(10.0)),
        ("utilization.memory", text(&fast.utilization.memory_percent), Moves(10.0)),
        ("utilization.encoder", text(&fast.utilization.encoder_percent), Moves(10.0)),
        ("utilization.decoder", text(&fast.utilization.decoder_percent), Moves(10.0)),
        ("temperature.gpu", text(&fast.temperature.gpu_c), Within(3.0)),
        ("temperature.memory", text(&fast.temperature.memory_c), Within(3.0)),
        ("power.draw", watts(&fast.power_mw), Moves(15.0)),
    ]
}

/// `exclusive_process` as `nvidia-smi` writes it: `Exclusive_Process`.
fn capitals(mode: &str) -> String {
    mode.split('_').map(capital).collect::<Vec<_>>().join("_")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Remapped rows, which have a query of their own.
fn remapped(gpu: &mut Gpu<'_>) -> Vec<Field> {
    let named = |(name, ours, agreement): Named| (name.to_owned(), ours, agreement);
    remapped_rows(gpu).into_iter().map(named).collect()
}

fn remapped_rows(gpu: &mut Gpu<'_>) -> Vec<Named> {
    let ecc = (0..SECTIONS).find_map(|number| match gpu.section(number).0 {
        Some(Section::Ecc(ecc)) => Some(ecc.remapped_rows),
        _ => None,
    });
    let Some(rows) = ecc else { return Vec::new() };
    let banks = rows.banks.known();
    vec![
        ("remapped_rows.correctable", text(&rows.correctable), Same),
        ("remapped_rows.uncorrectable", text(&rows.uncorrectable), Same),
        ("remapped_rows.pending", word(&rows.is_pending, YES), Flag),
        ("remapped_rows.failure", word(&rows.has_failed, YES), Flag),
        ("remapped_rows.histogram.max", banks.map(|banks| banks.max.to_string()), Same),
        ("remapped_rows.histogram.high", banks.map(|banks| banks.high.to_string()), Same),
        ("remapped_rows.histogram.partial", banks.map(|banks| banks.partial.to_string()), Same),
        ("remapped_rows.histogram.low", banks.map(|banks| banks.low.to_string()), Same),
        ("remapped_rows.histogram.none", banks.map(|banks| banks.none.to_string()), Same),
    ]
}
