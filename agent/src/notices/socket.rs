//! The notice socket: programs of this host that know of its end say so in a line of JSON each, and
//! are answered.
//!
//! Guards who may say so: root, the agent's own user, and the one that the settings name, by the
//! kernel's word about who connected.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::time::{Boottime, ClockOffset, Millis, Timestamp};

use super::Alarm;
use super::settings::NoticeSocket;
use crate::guard::record::SocketPath;
use crate::users::User;

/// A notice is a line; nobody may fill the agent's memory.
const LONGEST_LINE: u64 = 4096;

/// So many may be connected: each holds a descriptor.
const MOST_CONNECTED: usize = 8;

/// So many notices at once: a program that makes up ids must not fill reports.
const MOST_NOTICES: usize = 64;

/// An id is a word.
const LONGEST_ID: usize = 64;

/// Between two tries to make the socket, and after descriptors ran out.
const RETRY: Duration = Duration::from_secs(10);

/// Who announces further ahead than this has most likely a clock that is off.
const USUALLY_WITHIN: Millis = Millis::from_seconds(86_400);

/// A notice as it is said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    id: Option<String>,
    kind: NoticeKind,
    gone_at: Option<String>,
    in_seconds: Option<u32>,
    #[serde(default)]
    leaves: Leaves,
    certainty: Option<Certainty>,
}

/// That it is taken back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TakenBack {
    withdraw: String,
}

/// What is answered, one line each.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// It is in force, under this id.
    Heard(NoticeId),
    /// It is in force, and something about it is odd: one sentence.
    Odd(String),
    /// It is in force no longer.
    Withdrawn(NoticeId),
    /// Nothing changed, and why.
    Refused(String),
}

/// What this source is connected to.
#[derive(Clone)]
pub struct Ears {
    /// Where notices go.
    pub inputs: mpsc::Sender<Input>,
    /// Where it is said that this source is deaf, or no longer.
    pub alarms: mpsc::Sender<Alarm>,
}

