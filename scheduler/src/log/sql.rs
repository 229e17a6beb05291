//! The schema and the connections' settings.

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// The schema that this program writes. A file with a higher one is refused.
pub const SCHEMA: i64 = 1;

/// How long a statement waits for a lock that another connection holds for a moment.
const BUSY: Duration = Duration::from_secs(5);

/// What an empty file gets.
pub const CREATE: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS records (
        position  INTEGER PRIMARY KEY,
        term      INTEGER NOT NULL,
        ts_ms     INTEGER NOT NULL,
        payload   TEXT NOT NULL,
        prev_hash BLOB NOT NULL,
        hash      BLOB NOT NULL
    ) STRICT",
    "CREATE TABLE IF NOT EXISTS meta (
        key   TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT",
];

/// Records in their order, each column as it lies on the disk: a damaged text is no UTF-8.
pub const SELECT: &str = "SELECT position, term, ts_ms, CAST(payload AS BLOB), prev_hash, hash
    FROM records WHERE position > ?1 ORDER BY position LIMIT ?2";

/// How many rows one insert writes, largest first: a group is cut into these, so that few
/// statements are prepared and few are run.
pub const INSERT_ROWS: [usize; 3] = [64, 8, 1];

/// The insert of so many rows.
pub fn insert(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?)"; rows].join(",");
    format!("INSERT INTO records (position, term, ts_ms, payload, prev_hash, hash) VALUES {values}")
}

/// The one connection that writes. The write-ahead log is folded back by hand, so that an error
/// of that step is seen too.
pub fn writer(path: &Path, most_pages: Option<u32>) -> SqliteConnectOptions {
    let options = common(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", "0");
    match most_pages {
        Some(pages) => options.pragma("max_page_count", pages.to_string()),
        None => options,
    }
}

/// A connection that only reads.
pub fn reader(path: &Path) -> SqliteConnectOptions {
    common(path).pragma("query_only", "ON")
}

fn common(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).disable_statement_logging()
}
