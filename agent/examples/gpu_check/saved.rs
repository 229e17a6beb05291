//! The GPU memory of a process goes into the host's memory and comes back, by the driver's own calls.

use std::process::Command;
use std::time::Instant;

use wharfage_agent_sys::cuda::Library;
use wharfage_agent_sys::nvml::Reader;
use wharfage_shared::ids::GpuUuid;

use crate::figures::{Figures, milliseconds};
use crate::hold::Holder;
use crate::host::built;
use crate::{Arguments, Seen};

/// Of a process that holds memory of this GPU. A driver that cannot is no fault of the agent's.
pub fn check(
    arguments: &Arguments,
    reader: &Reader,
    gpu: &GpuUuid,
    seen: &mut Seen,
    figures: &mut Figures,
) -> Result<(), String> {
    println!("GPU memory in the host's memory and back");
    let library = Library::load(Some(arguments.cuda.as_os_str()));
    if !library.is_ok_and(|library| library.can_checkpoint()) {
        seen.skip("GPU memory in the host's memory: this driver has no cuCheckpointProcess*");
        return Ok(());
    }
    let taken = u64::from(arguments.take_mib);
    let holder = Holder::start(&gpu.text(), &arguments.cuda, arguments.take_mib)?;
    let before = used_mib(reader, gpu)?;
    let began = Instant::now();
    let saved = ask(arguments, "save", holder.pid())?;
    let took = began.elapsed();
    if saved.contains("(801)") {
        seen.skip(&format!("GPU memory in the host's memory: not supported here: {saved}"));
        return Ok(());
    }
    seen.check(is_done(&saved), &format!("a process is saved: {saved}"));
    let meanwhile = used_mib(reader, gpu)?;
    let given_back = before.saturating_sub(meanwhile);
    seen.check(
        given_back >= taken,
        &format!("its memory is given back meanwhile: {given_back} of {taken} MiB"),
    );
    let began = Instant::now();
    let back = ask(arguments, "bring-back", holder.pid())?;
    let back_took = began.elapsed();
    seen.check(is_done(&back), &format!("it is brought back: {back}"));
    let after = used_mib(reader, gpu)?;
    seen.check(
        after.saturating_add(64) >= before,
        &format!("the GPU shows its memory again: {after} MiB, {before} before"),
    );
    figures.add(format!(
        "GPU memory of a process, {taken} MiB: into the host's memory in {} ms, back in {} ms",
        milliseconds(took),
        milliseconds(back_took)
    ));
    Ok(())
}

fn is_done(answer: &str) -> bool {
    answer.starts_with("{\"done\":")
}

/// As the agent does it: through a process of its own.
fn ask(arguments: &Arguments, act: &str, pid: u32) -> Result<String, String> {
    let mut command = Command::new(built("wharfage-agent")?);
    command.args(["cuda-checkpoint", act, "--within-ms", "60000", "--library"]);
    let done = command.arg(&arguments.cuda).arg(pid.to_string()).output();
    let done = done.map_err(|error| format!("the agent's program: {error}"))?;
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

fn used_mib(reader: &Reader, gpu: &GpuUuid) -> Result<u64, String> {
    for index in 0..reader.count().map_err(|trouble| trouble.to_string())? {
        let read = reader.gpu(index).map_err(|trouble| trouble.to_string())?.read();
        let slot = read.iter().find(|reading| reading.slot == *gpu);
        if let Some(used) = slot.and_then(|slot| slot.fast.memory.used_bytes.get()) {
            return Ok(used / (1024 * 1024));
        }
    }
    Err(format!("the memory of {gpu} cannot be read"))
}
