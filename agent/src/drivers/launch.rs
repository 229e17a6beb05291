//! From an order to a living guard that has written its record, or to a sentence why there is none.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wharfage_agent_sys::process;

use super::keeper::{self, Kept};
use super::process::spawn_guard;
use super::systemd::UnitState;
use super::{Driver, Way};
use crate::guard::record::{Claim, Command, Folder, Params, Record};

/// A guard writes its record within this long: it binds two sockets and starts one process.
const GUARD_DEADLINE: Duration = Duration::from_secs(15);

/// A guard that an agent started in its last moments may need this long to say that it starts.
const LATE_CLAIM: Duration = Duration::from_secs(2);

/// Between two looks for a guard's record.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What an earlier agent's start came to.
pub(super) enum Awaited {
    /// The guard wrote its record.
    Record(Box<Record>),
    /// It never started anything and never will.
    Never,
    /// It had begun and died before it wrote its record down.
    Died,
}

impl Driver {
    pub(super) async fn launch(
        &self,
        params: Params,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Kept, String> {
        let folder = self.folder(params.order.replica);
        let failed = |error: io::Error| format!("its guard cannot be started: {error}");
        if folder.path().try_exists().map_err(failed)? {
            return Err("a replica of this id was started here before".to_owned());
        }
        folder.create().map_err(failed)?;
        folder.write_params(&params).map_err(failed)?;
        self.remember(&params);
        let mut child = match &self.way {
            Way::Process => Some(spawn_guard(&self.program, &folder).map_err(failed)?),
            Way::Systemd(units) => {
                units.start(params.order.replica, &self.limits(&params)).await?;
                None
            }
        };
        let deadline = Instant::now() + GUARD_DEADLINE;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                // Biased: a guard that wrote its record and ended is one that was started.
                biased;
                command = commands.recv() => if matches!(command, Some(Command::Kill)) {
                    self.end_guard(child.as_mut(), &folder, &params).await;
                    return Err("it was stopped while it was being started".to_owned());
                },
                _ = look.tick() => {}
            }
            if let Some(record) = folder.record() {
                return Ok(Kept { folder, params, record, child });
            }
            if let Some(how) = self.ended_at_once(child.as_mut(), &params).await {
                let why = folder.failure().unwrap_or_else(|| last_error(folder.path()));
                return Err(format!("its guard ended at once ({how}): {why}"));
            }
            if Instant::now() > deadline {
                self.end_guard(child.as_mut(), &folder, &params).await;
                return Err(format!("its guard was not up within {} s", GUARD_DEADLINE.as_secs()));
            }
        }
    }

    async fn ended_at_once(&self, child: Option<&mut Child>, params: &Params) -> Option<String> {
        match (&self.way, child) {
            (Way::Process, Some(child)) => Some(child.try_wait().ok()??.to_string()),
            (Way::Process, None) => None,
            // A bus that does not answer says nothing about the guard.
            (Way::Systemd(units), _) => match units.state(params.order.replica).await.ok()? {
                UnitState::Gone { how } => Some(how),
                UnitState::Running => None,
            },
        }
    }

    /// Ends a guard that was started by this agent and is not wanted any more.
    async fn end_guard(&self, child: Option<&mut Child>, folder: &Folder, params: &Params) {
        // A guard that has not begun must not begin now; one that has begun is ended below.
        drop(folder.claim(&Claim::Withdrawn));
        let claimed = match folder.claimed() {
            Ok(Some(Claim::Guard(guard))) => Some(guard),
            // A claim that cannot be read holds the slot: the proof of release asks for it again.
            Ok(Some(Claim::Withdrawn) | None) | Err(_) => None,
        };
        let child_id = child.as_ref().and_then(|child| child.id()).and_then(process::identify);
        if let Some(guard) = child_id.or(claimed) {
            drop(process::signal(guard, Signal::KILL));
            keeper::end_what_is_left(folder, params, &Record::of_guard(guard));
        }
        if let Some(child) = child {
            drop(child.wait().await);
        }
        if let Way::Systemd(units) = &self.way
            && let Err(error) = units.kill(params.order.replica).await
        {
            tracing::warn!(replica.id = %params.order.replica, "{error}");
        }
    }

    /// What became of a start in whose middle an earlier agent ended. Exactly one of two things is
    /// true afterwards: the guard has begun, or it never will. Records that cannot be read say
    /// neither: they are the error, and nothing is ended for their sake.
    pub(super) async fn await_start(
        &self,
        folder: &Folder,
        params: &Params,
    ) -> io::Result<Awaited> {
        let begun = Instant::now();
        let is_this_boot = params.boot == self.boot;
        loop {
            if let Some(record) = folder.read_record()? {
                return Ok(Awaited::Record(Box::new(record)));
            }
            let waited = begun.elapsed();
            match folder.claimed()? {
                Some(Claim::Guard(guard)) => {
                    let is_over = !is_this_boot || !process::is_alive(guard);
                    if is_over {
                        // Its last act may have been to write the record.
                        return Ok(match folder.read_record()? {
                            Some(record) => Awaited::Record(Box::new(record)),
                            None => Awaited::Died,
                        });
                    }
                    if waited > GUARD_DEADLINE && folder.was_ready() {
                        // It was written once. A guard that does not answer now is frozen, and
                        // nobody is ended for that.
                        let at = folder.path().join("guard.json");
                        return Err(io::Error::other(format!("`{}` is lost", at.display())));
                    }
                    if waited > GUARD_DEADLINE {
                        self.end_guard(None, folder, params).await;
                    }
                }
                Some(Claim::Withdrawn) => return Ok(Awaited::Never),
                // A folder that cannot be written holds no guard's claim either.
                None if (!is_this_boot || waited > LATE_CLAIM)
                    && !matches!(folder.claim(&Claim::Withdrawn), Ok(false)) =>
                {
                    return Ok(Awaited::Never);
                }
                None => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn last_error(folder: &Path) -> String {
    let said = std::fs::read_to_string(folder.join("guard.err.log")).unwrap_or_default();
    said.lines().last().unwrap_or("it said nothing").to_owned()
}
