//! Secrets that people and machines are given: made by the kernel, shown once, kept as hashes.

use sha2::{Digest, Sha256};

/// Bytes of randomness in a secret.
const BYTES: usize = 32;

/// What a secret opens: its first letters say so, which lets scanners find a leaked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// An API token.
    Api,
    /// A join of nodes or gateways.
    Join,
}

/// A fresh secret: `whf_` or `whj_` and 64 hexadecimal digits.
pub fn fresh(opens: Opens) -> std::io::Result<String> {
    let prefix = match opens {
        Opens::Api => "whf",
        Opens::Join => "whj",
    };
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(format!("{prefix}_{}", hex::encode(bytes)))
}

/// What is kept of a secret: its SHA-256 in hex.
pub fn sha256_hex(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}
