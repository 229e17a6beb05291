//! G7 and G8: memory errors that were not corrected, and rows that wait to be replaced or cannot be.

use wharfage_agent_core::health::Saw;
use wharfage_agent_sys::nvml::{Ecc, Value};

use super::{Look, One, known, worst};

impl One<'_> {
    /// No error since the driver was loaded that was not corrected.
    pub(super) fn memory_errors(&self) -> Look {
        let ecc = match self.section(|sections| sections.ecc.as_ref()) {
            Ok(ecc) => ecc,
            Err(unknown) => return unknown,
        };
        let in_memory = none_of(&ecc.volatile_uncorrected, "memory", &ecc.aggregate_uncorrected);
        let on_chip = none_of(
            &ecc.sram_volatile_uncorrected,
            "on-chip memory",
            &ecc.sram_aggregate_uncorrected,
        );
        let worn_out = match known(&ecc.sram_threshold_exceeded, "whether its chip is worn out") {
            Ok(true) => {
                let said = "its on-chip memory has had so many errors that the board is replaced";
                (Saw::Fail, said.to_owned())
            }
            Ok(false) => (Saw::Pass, "its on-chip memory is not worn out".to_owned()),
            Err(look) => look,
        };
        worst([in_memory, on_chip, worn_out])
    }

    /// No row waits to be replaced, none ever failed to be, and no bank is without a spare one.
    pub(super) fn spare_rows(&self) -> Look {
        match self.section(|sections| sections.ecc.as_ref()) {
            Ok(ecc) => worst([rows_pending(ecc), rows_failed(ecc), banks(ecc), pages_pending(ecc)]),
            Err(unknown) => unknown,
        }
    }
}

fn none_of(volatile: &Value<u64>, of: &str, life: &Value<u64>) -> Look {
    let what = format!("of errors in its {of}");
    let life = life.get().map_or(String::new(), |life| format!(", {life} in the board's life"));
    match known(volatile, &what) {
        Ok(0) => (Saw::Pass, format!("no uncorrected error in its {of} since the driver{life}")),
        Ok(count) => {
            let said = format!(
                "{count} uncorrected errors in its {of} since the driver was loaded{life}; a reset \
                 clears them"
            );
            (Saw::Fail, said)
        }
        Err(look) => look,
    }
}

fn rows_pending(ecc: &Ecc) -> Look {
    match known(&ecc.remapped_rows.is_pending, "of remapped rows") {
        Ok(true) => (Saw::Fail, "a row of memory waits for a reset to be remapped".to_owned()),
        Ok(false) => (Saw::Pass, "no row of memory waits to be remapped".to_owned()),
        Err(look) => look,
    }
}

fn rows_failed(ecc: &Ecc) -> Look {
    match known(&ecc.remapped_rows.has_failed, "of remapped rows") {
        Ok(true) => {
            (Saw::Fail, "a row of memory could not be remapped: replace the board".to_owned())
        }
        Ok(false) => (Saw::Pass, "every row was remapped that had to be".to_owned()),
        Err(look) => look,
    }
}

fn banks(ecc: &Ecc) -> Look {
    match known(&ecc.remapped_rows.banks, "of spare rows") {
        Ok(banks) if banks.none > 0 => {
            (Saw::Fail, format!("{} banks of memory have no spare row left", banks.none))
        }
        Ok(_) => (Saw::Pass, "every bank of memory has a spare row".to_owned()),
        Err(look) => look,
    }
}

/// GPUs before Ampere retire pages instead.
fn pages_pending(ecc: &Ecc) -> Look {
    match known(&ecc.retired_pages.is_pending, "of retired pages") {
        Ok(true) => (Saw::Fail, "a page of memory waits for a reboot to be retired".to_owned()),
        Ok(false) => (Saw::Pass, "no page of memory waits to be retired".to_owned()),
        Err(look) => look,
    }
}
