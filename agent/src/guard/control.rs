//! The guard's socket: takes the agent's commands, tells it what it sees. Agents come and go.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::logs::Load;
use super::record::{Command, Event, Folder, Record, SocketPath};

/// What a connected agent is told.
#[derive(Clone)]
pub struct Seen {
    /// The record as it is now.
    pub record: watch::Receiver<Option<Record>>,
    /// How far the engine has loaded.
    pub load: watch::Receiver<Load>,
}

/// Out of descriptors: others need a moment to give theirs back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens in the replica's folder, which nobody but the agent's user can enter.
pub fn listen(folder: &Folder) -> io::Result<UnixListener> {
    let socket = SocketPath::of(folder)?;
    match std::fs::remove_file(socket.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket.path())?;
    // The folder is the gate. A guard runs as root also where its agent does not.
    std::fs::set_permissions(socket.path(), Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves agents for ever.
pub async fn serve(listener: UnixListener, commands: mpsc::Sender<Command>, seen: Seen) {
    let commands = Arc::new(commands);
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, Arc::clone(&commands), seen.clone()));
        } else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn talk(stream: UnixStream, commands: Arc<mpsc::Sender<Command>>, mut seen: Seen) {
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    seen.record.mark_changed();
    seen.load.mark_changed();
    loop {
        let event = tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return };
                // A command of a newer agent that this guard does not know is not guessed at.
                if let Ok(command) = serde_json::from_str(&line)
                    && commands.send(command).await.is_err()
                {
                    return;
                }
                continue;
            }
            changed = seen.record.changed() => {
                if changed.is_err() {
                    return;
                }
                seen.record.borrow_and_update().clone().map(Event::Record)
            }
            changed = seen.load.changed() => {
                if changed.is_err() {
                    return;
                }
                seen.load.borrow_and_update().map(|(done, total)| Event::Load { done, total })
            }
        };
        let Some(mut text) = event.and_then(|event| serde_json::to_vec(&event).ok()) else {
            continue;
        };
        text.push(b'\n');
        if output.write_all(&text).await.is_err() {
            return;
        }
    }
}
