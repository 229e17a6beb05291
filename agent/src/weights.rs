//! Brings models from buckets into the node's cache, with progress, whole or not at all.
//!
//! A copy becomes visible by one rename, so that a crash leaves no half model behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wharfage_shared::order::RunOrder;
use wharfage_shared::telemetry::CachedModel;

use crate::config::Bucket;

/// Copied at once between two words of progress.
const CHUNK: usize = 1024 * 1024;

/// The most files of one model: a path that names a whole disk is a mistake.
const MOST_FILES: usize = 10_000;

/// Models that the cache's list names: the one that was asked for longest ago is forgotten first.
const MOST_LISTED: usize = 100;

/// The cache's list, the model that was asked for last at the end.
const LIST: &str = ".models.json";

/// Buckets and the cache.
#[derive(Clone, Debug)]
pub struct Weights {
    buckets: Vec<Bucket>,
    cache: PathBuf,
    /// One fetch per destination at a time: the second finds the first's copy.
    busy: Arc<Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>>>,
    /// One change of the cache's list at a time.
    listing: Arc<Mutex<()>>,
}

impl Weights {
    /// Models of these buckets in this cache.
    pub fn new(buckets: Vec<Bucket>, cache: PathBuf) -> Self {
        Self { buckets, cache, busy: Arc::default(), listing: Arc::default() }
    }

    /// From now on these buckets and this cache; a fetch under way keeps its turn.
    pub fn refit(&mut self, buckets: Vec<Bucket>, cache: PathBuf) {
        self.buckets = buckets;
        self.cache = cache;
    }

    /// Where the order's model lies once it was fetched, or why it can never be.
    pub fn destination(&self, order: &RunOrder) -> Result<PathBuf, String> {
        let (bucket, path) = (self.bucket(order)?, safe_path(&order.model_path)?);
        Ok(self.cache.join(&bucket.name).join(path))
    }

    /// Fetches the order's model; blocks. `progress` hears bytes done and bytes in all.
    pub fn fetch(
        &self,
        order: &RunOrder,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), String> {
        let bucket = self.bucket(order)?;
        let source = bucket.directory.join(safe_path(&order.model_path)?);
        let destination = self.destination(order)?;
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(busy.entry(destination.clone()).or_default())
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |what: &str, path: &Path, error: &io::Error| {
            format!("cannot {what} `{}`: {error}", path.display())
        };
        if bucket.generate_missing && !source.exists() {
            let bytes = u64::from(bucket.generate_mib) * 1024 * 1024;
            generate(&source, &format!("{}", std::process::id()), bytes)
                .map_err(|error| failed("make the model", &source, &error))?;
        }
        let files = listing(&source).map_err(|error| failed("read the model", &source, &error))?;
        if files.is_empty() {
            let (path, name) = (&order.model_path, &bucket.name);
            return Err(format!("bucket `{name}` holds no file at `{path}`"));
        }
        let total = files.iter().map(|(_, size)| size).sum();
        if listing(&destination).is_ok_and(|have| have == files) {
            progress(total, total);
        } else {
            copy(&source, &destination, &files, &mut |done| progress(done, total))
                .map_err(|error| failed("copy the model to", &destination, &error))?;
        }
        let (bucket, path) = (bucket.name.clone(), order.model_path.clone());
        // The list only makes estimates better: a cache that cannot be written to serves as well.
        drop(self.list(CachedModel { bucket, path, bytes: total }));
        Ok(())
    }

    /// Models that lie in the cache as far as its list says; a list that is damaged names none.
    pub fn cached(&self) -> Vec<CachedModel> {
        let mut models = self.listed();
        let is_there = |model: &CachedModel| {
            let path = safe_path(&model.path).ok();
            path.is_some_and(|path| self.cache.join(&model.bucket).join(path).is_dir())
        };
        models.retain(is_there);
        models.sort();
        models
    }

