//! `wharfage demo`: the main job on real processes, each step narrated with what was observed.
//!
//! Nothing is claimed after a sleep: every line follows something that was seen, and a thing that
//! is not seen in time ends the demo with exit code 1 and the last lines of the daemons' logs: no file
//! of it stays.

mod deploy;
mod enrol;
mod invoice;
mod narrator;
mod notice;
mod requests;
mod restart;
mod settings;
mod timeline;

use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::demo::narrator::Narrator;
use crate::dev::{self, Described, Ending, Running};
use crate::exit::Failure;

/// How long one thing may take to be seen: long for a host with one busy core, and no wait at all
/// where it is seen at once.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// `wharfage demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Leave everything running and print the dashboard's address and a token.
    #[arg(long)]
    stay: bool,
}

/// What every step works with.
pub struct Stage {
    /// The installation.
    pub running: Running,
    /// The tenant's view.
    pub tenant: Client,
    /// The provider's view.
    pub admin: Client,
    /// Prints.
    pub say: Narrator,
}

impl Stage {
    /// What a program needs to know of the installation.
    pub fn up(&self) -> &Described {
        &self.running.described
    }
}

/// Tells the story; everything is cleaned up however it ends.
pub async fn run(args: &DemoArgs) -> Result<(), Failure> {
    let mut end = Ending::new(false)?;
    let mut say = Narrator::new();
    say.step(1, "Three GPU hosts join with a join string, over mTLS");
    let fleet = enrol::fleet();
    let (running, mut deaths) = tokio::select! {
        started = dev::start(&fleet, None) => started?,
        () = end.asked() => return Err(Failure::check("ended before the story began")),
    };
    let up = &running.described;
    let tenant = Client::new(up.scheduler_url.clone(), up.token.clone())?;
    let admin = Client::new(up.scheduler_url.clone(), up.admin_token.clone())?;
    let mut stage = Stage { running, tenant, admin, say };
    let logs = stage.up().state_dir.clone();
    let failed = |failure: Failure| failure.with(&dev::last_words(&logs));
    let told = tokio::select! {
        told = story(&mut stage) => told.map_err(failed),
        Some(died) = deaths.recv() => Err(failed(Failure::check(died.sentence))),
        () = end.asked() => Err(Failure::check("ended in the middle of the story")),
    };
    if told.is_ok() && args.stay {
        println!();
        dev::describe(stage.up());
        dev::stay(&mut end, &mut deaths).await;
    }
    stage.running.stop()?;
    told?;
    println!("\nEverything that was started has ended, and its files are gone.");
    Ok(())
}

async fn story(stage: &mut Stage) -> Result<(), Failure> {
    enrol::run(stage).await?;
    deploy::run(stage).await?;
    settings::run(stage).await?;
    notice::run(stage).await?;
    restart::run(stage).await?;
    invoice::run(stage).await
}

impl Stage {
    /// Rows of a list, from the tenant's view.
    pub async fn rows(&self, path: &str, plural: &str) -> Result<Vec<Value>, Failure> {
        let answer = self.tenant.get(path).await?;
        Ok(answer.get(plural).and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The node of this id as the provider sees it.
    pub async fn node(&self, id: &str) -> Result<Value, Failure> {
        self.admin.get(&format!("/api/v1/nodes/{id}")).await
    }
}

/// A text in a row; empty when it is not there.
pub fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
