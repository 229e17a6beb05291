//! The process that moves one checkpoint into the object store, or the newest one out of it.
//!
//! In the store a checkpoint is a folder of its own below its deployment's, named by the moment of
//! its push. Its manifest is written last and removed first: what has none is no checkpoint.

use std::fs::{File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharfage_agent_sys::trusted::Owner;

use super::asked::{Act, Asked};
use super::{Credentials, Store};
use crate::hooks::checkpoint::{Checkpoints, LARGEST_MANIFEST, MANIFEST, Manifest, verify};

/// So much goes over the wire in one part, at least.
const PART: usize = 16 * 1024 * 1024;

/// A service accepts 10,000 parts of one file.
const MOST_PARTS: u64 = 9_000;

/// Parts of one file under way together.
const TOGETHER: usize = 4;

/// What is read and written at once.
const CHUNK: usize = 1024 * 1024;

/// How long `doctor` waits for an answer.
const LOOK_FOR: Duration = Duration::from_secs(10);

/// How long one request is tried again; the limit of the whole run is the caller's.
const TRIED_FOR: Duration = Duration::from_secs(60);

/// Does it; what was done in one sentence, or why it was not.
pub fn run(asked: &Asked) -> Result<String, String> {
    // Whoever has chosen one before has chosen the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let store = Store {
            url: asked.url.clone(),
            endpoint: asked.endpoint.clone(),
            region: asked.region.clone(),
            credentials: asked.credentials.clone(),
            allow_http: asked.allow_http,
        };
        let owner = if asked.require_root_owned { Owner::Root } else { Owner::RootOrSelf };
        let room = Room::open(&store, owner, &asked.place)?;
        match asked.act {
            Act::Push => room.push(asked).await,
            Act::Pull => room.pull(asked).await,
        }
    })
}

/// Whether the store lets this host in, for `doctor`: one request, not tried again.
pub async fn look(store: &Store, owner: Owner) -> Result<(), String> {
    // As above.
    drop(rustls::crypto::ring::default_provider().install_default());
    let room = Room::open(store, owner, "")?;
    let looked = tokio::time::timeout(LOOK_FOR, room.store.list_with_delimiter(Some(&room.at)));
    match looked.await {
        Ok(found) => found.map(drop).map_err(|error| told(&error)),
        Err(_) => Err(format!("it does not answer within {} s", LOOK_FOR.as_secs())),
    }
}

/// The deployment's part of the store.
struct Room {
    store: Arc<AmazonS3>,
    at: Key,
}

/// A complete checkpoint in the store.
struct Kept {
    /// Its folder's name.
    name: String,
    manifest: ObjectMeta,
}

