//! The log keeps its word: what was appended is there, in order, whole, or the process stops.

use std::path::{Path, PathBuf};

use wharfage_billing::chain::Hash;
use wharfage_scheduler::log::{AppendError, Draft, Error, Opening, Options, Snapshot, Snapshots};
use wharfage_scheduler::log::{Reader, Stored, Writer};
use wharfage_shared::time::Timestamp;
use wharfage_shared::version::Term;

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("wharfage-log-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        Self(dir)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log.sqlite")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn draft(number: u64) -> Draft {
    let payload = format!("{{\"number\":{number}}}");
    Draft { term: Term(7), at: Timestamp(1000 + number as i64), payload }
}

async fn open(path: &Path) -> Result<(Writer, Reader, Vec<Stored>), Error> {
    let mut seen = Vec::new();
    let opening = Opening::begin(path, Options::default()).await?;
    let replay = |stored: &Stored| {
        seen.push(stored.clone());
        Ok(())
    };
    let (writer, reader) = opening.check(replay).await?;
    Ok((writer, reader, seen))
}

/// Appends groups of these sizes and closes the file, or drops it as a kill would.
async fn write(path: &Path, groups: &[u64], closes: bool) {
    let (mut writer, _, seen) = open(path).await.expect("opens");
    let mut next = seen.len() as u64 + 1;
    for size in groups {
        let drafts: Vec<Draft> = (next..next + size).map(draft).collect();
        next += size;
        let tip = writer.append(&drafts).await.expect("appends");
        assert_eq!(tip.position, next - 1);
    }
    if closes {
        writer.close().await.expect("closes");
    }
}

#[tokio::test]
async fn groups_of_any_size_stand_in_order_and_are_read_back() {
    let folder = Folder::new("groups");
    write(&folder.log(), &[1, 2, 64, 65, 8, 137, 1], true).await;
    let (_writer, reader, seen) = open(&folder.log()).await.expect("opens again");
    let payloads: Vec<_> = seen.iter().map(|stored| stored.payload.clone()).collect();
    let wanted: Vec<_> = (1..=278).map(|number| draft(number).payload).collect();
    assert_eq!(payloads, wanted);
    let tail = reader.after(276, 10).await.expect("reads");
    assert_eq!(tail, seen[276..]);
}

