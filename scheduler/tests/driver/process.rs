//! The program itself: what it refuses, with which exit code, and that it starts again.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::support::Folder;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_wharfage-scheduler");

/// Longer than any start or end takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A port for a process to listen on: bound, so that nobody else is given it, and not listening,
/// so that the process may.
pub struct Port(TcpSocket);

impl Port {
    /// A free one.
    pub fn kept() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of sockets");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self(socket)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }
}

/// A configuration below the folder; machines get any port, nobody dials it here.
pub fn config(folder: &Folder, name: &str, listen: &Port, state: &Path) -> PathBuf {
    let path = folder.0.join(name);
    let text = format!(
        "listen = \"127.0.0.1:{}\"\nmachines_listen = \"127.0.0.1:0\"\nstate_dir = {:?}\n",
        listen.number(),
        state.display().to_string(),
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("runs")
}

/// The exit code and what was said on stderr.
pub fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A scheduler that is ended with its test.
pub struct Running {
    /// The process.
    pub child: Child,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

impl Running {
    /// Starts the program and waits until it answers.
    pub async fn start(config: &Path, port: &Port) -> Self {
        Self::start_as(Command::new(PROGRAM), config, port).await
    }

    /// The same by another command that ends in the program.
    pub async fn start_as(mut process: Command, config: &Path, port: &Port) -> Self {
        wharfage_link::tls::install();
        process.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut running = Self {
            child: process.spawn().expect("starts"),
            url: format!("http://127.0.0.1:{}", port.number()),
        };
        let end = Instant::now() + PATIENCE;
        while reqwest::get(format!("{}/readyz", running.url)).await.is_err() {
            let ended = running.child.try_wait().expect("asked");
            assert!(ended.is_none() && Instant::now() < end, "not up: {}", running.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running
    }

    /// What it has said on stderr when it has ended, which is now.
    pub fn said(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    async fn nodes(&self, token: &str) -> u16 {
        let request = reqwest::Client::new().get(format!("{}/api/v1/nodes", self.url));
        request.bearer_auth(token).send().await.expect("answered").status().as_u16()
    }

    /// Ends it as a service manager does; its exit code.
    pub async fn end(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        let waited = tokio::task::spawn_blocking(move || self.child.wait()).await;
        waited.expect("no panic").expect("gone").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn usage_and_configuration_have_their_exit_codes() {
    let folder = Folder::new("codes");
    let good = config(&folder, "good.toml", &Port::kept(), &folder.0.join("state"));
    let good = good.display().to_string();
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--config", &good, "check-config"]).status.code(), Some(0));
    assert!(!folder.0.join("state").exists(), "a check makes nothing");
    for usage in [&[][..], &["--confg", "x"], &["--config", &good, "chek-config"]] {
        assert_eq!(run(usage).status.code(), Some(64), "{usage:?}");
    }
    let bad = folder.0.join("bad.toml");
    std::fs::write(&bad, "state_dir = \"s\"\nlisten = \"0.0.0.0:7070\"\n").expect("written");
    let (code, said) = ended(&run(&["--config", &bad.display().to_string(), "check-config"]));
    assert_eq!(code, Some(78));
    assert!(said.contains("listen") && said.contains("[tls]"), "{said}");
    let (code, said) = ended(&run(&["--config", "no-such-file.toml"]));
    assert_eq!(code, Some(78));
    assert!(said.contains("no-such-file.toml"), "{said}");
}

#[tokio::test]
async fn a_start_makes_a_token_and_the_next_start_knows_it() {
    let folder = Folder::new("process");
    let (port, state) = (Port::kept(), folder.0.join("state"));
    let config_path = config(&folder, "scheduler.toml", &port, &state);
    let mut first = Running::start(&config_path, &port).await;
    let file = state.join("admin.token");
    let token = std::fs::read_to_string(&file).expect("a token").trim().to_owned();
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    assert_eq!(first.nodes(&token).await, 200);
    assert_eq!(first.nodes("guessed").await, 401);
    // Another one on the same state is told who has it.
    let other = config(&folder, "other.toml", &Port::kept(), &state).display().to_string();
    let (code, said) = ended(&run(&["--config", &other]));
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(&format!("pid {}", first.child.id())), "{said}");
    // Another one on the same port is told which.
    let same = config(&folder, "same.toml", &port, &folder.0.join("elsewhere"));
    let (code, said) = ended(&run(&["--config", &same.display().to_string()]));
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("port {}", port.number())), "{said}");
    first.child.kill().expect("killed");
    first.child.wait().expect("gone");
    let again = Running::start(&config_path, &port).await;
    assert_eq!(again.nodes(&token).await, 200, "the token outlives a kill");
    assert_eq!(again.end().await, Some(0), "asked to end, it ends well");
    damaged(&state, &config_path);
}

/// One flipped bit of a record, and the next start names the record.
fn damaged(state: &Path, config: &Path) {
    let log = state.join("log.sqlite");
    let mut bytes = std::fs::read(&log).expect("a log");
    let needle = b"first administrator";
    let place = bytes.windows(needle.len()).position(|window| window == needle);
    bytes[place.expect("the token's record")] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    let (code, said) = ended(&run(&["--config", &config.display().to_string()]));
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("damaged at record 3"), "{said}");
}
