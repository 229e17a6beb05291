//! `scheduler.toml`: what an operator decides about one scheduler.
//!
//! Unknown keys are refused; every error names the key and what is accepted.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharfage_billing::money::Currency;
use wharfage_scheduler_core::Policy;

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the HTTP API and the dashboard listen.
    pub listen: SocketAddr,
    /// The certificate of that listener; always there when it is not on loopback.
    pub tls: Option<Tls>,
    /// Where agents and gateways are listened to, over mTLS.
    pub machines_listen: SocketAddr,
    /// `host:port` that join strings name; absent = `machines_listen` as it was bound.
    pub machines_advertise: Option<String>,
    /// The folder of everything that is kept.
    pub state_dir: PathBuf,
    /// The log's file.
    pub log: PathBuf,
    /// The size beyond which the log counts as a full disk, in MiB.
    pub log_max_mib: Option<u32>,
    /// What the controller decides by.
    pub policy: Policy,
    /// Limits per key.
    pub limits: Limits,
    /// Strictness towards foreign APIs.
    pub compat: Compat,
    /// Billing.
    pub billing: Billing,
    /// Who is told how many nodes are wanted.
    pub webhooks: Vec<Webhook>,
}

/// A receiver of messages about wanted nodes.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where it listens.
    pub url: reqwest::Url,
    /// What messages are signed with; absent = they are not.
    pub secret: Option<String>,
}

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the listener's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Requests a minute for each key; 0 = no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// POST, PUT, PATCH, DELETE.
    pub writes_per_minute: u32,
    /// GET, HEAD.
    pub reads_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { writes_per_minute: 600, reads_per_minute: 6000 }
    }
}

/// How exactly foreign APIs are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Warnings become refusals.
    pub strict: bool,
}

/// Billing of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billing {
    /// The currency of the provider's organization.
    pub currency: Currency,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("cannot read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a wrong type.
    #[error("`{path}`: {problem}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// With line, key and what is accepted.
        problem: String,
    },
    /// A value.
    #[error("`{path}`: {key}: {problem}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
}

/// The file as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_listen")]
    listen: String,
    tls: Option<Tls>,
    #[serde(default = "default_machines_listen")]
    machines_listen: String,
    machines_advertise: Option<String>,
    state_dir: PathBuf,
    log: Option<PathBuf>,
    log_max_mib: Option<u32>,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    compat: Compat,
    #[serde(default)]
    billing: RawBilling,
    #[serde(default)]
    webhooks: Vec<RawWebhook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: String,
    secret_file: Option<PathBuf>,
}

/// Receivers: each is a task and a connection.
const MOST_WEBHOOKS: usize = 16;

/// A shorter secret can be guessed from one signature.
const LEAST_SECRET: usize = 16;

impl RawWebhook {
    fn check(self) -> Result<Webhook, (&'static str, String)> {
        let text = self.url;
        let wrong = |problem: &str| {
            let accepted = "accepted: https://host/path, or http:// to a loopback address";
            ("webhooks.url", format!("`{text}` {problem}; {accepted}"))
        };
        let url =
            reqwest::Url::parse(&text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        let host = url.host_str().map(|host| host.trim_matches(['[', ']']));
        let local = host.is_some_and(|host| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            "http" => return Err(wrong("would send its messages in the clear")),
            _ => return Err(wrong("has another scheme")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("holds a name or password, which logs would show"));
        }
        let secret = self.secret_file.map(|path| secret(&path)).transpose()?;
        Ok(Webhook { url, secret })
    }
}

/// A secret from its file, without the line's end.
fn secret(path: &Path) -> Result<String, (&'static str, String)> {
    let shown = path.display();
    let wrong = |problem: String| ("webhooks.secret_file", problem);
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("cannot read `{shown}`: {error}")))?;
    let secret = text.trim_end();
    if secret.len() < LEAST_SECRET {
        let problem = format!("`{shown}` holds fewer than {LEAST_SECRET} characters");
        return Err(wrong(format!("{problem}; accepted: {LEAST_SECRET} or more")));
    }
    Ok(secret.to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBilling {
    currency: String,
}

impl Default for RawBilling {
    fn default() -> Self {
        Self { currency: "USD".to_owned() }
    }
}

fn default_listen() -> String {
    "127.0.0.1:7070".to_owned()
}

fn default_machines_listen() -> String {
    "127.0.0.1:7071".to_owned()
}

/// The smallest limit of the log that leaves room for a start, in MiB.
const LEAST_LOG_MIB: u32 = 1;

/// The largest: beyond it the page count does not fit.
const MOST_LOG_MIB: u32 = 8 << 20;

impl Config {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let problem = error.to_string().trim_end().to_owned();
            Error::Parse { path: path.to_owned(), problem }
        })?;
        raw.check().map_err(|(key, problem)| Error::Value { path: path.to_owned(), key, problem })
    }

    /// The log's limit in pages of 4 KiB.
    pub fn log_most_pages(&self) -> Option<u32> {
        self.log_max_mib.map(|mib| mib * 256)
    }
}

