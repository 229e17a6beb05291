//! Checkpoints on disk: one folder per attempt, complete only when its manifest says so and every
//! file is what the manifest says.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wharfage_shared::ids::{DeploymentId, ReplicaId};

/// The largest manifest that is read.
const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// So many attempts of one replica at most: a hook that fails for ever must not fill the disk.
const MOST_ATTEMPTS: u32 = 1000;

#[derive(Deserialize)]
struct Manifest {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: PathBuf,
    #[serde(alias = "size")]
    bytes: u64,
    sha256: String,
}

/// The checkpoints of one deployment on this host.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// In this state folder. A deployment's id is the client's choice: only its safe part names
    /// the folder, and a hash keeps two of them apart.
    pub fn of(state_dir: &Path, deployment: &DeploymentId) -> Self {
        let text = deployment.as_str();
        let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_plain = text.len() <= 100 && !text.is_empty() && text.chars().all(is_safe);
        let name = if is_plain {
            text.to_owned()
        } else {
            hex::encode(&Sha256::digest(text.as_bytes())[..16])
        };
        Self { folder: state_dir.join("checkpoints").join(name) }
    }

    /// Makes the folder of a replica's next attempt.
    pub fn begin(&self, replica: ReplicaId) -> io::Result<PathBuf> {
        for number in 1..=MOST_ATTEMPTS {
            let path = self.folder.join(format!("{replica}-{number}"));
            if !path.exists() {
                std::fs::create_dir_all(&path)?;
                return Ok(path);
            }
        }
        Err(io::Error::other(format!("{replica} has made {MOST_ATTEMPTS} checkpoints already")))
    }

    /// The newest complete one.
    pub fn newest(&self) -> Option<PathBuf> {
        let mut all: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(&self.folder)
            .ok()?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                // Written last: its time is the checkpoint's.
                let written =
                    std::fs::metadata(path.join("manifest.json")).ok()?.modified().ok()?;
                Some((written, path))
            })
            .collect();
        all.sort();
        all.into_iter().rev().map(|(_, path)| path).find(|path| verify(path).is_ok())
    }
}

/// Whether a checkpoint is complete; how many bytes it has, or what is missing.
pub fn verify(folder: &Path) -> Result<u64, String> {
    let path = folder.join("manifest.json");
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it wrote no manifest.json".to_owned(),
        _ => format!("its manifest.json cannot be read: {error}"),
    })?;
    let mut text = Vec::new();
    file.take(LARGEST_MANIFEST)
        .read_to_end(&mut text)
        .map_err(|error| format!("its manifest.json cannot be read: {error}"))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| format!("its manifest.json is not what is accepted: {error}"))?;
    let mut total = 0;
    for entry in &manifest.files {
        let name = entry.path.display();
        if !entry.path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("its manifest names `{name}`, which is outside"));
        }
        let (bytes, sha256) = digest(&folder.join(&entry.path), entry.bytes)
            .map_err(|error| format!("`{name}` of its manifest cannot be read: {error}"))?;
        if bytes != entry.bytes {
            return Err(format!("`{name}` has {bytes} bytes, its manifest says {}", entry.bytes));
        }
        if !sha256.eq_ignore_ascii_case(&entry.sha256) {
            return Err(format!("`{name}` is not what its manifest's SHA-256 says"));
        }
        total += bytes;
    }
    Ok(total)
}

/// Length and hash; of what is longer than the manifest says, no more than shows that it is.
fn digest(path: &Path, expected: u64) -> io::Result<(u64, String)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut file = File::open(path)?.take(expected.saturating_add(1));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn complete(folder: &Path, text: &str) {
        std::fs::write(folder.join("state.bin"), text).expect("written");
        let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
        let entry = serde_json::json!({"path": "state.bin", "bytes": text.len(), "sha256": sha256});
        let manifest = serde_json::json!({"files": [entry]}).to_string();
        std::fs::write(folder.join("manifest.json"), manifest).expect("written");
    }

    #[test]
    fn only_a_checkpoint_whose_every_file_fits_its_manifest_is_complete() {
        let folder = Folder::new("checkpoint");
        let all = Checkpoints::of(folder.path(), &"chat/../x".into());
        assert_eq!(all.newest(), None);
        let first = all.begin(ReplicaId(1)).expect("made");
        assert!(verify(&first).expect_err("incomplete").contains("no manifest.json"));
        complete(&first, "one");
        assert_eq!(verify(&first), Ok(3));
        let second = all.begin(ReplicaId(1)).expect("made");
        complete(&second, "two");
        std::fs::write(second.join("state.bin"), "twO").expect("damaged");
        assert!(verify(&second).expect_err("damaged").contains("SHA-256"));
        assert_eq!(all.newest(), Some(first));
        assert!(second.ends_with("r-1-2"));
    }

    #[test]
    fn a_manifest_that_points_outside_is_no_proof() {
        let folder = Folder::new("checkpoint-outside");
        let entry = serde_json::json!({"path": "../secret", "bytes": 0, "sha256": ""});
        let manifest = serde_json::json!({"files": [entry]}).to_string();
        std::fs::write(folder.path().join("manifest.json"), manifest).expect("written");
        assert!(verify(folder.path()).expect_err("refused").contains("outside"));
    }
}
