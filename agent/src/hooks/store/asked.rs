//! What the process that moves checkpoints is asked for: the arguments as they are read, and as the
//! agent writes them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use wharfage_agent_sys::trusted::Owner;
use wharfage_shared::ids::ReplicaId;

use super::Store;

/// What is asked of the process.
#[derive(Args, Clone, Debug)]
pub struct Asked {
    /// What to do.
    #[arg(value_enum)]
    pub(super) act: Act,
    /// Bucket and folder.
    #[arg(long, value_name = "URL")]
    pub(super) url: String,
    /// The service, where it is not AWS itself.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Its region.
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// The file with the keys.
    #[arg(long, value_name = "FILE")]
    pub(super) credentials: PathBuf,
    /// Plain HTTP is accepted.
    #[arg(long)]
    pub(super) allow_http: bool,
    /// The file with the keys must be root's.
    #[arg(long)]
    pub(super) require_root_owned: bool,
    /// The deployment's folder, in the store.
    #[arg(long, value_name = "NAME")]
    pub(super) place: String,
    /// A push's checkpoint; a pull's folder of the deployment's checkpoints.
    #[arg(long, value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Whose checkpoint.
    #[arg(long, value_name = "ID")]
    pub(super) replica: String,
    /// So many complete ones of a deployment stay in the store.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) keep: u32,
    /// The user and group that what was pulled belongs to: `UID:GID`.
    #[arg(long, value_name = "IDS", value_parser = ids)]
    pub(super) give_to: Option<(u32, u32)>,
}

/// Into the store, or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// A complete checkpoint into the store.
    Push,
    /// The newest complete one out of it, where this host has none that is as new.
    Pull,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

/// What is moved, from where to where.
#[derive(Clone, Debug)]
pub struct Move<'a> {
    /// Into the store, or out of it.
    pub act: Act,
    /// The store.
    pub store: &'a Store,
    /// The deployment's folder in it.
    pub place: &'a str,
    /// A push's checkpoint; a pull's folder of the deployment's checkpoints.
    pub folder: &'a Path,
    /// Whose checkpoint.
    pub replica: ReplicaId,
    /// So many complete ones of a deployment stay in the store.
    pub keep: u32,
    /// The user and group that what was pulled belongs to.
    pub give_to: Option<(u32, u32)>,
    /// Whose files are trusted.
    pub owner: Owner,
}

impl Move<'_> {
    /// The arguments of the process that does it, after its program.
    pub fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let mut all = vec!["checkpoint-store".to_owned(), self.act.word().to_owned()];
        let mut say = |name: &str, value: String| all.extend([format!("--{name}"), value]);
        say("url", self.store.url.clone());
        say("credentials", text(&self.store.credentials));
        say("place", self.place.to_owned());
        say("folder", text(self.folder));
        say("replica", self.replica.to_string());
        say("keep", self.keep.to_string());
        for (name, value) in [("endpoint", &self.store.endpoint), ("region", &self.store.region)] {
            if let Some(value) = value {
                say(name, value.clone());
            }
        }
        if let Some((user, group)) = self.give_to {
            say("give-to", format!("{user}:{group}"));
        }
        if self.store.allow_http {
            all.push("--allow-http".to_owned());
        }
        if self.owner == Owner::Root {
            all.push("--require-root-owned".to_owned());
        }
        all
    }
}

fn ids(text: &str) -> Result<(u32, u32), String> {
    let pair = text
        .split_once(':')
        .and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    pair.ok_or_else(|| format!("`UID:GID` is accepted, got `{text}`"))
}
