//! The door that every call of a stand-in passes: does it hang, is it to fail.
//!
//! A call that `blocks` names waits here and polls the folder, holding no lock, until the name is
//! removed; that is how a hung driver looks from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::folder::{self, Contents};
use crate::gpu::Gpu;

/// How often a call that hangs looks whether it still should.
const BLOCK_POLL: Duration = Duration::from_millis(20);

/// Why a call does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no folder, or its file has never been readable.
    NoFolder,
    /// The code that `faults` names.
    Fault(u32),
}

/// Waits while a call under one of these names is blocked, then says whether it may proceed. What
/// stands at the GPU with this uuid counts before what stands at the top, an earlier name before a
/// later one.
pub fn admitted(names: &[&str], uuid: Option<&str>) -> Result<Contents, Refused> {
    loop {
        let contents = folder::contents().ok_or(Refused::NoFolder)?;
        match verdict(&contents, names, uuid) {
            Verdict::Hang => std::thread::sleep(BLOCK_POLL),
            Verdict::Fault(code) => return Err(Refused::Fault(code)),
            Verdict::Pass => return Ok(contents),
        }
    }
}

enum Verdict {
    Hang,
    Fault(u32),
    Pass,
}

fn verdict(contents: &Contents, names: &[&str], uuid: Option<&str>) -> Verdict {
    let gpu = uuid.and_then(|uuid| Gpu::holding(contents.clone(), uuid));
    let spec = gpu.as_ref().map(Gpu::spec);
    let mut blocks = spec.map(|spec| &spec.blocks).into_iter().chain([&contents.fleet.blocks]);
    if blocks.any(|blocks| names.iter().any(|name| blocks.contains(*name))) {
        return Verdict::Hang;
    }
    let mut faults = spec.map(|spec| &spec.faults).into_iter().chain([&contents.fleet.faults]);
    let named = |faults: &BTreeMap<String, u32>| {
        let code = names.iter().find_map(|name| faults.get(*name)).copied();
        code.filter(|code| *code != 0)
    };
    faults.find_map(named).map_or(Verdict::Pass, Verdict::Fault)
}
