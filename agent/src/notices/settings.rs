//! `[notices]` of agent.toml.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wharfage_shared::time::Millis;

use super::cloud::Cloud;
use crate::bad_key::BadKey;

/// Where notices come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// The notice file (`docs/notices.md`).
    pub file: Option<NoticeFile>,
    /// The notice socket.
    pub socket: Option<NoticeSocket>,
    /// Whether a shutdown of this host is heard from logind (default: where systemd runs).
    pub logind: Option<bool>,
    /// Whose metadata service is asked.
    pub cloud: CloudChoice,
    /// Where it is asked instead of at the cloud's own address: `http://127.0.0.1:8080`.
    pub metadata_url: Option<String>,
    /// How often is asked what is urgent.
    pub poll_milliseconds: u32,
    /// How long a service that tells of changes may hold a question.
    pub hold_seconds: u32,
    /// The window of a notice that does not state one.
    pub unstated_seconds: u32,
    /// The window of a host's maintenance on Google Cloud, which its metadata does not state.
    pub maintenance_seconds: u32,
    /// Planned maintenance is a hint until it is this near.
    pub certain_within_seconds: u32,
    /// Where the kernel says whose machine this is.
    pub dmi: PathBuf,
}

/// The notice file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeFile {
    /// Where it appears; its folder exists.
    pub path: PathBuf,
}

/// The notice socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeSocket {
    /// Where it is made; its folder exists.
    pub path: PathBuf,
    /// A user who may announce besides root and the agent's own.
    pub user: Option<String>,
}

/// Whose metadata service is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CloudChoice {
    /// That of the cloud which the machine says it is of.
    #[default]
    Auto,
    /// Nobody's.
    None,
    /// This cloud's.
    Of(Cloud),
}

impl TryFrom<String> for CloudChoice {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let known = Cloud::ALL.into_iter().find(|cloud| cloud.name() == name);
        let clouds = || Cloud::ALL.map(Cloud::name).join(", ");
        known
            .map(Self::Of)
            .ok_or_else(|| format!("`{name}` is no cloud; accepted: auto, none, {}", clouds()))
    }
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            file: None,
            socket: None,
            logind: None,
            cloud: CloudChoice::default(),
            metadata_url: None,
            poll_milliseconds: 1000,
            hold_seconds: 5,
            unstated_seconds: 30,
            maintenance_seconds: 3600,
            certain_within_seconds: 900,
            dmi: PathBuf::from("/sys/class/dmi/id"),
        }
    }
}

impl Notices {
    /// What is wrong with it: which key, and what is accepted.
    pub fn check(&self) -> Result<(), BadKey> {
        if self.metadata_url.is_some() && self.metadata_address().is_none() {
            let said = "accepted is http://ADDRESS:PORT with the number of the address: names are \
                        not looked up, and there is no path";
            return Err(BadKey::new("notices.metadata_url", said));
        }
        let within = |key: &str, value: u32, least: u32, most: u32| {
            let fits = (least..=most).contains(&value);
            let said = || format!("{value} is out of what is accepted: {least} to {most}");
            if fits { Ok(()) } else { Err(BadKey::new(key, said())) }
        };
        // Slower, and silence would be taken for blindness; faster, and services refuse.
        within("notices.poll_milliseconds", self.poll_milliseconds, 100, 5000)?;
        within("notices.hold_seconds", self.hold_seconds, 1, 8)?;
        within("notices.unstated_seconds", self.unstated_seconds, 1, 3600)?;
        within("notices.maintenance_seconds", self.maintenance_seconds, 1, 86_400)?;
        within("notices.certain_within_seconds", self.certain_within_seconds, 0, 86_400)
    }

    /// The address of `metadata_url`.
    pub fn metadata_address(&self) -> Option<SocketAddr> {
        let rest = self.metadata_url.as_deref()?.strip_prefix("http://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        rest.parse().ok().or_else(|| {
            let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let ip: IpAddr = bare.unwrap_or(rest).parse().ok()?;
            Some(SocketAddr::from((ip, 80)))
        })
    }

    /// How often is asked what is urgent.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(u64::from(self.poll_milliseconds))
    }

    /// The window of a notice that does not state one.
    pub fn unstated(&self) -> Millis {
        Millis::from_seconds(u64::from(self.unstated_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notices, String> {
        let notices: Notices = toml::from_str(text).map_err(|error| error.to_string())?;
        notices.check().map_err(|bad| bad.to_string())?;
        Ok(notices)
    }

    #[test]
    fn a_metadata_service_is_named_by_its_address_and_never_looked_up() {
        let address = |url: &str| {
            let notices = read(&format!("metadata_url = \"{url}\"")).ok()?;
            notices.metadata_address().map(|address| address.to_string())
        };
        assert_eq!(address("http://127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(address("http://169.254.169.254/").as_deref(), Some("169.254.169.254:80"));
        assert_eq!(address("http://[fd00:ec2::254]").as_deref(), Some("[fd00:ec2::254]:80"));
        for bad in
            ["https://127.0.0.1:1", "http://metadata.google.internal", "http://1.2.3.4/x", ""]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("cloud = \"ibm\"", "`ibm` is no cloud; accepted: auto, none, aws, gcp, azure, nebius"),
            (
                "poll_milliseconds = 1",
                "notices.poll_milliseconds: 1 is out of what is accepted: 100",
            ),
            ("hold_seconds = 60", "notices.hold_seconds: 60 is out of what is accepted: 1 to 8"),
            ("metadata_url = \"x\"", "notices.metadata_url: accepted is http://ADDRESS:PORT"),
            ("colour = 1", "unknown field `colour`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let chosen = |text: &str| read(text).map(|notices| notices.cloud);
        assert_eq!(chosen(""), Ok(CloudChoice::Auto));
        assert_eq!(chosen("cloud = \"none\""), Ok(CloudChoice::None));
        for cloud in Cloud::ALL {
            assert_eq!(chosen(&format!("cloud = \"{cloud}\"")), Ok(CloudChoice::Of(cloud)));
        }
    }
}
