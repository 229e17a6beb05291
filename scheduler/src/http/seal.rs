//! Secrets of repeatable requests: made from a key on the scheduler's own disk, so that a repeated
//! request is shown the same secret although only its hash is kept.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::secrets::Opens;

/// Bytes of the key.
const BYTES: usize = 32;

/// The block size of SHA-256, for HMAC.
const BLOCK: usize = 64;

/// Makes secrets from names.
#[derive(Clone)]
pub struct Sealer {
    key: [u8; BYTES],
}

impl Sealer {
    /// Reads the key in the state folder, or makes one.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("answers.key");
        let mut key = [0; BYTES];
        match std::fs::File::open(&path) {
            Ok(mut file) => {
                file.read_exact(&mut key)?;
                return Ok(Self { key });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        // Written aside and renamed: a half-written key would change every secret.
        let aside = state_dir.join("answers.key.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&key)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        Ok(Self { key })
    }

    /// The secret of a name (HMAC-SHA-256).
    pub fn secret(&self, opens: Opens, name: &str) -> String {
        let pad = |byte: u8| {
            let mut block = [byte; BLOCK];
            for (at, key) in self.key.iter().enumerate() {
                block[at] ^= key;
            }
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(name.as_bytes()).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        let prefix = match opens {
            Opens::Api => "whf",
            Opens::Join => "whj",
        };
        format!("{prefix}_{}", hex::encode(outer))
    }
}
