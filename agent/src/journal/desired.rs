//! The desired state on disk: an agent that starts while the scheduler is away knows what was
//! ordered, and never goes back to something older (S9).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wharfage_shared::order::Desired;

/// The file `desired.json` in the state folder.
#[derive(Clone, Debug)]
pub struct DesiredFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    sha256: String,
    desired: Desired,
}

impl DesiredFile {
    /// The file of this state folder.
    pub fn of(state_dir: &Path) -> Self {
        Self { path: state_dir.join("desired.json") }
    }

    /// Writes it, synced: when this returns, a crash cannot lose it.
    pub fn store(&self, desired: &Desired) -> io::Result<()> {
        let stored = Stored { sha256: digest(desired)?, desired: desired.clone() };
        super::replace(&self.path, &serde_json::to_vec(&stored)?)
    }

    /// What was stored last; a damaged file is nothing, with the sentence that says so.
    pub fn load(&self) -> (Option<Desired>, Option<String>) {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
            Err(error) => return (None, Some(self.damaged(&error.to_string()))),
        };
        match serde_json::from_slice::<Stored>(&bytes) {
            Ok(stored) if digest(&stored.desired).is_ok_and(|d| d == stored.sha256) => {
                (Some(stored.desired), None)
            }
            Ok(_) => (None, Some(self.damaged("its checksum does not match"))),
            Err(error) => (None, Some(self.damaged(&error.to_string()))),
        }
    }

    fn damaged(&self, why: &str) -> String {
        format!(
            "`{}` is damaged ({why}): the desired state is asked for anew, nothing is stopped",
            self.path.display()
        )
    }
}

fn digest(desired: &Desired) -> io::Result<String> {
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(desired)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_flipped_bit_is_found_and_said() {
        let folder = Folder::new("desired");
        let file = DesiredFile::of(folder.path());
        assert_eq!(file.load(), (None, None));
        let desired = Desired { cordoned: true, ..Desired::default() };
        file.store(&desired).expect("stored");
        assert_eq!(file.load(), (Some(desired), None));

        let mut bytes = std::fs::read(&file.path).expect("read");
        let at = bytes.windows(4).rposition(|w| w == b"true").expect("it is in there");
        bytes.splice(at..at + 4, *b"false");
        std::fs::write(&file.path, bytes).expect("written");
        let (none, why) = file.load();
        assert_eq!(none, None);
        assert!(why.expect("said").contains("checksum"));
    }
}
