//! Begins scheduled drills when their time has come.
//!
//! The core knows no civil time: here the next time of each schedule is found and told to it. Which
//! times were told is a fact, so that none is told twice and a restart forgets none.

pub mod cron;

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wharfage_scheduler_core::Caller;
use wharfage_scheduler_core::fleet::rows::drill::ScheduleRow;
use wharfage_scheduler_core::words::command::{Action, Command, drills};
use wharfage_scheduler_core::words::event::{Event, drill};
use wharfage_shared::ids::DrillId;
use wharfage_shared::time::Timestamp;

use self::cron::Cron;
use crate::driver::{Fact, Handle};

/// The clock is looked at this often: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Most times of the past that are gone through at once: a scheduler that was down for a year must
/// not spend its start on a schedule of every minute.
const MOST_PASSED: usize = 10_000;

/// Starts it; it ends with `shutdown`.
pub fn start(handle: &Handle, shutdown: &CancellationToken) -> JoinHandle<()> {
    let (handle, shutdown) = (handle.clone(), shutdown.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run(handle) => {}
        }
    })
}

async fn run(handle: Handle) {
    let mut facts = handle.subscribe();
    loop {
        let now = handle.now();
        let mut wait = LOOK_AGAIN;
        let rows: Vec<ScheduleRow> = handle.view().fleet().schedules().cloned().collect();
        for row in rows.iter().filter(|row| row.ended_at.is_none()) {
            if let Some(due) = newest_passed(row, now) {
                tell(&handle, row, due).await;
            }
            if let Some(next) = next(row, now) {
                wait = wait.min(Duration::from_millis(next.since(now).0));
            }
        }
        let woken = tokio::time::timeout(wait, async {
            loop {
                match facts.recv().await {
                    Ok(fact) if is_about_schedules(&fact) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        });
        if woken.await == Ok(false) {
            return;
        }
    }
}

async fn tell(handle: &Handle, row: &ScheduleRow, due: Timestamp) {
    let run = DrillId::from(Uuid::new_v4().to_string().as_str());
    let schedule = row.drill.id.clone();
    let action = Action::Drill(drills::Action::Fire { schedule, run, due });
    let command = Command { caller: Caller::provider(), action };
    if let Err(error) = handle.submit(command).await {
        tracing::warn!(drill.id = %row.drill.id, %error, "a scheduled drill could not be begun");
    }
}

/// The next time of a schedule after an instant.
pub fn next(row: &ScheduleRow, after: Timestamp) -> Option<Timestamp> {
    let (cron, zone) = times(row)?;
    cron.next(&zone, after)
}

fn times(row: &ScheduleRow) -> Option<(Cron, TimeZone)> {
    Some((Cron::parse(&row.schedule.cron).ok()?, cron::zone(&row.schedule.time_zone)?))
}

/// The newest time that has come and was not told; older ones are over.
fn newest_passed(row: &ScheduleRow, now: Timestamp) -> Option<Timestamp> {
    let (cron, zone) = times(row)?;
    let from = row.due.unwrap_or(row.created_at);
    let passed = |from: &Timestamp| cron.next(&zone, *from).filter(|due| *due <= now);
    std::iter::successors(passed(&from), passed).take(MOST_PASSED).last()
}

fn is_about_schedules(fact: &Fact) -> bool {
    fact.record.events.iter().any(|event| {
        matches!(
            event,
            Event::Drill(
                drill::Event::Scheduled { .. }
                    | drill::Event::Unscheduled { .. }
                    | drill::Event::Fired { .. }
            )
        )
    })
}
