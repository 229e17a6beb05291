//! What the host has learned of its engines and models, on disk. It only makes estimates better: a
//! damaged file is put aside and begun anew.

use std::io;
use std::path::{Path, PathBuf};

use wharfage_agent_core::History;

/// The file `history.json` in the state folder.
#[derive(Clone, Debug)]
pub struct HistoryFile {
    path: PathBuf,
    stored: History,
}

impl HistoryFile {
    /// Reads the file of this state folder; the sentence says when it could not be used.
    pub fn open(state_dir: &Path) -> (Self, Option<String>) {
        let path = state_dir.join("history.json");
        let read = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
            Err(error) => Err(error),
        };
        let at = path.display().to_string();
        let said = |error: &io::Error| {
            format!("`{at}` cannot be used ({error}): how long starts take is learned anew")
        };
        let trouble = read.as_ref().err().map(said);
        (Self { path, stored: read.unwrap_or_default() }, trouble)
    }

    /// What it held when it was read or written last.
    pub fn stored(&self) -> &History {
        &self.stored
    }

    /// Writes what is new.
    pub fn keep(&mut self, history: &History) -> io::Result<()> {
        if *history == self.stored {
            return Ok(());
        }
        super::replace(&self.path, &serde_json::to_vec(history)?)?;
        self.stored = history.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn what_was_learned_is_there_again_and_damage_is_said() {
        let folder = Folder::new("history");
        let (mut file, trouble) = HistoryFile::open(folder.path());
        assert_eq!(trouble, None);
        let mut history = History::default();
        history.was_not_ready("vllm", "0.11.0");
        file.keep(&history).expect("written");
        let (again, trouble) = HistoryFile::open(folder.path());
        assert_eq!((again.stored(), trouble), (&history, None));

        for damage in ["", "{\"starts\": 7}", "\u{0}\u{0}"] {
            std::fs::write(&file.path, damage).expect("written");
            let (empty, trouble) = HistoryFile::open(folder.path());
            assert_eq!(empty.stored(), &History::default());
            assert!(trouble.expect("said").contains("cannot be used"), "{damage:?}");
        }
    }
}
