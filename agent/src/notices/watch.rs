//! When the notice file is looked at: at once when the kernel tells of a change, and every other
//! second besides.
//!
//! The slow look is for what the kernel does not tell: another host's change on a shared file
//! system, a folder that another took the place of. Where it cannot be asked at all, or while there
//! is no folder, the file is looked at five times a second instead.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::notice::NoticeSource;

use super::Alarm;
use super::ear::Ear;
use super::file::{Look, NoticeFile};

/// How often the file is looked at unasked: a look costs one `stat`.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// While the kernel tells of changes.
    pub told: Duration,
    /// While it does not.
    pub untold: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { told: Duration::from_secs(2), untold: Duration::from_millis(200) }
    }
}

/// Looks until `stop`; every change becomes an input, every alarm is sent to `alarms`.
pub async fn watch(
    path: PathBuf,
    pace: Pace,
    inputs: mpsc::Sender<Input>,
    alarms: mpsc::Sender<Alarm>,
    stop: CancellationToken,
) {
    let mut file = NoticeFile::new(&path);
    let mut listening = Listening { path, ear: None, was_said: false };
    let mut is_told = false;
    loop {
        // First listen, then look: what changes in between is told.
        let hears = listening.begin();
        let (now, wall) = (clock::boottime(), clock::wall());
        let look = if is_told { file.look_again(now, wall) } else { file.look(now, wall) };
        if !tell(look, &inputs, &alarms).await {
            return;
        }
        let pause = if hears { pace.told } else { pace.untold };
        is_told = tokio::select! {
            () = stop.cancelled() => return,
            () = listening.changed(hears) => true,
            () = tokio::time::sleep(pause) => false,
        };
    }
}

/// Hands on what a look saw; false when nobody listens any more.
async fn tell(look: Look, inputs: &mpsc::Sender<Input>, alarms: &mpsc::Sender<Alarm>) -> bool {
    let alarm = match &look {
        Look::Same => return true,
        Look::Alarm(why) => Some(why.clone()),
        Look::Heard { .. } | Look::Withdrawn(_) | Look::Quiet => None,
    };
    drop(alarms.send(Alarm::deaf(NoticeSource::File, alarm)).await);
    let (heard, withdrawn) = match look {
        Look::Heard { notice, instead_of } => (Some(notice), instead_of),
        Look::Withdrawn(id) => (None, Some(id)),
        Look::Same | Look::Alarm(_) | Look::Quiet => (None, None),
    };
    let news = heard.map(|notice| Input::NoticeHeard(*notice)).into_iter();
    for input in news.chain(withdrawn.map(Input::NoticeWithdrawn)) {
        if inputs.send(input).await.is_err() {
            return false;
        }
    }
    true
}

/// The ear, once the kernel gave one.
struct Listening {
    path: PathBuf,
    ear: Option<Ear>,
    was_said: bool,
}

impl Listening {
    /// Whether the kernel tells of changes from now on. Tried before each look, said once.
    fn begin(&mut self) -> bool {
        match self.try_begin() {
            Ok(()) => true,
            Err(error) => {
                let waits_for_folder = error.kind() == io::ErrorKind::NotFound;
                if !waits_for_folder && !self.was_said {
                    self.was_said = true;
                    tracing::warn!(
                        %error,
                        path = %self.path.display(),
                        "the kernel does not tell of changes of the notice file: it is looked at \
                         five times a second instead"
                    );
                }
                false
            }
        }
    }

    fn try_begin(&mut self) -> io::Result<()> {
        if self.ear.is_none() {
            self.ear = Some(Ear::new(&self.path)?);
        }
        self.ear.as_mut().map_or(Ok(()), Ear::listen)
    }

