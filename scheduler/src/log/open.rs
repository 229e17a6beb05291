//! Opening the log: nobody else has it, its schema is known, and every record is what was written.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Executor};
use wharfage_billing::chain::Hash;

use super::error::is_corrupt;
use super::lock::Lock;
use super::read::{Reader, select};
use super::tip::TipFile;
use super::write::Writer;
use super::{Error, Stored, Tip, sql};

/// Records that are checked at a time.
const CHECKED_AT_ONCE: u64 = 1000;

/// How the log is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The most pages of 4 KiB that the file may have; beyond them it counts as a full disk.
    pub most_pages: Option<u32>,
}

/// A log that is locked and of a known schema; its records have not been checked yet.
pub struct Opening {
    connection: SqliteConnection,
    path: PathBuf,
    tip_file: TipFile,
    acknowledged: u64,
    lock: Lock,
}

impl Opening {
    /// Locks the file (made if there is none) and looks at its schema.
    pub async fn begin(path: &Path, options: Options) -> Result<Self, Error> {
        let lock = Lock::take(path)?;
        let (tip_file, acknowledged) = TipFile::open(path)?;
        let connected = sql::writer(path, options.most_pages).connect().await;
        let mut connection = connected.map_err(broken(path, "open"))?;
        let found = schema(&mut connection).await.map_err(broken(path, "read the schema"))?;
        if found > sql::SCHEMA {
            let path = path.to_owned();
            return Err(Error::Newer { path, found, known: sql::SCHEMA });
        }
        if found == 0 {
            create(&mut connection).await.map_err(broken(path, "make the schema"))?;
        }
        Ok(Self { connection, path: path.to_owned(), tip_file, acknowledged, lock })
    }

    /// The hash that the record at `position` carries: whether a snapshot belongs to this log.
    pub async fn hash_at(&mut self, position: u64) -> Result<Option<Hash>, Error> {
        let query = sqlx::query_scalar("SELECT hash FROM records WHERE position = ?1");
        let hash: Option<Vec<u8>> = query
            .bind(position as i64)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(broken(&self.path, "read a record"))?;
        Ok(hash.and_then(|bytes| bytes.try_into().ok()).map(Hash::from_bytes))
    }

    /// Checks every record, hands each to `replay` in order, and gives out both ends of the log.
    ///
    /// What `replay` refuses is damage of that record: its hash is right, its content is not.
    pub async fn check(
        mut self,
        mut replay: impl FnMut(&Stored) -> Result<(), String>,
    ) -> Result<(Writer, Reader), Error> {
        let mut tip = Tip::EMPTY;
        loop {
            let rows =
                select(&mut self.connection, &self.path, tip.position, CHECKED_AT_ONCE).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let damaged = |problem| Error::Damaged {
                    path: self.path.clone(),
                    record: tip.position + 1,
                    problem,
                };
                let stored = row.follow(&tip).map_err(damaged)?;
                replay(&stored).map_err(damaged)?;
                let Stored { position, hash, term, at, .. } = stored;
                tip = Tip { position, hash, term, at };
            }
        }
        if tip.position < self.acknowledged {
            return Err(Error::Short {
                path: self.path,
                record: tip.position + 1,
                acknowledged: self.acknowledged,
                tip: self.tip_file.path().to_owned(),
            });
        }
        self.check_structure().await?;
        let reader = Reader::new(&self.path);
        Ok((Writer::new(self.connection, tip, self.tip_file, self.lock), reader))
    }

    /// Pages that no record lies on can be damaged too.
    async fn check_structure(&mut self) -> Result<(), Error> {
        let query = sqlx::query_scalar("PRAGMA integrity_check(1)");
        let said: String = query
            .fetch_one(&mut self.connection)
            .await
            .map_err(broken(&self.path, "check the file"))?;
        if said == "ok" {
            return Ok(());
        }
        Err(Error::Broken { path: self.path.clone(), problem: said })
    }
}

async fn schema(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'";
    let made: i64 = sqlx::query_scalar(tables).fetch_one(&mut *connection).await?;
    if made == 0 {
        return Ok(0);
    }
    let version = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'schema'");
    Ok(version.fetch_optional(connection).await?.unwrap_or(0))
}

async fn create(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    connection.execute("BEGIN IMMEDIATE").await?;
    for statement in sql::CREATE {
        connection.execute(statement).await?;
    }
    let version = sqlx::query("INSERT INTO meta (key, value) VALUES ('schema', ?1)");
    version.bind(sql::SCHEMA).execute(&mut *connection).await?;
    connection.execute("COMMIT").await?;
    Ok(())
}

fn broken(path: &Path, doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    let path = path.to_owned();
    move |source| {
        if is_corrupt(&source) {
            return Error::Broken { path, problem: source.to_string() };
        }
        Error::Sql { doing, source }
    }
}
