//! What is known of the node's incidents, on disk: an agent that starts anew goes on with them, and
//! a reset or reboot that was tried before is not forgotten.

use std::io;
use std::path::{Path, PathBuf};

use wharfage_agent_core::health::Memory;

/// The file `health.json` in the state folder.
#[derive(Clone, Debug)]
pub struct HealthFile {
    path: PathBuf,
}

impl HealthFile {
    /// The file of this state folder.
    pub fn of(state_dir: &Path) -> Self {
        Self { path: state_dir.join("health.json") }
    }

    /// Writes it, synced.
    pub fn store(&self, memory: &Memory) -> io::Result<()> {
        super::replace(&self.path, &serde_json::to_vec(memory)?)
    }

    /// What was stored last; a damaged file is nothing, with the sentence that says so.
    pub fn load(&self) -> (Memory, Option<String>) {
        let read = std::fs::read(&self.path);
        let parsed = match read {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Ok(memory) => (memory, None),
            Err(why) => {
                let path = self.path.display();
                let said = format!(
                    "`{path}` is damaged ({why}): earlier incidents are known only as far as the \
                     kernel's log goes back"
                );
                (Memory::default(), Some(said))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn what_was_stored_comes_back_and_damage_is_said() {
        let folder = Folder::new("health");
        let file = HealthFile::of(folder.path());
        assert_eq!(file.load(), (Memory::default(), None));
        let memory = Memory { last: 7, ..Memory::default() };
        file.store(&memory).expect("stored");
        assert_eq!(file.load(), (memory, None));
        std::fs::write(&file.path, b"{").expect("written");
        let (none, why) = file.load();
        assert_eq!(none, Memory::default());
        assert!(why.expect("said").contains("health.json"));
    }
}