impl Room {
    fn open(settings: &Store, owner: Owner, place: &str) -> Result<Self, String> {
        settings.check().map_err(|bad| bad.to_string())?;
        let keys = Credentials::load(&settings.credentials, owner)?;
        let (bucket, folder) = settings.place()?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(settings.region.as_deref().unwrap_or("us-east-1"))
            .with_access_key_id(keys.access_key_id)
            .with_secret_access_key(keys.secret_access_key)
            .with_allow_http(settings.allow_http)
            .with_retry(RetryConfig { retry_timeout: TRIED_FOR, ..RetryConfig::default() });
        if let Some(token) = keys.session_token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| error.to_string())?;
        let at = folder.split('/').chain([place]).filter(|part| !part.is_empty());
        Ok(Self { store: Arc::new(store), at: at.collect() })
    }

    async fn push(&self, asked: &Asked) -> Result<String, String> {
        // Every file was hashed a moment ago, and whoever pulls it does so again.
        let manifest = Manifest::read(&asked.folder)?;
        let total = manifest.files.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        let attempt = asked.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{:013}-{attempt}", millis_now());
        let at = self.at.clone().join(name.as_str());
        let mut progress = Progress { total, done: 0, said: 0 };
        for entry in &manifest.files {
            let key = below(&at, &entry.path);
            self.put(&asked.folder.join(&entry.path), &key, &mut progress).await?;
        }
        self.put(&asked.folder.join(MANIFEST), &at.clone().join(MANIFEST), &mut progress).await?;
        // It counts from here on: that old ones stay only takes room.
        if let Err(why) = self.tidy(asked, &name).await {
            eprintln!("old checkpoints stay in the store: {why}");
        }
        Ok(format!("{total} bytes are in the store as {name}"))
    }

    async fn put(&self, from: &Path, key: &Key, progress: &mut Progress) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("`{}`: {error}", from.display());
        let mut file = tokio::fs::File::open(from).await.map_err(failed)?;
        let bytes = file.metadata().await.map_err(failed)?.len();
        let part = usize::try_from(bytes / MOST_PARTS).unwrap_or(usize::MAX).max(PART);
        if bytes <= part as u64 {
            let mut whole = Vec::new();
            file.read_to_end(&mut whole).await.map_err(failed)?;
            self.store.put(key, whole.into()).await.map_err(|error| told(&error))?;
            progress.go_on(bytes);
            return Ok(());
        }
        let upload = self.store.put_multipart(key).await.map_err(|error| told(&error))?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, part);
        let mut buffer = vec![0; CHUNK];
        loop {
            let sent = match parts.wait_for_capacity(TOGETHER).await {
                Ok(()) => file.read(&mut buffer).await.map_err(failed),
                Err(error) => Err(told(&error)),
            };
            match sent {
                Ok(0) => break parts.finish().await.map(drop).map_err(|error| told(&error)),
                Ok(count) => {
                    parts.write(&buffer[..count]);
                    progress.go_on(count as u64);
                }
                Err(why) => {
                    // Parts without their file take room; the service also forgets them by its own
                    // rules.
                    drop(parts.abort().await);
                    break Err(why);
                }
            }
        }
    }

    /// Every complete one, the newest last. The service's own clock says which that is.
    async fn complete(&self) -> Result<Vec<Kept>, String> {
        let mut all = Vec::new();
        let mut found = self.store.list(Some(&self.at));
        while let Some(meta) = found.try_next().await.map_err(|error| told(&error))? {
            let Some(parts) = meta.location.prefix_match(&self.at) else { continue };
            let parts: Vec<_> = parts.collect();
            let [name, file] = parts.as_slice() else { continue };
            if file.as_ref() == MANIFEST {
                all.push(Kept { name: name.as_ref().to_owned(), manifest: meta });
            }
        }
        all.sort_by(|a, b| {
            (a.manifest.last_modified, &a.name).cmp(&(b.manifest.last_modified, &b.name))
        });
        Ok(all)
    }

    /// Removes what is beyond `keep`, and this replica's attempts that came to nothing.
    async fn tidy(&self, asked: &Asked, newest: &str) -> Result<(), String> {
        let complete = self.complete().await?;
        let most = usize::try_from(asked.keep).unwrap_or(usize::MAX);
        let old = &complete[..complete.len().saturating_sub(most)];
        for kept in old.iter().filter(|kept| kept.name != newest) {
            // First what makes it a checkpoint.
            self.store.delete(&kept.manifest.location).await.map_err(|error| told(&error))?;
            self.remove(&kept.name).await?;
        }
        let own = format!("-{}-", asked.replica);
        let found = self.store.list_with_delimiter(Some(&self.at)).await;
        let found = found.map_err(|error| told(&error))?;
        for folder in found.common_prefixes {
            let Some(name) = folder.filename() else { continue };
            let is_complete = complete.iter().any(|kept| kept.name == name);
            if name.contains(&own) && !is_complete && name != newest {
                self.remove(name).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), String> {
        let at = self.at.clone().join(name);
        let keys = self.store.list(Some(&at)).map_ok(|meta| meta.location).boxed();
        let removed = self.store.delete_stream(keys).try_collect::<Vec<_>>().await;
        removed.map(drop).map_err(|error| told(&error))
    }

    async fn pull(&self, asked: &Asked) -> Result<String, String> {
        let half = asked.folder.join(format!(".pull-{}", asked.replica));
        // What an earlier run of this replica has left.
        drop(std::fs::remove_dir_all(&half));
        let mut damaged = None;
        for kept in self.complete().await?.into_iter().rev() {
            if is_here(&asked.folder, &kept) {
                return Ok(format!("{} is here already", kept.name));
            }
            let pulled = self.fetch(&kept, &half).await;
            if pulled.is_err() {
                drop(std::fs::remove_dir_all(&half));
            }
            match pulled {
                Ok(()) => return take(asked, &kept, &half),
                // One that is not what its manifest says is none: the one before it may be whole.
                Err(Bad::Damaged(why)) => damaged = Some(format!("{}: {why}", kept.name)),
                Err(Bad::Failed(why)) => return Err(why),
            }
        }
        match damaged {
            None => Ok("the store holds none".to_owned()),
            Some(why) => Err(format!("no checkpoint of the store is whole: {why}")),
        }
    }

    /// Fetches one whole, its manifest last, and proves it.
    async fn fetch(&self, kept: &Kept, half: &Path) -> Result<(), Bad> {
        let mut folder = std::fs::DirBuilder::new();
        // What a model knows is nobody else's.
        let made = folder.recursive(true).mode(0o700).create(half);
        made.map_err(|error| Bad::Failed(format!("`{}`: {error}", half.display())))?;
        if kept.manifest.size > LARGEST_MANIFEST {
            return Err(Bad::Damaged("its manifest.json is too long".to_owned()));
        }
        let got = self.store.get(&kept.manifest.location).await;
        let got = got.map_err(|error| Bad::Failed(told(&error)))?;
        let text = got.bytes().await.map_err(|error| Bad::Failed(told(&error)))?;
        let manifest = Manifest::parse(&text).map_err(Bad::Damaged)?;
        let total = manifest.files.iter().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        let mut progress = Progress { total, done: 0, said: 0 };
        let at = self.at.clone().join(kept.name.as_str());
        for entry in &manifest.files {
            if !entry.path.components().all(|part| matches!(part, Component::Normal(_))) {
                let name = entry.path.display();
                return Err(Bad::Damaged(format!("its manifest names `{name}`, which is outside")));
            }
            let key = below(&at, &entry.path);
            self.get(&key, &half.join(&entry.path), entry.bytes, &mut progress).await?;
        }
        let written = std::fs::write(half.join(MANIFEST), &text);
        written.map_err(|error| Bad::Failed(format!("manifest.json: {error}")))?;
        verify(half).map(drop).map_err(Bad::Damaged)
    }

    async fn get(
        &self,
        key: &Key,
        to: &Path,
        bytes: u64,
        progress: &mut Progress,
    ) -> Result<(), Bad> {
        let failed = |error: std::io::Error| Bad::Failed(format!("`{}`: {error}", to.display()));
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above).map_err(failed)?;
        }
        let got = self.store.get(key).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => Bad::Damaged(format!("`{key}` is missing")),
            other => Bad::Failed(told(&other)),
        })?;
        if got.meta.size != bytes {
            let size = got.meta.size;
            return Err(Bad::Damaged(format!(
                "`{key}` has {size} bytes, its manifest says {bytes}"
            )));
        }
        let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
        let mut parts = got.into_stream();
        while let Some(part) = parts.try_next().await.map_err(|error| Bad::Failed(told(&error)))? {
            file.write_all(&part).await.map_err(failed)?;
            progress.go_on(part.len() as u64);
        }
        file.sync_all().await.map_err(failed)
    }
}