impl Raw {
    fn check(self) -> Result<Config, (&'static str, String)> {
        let listen = address("listen", &self.listen)?;
        let machines_listen = address("machines_listen", &self.machines_listen)?;
        if !listen.ip().is_loopback() && self.tls.is_none() {
            let problem = format!(
                "{listen} is not on loopback and there is no [tls]: name cert and key there, or \
                 listen on 127.0.0.1 or [::1]"
            );
            return Err(("listen", problem));
        }
        if listen == machines_listen && listen.port() != 0 {
            let problem = format!("{listen} is the value of `listen` too; accepted: another port");
            return Err(("machines_listen", problem));
        }
        match &self.machines_advertise {
            Some(advertise) => check_advertise(advertise)?,
            None if machines_listen.ip().is_unspecified() => {
                let problem = format!(
                    "must be given when machines_listen is {machines_listen}; accepted: the \
                     host:port that agents dial"
                );
                return Err(("machines_advertise", problem));
            }
            None => {}
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(("state_dir", "is empty; accepted: a folder".to_owned()));
        }
        if let Some(mib) = self.log_max_mib
            && !(LEAST_LOG_MIB..=MOST_LOG_MIB).contains(&mib)
        {
            let problem = format!("{mib}; accepted: {LEAST_LOG_MIB} to {MOST_LOG_MIB} MiB");
            return Err(("log_max_mib", problem));
        }
        let policy = self
            .policy
            .check()
            .map_err(|bad| (bad.key, format!("{}; accepted: {}", bad.got, bad.accepted)))?;
        let currency = self
            .billing
            .currency
            .parse::<Currency>()
            .map_err(|error| ("billing.currency", error.to_string()))?;
        if self.webhooks.len() > MOST_WEBHOOKS {
            let problem = format!("{}; accepted: at most {MOST_WEBHOOKS}", self.webhooks.len());
            return Err(("webhooks", problem));
        }
        let webhooks =
            self.webhooks.into_iter().map(RawWebhook::check).collect::<Result<_, _>>()?;
        Ok(Config {
            listen,
            tls: self.tls,
            machines_listen,
            machines_advertise: self.machines_advertise,
            log: self.log.unwrap_or_else(|| self.state_dir.join("log.sqlite")),
            state_dir: self.state_dir,
            log_max_mib: self.log_max_mib,
            policy,
            limits: self.limits,
            compat: self.compat,
            billing: Billing { currency },
            webhooks,
        })
    }
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, (&'static str, String)> {
    text.parse().map_err(|_| {
        let problem = format!("`{text}` is no address; accepted: IP:port as in 127.0.0.1:7070");
        (key, problem)
    })
}

fn check_advertise(text: &str) -> Result<(), (&'static str, String)> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good {
        return Ok(());
    }
    let problem = format!("`{text}`; accepted: host:port as in scheduler.example.org:7071");
    Err(("machines_advertise", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("scheduler.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_state_folder_is_all_that_must_be_said() {
        let config = parsed("state_dir = \"state\"").expect("enough");
        assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
        assert_eq!(config.machines_listen.to_string(), "127.0.0.1:7071");
        assert_eq!(config.log, Path::new("state/log.sqlite"));
        assert_eq!(config.limits, Limits { writes_per_minute: 600, reads_per_minute: 6000 });
    }

    #[test]
    fn every_error_names_the_key_and_what_is_accepted() {
        let cases = [
            ("", &["missing field `state_dir`"][..]),
            ("state_dir = 7", &["line 1", "state_dir", "path"]),
            ("state_dir = \"\"", &["state_dir", "a folder"]),
            ("state_dir = \"s\"\nlissten = \"x\"", &["line 2", "`lissten`", "`listen`"]),
            ("state_dir = \"s\"\nlisten = \"here\"", &["listen: `here`", "IP:port"]),
            ("state_dir = \"s\"\nlisten = \"0.0.0.0:7070\"", &["listen", "[tls]", "127.0.0.1"]),
            ("state_dir = \"s\"\nmachines_listen = \"127.0.0.1:7070\"", &["machines_listen"]),
            (
                "state_dir = \"s\"\nmachines_listen = \"0.0.0.0:7071\"",
                &["machines_advertise", "host:port"],
            ),
            ("state_dir = \"s\"\nmachines_advertise = \"h\"", &["machines_advertise: `h`"]),
            ("state_dir = \"s\"\nlog_max_mib = 0", &["log_max_mib: 0", "1 to"]),
            ("state_dir = \"s\"\n[tls]\ncertificate = \"c\"", &["missing field `key`"]),
            ("state_dir = \"s\"\n[limits]\nwrites_per_minute = -1", &["line 3", "u32"]),
            ("state_dir = \"s\"\n[limits]\nwrites = 1", &["`writes`", "`writes_per_minute`"]),
            ("state_dir = \"s\"\n[compat]\nstrict = \"yes\"", &["line 3", "boolean"]),
            ("state_dir = \"s\"\n[billing]\ncurrency = \"gold\"", &["billing.currency", "gold"]),
            ("state_dir = \"s\"\n[policy]\nnonsense = 1", &["line 3", "`nonsense`"]),
            ("state_dir = \"s\"\n[[webhooks]]\nurl = \"here\"", &["webhooks.url: `here`", "https"]),
            (
                "state_dir = \"s\"\n[[webhooks]]\nurl = \"http://192.0.2.1/\"",
                &["webhooks.url", "in the clear", "loopback"],
            ),
            ("state_dir = \"s\"\n[[webhooks]]\nurl = \"https://a:b@h/\"", &["name or password"]),
            (
                "state_dir = \"s\"\n[[webhooks]]\nurl = \"https://h/\"\nsecret_file = \"none\"",
                &["webhooks.secret_file", "cannot read `none`"],
            ),
        ];
        for (text, wanted) in cases {
            let error = parsed(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
            for part in wanted {
                assert!(error.contains(part), "{text:?} says {error:?}, not {part:?}");
            }
        }
    }
}
