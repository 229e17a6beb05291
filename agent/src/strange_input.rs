//! Files and lines that others write, spoilt in every way: each reader answers with an error that
//! names the file, never with a panic, and never takes what is damaged for what was written.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wharfage_agent_core::History;
use wharfage_agent_core::health::policy::SHIPPED;
use wharfage_agent_sys::clock;
use wharfage_agent_sys::trusted::Owner;
use wharfage_link::identity::IdentityDir;
use wharfage_shared::causes::with_causes;
use wharfage_shared::order::Desired;
use wharfage_shared::time::Boottime;

use crate::config::{Config, Error};
use crate::engines::wire::{Prove, Wire};
use crate::gpu::words::Word;
use crate::guard::logs;
use crate::guard::record::{Command, Event, Params, Record};
use crate::health::policy;
use crate::health::socket::Request;
use crate::hooks::{checkpoint, definition};
use crate::journal::desired::DesiredFile;
use crate::journal::frames;
use crate::journal::health::HealthFile;
use crate::journal::history::HistoryFile;
use crate::journal::segments::SegmentLog;
use crate::notices::file::{Look, NoticeFile};
use crate::testing::{Folder, order, repeatable};

const AGENT_TOML: &str = include_str!("../../systemd/agent.toml");

const HOOK: &str = "command = [\"/bin/true\", \"x\"]\ntimeout_seconds = 5\nexpected_seconds = 2\n";

const NOTICE: &str = r#"{"kind":"preempt","gone_at":"2026-01-01T00:02:00Z","leaves":"node"}"#;

const MANIFEST: &str = r#"{"files":[{"path":"a/b","bytes":7,"sha256":"00ff"}]}"#;

/// Words of the helper, of guards, of agents and of operators.
const LINES: [&str; 8] = [
    r#"["recounted"]"#,
    r#"[{"xid":{"at":5,"gpu":"GPU-a","xid":79}}]"#,
    r#"[{"gpus":{"boards":[],"absent":[{"index":1,"because":"x"}],"versions":{"driver":"1"}}}]"#,
    r#"{"saw":"load","done":1,"total":18446744073709551615}"#,
    r#"{"do":"serve_until","until":99}"#,
    r#"{"stage":"loading","bytes":1,"total":2}"#,
    r#"{"ask":"inject_xid","xid":79,"gpu":"0"}"#,
    r#"{"guard":{"pid":1,"started":2},"engine":null,"address":"x:1","started_at":0}"#,
];

/// What an agent tells a guard once.
static PARAMS: LazyLock<String> = LazyLock::new(|| {
    let params = Params {
        order: order(1),
        boot: "boot-1".into(),
        asked_at: Boottime(5),
        engines_dir: "/etc/wharfage/engines.d".into(),
        require_root_owned: true,
        model_dir: "/models/small".into(),
        owners_env: [("A".to_owned(), "b".to_owned())].into(),
        user: Some("models".to_owned()),
        mark: "WHARFAGE_REPLICA=r-1".to_owned(),
        engine_port: 20_001,
        health: "/health".to_owned(),
        prove: Prove::default(),
        wire: Wire::default(),
        further_ports: [("metrics".to_owned(), 20_002)].into(),
        spares: Vec::new(),
        listen_ip: [127, 0, 0, 1].into(),
        advertise_host: "host-1".to_owned(),
        identity_dir: "/var/lib/wharfage-agent/identity".into(),
        cgroup: None,
        baselines: Vec::new(),
    };
    serde_json::to_string(&params).expect("plain data")
});

/// What is read of a line says the same when it is written and read again.
fn reads_back<T>(line: &[u8]) -> Result<bool, TestCaseError>
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let Ok(read) = serde_json::from_slice::<T>(line) else { return Ok(false) };
    let again = serde_json::to_vec(&read).expect("plain data");
    prop_assert_eq!(serde_json::from_slice::<T>(&again).expect("our own words"), read);
    Ok(true)
}

/// Which of the readers understand a line.
fn understood(line: &[u8]) -> Result<[bool; 6], TestCaseError> {
    Ok([
        reads_back::<Vec<Word>>(line)?,
        reads_back::<Event>(line)?,
        reads_back::<Command>(line)?,
        reads_back::<Record>(line)?,
        reads_back::<Params>(line)?,
        reads_back::<Request>(line)?,
    ])
}