    fn listed(&self) -> Vec<CachedModel> {
        let text = fs::read(self.cache.join(LIST)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn list(&self, model: CachedModel) -> io::Result<()> {
        let _turn = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut models = self.listed();
        models.retain(|known| (&known.bucket, &known.path) != (&model.bucket, &model.path));
        models.push(model);
        models.drain(..models.len().saturating_sub(MOST_LISTED));
        let partial = self.cache.join(format!("{LIST}.partial"));
        fs::write(&partial, serde_json::to_vec(&models)?)?;
        fs::rename(&partial, self.cache.join(LIST))
    }

    /// How large the order's model is on this host, once it was fetched.
    pub fn bytes(&self, order: &RunOrder) -> Option<u64> {
        let files = listing(&self.destination(order).ok()?).ok()?;
        Some(files.iter().map(|(_, size)| size).sum()).filter(|bytes| *bytes > 0)
    }

    fn bucket(&self, order: &RunOrder) -> Result<&Bucket, String> {
        let wanted = &order.model_bucket;
        self.buckets.iter().find(|bucket| bucket.name == *wanted).ok_or_else(|| {
            let names: Vec<&str> = self.buckets.iter().map(|b| b.name.as_str()).collect();
            format!("this host has no bucket `{wanted}`: it has {}", names.join(", "))
        })
    }
}

/// A path below a bucket: nothing that could lead out of it.
fn safe_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text.trim_matches('/'));
    let is_safe = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_safe && path.components().next().is_some() {
        Ok(path.to_owned())
    } else {
        Err(format!("`{text}` is no path in a bucket: accepted are names with / between them"))
    }
}

/// Every plain file below a folder (or the one file) with its size, in order.
fn listing(root: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let meta = fs::metadata(entry.path())?;
            if meta.is_dir() {
                folders.push(path);
            } else {
                files.push((path, meta.len()));
            }
            if files.len() > MOST_FILES {
                return Err(io::Error::other(format!("more than {MOST_FILES} files")));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn copy(
    source: &Path,
    destination: &Path,
    files: &[(PathBuf, u64)],
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let parent = destination.parent().unwrap_or(Path::new("/"));
    make_readable(parent)?;
    let mut name = std::ffi::OsString::from(".partial-");
    name.push(destination.file_name().unwrap_or_default());
    let partial = parent.join(name);
    remove_if_there(&partial)?;
    let mut done = 0;
    let mut buffer = vec![0; CHUNK];
    for (path, _) in files {
        let target = partial.join(path);
        make_readable(target.parent().unwrap_or(&partial))?;
        let mut from = File::open(source.join(path))?;
        let mut to = File::create(&target)?;
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count])?;
            done += count as u64;
            progress(done);
        }
        // Engines may run as another user than this agent, whose files are its own otherwise.
        to.set_permissions(fs::Permissions::from_mode(0o644))?;
        to.sync_data()?;
    }
    remove_if_there(destination)?;
    fs::rename(&partial, destination)
}

