//! Checkpoints on disk: one folder per attempt, complete only when its manifest says so and every
//! file is what the manifest says.
//!
//! Guards the rule that nothing complete is lost: only what is older than the newest complete ones
//! is ever removed, and only once a newer one is complete and on the disk.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wharfage_shared::ids::{DeploymentId, ReplicaId};

/// The file that makes a folder a checkpoint.
pub(super) const MANIFEST: &str = "manifest.json";

/// The largest manifest that is read.
pub(super) const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// So many attempts of one replica at most: a hook that fails for ever must not fill the disk.
const MOST_ATTEMPTS: u32 = 1000;

/// What a checkpoint consists of.
#[derive(Deserialize)]
pub(super) struct Manifest {
    pub(super) files: Vec<Entry>,
}

/// One of its files.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    #[serde(alias = "size")]
    pub(super) bytes: u64,
    sha256: String,
}

/// The checkpoints of one deployment on this host.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// In this folder of checkpoints. A deployment's id is the client's choice: only its safe part names
    /// the folder, and a hash keeps two of them apart.
    pub fn of(checkpoints_dir: &Path, deployment: &DeploymentId) -> Self {
        let text = deployment.text();
        let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_plain = text.len() <= 100 && !text.is_empty() && text.chars().all(is_safe);
        let name = if is_plain {
            text.into_owned()
        } else {
            hex::encode(&Sha256::digest(text.as_bytes())[..16])
        };
        Self { folder: checkpoints_dir.join(name) }
    }

    /// Of the deployment whose folder this is.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder of a replica's next attempt.
    pub fn begin(&self, replica: ReplicaId) -> io::Result<PathBuf> {
        for number in 1..=MOST_ATTEMPTS {
            let path = self.folder.join(format!("{replica}-{number}"));
            if !path.exists() {
                std::fs::create_dir_all(&self.folder)?;
                // What a model knows is nobody else's.
                std::fs::DirBuilder::new().mode(0o700).create(&path)?;
                return Ok(path);
            }
        }
        Err(io::Error::other(format!("{replica} has made {MOST_ATTEMPTS} checkpoints already")))
    }

    /// The newest complete one.
    pub fn newest(&self) -> Option<PathBuf> {
        self.by_age().into_iter().rev().find(|path| verify(path).is_ok())
    }

    /// The newest one whose files are there with their sizes. To hash a large one would take the
    /// time that a notice leaves.
    pub fn newest_by_size(&self) -> Option<PathBuf> {
        self.by_age().into_iter().rev().find(|path| {
            let known = Manifest::read(path).ok();
            known.is_some_and(|known| known.files.iter().all(|entry| entry.has_size_in(path)))
        })
    }

    /// Takes the result of a run of a replica's hook: what is complete is on the disk from here on,
    /// and older ones go beyond so many that are kept. Its bytes, or what is missing.
    pub fn keep(&self, attempt: &Path, replica: ReplicaId, most: u32) -> Result<u64, String> {
        let bytes = verify(attempt).inspect_err(|_| {
            // It only takes room.
            drop(std::fs::remove_dir_all(attempt));
        })?;
        sync(attempt).map_err(|error| format!("it cannot be put on the disk: {error}"))?;
        let mut old = self.by_age();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        old.truncate(old.len().saturating_sub(most));
        old.extend(self.unfinished(replica));
        for path in old.iter().filter(|path| path.as_path() != attempt) {
            // What cannot be removed takes room and is tried again after the next one.
            drop(std::fs::remove_dir_all(path));
        }
        Ok(bytes)
    }

    /// Folders with a manifest, the newest last.
    fn by_age(&self) -> Vec<PathBuf> {
        let mut all: Vec<(std::time::SystemTime, PathBuf)> = self
            .attempts()
            .filter_map(|path| {
                // Written last: its time is the checkpoint's.
                let written = std::fs::metadata(path.join(MANIFEST)).ok()?.modified().ok()?;
                Some((written, path))
            })
            .collect();
        all.sort();
        all.into_iter().map(|(_, path)| path).collect()
    }

    /// Attempts of one replica that came to nothing. Others' may be under way on other hosts.
    fn unfinished(&self, replica: ReplicaId) -> Vec<PathBuf> {
        let prefix = format!("{replica}-");
        self.attempts()
            .filter(|path| path.file_name().is_some_and(|name| starts_with(name, &prefix)))
            .filter(|path| !path.join(MANIFEST).exists())
            .collect()
    }

    fn attempts(&self) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    }
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.to_string_lossy().starts_with(prefix)
}

