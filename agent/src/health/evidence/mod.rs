//! Looks at the gates of the host, each group apart and with a limit: what hangs is unknown, and
//! holds nothing else up.

mod disk;
mod files;
pub mod gpu;
pub mod inhibitor;
mod processes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::health::{Evidence, Saw};
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_agent_sys::process::ProcessId;
use wharfage_shared::health::GateId;
use wharfage_shared::ids::GpuUuid;
use wharfage_shared::notice::NoticeSource;
use wharfage_shared::time::{Boottime, Millis};

use crate::config::Config;
use crate::drivers::Driver;
use crate::notices::hearing::{Ear, Hearing};

/// The host is looked at so often.
const PAUSE: Duration = Duration::from_secs(15);

/// A group of looks that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// What looks need, and what they remember from one time to the next.
pub(crate) struct Context {
    pub config: Config,
    /// How long a shutdown waits for this agent; nothing while none is held back.
    pub shutdown_delay: Option<Millis>,
    /// Each source of notices that is asked, as well as it is heard.
    pub ears: BTreeMap<NoticeSource, Ear>,
    /// Since when processes of the agent are stuck in the kernel.
    pub stuck: Arc<Mutex<BTreeMap<ProcessId, Boottime>>>,
}

/// Looks that are done one after the other.
struct Group {
    gates: &'static [GateId],
    look: fn(&Context) -> Vec<Evidence>,
    /// A look that has not come back.
    hangs: Option<JoinHandle<Vec<Evidence>>>,
}

/// How the node hears of its end.
pub struct Ears {
    /// How long a shutdown waits for this agent; nothing while none is held back.
    pub delay: watch::Receiver<Option<Millis>>,
    /// When sources of notices were last heard.
    pub hearing: Arc<Hearing>,
}

/// Looks until `stop` and tells what was seen.
pub async fn watch(
    driver: Arc<Driver>,
    ears: Ears,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let stuck = Arc::default();
    let group = |gates, look| Group { gates, look, hangs: None };
    let mut groups = [
        group(&[GateId::DISK], disk::look as fn(&Context) -> Vec<Evidence>),
        group(&[GateId::FABRIC, GateId::HOST], processes::look),
        group(&[GateId::INHIBITOR], inhibitor::look),
        group(&[GateId::HOOKS, GateId::CACHE, GateId::PORTS], files::look),
    ];
    let mut due = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let config = Config::clone(&driver.config());
        let (shutdown_delay, stuck) = (*ears.delay.borrow(), Arc::clone(&stuck));
        let heard = ears.hearing.ears(clock::boottime());
        let context = Arc::new(Context { config, shutdown_delay, ears: heard, stuck });
        for group in &mut groups {
            let seen = group.look_once(&context).await;
            if inputs.send(Input::Evidence(seen)).await.is_err() {
                return;
            }
        }
    }
}

impl Group {
    async fn look_once(&mut self, context: &Arc<Context>) -> Vec<Evidence> {
        let mut running = match self.hangs.take() {
            Some(hangs) => hangs,
            None => {
                let (look, context) = (self.look, Arc::clone(context));
                tokio::task::spawn_blocking(move || look(&context))
            }
        };
        match tokio::time::timeout(LIMIT, &mut running).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => self.unknown(&format!("the look failed: {error}")),
            Err(_) => {
                self.hangs = Some(running);
                self.unknown(&format!("the look takes longer than {} s", LIMIT.as_secs()))
            }
        }
    }

    fn unknown(&self, why: &str) -> Vec<Evidence> {
        self.gates.iter().map(|gate| seen(*gate, None, Saw::Unknown, why)).collect()
    }
}

impl Context {
    fn stuck(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProcessId, Boottime>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look.
fn seen(gate: GateId, gpu: Option<&GpuUuid>, saw: Saw, evidence: impl Into<String>) -> Evidence {
    Evidence { gate, gpu: gpu.cloned(), saw, evidence: evidence.into() }
}

#[cfg(test)]
mod tests;