/// Why one was not fetched.
enum Bad {
    /// It is not whole in the store.
    Damaged(String),
    /// The store or this host's disk failed: nothing is known of it.
    Failed(String),
}

/// Whether this host has it, or a newer one that the store lacks.
fn is_here(folder: &Path, kept: &Kept) -> bool {
    let Some(newest) = Checkpoints::at(folder.to_owned()).newest() else { return false };
    let written = std::fs::metadata(newest.join(MANIFEST)).and_then(|meta| meta.modified());
    written.is_ok_and(|written| written >= SystemTime::from(kept.manifest.last_modified))
        || newest.file_name().is_some_and(|name| kept.name.ends_with(&*name.to_string_lossy()))
}

/// What was fetched whole becomes a checkpoint of this host.
fn take(asked: &Asked, kept: &Kept, half: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("`{}`: {error}", half.display());
    let manifest = File::open(half.join(MANIFEST)).map_err(failed)?;
    let written = SystemTime::from(kept.manifest.last_modified);
    manifest.set_times(FileTimes::new().set_modified(written)).map_err(failed)?;
    manifest.sync_all().map_err(failed)?;
    if let Some((user, group)) = asked.give_to {
        give(half, user, group).map_err(failed)?;
    }
    match std::fs::rename(half, asked.folder.join(&kept.name)) {
        Ok(()) => Ok(format!("{} was taken from the store", kept.name)),
        // Another replica of the deployment was faster.
        Err(_) if asked.folder.join(&kept.name).join(MANIFEST).exists() => {
            drop(std::fs::remove_dir_all(half));
            Ok(format!("{} is here already", kept.name))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The folder and all in it.
fn give(folder: &Path, user: u32, group: u32) -> std::io::Result<()> {
    chown(folder, Some(user), Some(group))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => give(&entry.path(), user, group)?,
            false => chown(entry.path(), Some(user), Some(group))?,
        }
    }
    Ok(())
}

/// The key of a file below a folder.
fn below(folder: &Key, path: &Path) -> Key {
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.fold(folder.clone(), |key, part| key.join(part))
}

fn millis_now() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

/// An answer of the store in one sentence.
fn told(error: &object_store::Error) -> String {
    wharfage_shared::causes::with_causes(error)
}

/// Words of progress, each per cent once.
struct Progress {
    total: u64,
    done: u64,
    said: u64,
}

impl Progress {
    fn go_on(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        let percent = self.done.saturating_mul(100) / self.total.max(1);
        if percent > self.said {
            self.said = percent.min(100);
            // Whoever listens may be gone; the keeper ends this process then.
            drop(writeln!(
                std::io::stdout(),
                "progress {}.{:02}",
                self.said / 100,
                self.said % 100
            ));
        }
    }
}
