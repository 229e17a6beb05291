//! The one writer: a group of records in one transaction and one sync.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use wharfage_billing::chain::{Hash, link};

use super::error::is_full;
use super::lock::Lock;
use super::tip::TipFile;
use super::{AppendError, Draft, Tip, sql};

/// Bytes of payload after which the write-ahead log is folded back into the file.
const FOLD_AFTER_BYTES: usize = 4 << 20;

/// The only connection that changes the log.
pub struct Writer {
    connection: SqliteConnection,
    tip: Tip,
    inserts: Vec<(usize, String)>,
    unfolded: usize,
    tip_file: TipFile,
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        tip: Tip,
        tip_file: TipFile,
        lock: Lock,
    ) -> Self {
        let inserts = sql::INSERT_ROWS.map(|rows| (rows, sql::insert(rows))).into();
        Self { connection, tip, inserts, unfolded: 0, tip_file, _lock: lock }
    }

    /// The end of the log.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// Appends the drafts in their order, all or none; returns the new end once it is durable.
    pub async fn append(&mut self, drafts: &[Draft]) -> Result<Tip, AppendError> {
        let (links, tip) = chain(self.tip, drafts);
        match self.insert(drafts, &links).await {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                // SQLite has rolled back by itself for some causes and not for others.
                let _ = self.connection.execute("ROLLBACK").await;
                return Err(AppendError::Full);
            }
            Err(error) => return Err(AppendError::Fatal(error)),
        }
        self.tip = tip;
        self.tip_file.note(tip.position);
        self.unfolded += drafts.iter().map(|draft| draft.payload.len()).sum::<usize>();
        if self.unfolded >= FOLD_AFTER_BYTES {
            self.fold().await?;
        }
        Ok(tip)
    }

    async fn insert(&mut self, drafts: &[Draft], links: &[Link]) -> Result<(), sqlx::Error> {
        // A single statement is its own transaction.
        let is_one_statement = sql::INSERT_ROWS.contains(&drafts.len());
        if !is_one_statement {
            self.connection.execute("BEGIN IMMEDIATE").await?;
        }
        let mut done = 0;
        for (rows, statement) in &self.inserts {
            while drafts.len() - done >= *rows {
                let mut query = sqlx::query(AssertSqlSafe(statement.as_str()));
                for (draft, link) in drafts.iter().zip(links).skip(done).take(*rows) {
                    query = query
                        .bind(link.position as i64)
                        .bind(draft.term.0 as i64)
                        .bind(draft.at.0)
                        .bind(draft.payload.as_str())
                        .bind(link.prev.as_bytes().as_slice())
                        .bind(link.hash.as_bytes().as_slice());
                }
                query.execute(&mut self.connection).await?;
                done += rows;
            }
        }
        if !is_one_statement {
            self.connection.execute("COMMIT").await?;
        }
        Ok(())
    }

    /// Folds the write-ahead log back. A full disk only delays it; another error means that a
    /// sync may have failed.
    async fn fold(&mut self) -> Result<(), AppendError> {
        self.unfolded = 0;
        match self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").await {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(AppendError::Fatal(error)),
        }
    }

    /// Folds everything back and closes the file.
    pub async fn close(mut self) -> Result<(), AppendError> {
        let folded = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
        match folded {
            Ok(_) => {}
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(AppendError::Fatal(error)),
        }
        self.connection.close().await.map_err(AppendError::Fatal)
    }
}

struct Link {
    position: u64,
    prev: Hash,
    hash: Hash,
}

fn chain(mut tip: Tip, drafts: &[Draft]) -> (Vec<Link>, Tip) {
    let mut links = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let position = tip.position + 1;
        let prev = tip.hash;
        let hash = link(&prev, position, draft.term.0, draft.at.0, draft.payload.as_bytes());
        links.push(Link { position, prev, hash });
        tip = Tip { position, hash, term: draft.term, at: draft.at };
    }
    (links, tip)
}
