//! `wharfage-agent doctor`: one page of what works on this host, and the fix for what does not.
//! It looks and leaves nothing behind (a control group and a small file, made to see whether they
//! can be, are removed again); a running agent is not disturbed by it.

mod cloud;
mod criu;
mod cuda;
mod definitions;
mod disk;
mod gpus;
mod host;
mod notices;
mod page;
mod scheduler;

use std::path::Path;

use serde::Serialize;
use wharfage_agent_sys::process::effective_user;

use crate::config::Config;
use crate::exit::Failure;

pub use page::Page;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Works,
    /// Not there, or less than it could be; replicas run without it.
    Limited,
    /// Needed, and not usable.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub subject: &'static str,
    /// How it stands.
    pub state: State,
    /// What was seen: one sentence.
    pub detail: String,
    /// What helps, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn works(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, state: State::Works, detail: detail.into(), fix: None }
    }

    fn limited(subject: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject, state: State::Limited, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn broken(subject: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject, state: State::Broken, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything.
pub async fn examine(config: &Config) -> Result<Page, Failure> {
    let (mut findings, has_gpus) = gpus::look(config).await?;
    findings.extend(cuda::look(config, has_gpus).await);
    findings.extend(criu::look().await);
    findings.push(notices::kernel_log(config));
    findings.extend(host::agent(config));
    findings.extend(scheduler::look(config).await);
    findings.extend(host::replicas(config).await);
    findings.extend(notices::look(config).await);
    findings.push(host::clock().await);
    findings.extend(disk::look(config));
    findings.extend(definitions::buckets(config));
    findings.extend(definitions::hooks(config));
    findings.extend(definitions::store(config).await);
    findings.extend(definitions::engines(config));
    Ok(Page { node: config.node.clone(), user: effective_user(), findings })
}

fn is_run_by_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