/// Listens until `stop`.
pub async fn watch(socket: NoticeSocket, ears: Ears, stop: CancellationToken) {
    let desk = Arc::new(Desk::new(ears));
    loop {
        let why = match bind(&socket) {
            Ok((listener, user)) => {
                desk.alarm(None).await;
                tokio::select! {
                    () = stop.cancelled() => return,
                    error = desk.serve(&listener, user, &stop) => error.to_string(),
                }
            }
            Err(why) => why,
        };
        let path = socket.path.display();
        desk.alarm(Some(format!("nobody can announce at the socket `{path}`: {why}"))).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Makes the socket anew, with the number of the user that the settings name.
fn bind(socket: &NoticeSocket) -> Result<(UnixListener, Option<u32>), String> {
    let user = socket.user.as_deref().map(User::named).transpose()?.map(|user| user.id);
    make(&socket.path, user).map(|made| (made, user)).map_err(|error| error.to_string())
}

fn make(path: &Path, user: Option<u32>) -> io::Result<UnixListener> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A path may be longer than the kernel takes for a socket.
    let short = SocketPath::inside(folder.unwrap_or(Path::new(".")), &name)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("something else than a socket is there"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(short.path()).is_ok() => {
            return Err(io::Error::other("somebody else listens there"));
        }
        // An earlier agent's.
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(short.path())?;
    // Whoever connects is looked at besides.
    let mode = if user.is_some() { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn may(caller: u32, own: u32, named: Option<u32>) -> bool {
    caller == 0 || caller == own || Some(caller) == named
}

/// Where lines are taken in.
struct Desk {
    ears: Ears,
    /// What was announced here and is not taken back.
    known: Mutex<BTreeSet<NoticeId>>,
    places: Arc<Semaphore>,
}

impl Desk {
    fn new(ears: Ears) -> Self {
        let places = Arc::new(Semaphore::new(MOST_CONNECTED));
        Self { ears, known: Mutex::default(), places }
    }

    async fn alarm(&self, text: Option<String>) {
        // An agent that ends listens to no alarm.
        drop(self.ears.alarms.send(Alarm::deaf(NoticeSource::Socket, text)).await);
    }

    /// Until nobody can connect any more; whoever is connected is served to their end.
    async fn serve(
        self: &Arc<Self>,
        listener: &UnixListener,
        user: Option<u32>,
        stop: &CancellationToken,
    ) -> io::Error {
        loop {
            let mut stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return error,
            };
            let refused = match stream.peer_cred() {
                Ok(peer) if may(peer.uid(), process::effective_user(), user) => None,
                Ok(peer) => {
                    let named = "root, the agent's own user and the `user` of [notices.socket]";
                    Some(format!("user {} may not announce here; {named} may", peer.uid()))
                }
                Err(error) => Some(format!("it cannot be seen who you are: {error}")),
            };
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            let full =
                || place.is_none().then(|| format!("{MOST_CONNECTED} are connected already"));
            if let Some(why) = refused.or_else(full) {
                // Whoever does not read it is gone.
                drop(stream.try_write(&line(&Answer::Refused(why))));
                continue;
            }
            let (desk, stop) = (Arc::clone(self), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = stop.cancelled() => {}
                    // What was said stays in force when who said it goes away.
                    _ = desk.hear(&mut stream) => {}
                }
            });
        }
    }

    async fn hear(&self, stream: &mut UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut reader = BufReader::new(reader);
        loop {
            let mut said = Vec::new();
            if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut said).await? == 0 {
                return Ok(());
            }
            if said.last() != Some(&b'\n') && said.len() as u64 == LONGEST_LINE {
                let why = format!("a line has at most {LONGEST_LINE} bytes");
                return writer.write_all(&line(&Answer::Refused(why))).await;
            }
            if said.trim_ascii().is_empty() {
                continue;
            }
            let answer = self.take_in(&said, clock::boottime(), clock::wall()).await;
            writer.write_all(&line(&answer)).await?;
        }
    }

    /// One line; `now` and `wall` are the same instant on both clocks.
    async fn take_in(&self, said: &[u8], now: Boottime, wall: Timestamp) -> Answer {
        let (input, answer) = match self.understand(said, now, wall) {
            Ok(understood) => understood,
            Err(why) => return Answer::Refused(why),
        };
        match self.ears.inputs.send(input).await {
            Ok(()) => answer,
            Err(_) => Answer::Refused("the agent is ending".to_owned()),
        }
    }

    fn understand(
        &self,
        said: &[u8],
        now: Boottime,
        wall: Timestamp,
    ) -> Result<(Input, Answer), String> {
        let value: serde_json::Value = serde_json::from_slice(said).map_err(not_understood)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if value.get("withdraw").is_some() {
            let words: TakenBack = serde_json::from_value(value).map_err(not_understood)?;
            let id = id_of(&words.withdraw)?;
            if !known.remove(&id) {
                return Err(format!("withdraw: `{}` was not announced here", words.withdraw));
            }
            return Ok((Input::NoticeWithdrawn(id.clone()), Answer::Withdrawn(id)));
        }
        let words: Words = serde_json::from_value(value).map_err(not_understood)?;
        let (notice, odd) = notice(words, now, wall)?;
        let id = notice.id.clone();
        if !known.contains(&id) && known.len() >= MOST_NOTICES {
            return Err(format!("{MOST_NOTICES} notices are in force here; withdraw some"));
        }
        known.insert(id.clone());
        let answer = odd.map_or(Answer::Heard(id), Answer::Odd);
        Ok((Input::NoticeHeard(notice), answer))
    }
}

/// The notice that is meant, and what is odd about it.
fn notice(
    words: Words,
    now: Boottime,
    wall: Timestamp,
) -> Result<(Notice, Option<String>), String> {
    let (gone_at, odd) = match (&words.gone_at, words.in_seconds) {
        (None, Some(seconds)) => (now + Millis::from_seconds(seconds.into()), None),
        (Some(text), None) => {
            let at: jiff::Timestamp = text.parse().map_err(|error| format!("gone_at: {error}"))?;
            let at = Timestamp(at.as_millisecond());
            (ClockOffset::between(wall, now).boottime(at), odd(at, wall))
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err("say either gone_at (RFC 3339) or in_seconds".to_owned());
        }
    };
    let id = match &words.id {
        Some(id) => id_of(id)?,
        // The same deadline said again is the same event.
        None => match &words.gone_at {
            Some(text) => NoticeId::new(format!("socket-{}", text.replace([':', '+'], "."))),
            None => return Err("id: in_seconds needs one, to be taken back or said again".into()),
        },
    };
    let notice = Notice {
        id,
        kind: words.kind,
        source: NoticeSource::Socket,
        leaves: words.leaves,
        gone_at: gone_at.max(now),
        heard_at: now,
        certainty: words.certainty.unwrap_or(Certainty::Certain),
        can_acknowledge: false,
        can_be_withdrawn: true,
    };
    Ok((notice, odd))
}

