//! A disk that fails in another way than by being full: nobody knows what is on it then, so the
//! process ends, nothing that failed was acknowledged, and the next start has what was.
//!
//! Writes fail by a limit on the size of files (EFBIG), which the running program is given; syncs
//! fail by strace, where there is one.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::process::{PATIENCE, PROGRAM, Port, Running, config, ended};
use crate::support::Folder;

/// How many writes are acknowledged before the disk fails.
const ACKNOWLEDGED: usize = 20;

/// One scheduler's place and what its clients were told.
struct Case {
    folder: Folder,
    port: Port,
    config: PathBuf,
    acknowledged: BTreeSet<String>,
}

impl Case {
    fn new(name: &str) -> Self {
        let (folder, port) = (Folder::new(name), Port::kept());
        let config = config(&folder, "scheduler.toml", &port, &folder.0.join("state"));
        Self { folder, port, config, acknowledged: BTreeSet::new() }
    }

    /// The program, after these words of a shell. A file that may not grow is told as an error,
    /// not by a signal; an end by abort leaves no core file.
    fn program(before: &str) -> Command {
        let mut process = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -c 0; {before} exec \"$@\"");
        process.args(["-c", &script, "sh", PROGRAM]);
        process
    }

    async fn start(&self) -> Running {
        Running::start_as(Self::program(""), &self.config, &self.port).await
    }

    fn log(&self) -> PathBuf {
        self.folder.0.join("state/log.sqlite-wal")
    }

    fn token(&self) -> String {
        let text = std::fs::read_to_string(self.folder.0.join("state/admin.token"));
        text.expect("a token").trim().to_owned()
    }

    /// Makes an organization; the status, or nothing where no answer came.
    async fn create(&self, running: &Running, id: &str) -> Option<u16> {
        let request = reqwest::Client::new().post(format!("{}/api/v1/organizations", running.url));
        let request = request.bearer_auth(self.token()).json(&json!({"id": id})).timeout(PATIENCE);
        request.send().await.ok().map(|answer| answer.status().as_u16())
    }

    async fn fill(&mut self, running: &Running) {
        for number in 0..ACKNOWLEDGED {
            let id = format!("kept-{number}");
            assert_eq!(self.create(running, &id).await, Some(201));
            self.acknowledged.insert(id);
        }
    }

    /// The organizations that the tests made.
    async fn organizations(&self, running: &Running) -> BTreeSet<String> {
        let request = reqwest::Client::new().get(format!("{}/api/v1/organizations", running.url));
        let answer = request.bearer_auth(self.token()).send().await.expect("answered");
        let answer: Value = answer.json().await.expect("JSON");
        let rows = answer["organizations"].as_array().expect("rows").iter();
        let ids = rows.filter_map(|row| row["id"].as_str());
        ids.filter(|id| id.contains('-')).map(str::to_owned).collect()
    }

    /// The one write that meets the failure: it gets no good answer, and the process ends.
    async fn meets_the_failure(&self, mut running: Running) {
        let answered = self.create(&running, "lost-1").await;
        assert!(answered.is_none_or(|status| status >= 500), "acknowledged: {answered:?}");
        let status = gone(&mut running).await;
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
        let said = running.said();
        assert!(said.contains("the log could not be written"), "{said}");
    }
}

/// Waits for the end of a process that ends by itself.
async fn gone(running: &mut Running) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = running.child.try_wait().expect("our child") {
            return status;
        }
        assert!(Instant::now() < deadline, "it goes on: {}", running.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file").len()
}

#[tokio::test]
async fn a_write_that_fails_is_not_acknowledged_and_the_next_start_has_what_was() {
    let mut case = Case::new("failing-write");
    let running = case.start().await;
    case.fill(&running).await;
    let full = size(&case.log());
    let limit = Rlimit { current: Some(full), maximum: Some(full) };
    prlimit(Some(Pid::from_child(&running.child)), Resource::Fsize, limit).expect("our child");
    case.meets_the_failure(running).await;

    // While the disk is as it was, a start says so and harms nothing.
    let blocks = format!("ulimit -f {};", size(&case.log()) / 512);
    let mut still = Case::program(&blocks);
    let (code, said) = ended(&still.arg("--config").arg(&case.config).output().expect("runs"));
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("the log could not be written"), "{said}");

    let again = case.start().await;
    assert_eq!(case.organizations(&again).await, case.acknowledged, "no more and no less");
    assert_eq!(case.create(&again, "lost-1").await, Some(201), "it can be asked again");
    assert_eq!(again.end().await, Some(0));
}

#[tokio::test]
async fn a_sync_that_fails_is_not_acknowledged_and_never_tried_again() {
    let mut case = Case::new("failing-sync");
    let running = case.start().await;
    case.fill(&running).await;
    let pid = running.child.id().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
    let traced = case.folder.0.join("strace");
    strace.args(["-p", &pid, "-o"]).arg(&traced);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut strace) = strace.spawn() else {
        println!("skipped: there is no strace here");
        return;
    };
    if !attached(&pid, &mut strace).await {
        println!("skipped: strace may not attach here");
        return;
    }
    case.meets_the_failure(running).await;
    strace.wait().expect("it ends with what it traces");
    let syncs = std::fs::read_to_string(&traced).expect("written");
    assert_eq!(syncs.matches("(INJECTED)").count(), 1, "the second might say all is well: {syncs}");

    let again = case.start().await;
    let mut found = case.organizations(&again).await;
    // Whether what could not be synced is there is the disk's secret; nobody was told of it.
    found.remove("lost-1");
    assert_eq!(found, case.acknowledged);
    assert_eq!(again.end().await, Some(0));
}

/// Whether every thread of a process is traced by another, which ends where it may not.
async fn attached(pid: &str, tracer: &mut Child) -> bool {
    let wanted = format!("TracerPid:\t{}", tracer.id());
    let tasks = format!("/proc/{pid}/task");
    let deadline = Instant::now() + PATIENCE;
    while tracer.try_wait().expect("our child").is_none() {
        let threads = std::fs::read_dir(&tasks).expect("our child").flatten();
        let mut states =
            threads.map(|thread| std::fs::read_to_string(thread.path().join("status")));
        if states.all(|state| state.is_ok_and(|state| state.contains(&wanted))) {
            return true;
        }
        assert!(Instant::now() < deadline, "neither attached nor refused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
