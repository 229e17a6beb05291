//! The object store in which hosts share their checkpoints: what the node's owner says of it.
//!
//! A process of its own moves them (`moving`), as a hook is run: with a time limit after which
//! nothing of it lives, and without a byte of its memory in an agent that is at rest.

pub mod asked;
pub mod moving;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharfage_agent_sys::trusted::{self, Owner};
use wharfage_shared::causes::with_causes;

use crate::bad_key::{self, BadKey};

/// The longest name of a bucket, and the shortest.
const BUCKET_LENGTHS: std::ops::RangeInclusive<usize> = 3..=63;

/// `[checkpoints.store]` of `agent.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Bucket and folder: `s3://bucket/folder`.
    pub url: String,
    /// The service, where it is not AWS itself: `https://object.example`.
    pub endpoint: Option<String>,
    /// The region (default: `us-east-1`, which most services other than AWS accept).
    pub region: Option<String>,
    /// The file with the keys; nobody but its owner may read it.
    pub credentials: PathBuf,
    /// Plain HTTP to `endpoint` is accepted.
    #[serde(default)]
    pub allow_http: bool,
}

impl Store {
    /// The first key that is out of what is accepted, and what is.
    pub fn check(&self) -> Result<(), BadKey> {
        let bad =
            |key: &str, said: String| Err(BadKey::new(format!("checkpoints.store.{key}"), said));
        if let Err(said) = self.place() {
            return bad("url", said);
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        match endpoint.split_once("://") {
            Some(("https", host)) if !host.is_empty() => Ok(()),
            Some(("http", host)) if !host.is_empty() && self.allow_http => Ok(()),
            Some(("http", _)) => bad(
                "endpoint",
                "plain HTTP shows checkpoints to the network: use https, or set allow_http"
                    .to_owned(),
            ),
            _ => bad("endpoint", format!("`https://host[:port]` is accepted, got `{endpoint}`")),
        }
    }

    /// The bucket and the folder in it, without slashes at its ends.
    pub fn place(&self) -> Result<(&str, &str), String> {
        let refused = || format!("`s3://bucket/folder` is accepted, got `{}`", self.url);
        let rest = self.url.strip_prefix("s3://").ok_or_else(refused)?;
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
        let folder = folder.trim_matches('/');
        let is_path = !folder.split('/').any(|part| matches!(part, "." | ".."));
        let fits = BUCKET_LENGTHS.contains(&bucket.len()) && bucket.bytes().all(is_name);
        if fits && is_path { Ok((bucket, folder)) } else { Err(refused()) }
    }
}

/// What opens the store: the file that `credentials` names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// Of keys that somebody lends for a while.
    pub session_token: Option<String>,
}

impl Credentials {
    /// Reads the file, or says why it is refused; never a word of what stands in it.
    pub fn load(path: &Path, owner: Owner) -> Result<Self, String> {
        let at = path.display();
        let text = trusted::read(path, owner).map_err(|error| with_causes(&error))?;
        let meta = std::fs::metadata(path).map_err(|error| format!("`{at}`: {error}"))?;
        if meta.mode() & 0o077 != 0 {
            return Err(format!("`{at}` can be read by others: `chmod 600 {at}`"));
        }
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let said = match bad_key::said(&error).lines().last() {
                Some(last) if last.starts_with("missing field") => last.to_owned(),
                _ => "accepted are access_key_id, secret_access_key and session_token, each a text"
                    .to_owned(),
            };
            format!("`{at}` line {line}: {said}")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Folder;

    fn refusal(text: &str) -> Result<(), String> {
        let store: Store = toml::from_str(text).expect("read");
        store.check().map_err(|bad| bad.to_string())
    }

    #[test]
    fn what_is_no_bucket_or_shows_checkpoints_to_the_network_is_refused_with_its_key() {
        let with = |rest: &str| refusal(&format!("credentials = \"/k\"\n{rest}"));
        assert_eq!(with("url = \"s3://models-eu/checkpoints/\""), Ok(()));
        for url in ["models", "s3://", "s3://Models/x", "s3://models/../x", "gs://models/x"] {
            let said = with(&format!("url = \"{url}\"")).expect_err(url);
            let wanted =
                format!("checkpoints.store.url: `s3://bucket/folder` is accepted, got `{url}`");
            assert_eq!(said, wanted);
        }
        let http = "url = \"s3://models\"\nendpoint = \"http://127.0.0.1:9000\"\n";
        assert!(with(http).expect_err("plain").contains("set allow_http"));
        assert_eq!(with(&format!("{http}allow_http = true")), Ok(()));
        let said = with("url = \"s3://models\"\nendpoint = \"object.example\"").expect_err("host");
        assert!(said.starts_with("checkpoints.store.endpoint: `https://host"), "{said}");
    }

    #[test]
    fn keys_are_read_only_from_a_file_that_nobody_else_reads_and_never_said() {
        let folder = Folder::new("store-keys");
        let path = folder.path().join("keys.toml");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            Credentials::load(&path, Owner::RootOrSelf).map(|keys| keys.access_key_id)
        };
        let good = "access_key_id = \"AK\"\nsecret_access_key = \"hidden\"\n";
        assert_eq!(write(good, 0o600), Ok("AK".to_owned()));
        assert!(write(good, 0o640).expect_err("others").contains("can be read by others"));
        let said = write("access_key_id = \"AK\"\nsecret = \"hidden\"\n", 0o600).expect_err("key");
        assert!(said.contains("line 2: accepted are") && !said.contains("hidden"), "{said}");
        let said = write("access_key_id = \"AK\"\n", 0o600).expect_err("half");
        assert!(said.ends_with("missing field `secret_access_key`"), "{said}");
    }
}