/// Makes a folder with those above it, each for everybody to enter.
fn make_readable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_readable(above)?;
    }
    match fs::create_dir(folder) {
        // Another fetch was first, and does the same.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(folder, fs::Permissions::from_mode(0o755)),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a small model folder with a valid safetensors file; deterministic. `maker` keeps agents
/// apart that share a bucket: whoever is first wins, and all of them made the same.
fn generate(folder: &Path, maker: &str, bytes: u64) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let mut name = std::ffi::OsString::from(format!(".making-{maker}-"));
    name.push(folder.file_name().unwrap_or_default());
    let making = parent.join(name);
    remove_if_there(&making)?;
    fs::create_dir_all(&making)?;
    let count = bytes / 4;
    let config = r#"{"architectures":["WharfageDevelopmentModel"],"model_type":"wharfage"}"#;
    fs::write(making.join("config.json"), config)?;
    let header = format!(
        r#"{{"weights":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{}]}}}}"#,
        count * 4
    );
    let mut file = io::BufWriter::new(File::create(making.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for index in 0..count {
        // Any finite numbers will do; the same every time.
        let value = (index % 2048) as f32 / 2048.0;
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()?;
    match fs::rename(&making, folder) {
        Err(_) if folder.exists() => remove_if_there(&making),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, order};

    fn weights(folder: &Folder, generate_missing: bool) -> Weights {
        let bucket = Bucket {
            name: "models".into(),
            directory: folder.path().join("bucket"),
            generate_missing,
            generate_mib: 1,
        };
        Weights::new(vec![bucket], folder.path().join("cache"))
    }

    #[test]
    fn a_model_is_copied_whole_with_progress_and_once() {
        let folder = Folder::new("weights-copy");
        let weights = weights(&folder, true);
        let order = order(1);
        let mut heard = Vec::new();
        weights.fetch(&order, &mut |done, total| heard.push((done, total))).expect("fetched");
        let (done, total) = *heard.last().expect("progress was said");
        assert_eq!(done, total);
        assert!(total > 1024 * 1024);
        let destination = weights.destination(&order).expect("a place");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&destination), 0o755, "engines of other users can enter");
        assert_eq!(mode(&destination.join("model.safetensors")), 0o644, "and read");
        let same = listing(&destination).expect("there");
        assert_eq!(same, listing(&folder.path().join("bucket/small/1")).expect("there"));
        let header = fs::read(destination.join("model.safetensors")).expect("there");
        let length = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"));
        let text = &header[8..8 + usize::try_from(length).expect("small")];
        serde_json::from_slice::<serde_json::Value>(text).expect("a safetensors header is JSON");

        let mut again = Vec::new();
        weights.fetch(&order, &mut |done, total| again.push((done, total))).expect("cached");
        assert_eq!(again, [(total, total)]);
    }

    #[test]
    fn the_cache_says_which_models_lie_in_it_and_how_large_they_are() {
        let folder = Folder::new("weights-listed");
        let weights = weights(&folder, true);
        assert_eq!(weights.cached(), []);
        let mut silent = |_, _| {};
        for path in ["small/2", "small/1", "small/2"] {
            let order = RunOrder { model_path: path.into(), ..order(1) };
            weights.fetch(&order, &mut silent).expect("fetched");
        }
        let bytes = weights.bytes(&order(1)).expect("it is there");
        let model = |path: &str| CachedModel { bucket: "models".into(), path: path.into(), bytes };
        assert_eq!(weights.cached(), [model("small/1"), model("small/2")]);

        fs::remove_dir_all(folder.path().join("cache/models/small/1")).expect("removed");
        assert_eq!(weights.cached(), [model("small/2")], "what was removed is not named");
        fs::write(folder.path().join("cache").join(LIST), "{damaged").expect("written");
        assert_eq!(weights.cached(), [], "a damaged list names none, and is made anew");
        weights.fetch(&order(1), &mut silent).expect("fetched");
        assert_eq!(weights.cached(), [model("small/1")]);
    }

    #[test]
    fn what_is_not_there_or_leads_out_is_refused_by_name() {
        let folder = Folder::new("weights-refused");
        let weights = weights(&folder, false);
        let mut order = order(1);
        let mut silent = |_, _| {};
        let missing = weights.fetch(&order, &mut silent).expect_err("not there");
        assert!(missing.contains("cannot read the model"), "{missing}");
        for path in ["../secret", "/", "a/../../b", "."] {
            order.model_path = path.into();
            assert!(weights.fetch(&order, &mut silent).expect_err("refused").contains("no path"));
        }
        order.model_bucket = "other".into();
        let bucket = weights.fetch(&order, &mut silent).expect_err("refused");
        assert!(bucket.contains("no bucket `other`: it has models"), "{bucket}");
    }
}
