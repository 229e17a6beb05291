//! The agent's own socket: drills and an operator's words, for root (and the agent's own user) of
//! this host only.
//!
//! A request is one line of JSON and so is the answer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::health::{XidSeen, XidSource};
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::{clock, process};
use wharfage_shared::health::Repair;
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::telemetry::GpuIdentity;

use super::line;
use crate::drivers::Driver;
use crate::gpu::Gpus;
use crate::guard::record::SocketPath;
use crate::pci::Pci;

/// The socket in the state folder.
const NAME: &str = "agent.sock";

/// A request is short; nobody may fill the agent's memory.
const REQUEST_BYTES: u64 = 4096;

/// Whoever connects and says nothing is let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Out of descriptors: others need a moment to give theirs back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "ask")]
pub enum Request {
    /// Take an XID for heard.
    InjectXid {
        /// Which.
        xid: u32,
        /// On which GPU: its number in NVML's order, or its UUID.
        gpu: String,
    },
    /// A GPU, or the whole node, is well again.
    Repaired {
        /// Which GPU; absent = the whole node.
        gpu: Option<String>,
        /// What was done.
        by: Repair,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was taken in: one sentence.
    Done(String),
    /// It was not, and why.
    Refused(String),
}

/// Where the socket of this state folder is.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

/// What the socket's keeper needs.
pub struct Keeper {
    /// Its settings say whether injections are accepted.
    pub driver: Arc<Driver>,
    /// Names this start of the agent: what is injected is marked with it.
    pub nonce: String,
    /// The GPUs.
    pub gpus: watch::Receiver<Arc<Gpus>>,
    /// What was heard goes here.
    pub inputs: mpsc::Sender<Input>,
}

/// Makes the socket anew; only its owner may connect.
pub fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    let path = path(state_dir);
    // An earlier agent's: the lock of the state folder says that it has ended.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(SocketPath::inside(state_dir, NAME)?.path())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stop`, one after the other.
pub async fn serve(listener: UnixListener, keeper: Keeper, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Whoever goes away without waiting for the answer gets none.
        drop(tokio::time::timeout(PATIENCE, keeper.answer(stream)).await);
    }
}

impl Keeper {
    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let caller = stream.peer_cred()?.uid();
        let answer = if caller != 0 && caller != process::effective_user() {
            Answer::Refused("only root may ask this".to_owned())
        } else {
            let (reader, _) = stream.split();
            let mut line = String::new();
            let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_BYTES));
            reader.read_line(&mut line).await?;
            match serde_json::from_str(&line) {
                Ok(request) => self.carry_out(request).await,
                Err(error) => Answer::Refused(format!("the request is not understood: {error}")),
            }
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        stream.write_all(&text).await
    }

    async fn carry_out(&self, request: Request) -> Answer {
        let done = match request {
            Request::InjectXid { xid, gpu } => self.inject(xid, &gpu).await,
            Request::Repaired { gpu, by } => self.repaired(gpu.as_deref(), by).await,
        };
        done.map_or_else(Answer::Refused, Answer::Done)
    }

    async fn inject(&self, xid: u32, gpu: &str) -> Result<String, String> {
        if !self.driver.config().health.allow_injection {
            return Err(
                "injection is switched off: set health.allow_injection = true in agent.toml"
                    .to_owned(),
            );
        }
        let identity = self.find(gpu)?;
        let pci = identity.pci.as_deref().and_then(Pci::parse);
        // It goes the way of a line of the kernel's log, marked as ours.
        let text = line::injected(pci, xid, &self.nonce);
        let line = line::parse_injected(&text, &self.nonce)
            .ok_or_else(|| format!("{xid} is no XID; accepted: at most five digits"))?;
        let uuid = identity.uuid;
        let seen = XidSeen {
            at: clock::boottime(),
            gpu: Some(uuid.clone()),
            parts: Vec::new(),
            pci: line.pci.map(|pci| pci.to_string()),
            xid: line.xid,
            text: line.text,
            source: XidSource::Injected,
            sequence: None,
        };
        self.tell(Input::Xid(seen)).await?;
        Ok(format!("XID {xid} was injected on {uuid}"))
    }

    async fn repaired(&self, gpu: Option<&str>, by: Repair) -> Result<String, String> {
        let gpu: Option<GpuUuid> = gpu.map(|gpu| self.find(gpu)).transpose()?.map(|gpu| gpu.uuid);
        let named = gpu.as_ref().map_or_else(|| "the node".to_owned(), ToString::to_string);
        self.tell(Input::Repaired { gpu, by }).await?;
        Ok(format!("the incidents of {named} are closed; it qualifies anew"))
    }

    /// The GPU of this number or UUID.
    fn find(&self, named: &str) -> Result<GpuIdentity, String> {
        let gpus = self.gpus.borrow();
        let all = &gpus.identities;
        let number: Option<usize> = named.parse().ok();
        let found = number.and_then(|number| all.get(number));
        let is_named = |gpu: &&GpuIdentity| gpu.uuid.text() == named;
        let found = found.or_else(|| all.iter().find(is_named));
        // A GPU that is split is none of the slots and breaks as a whole.
        let found = found.or_else(|| all.iter().find(|gpu| gpu.board().text() == named));
        found.cloned().ok_or_else(|| {
            format!("there is no GPU `{named}`; accepted: a number below {}, or a UUID", all.len())
        })
    }

    async fn tell(&self, input: Input) -> Result<(), String> {
        self.inputs.send(input).await.map_err(|_| "the agent is ending".to_owned())
    }
}

/// A line to the agent of this state folder.
pub fn connect(state_dir: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = SocketPath::inside(state_dir, NAME)?;
    std::os::unix::net::UnixStream::connect(socket.path())
}

/// Asks the agent of this state folder.
pub fn ask(state_dir: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = connect(state_dir)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
