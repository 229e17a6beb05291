//! The host's own shutdown as a notice: logind tells it first and waits, up to its
//! `InhibitDelayMaxSec`, until this node is empty.
//!
//! The inhibitor is held from the first moment, because one that is taken after the shutdown began
//! is refused. It is given back when the node is done, so that the shutdown waits no longer than it
//! must.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_core::input::Input;
use wharfage_agent_sys::clock;
use wharfage_shared::ids::NoticeId;
use wharfage_shared::notice::{Certainty, Leaves, Notice, NoticeKind, NoticeSource};
use wharfage_shared::time::{Boottime, Millis};

use super::Alarm;
use crate::drivers::systemd;

/// logind answers at once; a bus that hangs must not hold this source.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries to reach logind.
const RETRY: Duration = Duration::from_secs(10);

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Login {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<zbus::OwnedFd>;
    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;
}

/// What this source is connected to.
pub struct Ears {
    /// Where notices go.
    pub inputs: mpsc::Sender<Input>,
    /// Where it is said that this source is deaf, or no longer.
    pub alarms: mpsc::Sender<Alarm>,
    /// Notices that the node is done with.
    pub done: broadcast::Receiver<NoticeId>,
    /// How long a shutdown waits for this node; nothing while no inhibitor is held.
    pub delay: watch::Sender<Option<Millis>>,
}

/// Listens until `stop`.
pub async fn watch(mut ears: Ears, stop: CancellationToken) {
    loop {
        let why = tokio::select! {
            () = stop.cancelled() => return,
            ended = listen(&mut ears) => match ended {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
        };
        ears.delay.send_replace(None);
        let text = format!("a shutdown of this host would come without a notice: {why}");
        drop(ears.alarms.send(Alarm::deaf(NoticeSource::Logind, Some(text))).await);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Until the bus is lost; fine when nobody listens any more.
async fn listen(ears: &mut Ears) -> zbus::Result<()> {
    let building = zbus::connection::Builder::system().method_timeout(TIMEOUT).build();
    let bus = tokio::time::timeout(TIMEOUT, building)
        .await
        .map_err(|_| zbus::Error::Failure("the system bus does not answer".to_owned()))??;
    let login = LoginProxy::new(&bus).await?;
    // Heard from before the inhibitor is held: none can fall between the two.
    let mut told = login.receive_prepare_for_shutdown().await?;
    let mut held = Some(inhibit(&login).await?);
    let mut window = Millis(login.inhibit_delay_max_usec().await? / 1000);
    ears.delay.send_replace(Some(window));
    drop(ears.alarms.send(Alarm::deaf(NoticeSource::Logind, None)).await);
    let mut heard: Option<NoticeId> = None;
    loop {
        let signal = tokio::select! {
            Ok(id) = ears.done.recv() => {
                if heard.as_ref() == Some(&id) {
                    // Closing it lets the shutdown go on.
                    held = None;
                    ears.delay.send_replace(None);
                }
                continue;
            }
            signal = told.next() => signal,
        };
        let Some(signal) = signal else {
            return Err(zbus::Error::Failure("the system bus was closed".to_owned()));
        };
        let input = if signal.args()?.start {
            let notice = shutdown(clock::boottime(), window);
            heard = Some(notice.id.clone());
            Input::NoticeHeard(notice)
        } else {
            if held.is_none() {
                held = Some(inhibit(&login).await?);
            }
            // Its configuration may have been read again since.
            window = Millis(login.inhibit_delay_max_usec().await? / 1000);
            ears.delay.send_replace(Some(window));
            let Some(id) = heard.take() else { continue };
            Input::NoticeWithdrawn(id)
        };
        if ears.inputs.send(input).await.is_err() {
            return Ok(());
        }
    }
}

/// How long a shutdown would wait for this node, asked once; nothing is held.
pub async fn allowed_delay() -> Result<Millis, String> {
    let bus = systemd::connect().await?;
    let asked = async { LoginProxy::new(&bus).await?.inhibit_delay_max_usec().await };
    let microseconds = asked.await.map_err(|error| format!("logind does not answer: {error}"))?;
    Ok(Millis(microseconds / 1000))
}

async fn inhibit(login: &LoginProxy<'_>) -> zbus::Result<zbus::OwnedFd> {
    login.inhibit("shutdown", "wharfage-agent", "GPU replicas drain and are saved", "delay").await
}

fn shutdown(now: Boottime, window: Millis) -> Notice {
    Notice {
        id: NoticeId::new(format!("shutdown-{}", now.0)),
        kind: NoticeKind::Shutdown,
        source: NoticeSource::Logind,
        leaves: Leaves::Node,
        gone_at: now + window,
        heard_at: now,
        certainty: Certainty::Certain,
        can_acknowledge: true,
        can_be_withdrawn: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_takes_the_whole_node_when_the_inhibitors_time_is_over() {
        let notice = shutdown(Boottime(5_000), Millis::from_seconds(30));
        assert_eq!(notice.gone_at, Boottime(35_000));
        assert_eq!((notice.leaves, notice.kind), (Leaves::Node, NoticeKind::Shutdown));
        assert!(notice.can_acknowledge, "logind goes on when the inhibitor is given back");
    }
}
