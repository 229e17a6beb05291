//! `[status]`: where the status page listens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::bad_key::BadKey;

/// The status page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Where `/status` and `/metrics` listen.
    #[serde(default = "default_status_listen")]
    pub listen: SocketAddr,
    /// A file with the token that readers must show; needed off loopback.
    pub token_file: Option<PathBuf>,
}

impl Status {
    pub(super) fn check(&self) -> Result<(), BadKey> {
        if self.listen.ip().is_loopback() || self.token_file.is_some() {
            return Ok(());
        }
        let listen = self.listen;
        let said = "is not loopback: set status.token_file, or listen on 127.0.0.1";
        Err(BadKey::new("status.listen", format!("{listen} {said}")))
    }
}

impl Default for Status {
    fn default() -> Self {
        Self { listen: default_status_listen(), token_file: None }
    }
}

fn default_status_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7090))
}
