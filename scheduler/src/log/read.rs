//! Reading records beside the writer.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Row, SqliteConnection};
use wharfage_billing::chain::{Hash, link};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

use super::error::is_corrupt;
use super::{Error, Stored, Tip, sql};

/// Readers at a time: a page of the dashboard, an event stream, an audit, one in reserve.
const CONNECTIONS: u32 = 4;

/// The most records in one read: bounds the memory of one request.
pub const MOST_RECORDS: u64 = 1000;

/// Reads records while the writer goes on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        let options = SqlitePoolOptions::new().max_connections(CONNECTIONS);
        Self { pool: options.connect_lazy_with(sql::reader(path)), path: path.to_owned() }
    }

    /// The records after `position`, at most `limit` (and [`MOST_RECORDS`]), in their order.
    pub async fn after(&self, position: u64, limit: u64) -> Result<Vec<Stored>, Error> {
        let mut connection = self.pool.acquire().await.map_err(Error::sql("read"))?;
        let limit = limit.min(MOST_RECORDS);
        let rows = select(&mut connection, &self.path, position, limit).await?;
        rows.into_iter().map(|row| row.stored(&self.path)).collect()
    }

    /// Ends its connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A row as it lies on the disk, not trusted yet.
pub(super) struct RawRow {
    position: i64,
    term: i64,
    ts_ms: i64,
    payload: Vec<u8>,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl RawRow {
    /// The record, if it is the one that follows `tip`; else what is wrong with it.
    pub(super) fn follow(self, tip: &Tip) -> Result<Stored, String> {
        let wanted = tip.position + 1;
        if u64::try_from(self.position) != Ok(wanted) {
            return Err(format!("record {} stands in its place", self.position));
        }
        if self.prev_hash != tip.hash.as_bytes() {
            return Err("it does not follow the record before it".to_owned());
        }
        let (term, at) = (Term(self.term as u64), Timestamp(self.ts_ms));
        let hash = link(&tip.hash, wanted, term.0, at.0, &self.payload);
        if self.hash != hash.as_bytes() {
            return Err("its content is not what its hash was made of".to_owned());
        }
        let payload = String::from_utf8(self.payload).map_err(|_| "it is no text".to_owned())?;
        Ok(Stored { position: wanted, term, at, payload, hash })
    }

    /// The record without a look at the chain, which was checked at the start.
    fn stored(self, path: &Path) -> Result<Stored, Error> {
        let position = self.position as u64;
        let damaged = |problem: &str| {
            let problem = problem.to_owned();
            Error::Damaged { path: path.to_owned(), record: position, problem }
        };
        let payload = String::from_utf8(self.payload).map_err(|_| damaged("it is no text"))?;
        let hash: [u8; 32] =
            self.hash.try_into().map_err(|_| damaged("its hash has another length"))?;
        let (term, at) = (Term(self.term as u64), Timestamp(self.ts_ms));
        Ok(Stored { position, term, at, payload, hash: Hash::from_bytes(hash) })
    }
}

/// Rows after `position`. What SQLite cannot read is damage at the next record.
pub(super) async fn select(
    connection: &mut SqliteConnection,
    path: &Path,
    position: u64,
    limit: u64,
) -> Result<Vec<RawRow>, Error> {
    let (after, limit) = (position as i64, limit as i64);
    let rows = sqlx::query(sql::SELECT).bind(after).bind(limit).fetch_all(connection).await;
    let damaged = |source: sqlx::Error| {
        let (path, problem) = (path.to_owned(), source.to_string());
        Error::Damaged { path, record: position + 1, problem }
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(source) if is_corrupt(&source) => return Err(damaged(source)),
        Err(source) => return Err(Error::Sql { doing: "read", source }),
    };
    rows.iter().map(|row| raw(row).map_err(damaged)).collect()
}

fn raw(row: &SqliteRow) -> Result<RawRow, sqlx::Error> {
    Ok(RawRow {
        position: row.try_get(0)?,
        term: row.try_get(1)?,
        ts_ms: row.try_get(2)?,
        payload: row.try_get(3)?,
        prev_hash: row.try_get(4)?,
        hash: row.try_get(5)?,
    })
}
