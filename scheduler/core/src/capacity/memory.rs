//! Whether a model can fit into the memory that one replica of it has.
//!
//! Engines need more than the weights: a fifth of them more is the least that is ever enough. What
//! is not known, because no host has cached the model or no node of the type was heard yet, is no
//! evidence either way.

use crate::fleet::Fleet;
use crate::words::deployment::Spec;

const MIB: u64 = 1024 * 1024;

/// What a replica needs and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The weights.
    pub weights_bytes: u64,
    /// The weights and a fifth more.
    pub needed_bytes: u64,
    /// The memory of all its GPUs.
    pub has_bytes: u64,
    /// Whose memory that is: `2 GPUs of gd-8xh100ib-i128`.
    pub of: String,
}

/// What a replica of the spec needs and has, where both are known.
pub fn of(fleet: &Fleet, spec: &Spec) -> Option<Memory> {
    let weights_bytes = *fleet.weights.get(&spec.model.key())?;
    let slot_mib = fleet.types.get(&spec.sku)?.slot_mib;
    let (count, sku) = (spec.gpus.get(), &spec.sku);
    let plural = if count == 1 { "" } else { "s" };
    Some(Memory {
        weights_bytes,
        needed_bytes: weights_bytes.saturating_add(weights_bytes.div_ceil(5)),
        has_bytes: slot_mib.saturating_mul(MIB).saturating_mul(count.into()),
        of: format!("{count} GPU{plural} of {sku}"),
    })
}

impl Memory {
    /// Whether it cannot fit.
    pub fn is_tight(&self) -> bool {
        self.needed_bytes > self.has_bytes
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (weights, needed) = (gibibytes(self.weights_bytes), gibibytes(self.needed_bytes));
        let (has, of) = (gibibytes(self.has_bytes), &self.of);
        write!(f, "the weights are {weights}, with 20 % more {needed}; {of} have {has}")
    }
}

/// `141.6 GiB`, and MiB where it is less than one.
fn gibibytes(bytes: u64) -> String {
    let (unit, word) = if bytes < 1024 * MIB { (MIB, "MiB") } else { (1024 * MIB, "GiB") };
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {word}", tenths / 10, tenths % 10)
}