    async fn changed(&mut self, hears: bool) {
        let Some(ear) = self.ear.as_ref().filter(|_| hears) else {
            return std::future::pending().await;
        };
        if ear.changed().await.is_err() {
            // The next look begins with a new one.
            self.ear = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;
    use crate::testing::Folder;

    /// So long that only the kernel's word can have come.
    const NEVER: Duration = Duration::from_secs(3600);

    /// A test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Names the child whose kernel gives out nothing.
    const CHILD: &str = "WHARFAGE_TEST_NO_INOTIFY_CHILD";

    /// A folder for notices, and what the agent hears.
    struct Host {
        folder: Folder,
        inputs: mpsc::Receiver<Input>,
        alarms: mpsc::Receiver<Alarm>,
        stop: CancellationToken,
        watching: tokio::task::JoinHandle<()>,
    }

    impl Host {
        fn start(name: &str, told: Duration, untold: Duration) -> Self {
            let folder = Folder::new(name);
            std::fs::create_dir(folder.path().join("notices")).expect("made");
            let ((into, inputs), (alarm, alarms)) = (mpsc::channel(16), mpsc::channel(16));
            let (path, stop) =
                (folder.path().join("notices/notice.json"), CancellationToken::new());
            let watching = watch(path, Pace { told, untold }, into, alarm, stop.clone());
            let watching = tokio::spawn(watching);
            Self { folder, inputs, alarms, stop, watching }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Writes a notice for this minute under a name below the host's folder. All have the same
        /// length and time, as two changes within one step of a file's times have.
        fn write(&self, name: &str, minute: u32) {
            let text = format!(r#"{{"kind":"preempt","gone_at":"2030-01-01T00:0{minute}:00Z"}}"#);
            let mut file = std::fs::File::create(self.path(name)).expect("made");
            file.write_all(text.as_bytes()).expect("written");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("its owner may");
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.path(from), self.path(to)).expect("renamed");
        }

        /// The next things heard: `+2` a notice for minute 2, `-2` its withdrawal.
        async fn hears(&mut self, expected: &[&str]) {
            for expected in expected {
                let input = tokio::time::timeout(PATIENCE, self.inputs.recv()).await;
                let (sign, id) = match input.expect("heard in time").expect("still watched") {
                    Input::NoticeHeard(notice) => ("+", notice.id),
                    Input::NoticeWithdrawn(id) => ("-", id),
                    other => panic!("heard {other:?}"),
                };
                let millis: i64 = id.as_str().trim_start_matches("file-").parse().expect("an id");
                assert_eq!(format!("{sign}{}", millis / 60_000 % 60), *expected);
            }
        }

        /// Ends it; no look ever saw half a file.
        async fn end(mut self) {
            self.stop.cancel();
            self.watching.await.expect("no panic");
            assert!(self.inputs.try_recv().is_err(), "nothing else was heard");
            while let Ok(alarm) = self.alarms.try_recv() {
                assert_eq!(alarm, Alarm::deaf(NoticeSource::File, None));
            }
        }
    }

    #[tokio::test]
    async fn every_change_of_the_file_is_told_by_the_kernel() {
        let mut host = Host::start("told", NEVER, NEVER);
        host.write("notices/new", 1);
        host.rename("notices/new", "notices/notice.json");
        host.hears(&["+1"]).await;
        host.write("notices/notice.json", 2);
        host.hears(&["+2", "-1"]).await;
        host.write("notices/notice.json", 3);
        host.hears(&["+3", "-2"]).await;
        std::fs::remove_file(host.path("notices/notice.json")).expect("removed");
        host.hears(&["-3"]).await;
        host.write("notices/notice.json", 4);
        host.hears(&["+4"]).await;
        host.rename("notices/notice.json", "elsewhere");
        host.hears(&["-4"]).await;
        host.rename("elsewhere", "notices/notice.json");
        host.hears(&["+4"]).await;
        host.end().await;
    }

    #[tokio::test]
    async fn a_folder_that_is_made_again_is_listened_to_again() {
        let mut host = Host::start("again", NEVER, Duration::from_millis(5));
        let folder = host.path("notices");
        host.write("notices/notice.json", 1);
        host.hears(&["+1"]).await;
        std::fs::remove_dir_all(&folder).expect("removed");
        host.hears(&["-1"]).await;
        std::fs::create_dir(&folder).expect("made again");
        host.write("new", 2);
        host.rename("new", "notices/notice.json");
        host.hears(&["+2"]).await;
        host.write("notices/notice.json", 3);
        host.hears(&["+3", "-2"]).await;
        host.rename("notices", "old");
        host.hears(&["-3"]).await;
        std::fs::create_dir(&folder).expect("made again");
        host.rename("old/notice.json", "notices/notice.json");
        host.hears(&["+3"]).await;
        std::fs::remove_file(host.path("notices/notice.json")).expect("removed");
        host.hears(&["-3"]).await;
        host.end().await;
    }

    #[tokio::test]
    async fn what_the_kernel_does_not_tell_is_found_by_looking() {
        let mut host = Host::start("untold", Duration::from_millis(5), NEVER);
        // Another folder behind a link: nothing happens in the one that is listened at.
        host.write("elsewhere", 1);
        let link = host.path("notices/notice.json");
        std::os::unix::fs::symlink(host.path("elsewhere"), link).expect("linked");
        host.hears(&["+1"]).await;
        std::fs::remove_file(host.path("elsewhere")).expect("removed");
        host.hears(&["-1"]).await;
        host.end().await;
    }

    /// The child: a process that is given no watch, or no ear at all.
    #[tokio::test]
    async fn the_child_whose_kernel_gives_out_nothing() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        let mut host = Host::start("deaf", NEVER, Duration::from_millis(5));
        for minute in [1, 2] {
            host.write("new", minute);
            host.rename("new", "notices/notice.json");
            host.hears(&[&format!("+{minute}")]).await;
            std::fs::remove_file(host.path("notices/notice.json")).expect("removed");
            host.hears(&[&format!("-{minute}")]).await;
        }
        host.end().await;
        println!("HEARD WITHOUT THE KERNEL");
    }

    #[test]
    fn where_the_kernel_gives_out_no_more_the_file_is_looked_at_and_that_is_said_once() {
        for limit in ["max_inotify_watches", "max_inotify_instances"] {
            // A limit of the child's own user namespace, where it can be none at all.
            let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
            let namespace = || {
                let mut process = Command::new("unshare");
                process.args(["--user", "--map-root-user", "sh", "-c", &script, "sh"]);
                process
            };
            let status = namespace().arg("true").output().map(|output| output.status);
            if !status.is_ok_and(|status| status.success()) {
                println!("skipped: no user namespace of one's own here");
                return;
            }
            let child = "notices::watch::tests::the_child_whose_kernel_gives_out_nothing";
            let output = namespace()
                .arg(std::env::current_exe().expect("this test's own path"))
                .args(["--exact", child, "--nocapture"])
                .env(CHILD, "yes")
                .output()
                .expect("runs");
            let said = String::from_utf8_lossy(&output.stdout);
            let logged = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{limit}: {said}\n{logged}");
            assert!(said.contains("HEARD WITHOUT THE KERNEL"), "{limit}: {said}");
            let sentence = "the kernel does not tell of changes of the notice file";
            assert_eq!(logged.matches(sentence).count(), 1, "{limit}: {logged}");
        }
    }
}