#[test]
fn each_word_that_is_spoilt_below_is_one_that_somebody_understands() {
    let by = |line: &str| understood(line.as_bytes()).expect("it reads back");
    let by = |line: &str| by(line).iter().position(|is| *is);
    let words: Vec<Option<usize>> = LINES.iter().map(|line| by(line)).collect();
    let (words_of, event, command) = (Some(0), Some(1), Some(2));
    // The engine's own word is read among its output.
    let expected = [words_of, words_of, words_of, event, command, None, Some(5), Some(3)];
    assert_eq!(words, expected);
    assert_eq!(by(&PARAMS), Some(4));
}

/// Whole records of a segment log; only the first one may begin a log.
const SEGMENT_RECORDS: [&str; 4] = [
    r#"{"record":"log","id":"log-9","acknowledged":0,"last":0}"#,
    r#"{"record":"acknowledged","up_to":1}"#,
    r#"{"record":"of a later release"}"#,
    "7",
];

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n\
                   -----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n";

/// Good bytes with a few pieces cut out, put in or repeated; or any bytes at all.
fn spoilt(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0usize..6, prop::collection::vec(any::<u8>(), 0..6));
    let edited = prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = good.to_vec();
        for (at, cut, put) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
        }
        bytes
    });
    prop_oneof![3 => edited, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

/// The same, of text that stays text.
fn spoilt_text(good: &'static str) -> impl Strategy<Value = String> {
    spoilt(good.as_bytes()).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn written(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn settings_are_good_or_refused_by_file_and_place(
        bytes in spoilt(AGENT_TOML.as_bytes()), text in spoilt_text(AGENT_TOML),
    ) {
        let folder = Folder::new("strange-settings");
        for bytes in [bytes, text.into_bytes()] {
            let path = written(&folder, "agent.toml", &bytes);
            let Err(error) = Config::load(&path) else { continue };
            let said = with_causes(&error);
            prop_assert!(said.contains("agent.toml"), "{}", said);
            let is_placed = match &error {
                Error::Read { .. } => said.contains("UTF-8"),
                Error::Parse { message, .. } => message.contains("line "),
                Error::Value { key, .. } => !key.is_empty(),
            };
            prop_assert!(is_placed, "{}", said);
        }
    }

    #[test]
    fn hooks_and_policies_are_good_or_refused_by_file(
        hook in spoilt(HOOK.as_bytes()), rules in spoilt(SHIPPED.as_bytes()),
    ) {
        let folder = Folder::new("strange-hooks");
        written(&folder, "save.toml", &hook);
        let (known, refused) = definition::list(folder.path(), Owner::RootOrSelf);
        prop_assert_eq!(known.len() + refused.len(), 1);
        prop_assert!(refused.iter().all(|why| why.contains("save.toml")), "{:?}", refused);
        let path = written(&folder, "xid.rules", &rules);
        if let Err(why) = policy::load(Some(&path)) {
            prop_assert!(why.contains("xid.rules"), "{}", why);
        }
    }

    #[test]
    fn a_notice_file_is_heard_or_told_with_what_is_accepted(bytes in spoilt(NOTICE.as_bytes())) {
        let folder = Folder::new("strange-notice");
        let path = written(&folder, "notice.json", &bytes);
        match NoticeFile::new(&path).look(clock::boottime(), clock::wall()) {
            Look::Heard { .. } => {}
            Look::Alarm(said) => {
                prop_assert!(said.contains("notice.json") && said.contains("accepted"), "{}", said);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_manifest_proves_nothing_that_is_not_there(bytes in spoilt(MANIFEST.as_bytes())) {
        let folder = Folder::new("strange-manifest");
        written(&folder, "manifest.json", &bytes);
        // Only one that names no file can be complete in an empty folder.
        prop_assert!(checkpoint::verify(folder.path()).unwrap_or(0) == 0);
    }

    #[test]
    fn no_line_of_another_program_is_too_strange_to_read(
        lines in LINES.map(|good| spoilt(good.as_bytes())), params in spoilt(PARAMS.as_bytes()),
    ) {
        for line in lines.iter().chain([&params]) {
            understood(line)?;
        }
    }

    #[test]
    fn whatever_an_engine_prints_is_kept_and_its_words_of_loading_are_heard_among_it(
        before in prop::collection::vec(any::<u8>(), 0..2000),
        after in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let folder = Folder::new("strange-output");
        let word = b"\n{\"stage\":\"loading\",\"bytes\":3,\"total\":4}\n";
        let output = [&before[..], word, &after].concat();
        let (load, seen) = tokio::sync::watch::channel(None);
        let path = folder.path().join("engine.log");
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
        threads.expect("a runtime").block_on(logs::keep(&output[..], &path, load));
        prop_assert_eq!(std::fs::read(&path).expect("kept"), output);
        prop_assert_eq!(*seen.borrow(), Some((3, 4)));
    }

    #[test]
    fn records_of_the_state_folder_are_what_was_stored_or_are_told(
        at: Index, bit in 0u8..8, cut: Index, any_bytes: Vec<u8>,
    ) {
        let folder = Folder::new("strange-records");
        let stored = Desired { cordoned: true, ..Desired::default() };
        let file = DesiredFile::of(folder.path());
        file.store(&stored).expect("stored");
        let path = folder.path().join("desired.json");
        let good = std::fs::read(&path).expect("read");
        let mut flipped = good.clone();
        flipped[at.index(good.len())] ^= 1 << bit;
        for bytes in [flipped, good[..cut.index(good.len())].to_vec(), any_bytes.clone()] {
            std::fs::write(&path, bytes).expect("written");
            let (loaded, why) = file.load();
            prop_assert!(loaded.as_ref().is_none_or(|loaded| *loaded == stored));
            prop_assert_eq!(loaded.is_none(), why.is_some());
            prop_assert!(why.is_none_or(|why| why.contains("desired.json")));
        }
        for name in ["history.json", "health.json"] {
            written(&folder, name, &any_bytes);
        }
        let (history, why) = HistoryFile::open(folder.path());
        prop_assert!(why.is_some() || history.stored() != &History::default());
        prop_assert!(HealthFile::of(folder.path()).load().1.is_some());
    }

    #[test]
    fn a_segment_log_of_anything_is_opened_put_aside_or_begun_anew(
        records in prop::collection::vec(prop::sample::select(&SEGMENT_RECORDS[..]), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let folder = Folder::new("strange-segments");
        let framed = records.iter().flat_map(|record| frames::encode(record.as_bytes()));
        let bytes: Vec<u8> = framed.chain(tail).collect();
        written(&folder, "segments.log", &bytes);
        let said = SegmentLog::inspect(folder.path()).expect("it can be read");
        let opened = SegmentLog::open(folder.path(), &"boot-1".into(), "log-1".into());
        let opened = opened.expect("an agent that cannot start helps nobody");
        let aside = folder.path().join("segments.damaged-1");
        prop_assert_eq!(aside.exists(), said.is_some(), "what doctor says is what the agent does");
        let goes_on = opened.log.id().as_str() == "log-9";
        prop_assert!(!goes_on || records.first() == Some(&SEGMENT_RECORDS[0]));
        if aside.exists() {
            prop_assert!(!goes_on);
            prop_assert_eq!(std::fs::read(aside).expect("kept"), bytes);
            prop_assert_eq!(opened.troubles.len(), 1);
        }
    }

    #[test]
    fn an_identity_of_anything_is_refused_by_file(
        key in spoilt(PEM.as_bytes()), certificate in spoilt(PEM.as_bytes()),
        authority in spoilt(PEM.as_bytes()),
    ) {
        let folder = Folder::new("strange-identity");
        for (name, bytes) in [("key.pem", key), ("cert.pem", certificate), ("ca.pem", authority)] {
            written(&folder, name, &bytes);
        }
        let identity = IdentityDir::new(folder.path());
        let said = identity.load().map(|_| ()).map_err(|error| error.to_string());
        let said = said.expect_err("these bytes are nobody's");
        prop_assert!(said.contains(".pem") && said.contains("is unusable"), "{}", said);
    }
}
