//! `[[bucket]]`: where models come from.

use std::path::PathBuf;

use serde::Deserialize;

use crate::bad_key::BadKey;

/// A bucket: a name in the API, a folder on this host (a mount, a local copy).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Its name in the API.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// Development: a path that is not there is made, as a small valid model.
    #[serde(default)]
    pub generate_missing: bool,
    /// The size of a made model.
    #[serde(default = "default_generate_mib")]
    pub generate_mib: u32,
}

/// Each is named, once, and makes no large model.
pub(super) fn check(buckets: &[Bucket]) -> Result<(), BadKey> {
    for bucket in buckets {
        let namesakes = buckets.iter().filter(|other| other.name == bucket.name).count();
        if bucket.name.is_empty() || namesakes > 1 {
            let said = format!("`{}` is empty or named twice", bucket.name);
            return Err(BadKey::new("bucket.name", said));
        }
        if bucket.generate_mib > 1024 {
            return Err(BadKey::new("bucket.generate_mib", "at most 1024 is accepted"));
        }
    }
    Ok(())
}

fn default_generate_mib() -> u32 {
    8
}