/// Gives back the room of an attempt that came to nothing.
pub fn give_up(attempt: &Path) {
    if !attempt.join(MANIFEST).exists() {
        // It is no checkpoint, and it is looked for again after the next one.
        drop(std::fs::remove_dir_all(attempt));
    }
}

/// Puts every file of a verified checkpoint on the disk, its manifest last, and its folder.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in &Manifest::read(folder).map_err(io::Error::other)?.files {
        File::open(folder.join(&entry.path))?.sync_all()?;
    }
    File::open(folder.join(MANIFEST))?.sync_all()?;
    File::open(folder)?.sync_all()?;
    folder.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
}

impl Entry {
    fn has_size_in(&self, folder: &Path) -> bool {
        let found = std::fs::symlink_metadata(folder.join(&self.path));
        found.is_ok_and(|found| found.is_file() && found.len() == self.bytes)
    }
}

impl Manifest {
    /// The manifest of a checkpoint on this host.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let file = File::open(folder.join(MANIFEST)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it wrote no manifest.json".to_owned(),
            _ => format!("its manifest.json cannot be read: {error}"),
        })?;
        let mut text = Vec::new();
        file.take(LARGEST_MANIFEST)
            .read_to_end(&mut text)
            .map_err(|error| format!("its manifest.json cannot be read: {error}"))?;
        Self::parse(&text)
    }

    /// A manifest as it is written.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("its manifest.json is not what is accepted: {error}"))
    }
}

/// Whether a checkpoint is complete; how many bytes it has, or what is missing.
pub fn verify(folder: &Path) -> Result<u64, String> {
    let mut total = 0;
    for entry in &Manifest::read(folder)?.files {
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
    // A link could lead to what is none of the checkpoint's.
    if !std::fs::symlink_metadata(path)?.is_file() {
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
    fn old_ones_go_when_a_new_one_is_complete_and_nothing_complete_goes_before() {
        let folder = Folder::new("checkpoint-keep");
        let all = Checkpoints::of(folder.path(), &"chat".into());
        let mut made = Vec::new();
        for round in 0..3u64 {
            let attempt = all.begin(ReplicaId(1)).expect("made");
            complete(&attempt, &format!("round {round}"));
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(round);
            let manifest = File::open(attempt.join("manifest.json")).expect("there");
            manifest.set_modified(at).expect("dated");
            made.push(attempt);
        }
        let other = all.begin(ReplicaId(2)).expect("another replica's, under way");
        let failed = all.begin(ReplicaId(1)).expect("made");
        std::fs::write(failed.join("state.bin"), "half").expect("written");
        assert!(all.keep(&failed, ReplicaId(1), 2).is_err());
        assert!(made.iter().all(|path| path.exists()), "nothing complete is lost to a failure");
        assert!(!failed.exists(), "it gives its room back");
        assert_eq!(all.newest_by_size(), all.newest());
        let begun = all.begin(ReplicaId(1)).expect("an attempt whose agent died");
        assert_eq!(all.keep(&made[2], ReplicaId(1), 2), Ok(7));
        let left: Vec<bool> = made.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [false, true, true]);
        assert!(other.exists() && !begun.exists());
        give_up(&made[1]);
        assert!(made[1].exists(), "it is complete");
    }

    #[test]
    fn a_link_in_a_checkpoint_is_no_file_of_it() {
        let folder = Folder::new("checkpoint-link");
        complete(folder.path(), "state");
        std::fs::rename(folder.path().join("state.bin"), folder.path().join("far")).expect("moved");
        std::os::unix::fs::symlink("far", folder.path().join("state.bin")).expect("linked");
        assert!(verify(folder.path()).expect_err("refused").contains("no plain file"));
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