#[tokio::test]
async fn a_file_that_was_never_closed_has_every_appended_record() {
    let folder = Folder::new("unclosed");
    write(&folder.log(), &[3, 4], false).await;
    let (_writer, _, seen) = open(&folder.log()).await.expect("opens again");
    assert_eq!(seen.len(), 7);
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_log() {
    let folder = Folder::new("lock");
    let _first = open(&folder.log()).await.expect("the first opens");
    match open(&folder.log()).await {
        Err(Error::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("expected a refusal, got {:?}", other.map(|_| "an open log")),
    }
}

/// Flips one bit of the first place where `needle` stands in `file`.
fn flip(file: &Path, needle: &str) -> bool {
    let Ok(mut bytes) = std::fs::read(file) else { return false };
    let place = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
    let Some(place) = place else { return false };
    bytes[place + needle.len() - 2] ^= 1;
    std::fs::write(file, bytes).expect("writes the damage");
    true
}

#[tokio::test]
async fn a_flipped_bit_is_refused_and_the_record_is_named() {
    let folder = Folder::new("flip");
    write(&folder.log(), &[20, 20], true).await;
    assert!(flip(&folder.log(), "{\"number\":17}"), "record 17 lies in the file");
    let refused = open(&folder.log()).await.map(|_| ()).expect_err("damage is refused");
    assert!(matches!(refused, Error::Damaged { record: 17, .. }), "{refused}");
    assert!(refused.to_string().contains("record 17"), "{refused}");
}

#[tokio::test]
async fn damage_of_the_write_ahead_log_loses_nothing_silently() {
    let folder = Folder::new("wal");
    write(&folder.log(), &[1], true).await;
    let (mut writer, reader, _) = open(&folder.log()).await.expect("opens");
    for number in 2..=5 {
        writer.append(&[draft(number)]).await.expect("appends");
    }
    // As after a kill: the files as they lie there now.
    let copy = Folder::new("wal-copy");
    for name in ["log.sqlite", "log.sqlite-wal", "log.sqlite.tip"] {
        std::fs::copy(folder.0.join(name), copy.0.join(name)).expect("copies");
    }
    drop((writer, reader));
    let wal = copy.0.join("log.sqlite-wal");
    let mut found = false;
    // The page is written again with each record: the last copy of it is what counts.
    while flip(&wal, "{\"number\":4}") {
        found = true;
    }
    assert!(found, "record 4 lies in the write-ahead log");
    let refused = open(&copy.log()).await.map(|_| ()).expect_err("damage is refused");
    assert!(matches!(refused, Error::Short { record: 4, acknowledged: 5, .. }), "{refused}");
}

#[tokio::test]
async fn a_record_that_is_gone_or_changed_by_hand_is_named() {
    for (statement, record) in [
        ("DELETE FROM records WHERE position = 4", 4),
        ("UPDATE records SET payload = '{}' WHERE position = 5", 5),
        ("UPDATE records SET ts_ms = ts_ms + 1 WHERE position = 2", 2),
        ("UPDATE records SET prev_hash = hash WHERE position = 3", 3),
        ("DELETE FROM records WHERE position = 6", 6),
    ] {
        let folder = Folder::new(&format!("by-hand-{record}"));
        write(&folder.log(), &[6], true).await;
        change(&folder.log(), statement).await;
        let refused = open(&folder.log()).await.map(|_| ()).expect_err(statement).to_string();
        assert!(refused.contains(&format!("record {record}")), "{statement}: {refused}");
    }
}

async fn change(log: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions, Connection, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(log);
    let mut connection = options.connect().await.expect("connects");
    connection.execute(statement).await.expect("changes");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_newer_schema_and_a_file_that_is_no_log_are_refused() {
    let folder = Folder::new("schema");
    write(&folder.log(), &[1], true).await;
    change(&folder.log(), "UPDATE meta SET value = 99 WHERE key = 'schema'").await;
    let refused = open(&folder.log()).await.map(|_| ()).expect_err("newer");
    assert!(matches!(refused, Error::Newer { found: 99, .. }), "{refused}");
    let folder = Folder::new("no-log");
    std::fs::write(folder.log(), "this is a letter to a friend, not a log\n".repeat(200))
        .expect("writes");
    let refused = open(&folder.log()).await.map(|_| ()).expect_err("no log");
    assert!(refused.is_bad_data(), "{refused}");
}

#[tokio::test]
async fn a_full_disk_writes_nothing_and_the_log_goes_on_when_there_is_room() {
    let folder = Folder::new("full");
    let options = Options { most_pages: Some(24) };
    let opening = Opening::begin(&folder.log(), options).await.expect("opens");
    let (mut writer, _) = opening.check(|_| Ok(())).await.expect("empty");
    let large = |number| Draft { payload: format!("\"{}\"", "x".repeat(9000)), ..draft(number) };
    let mut written = 0;
    let full = loop {
        match writer.append(&[large(written + 1), large(written + 2)]).await {
            Ok(tip) => written = tip.position,
            Err(full) => break full,
        }
        assert!(written < 100, "24 pages must be full by now");
    };
    assert!(matches!(full, AppendError::Full), "{full}");
    assert!(matches!(writer.append(&[large(1)]).await, Err(AppendError::Full)));
    assert_eq!(writer.tip().position, written);
    writer.close().await.expect("closes");
    write(&folder.log(), &[2], true).await;
    let (_, _, seen) = open(&folder.log()).await.expect("whole");
    assert_eq!(seen.len() as u64, written + 2);
}

#[test]
fn a_snapshot_counts_only_if_it_is_whole() {
    let folder = Folder::new("snapshots");
    let snapshots = Snapshots::new(folder.0.join("snapshots"));
    assert_eq!(snapshots.positions(), Vec::<u64>::new());
    for position in [10, 20, 30] {
        let body = format!("{{\"fleet\":{position}}}");
        let snapshot = Snapshot { position, record: Hash::of(b"record"), body };
        snapshots.write(&snapshot).expect("writes");
        assert_eq!(snapshots.read(position), Some(snapshot));
    }
    assert_eq!(snapshots.positions(), [30, 20], "only the newest two are kept");
    assert!(flip(&folder.0.join("snapshots/30.snapshot"), "\"fleet\":30}"));
    assert_eq!(snapshots.read(30), None);
}
