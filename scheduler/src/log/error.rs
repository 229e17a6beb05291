//! What can be wrong with the log, told apart by what the process must do about it.

use std::path::PathBuf;

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file beside the log or the log itself.
    #[error("cannot {doing} `{path}`")]
    File {
        /// `create`, `read`, `write`, `lock`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("another scheduler (pid {holder}) uses `{path}`: end it first")]
    InUse {
        /// The log.
        path: PathBuf,
        /// Its process id, as it wrote it; `unknown` in the instant before it has.
        holder: String,
    },
    /// The log lies where locks and syncs cannot be relied on.
    #[error("`{path}` is on a network file system ({kind}): put the log on a local disk")]
    Remote {
        /// The log.
        path: PathBuf,
        /// Which.
        kind: &'static str,
    },
    /// A record is not what was written.
    #[error(
        "the log `{path}` is damaged at record {record}: {problem}; restore the file from a backup"
    )]
    Damaged {
        /// The log.
        path: PathBuf,
        /// The first record that cannot be trusted.
        record: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The file's own structure is broken outside the records.
    #[error("the log `{path}` is damaged: {problem}; restore the file from a backup")]
    Broken {
        /// The log.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// Acknowledged records are not there.
    #[error(
        "the log `{path}` ends before record {record}, but records up to {acknowledged} were \
         acknowledged: restore the whole file with its -wal; if this is an older backup that \
         should be used all the same, delete `{tip}` first"
    )]
    Short {
        /// The log.
        path: PathBuf,
        /// The first record that is missing.
        record: u64,
        /// The last that was acknowledged.
        acknowledged: u64,
        /// The file that says so.
        tip: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "the log `{path}` has schema {found}; this program knows schemas up to {known}: use the \
         release that wrote it, or a newer one"
    )]
    Newer {
        /// The log.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// SQLite failed at something else.
    #[error("cannot {doing} in the log")]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
}

impl Error {
    /// Whether the data itself cannot be used (exit code 65).
    pub fn is_bad_data(&self) -> bool {
        match self {
            Error::Damaged { .. }
            | Error::Broken { .. }
            | Error::Short { .. }
            | Error::Newer { .. } => true,
            Error::File { .. } | Error::InUse { .. } | Error::Remote { .. } | Error::Sql { .. } => {
                false
            }
        }
    }

    pub(super) fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room; nothing was written and the file is as it was.
    #[error("the disk that holds the log is full")]
    Full,
    /// What is on the disk is unknown now: the only safe answer is to end the process, because a
    /// sync that failed once may report success the next time without having written anything.
    #[error("the log could not be written")]
    Fatal(#[source] sqlx::Error),
}

/// SQLite's primary result codes that are told apart here.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;

/// The shared index of the write-ahead log could not grow: no room, and no sync was involved.
const SQLITE_IOERR_SHMSIZE: i32 = 10 | 19 << 8;

/// SQLite's extended result code, if the error is one of SQLite's.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Whether it says that there is no room.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE)
}

/// Whether it says that the file is damaged.
pub(super) fn is_corrupt(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, SQLITE_CORRUPT | SQLITE_NOTADB))
}
