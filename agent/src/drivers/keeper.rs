//! One task per living replica: holds the line to its guard, passes commands on, sees its end.

use std::io;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::process;
use wharfage_shared::replica::Ended;

use super::{Driver, Way};
use crate::engines::failures::Failure;
use crate::guard::record::{Command, Event, Folder, Params, Record, SocketPath};

/// A guard that was told to end its engine and does not say so within this long is frozen: what was
/// ordered happens without it.
const FROZEN_AFTER: Duration = Duration::from_secs(3);

/// Between two tries to reach a guard that lives but does not listen.
const RECONNECT: Duration = Duration::from_millis(100);

/// A living replica.
pub struct Kept {
    /// Its folder.
    pub folder: Folder,
    /// What its guard was told.
    pub params: Params,
    /// What its guard has written down.
    pub record: Record,
    /// The guard, when this very agent started it.
    pub child: Option<Child>,
}

/// When what was ordered happens without the guard.
#[derive(Default)]
struct Patience {
    /// With the order to end that it has not confirmed yet.
    asked: Option<Instant>,
    /// With the order to end everything.
    killed: Option<Instant>,
}

/// Keeps it until its engine has ended; answers `LoadProgress` and `Exited`.
pub async fn keep(driver: &Driver, mut kept: Kept, mut commands: mpsc::Receiver<Command>) {
    let replica = kept.params.order.replica;
    let mut patience = Patience::default();
    let (ended, failure) = loop {
        if let Some(end) = kept.folder.record().and_then(Record::end) {
            break end;
        }
        if !process::is_alive(kept.record.guard) {
            // Its last act may have been to write the end down.
            let last = kept.folder.record().and_then(Record::end);
            break last.unwrap_or_else(|| {
                tracing::warn!(replica.id = %replica, "the guard died before its engine");
                end_what_is_left(&kept.folder, &kept.params, &kept.record);
                (Ended::Unknown, None)
            });
        }
        match connect(&kept.folder).await {
            Ok(line) => {
                if let Some(end) = talk(driver, &kept, line, &mut commands, &mut patience).await {
                    break end;
                }
            }
            Err(_) => {
                tokio::time::sleep(RECONNECT).await;
                if patience.asked.take().is_some() {
                    act_alone(&kept, &Command::Terminate);
                }
                while let Ok(command) = commands.try_recv() {
                    act_alone(&kept, &command);
                }
            }
        }
    };
    // An end that nothing known explains keeps its exit; its output is in the logs.
    if let Some(failure) = failure.filter(|failure| failure.kind.is_some()) {
        driver.say(Input::LastWords { replica, because: failure.because }).await;
    }
    driver.say(Input::Exited { replica, ended }).await;
    if let Some(child) = &mut kept.child {
        // Collects the guard; how it ended says nothing more.
        drop(child.wait().await);
    }
}

/// What a guard that lives says of itself, if it answers.
pub async fn ask(folder: &Folder) -> Option<Record> {
    let answer = async {
        let (mut events, _output) = connect(folder).await.ok()?;
        while let Ok(Some(event)) = events.next_line().await {
            if let Ok(Event::Record(record)) = serde_json::from_str(&event) {
                return Some(record);
            }
        }
        None
    };
    tokio::time::timeout(FROZEN_AFTER, answer).await.ok()?
}

type Line = (Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf);

async fn connect(folder: &Folder) -> io::Result<Line> {
    let socket = SocketPath::of(folder)?;
    let (input, output) = UnixStream::connect(socket.path()).await?.into_split();
    Ok((BufReader::new(input).lines(), output))
}

/// Until the line breaks (nothing) or the engine's end is told.
async fn talk(
    driver: &Driver,
    kept: &Kept,
    (mut events, mut output): Line,
    commands: &mut mpsc::Receiver<Command>,
    patience: &mut Patience,
) -> Option<(Ended, Option<Failure>)> {
    let replica = kept.params.order.replica;
    loop {
        tokio::select! {
            () = until(patience.asked) => {
                act_alone(kept, &Command::Terminate);
                patience.asked = None;
            }
            () = until(patience.killed) => {
                tracing::warn!(replica.id = %replica, "the guard does not answer: it is ended");
                end_frozen(driver, kept).await;
                return None;
            }
            event = events.next_line() => {
                let Ok(Some(event)) = event else { return None };
                match serde_json::from_str(&event) {
                    Ok(Event::Record(record)) => {
                        if record.asked {
                            patience.asked = None;
                        }
                        // On a full disk it is told and not written.
                        if let Some(end) = record.end() {
                            return Some(end);
                        }
                    }
                    Ok(Event::Load { done, total }) => {
                        driver.say(Input::LoadProgress { replica, done, total }).await;
                    }
                    // A word of a newer guard that this agent does not know.
                    Err(_) => {}
                }
            }
            Some(command) = commands.recv() => {
                let now = Instant::now();
                match command {
                    // Twice is not the same as once: many engines take a second signal as the
                    // order to drop what they are at.
                    Command::Terminate => {
                        patience.asked.get_or_insert(now + FROZEN_AFTER);
                    }
                    Command::Kill => {
                        act_alone(kept, &command);
                        // Counted from the first: a kill that is repeated is no new patience.
                        patience.killed.get_or_insert(now + FROZEN_AFTER);
                    }
                    Command::ServeUntil { .. } => {}
                }
                let Ok(mut text) = serde_json::to_vec(&command) else { continue };
                text.push(b'\n');
                if output.write_all(&text).await.is_err() {
                    return None;
                }
            }
        }
    }
}

/// systemd ends a unit's guard also for an agent that is not root.
async fn end_frozen(driver: &Driver, kept: &Kept) {
    let ended = match &driver.way {
        Way::Process => process::signal(kept.record.guard, Signal::KILL)
            .map_err(|error| format!("its guard cannot be ended: {error}")),
        Way::Systemd(units) => units.kill(kept.params.order.replica).await,
    };
    if let Err(why) = ended {
        tracing::warn!(replica.id = %kept.params.order.replica, "{why}");
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What must happen even when the guard is frozen: an end that was ordered.
fn act_alone(kept: &Kept, command: &Command) {
    // An engine that found its port taken was started again: the guard's record is newer.
    let record = kept.folder.record();
    let Some(engine) = record.as_ref().unwrap_or(&kept.record).engine else { return };
    if !matches!(command, Command::ServeUntil { .. })
        && let Err(error) = kept.folder.mark_asked()
    {
        // On a full disk its end may be told as its own.
        let replica = kept.params.order.replica;
        tracing::warn!(replica.id = %replica, "cannot note that its end was ordered: {error}");
    }
    match command {
        Command::Terminate => {
            drop(process::signal(engine, kept.params.wire.stop.signal.into()));
        }
        Command::Kill => {
            if process::is_alive(engine) {
                drop(process::signal_group(engine.pid, Signal::KILL));
            }
        }
        Command::ServeUntil { .. } => {}
    }
}

/// Ends processes whose guard is gone: nobody can reach them and nobody enforces their lease.
pub fn end_what_is_left(folder: &Folder, params: &Params, record: &Record) {
    let at = folder.path().display();
    let members = match params.family(record.guard).members() {
        Ok(members) => members,
        // The proof of release names it until the table can be read, and asks for its end again.
        Err(error) => {
            tracing::warn!("cannot list what is left of `{at}`: {error}");
            return;
        }
    };
    for member in members {
        if let Err(error) = process::signal(member.id, Signal::KILL) {
            let pid = member.id.pid;
            tracing::warn!(process.pid = pid, "cannot end what is left of `{at}`: {error}");
        }
    }
}
