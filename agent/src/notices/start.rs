//! Listens to every source of notices that the settings name.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::time::Millis;

use super::Alarm;
use super::cloud::Cloud;
use super::cloud::service::{self, Service};
use super::hearing::{self, Hearing};
use super::logind;
use super::settings::{CloudChoice, Notices};
use super::socket;
use super::watch::{Pace, watch};

/// What sources are connected to.
pub struct Listening {
    /// Where notices go.
    pub inputs: mpsc::Sender<Input>,
    /// Notices that the node is done with.
    pub done: broadcast::Sender<NoticeId>,
    /// Who was heard when.
    pub hearing: Arc<Hearing>,
    /// How long a shutdown waits for this node.
    pub delay: watch::Sender<Option<Millis>>,
}

/// Listens until `stop`; what is wrong with a source comes back.
pub fn listen(
    settings: &Notices,
    listening: Listening,
    stop: &CancellationToken,
) -> mpsc::Receiver<Alarm> {
    let Listening { inputs, done, hearing, delay } = listening;
    let (alarm, alarms) = mpsc::channel(16);
    if let Some(file) = &settings.file {
        let (path, pace) = (file.path.clone(), Pace::default());
        tokio::spawn(watch(path, pace, inputs.clone(), alarm.clone(), stop.clone()));
    }
    if let Some(socket) = &settings.socket {
        let ears = socket::Ears { inputs: inputs.clone(), alarms: alarm.clone() };
        tokio::spawn(socket::watch(socket.clone(), ears, stop.clone()));
    }
    let cloud = Cloud::choose(settings.cloud, &settings.dmi);
    if let Some(cloud) = cloud {
        let by = match settings.cloud {
            CloudChoice::Auto => "its board says so",
            _ => "agent.toml says so",
        };
        tracing::info!(notices.cloud = %cloud, "this machine is of a cloud: {by}");
    }
    if let Some(source) = cloud.and_then(Cloud::source) {
        let (inputs, alarms, done) = (inputs.clone(), alarm.clone(), done.clone());
        let ears = service::Ears { inputs, alarms, hearing: Arc::clone(&hearing), done };
        tokio::spawn(Service::new(source, settings.clone(), ears).listen(stop.clone()));
        tokio::spawn(hearing::watch(hearing, alarm.clone(), stop.clone()));
    }
    if settings.logind.unwrap_or_else(is_run_by_systemd) {
        let ears = logind::Ears { inputs, alarms: alarm, done: done.subscribe(), delay };
        tokio::spawn(logind::watch(ears, stop.clone()));
    }
    alarms
}

fn is_run_by_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
