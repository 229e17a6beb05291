//! `gateway.toml`: read whole, checked whole, refused with the key named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use wharfage_link::PeerName;
use wharfage_shared::enroll::JoinString;
use wharfage_shared::ids::GatewayName;

/// The gateway's settings as its owner wrote them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where requests come in.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The certificate of the listener; needed off loopback.
    pub tls: Option<Tls>,
    /// Where clients reach it, shown on gateway resources (default: http(s)://listen).
    pub advertise_url: Option<String>,
    /// The gateway's name in the installation.
    #[serde(default = "default_name")]
    pub name: String,
    /// Identity, the scheduler's address, the last routes.
    pub state_dir: PathBuf,
    /// A join string; needed until the gateway has enrolled.
    pub join: Option<String>,
    /// A file that holds the join string.
    pub join_file: Option<PathBuf>,
    /// How long a request may wait for a first replica.
    #[serde(default = "default_queue_timeout")]
    pub queue_timeout_seconds: u32,
    /// How many requests may wait at one time.
    #[serde(default = "default_queue_limit")]
    pub queue_limit: u32,
    /// How long a replica may take until the head of its answer.
    #[serde(default = "default_answer_timeout")]
    pub answer_timeout_seconds: u32,
    /// Client connections at one time.
    #[serde(default = "default_connections")]
    pub connections: u32,
    /// How long requests may go on after the gateway was told to stop.
    #[serde(default = "default_grace")]
    pub grace_seconds: u32,
}

/// The listener's certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain in PEM, the listener's own certificate first.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
}

/// What makes a configuration unusable. All of them end the program with 78.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML of the expected keys; the message names line and key.
    #[error("`{path}`: {reason}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A value is out of its range.
    #[error("`{path}`: {field}: {reason}")]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which key.
        field: &'static str,
        /// What is wrong and what is accepted.
        reason: String,
    },
}

impl Config {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let field = |field: &'static str, reason: String| {
            Err(Error::Field { path: path.to_owned(), field, reason })
        };
        if !config.listen.ip().is_loopback() && config.tls.is_none() {
            return field(
                "listen",
                format!(
                    "{} is reachable from other hosts: give [tls] certificate and key, or listen \
                     on loopback",
                    config.listen
                ),
            );
        }
        if let Some(url) = &config.advertise_url
            && !is_base_url(url)
        {
            let accepted = "accepted is http:// or https://, a host, a port where it is unusual";
            return field("advertise_url", format!("`{url}` is no base address; {accepted}"));
        }
        if let Err(error) = config.peer_name().check() {
            return field("name", error.to_string());
        }
        if config.join.is_some() && config.join_file.is_some() {
            return field("join", "give join or join_file, not both".to_owned());
        }
        if let Some(Err(error)) = config.join.as_deref().map(str::parse::<JoinString>) {
            return field("join", error.to_string());
        }
        let positive = [
            ("queue_timeout_seconds", config.queue_timeout_seconds),
            ("answer_timeout_seconds", config.answer_timeout_seconds),
            ("connections", config.connections),
        ];
        for (name, value) in positive {
            if value == 0 {
                return field(name, "got 0, at least 1 is needed".to_owned());
            }
        }
        Ok(config)
    }

    /// The join string, from wherever it is given.
    pub fn join(&self) -> Result<Option<JoinString>, Error> {
        let (text, path) = match (&self.join, &self.join_file) {
            (Some(text), _) => (text.clone(), PathBuf::from("gateway.toml")),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| Error::Read { path: path.clone(), source })?;
                (text, path.clone())
            }
            (None, None) => return Ok(None),
        };
        let parsed = text.parse().map_err(|error: wharfage_shared::enroll::BadJoinString| {
            Error::Field { path, field: "join", reason: error.to_string() }
        })?;
        Ok(Some(parsed))
    }

    /// The name that the certificate will carry.
    pub fn peer_name(&self) -> PeerName {
        PeerName::Gateway(GatewayName::from(self.name.as_str()))
    }

    /// Where clients reach it: as its owner says, else where it listens.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let listens = || format!("{scheme}://{}", self.listen);
        self.advertise_url.as_ref().map_or_else(listens, |url| url.trim_end_matches('/').to_owned())
    }

    /// How long a request may wait for a first replica.
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_secs(self.queue_timeout_seconds.into())
    }

    /// How long a replica may take until the head of its answer.
    pub fn answer_timeout(&self) -> Duration {
        Duration::from_secs(self.answer_timeout_seconds.into())
    }
}

/// A scheme and an authority; what follows the host belongs to requests.
fn is_base_url(text: &str) -> bool {
    let Ok(url) = text.parse::<axum::http::Uri>() else { return false };
    let host = url.host().is_some_and(|host| !host.is_empty());
    host && matches!(url.scheme_str(), Some("http" | "https"))
        && url.path() == "/"
        && url.query().is_none()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7080))
}

fn default_name() -> String {
    "gateway".to_owned()
}

fn default_queue_timeout() -> u32 {
    600
}

fn default_queue_limit() -> u32 {
    1000
}

fn default_answer_timeout() -> u32 {
    1200
}

fn default_connections() -> u32 {
    4096
}

fn default_grace() -> u32 {
    30
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("gateway.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_least_configuration_is_a_state_folder() {
        let config = check("state_dir = \"state\"").expect("enough");
        assert_eq!(config.listen.to_string(), "127.0.0.1:7080");
        assert_eq!(config.queue_timeout_seconds, 600);
        assert!(config.join().expect("none").is_none());
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_accepted() {
        for (text, told) in [
            ("", "state_dir"),
            ("state_dir = \"s\"\nlistem = \"127.0.0.1:1\"", "listem"),
            ("state_dir = \"s\"\nlisten = \"0.0.0.0:7080\"", "give [tls]"),
            ("state_dir = \"s\"\nlisten = \"7080\"", "line 2"),
            ("state_dir = \"s\"\nname = \"Front Door\"", "name: `Front Door`"),
            ("state_dir = \"s\"\njoin = \"hello\"", "join: not a join string"),
            ("state_dir = \"s\"\nqueue_timeout_seconds = 0", "queue_timeout_seconds: got 0"),
            ("state_dir = \"s\"\nqueue_limit = -1", "queue_limit"),
            ("state_dir = \"s\"\nadvertise_url = \"models.example.org\"", "advertise_url: `models"),
            (
                "state_dir = \"s\"\nadvertise_url = \"https://a.example/v1\"",
                "advertise_url: `https",
            ),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(told), "{text:?} gave {error}");
        }
        let tls =
            "state_dir = \"s\"\nlisten = \"0.0.0.0:1\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"";
        assert_eq!(check(tls).expect("complete").endpoint(), "https://0.0.0.0:1");
    }

    #[test]
    fn clients_are_told_the_address_that_the_owner_advertises() {
        let listens = check("state_dir = \"s\"").expect("enough");
        assert_eq!(listens.endpoint(), "http://127.0.0.1:7080");
        let text = "state_dir = \"s\"\nadvertise_url = \"https://models.example.org/\"";
        assert_eq!(check(text).expect("good").endpoint(), "https://models.example.org");
    }
}
