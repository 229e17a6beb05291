//! Where the node hears that it will be taken away: a file, and the host's own shutdown.

mod ear;
pub mod file;
pub mod logind;
pub mod watch;

use wharfage_shared::notice::NoticeSource;

/// A source that cannot be understood or heard, with one sentence, or that can again.
pub type Alarm = (NoticeSource, Option<String>);
