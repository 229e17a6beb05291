//! Stories with real processes: what a person would do, and what they must never suffer.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a journey stops at the first thing unseen"
)]

#[path = "journeys/browser.rs"]
mod browser;
#[path = "journeys/command_line.rs"]
mod command_line;
#[path = "journeys/drills.rs"]
mod drills;
#[path = "journeys/endings.rs"]
mod endings;
#[path = "journeys/failures.rs"]
mod failures;
#[path = "journeys/gangs.rs"]
mod gangs;
#[path = "journeys/health.rs"]
mod health;
#[path = "journeys/host.rs"]
mod host;
#[path = "journeys/main_job.rs"]
mod main_job;
#[path = "journeys/notices.rs"]
mod notices;
#[path = "journeys/refusals.rs"]
mod refusals;
#[path = "journeys/rehearsal.rs"]
mod rehearsal;
#[path = "journeys/scaling.rs"]
mod scaling;
#[path = "journeys/six_drills.rs"]
mod six_drills;
