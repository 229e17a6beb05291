//! Where the node hears that it will be taken away: the cloud's metadata service, the host's own
//! shutdown, a file, a socket.

pub mod cloud;
mod ear;
pub mod file;
pub mod hearing;
pub mod logind;
pub mod settings;
pub mod socket;
pub mod start;
pub mod watch;

use wharfage_shared::notice::NoticeSource;

/// What can be wrong with a source; each has an alarm of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// It is not heard, or what it says is not understood.
    Deaf,
    /// Its clock and this host's differ.
    Clock,
    /// What it says cannot be so.
    Words,
}

/// Something that is wrong with a source, in one sentence, or that it is no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Which.
    pub source: NoticeSource,
    /// What about it.
    pub matter: Matter,
    /// The sentence; absent when it is well again.
    pub text: Option<String>,
}

impl Alarm {
    /// That a source is deaf, or no longer.
    pub fn deaf(source: NoticeSource, text: Option<String>) -> Self {
        Self { source, matter: Matter::Deaf, text }
    }
}