fn odd(gone_at: Timestamp, wall: Timestamp) -> Option<String> {
    if gone_at <= wall {
        let ago = wall.since(gone_at);
        return Some(format!("its deadline passed {ago} ago by this host's clock: it is now"));
    }
    let ahead = gone_at.since(wall);
    (ahead > USUALLY_WITHIN).then(|| {
        format!("its deadline lies {ahead} ahead: until then nothing new starts on this node")
    })
}

fn id_of(text: &str) -> Result<NoticeId, String> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if !(1..=LONGEST_ID).contains(&text.len()) || !text.bytes().all(is_plain) {
        return Err(format!(
            "id: 1 to {LONGEST_ID} of letters, digits, `-`, `_` and `.` are accepted"
        ));
    }
    Ok(NoticeId::new(format!("socket-{text}")))
}

fn not_understood(error: serde_json::Error) -> String {
    format!(
        "{error}; accepted: {{\"id\":\"ID\",\"kind\":\"preempt\",\"in_seconds\":120}} or \
         {{\"withdraw\":\"ID\"}}"
    )
}

fn line(answer: &Answer) -> Vec<u8> {
    // Words and ids are always JSON.
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use tokio::io::Lines;
    use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

    use super::*;
    use crate::testing::Folder;

    const NOW: Boottime = Boottime(50_000);
    /// 2026-01-01T00:00:00Z
    const WALL: Timestamp = Timestamp(1_767_225_600_000);

    /// A test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn desk() -> (Desk, mpsc::Receiver<Input>) {
        let ((inputs, heard), (alarms, _)) = (mpsc::channel(256), mpsc::channel(1));
        (Desk::new(Ears { inputs, alarms }), heard)
    }

    async fn say(desk: &Desk, text: &str) -> String {
        let answer = desk.take_in(text.as_bytes(), NOW, WALL).await;
        String::from_utf8(line(&answer)).expect("text").trim_end().to_owned()
    }

    #[tokio::test]
    async fn a_notice_is_said_moved_and_taken_back_and_each_line_is_answered() {
        let (desk, mut heard) = desk();
        let mut next = || match heard.try_recv() {
            Ok(Input::NoticeHeard(notice)) => {
                assert!(notice.gone_at >= NOW, "no deadline lies back: {notice:?}");
                format!("+{} in {}", notice.id, notice.gone_at.since(NOW))
            }
            Ok(Input::NoticeWithdrawn(id)) => format!("-{id}"),
            other => format!("{other:?}"),
        };
        for (said, answer, input) in [
            (
                r#"{"id":"a","kind":"preempt","in_seconds":120}"#,
                r#"{"heard":"socket-a"}"#,
                "+socket-a in 120s",
            ),
            (
                r#"{"id":"a","kind":"preempt","in_seconds":60,"leaves":"replicas"}"#,
                r#"{"heard":"socket-a"}"#,
                "+socket-a in 60s",
            ),
            (r#"{"withdraw":"a"}"#, r#"{"withdrawn":"socket-a"}"#, "-socket-a"),
            (
                r#"{"kind":"shutdown","gone_at":"2026-01-01T00:02:00Z"}"#,
                r#"{"heard":"socket-2026-01-01T00.02.00Z"}"#,
                "+socket-2026-01-01T00.02.00Z in 120s",
            ),
            (
                r#"{"id":"late","kind":"preempt","gone_at":"2025-12-31T23:59:50Z"}"#,
                "{\"odd\":\"its deadline passed 10s ago by this host's clock: it is now\"}",
                "+socket-late in 0s",
            ),
        ] {
            assert_eq!(say(&desk, said).await, answer, "{said}");
            assert_eq!(next(), input, "{said}");
        }
        let year = r#"{"id":"far","kind":"maintenance","gone_at":"2027-01-01T00:00:00Z"}"#;
        let said = say(&desk, year).await;
        assert!(said.contains("ahead: until then nothing new starts"), "{said}");
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused_and_changes_nothing() {
        let (desk, mut heard) = desk();
        let long = format!(r#"{{"withdraw":"{}"}}"#, "x".repeat(65));
        for (said, expected) in [
            ("soon", "expected value"),
            (r#"{"kind":"preempt"}"#, "say either gone_at (RFC 3339) or in_seconds"),
            (r#"{"kind":"preempt","in_seconds":5}"#, "id: in_seconds needs one"),
            (r#"{"id":"a","kind":"eviction","in_seconds":5}"#, "unknown variant `eviction`"),
            (r#"{"id":"a","kind":"preempt","gone_at":"tomorrow"}"#, "gone_at:"),
            (r#"{"id":"a","kind":"preempt","in_seconds":-1}"#, "invalid value"),
            (r#"{"id":"a","kind":"preempt","in_seconds":5,"at":1}"#, "unknown field `at`"),
            (r#"{"id":"a/b","kind":"preempt","in_seconds":5}"#, "id: 1 to 64 of letters"),
            (r#"{"withdraw":"a"}"#, "`a` was not announced here"),
            (&long, "id: 1 to 64 of letters"),
        ] {
            let answer = say(&desk, said).await;
            assert!(answer.contains("refused") && answer.contains(expected), "{said}: {answer}");
        }
        assert!(heard.try_recv().is_err(), "nothing was heard");
        for number in 0..=MOST_NOTICES {
            let said = format!(r#"{{"id":"{number}","kind":"preempt","in_seconds":9}}"#);
            let answer = say(&desk, &said).await;
            assert_eq!(answer.contains("heard"), number < MOST_NOTICES, "{answer}");
        }
    }

    #[test]
    fn only_root_the_agents_own_user_and_the_named_one_may_announce() {
        assert!(may(0, 990, None) && may(990, 990, None) && may(7, 990, Some(7)));
        assert!(!may(7, 990, None) && !may(8, 990, Some(7)));
    }

    /// Somebody who is connected.
    struct Caller(OwnedWriteHalf, Lines<BufReader<OwnedReadHalf>>);

    impl Caller {
        async fn new(path: &Path) -> Self {
            let stream = UnixStream::connect(path).await.expect("somebody listens");
            let (reader, writer) = stream.into_split();
            Self(writer, BufReader::new(reader).lines())
        }

        async fn hears(&mut self) -> String {
            let line = tokio::time::timeout(PATIENCE, self.1.next_line()).await.expect("in time");
            line.expect("readable").unwrap_or_default()
        }

        async fn ask(&mut self, text: &str) -> String {
            self.0.write_all(text.as_bytes()).await.expect("sent");
            self.hears().await
        }
    }

    #[tokio::test]
    async fn several_are_served_at_once_and_too_many_or_too_long_lines_are_refused() {
        let folder = Folder::new("notice-socket");
        let path = folder.path().join("notices.sock");
        let ((inputs, mut heard), (alarms, mut alarm)) = (mpsc::channel(16), mpsc::channel(16));
        let stop = CancellationToken::new();
        let socket = NoticeSocket { path: path.clone(), user: None };
        // What an agent that was killed has left.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("made"));
        let watching = tokio::spawn(watch(socket, Ears { inputs, alarms }, stop.clone()));
        assert_eq!(alarm.recv().await, Some(Alarm::deaf(NoticeSource::Socket, None)));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut callers = Vec::new();
        for number in 0..MOST_CONNECTED {
            let mut caller = Caller::new(&path).await;
            let said = format!("{{\"id\":\"{number}\",\"kind\":\"preempt\",\"in_seconds\":9}}\n");
            assert_eq!(caller.ask(&said).await, format!("{{\"heard\":\"socket-{number}\"}}"));
            assert!(matches!(heard.recv().await, Some(Input::NoticeHeard(_))));
            callers.push(caller);
        }
        assert!(Caller::new(&path).await.hears().await.contains("8 are connected already"));
        let mut first = callers.remove(0);
        let long = first.ask(&"x".repeat(5000)).await;
        assert!(long.contains("at most 4096 bytes"), "{long}");
        let second = callers[0].ask("{\"withdraw\":\"0\"}\n").await;
        assert_eq!(second, "{\"withdrawn\":\"socket-0\"}", "another one may take it back");
        stop.cancel();
        watching.await.expect("no panic");
    }

    #[test]
    fn what_is_no_socket_or_somebody_elses_is_left_alone() {
        let folder = Folder::new("notice-socket-taken");
        let path = folder.path().join("notices.sock");
        std::fs::write(&path, "mine").expect("written");
        let why = make(&path, None).expect_err("a file").to_string();
        assert!(why.contains("something else than a socket"), "{why}");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "mine");
        std::fs::remove_file(&path).expect("removed");
        let _other = std::os::unix::net::UnixListener::bind(&path).expect("made");
        let why = make(&path, None).expect_err("taken").to_string();
        assert!(why.contains("somebody else listens"), "{why}");
    }
}
