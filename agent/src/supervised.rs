//! What systemd is told of this process, where it asked to be told: that it is ready, what it does,
//! and that its decisions go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::clock;
use wharfage_shared::time::{Boottime, Millis};

/// The last moment at which the node's decisions were alive.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// They are alive now.
    pub fn beat(&self) {
        self.0.store(clock::boottime().0, Ordering::Relaxed);
    }

    /// How long they have been silent; nothing before the first beat.
    fn silent_for(&self, now: Boottime) -> Option<Millis> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            at => Some(now.since(Boottime(at))),
        }
    }
}

/// A limit on the size of files (`LimitFSIZE=`) must be an error like that of a full disk, which is
/// told and tried again, not the end of this process: the signal is taken and means nothing more.
pub fn outlive_file_limit() -> io::Result<Signal> {
    const SIGXFSZ: i32 = 25;
    signal(SignalKind::from_raw(SIGXFSZ))
}

/// The agent is up, and does this.
pub fn ready(doing: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(doing)]);
}

/// One line for `systemctl status`.
pub fn status(doing: &str) {
    tell(&[NotifyState::Status(doing)]);
}

/// The agent ends, for this reason.
pub fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(why)]);
}

/// Tells the watchdog that the decisions go on, as long as they do. Before their first beat the
/// agent joins, which may wait for a scheduler for hours.
pub async fn feed_watchdog(pulse: Pulse, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let longest = Millis(u64::try_from(limit.as_millis() / 2).unwrap_or(u64::MAX));
    let mut tick = tokio::time::interval((limit / 4).max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if is_fed(pulse.silent_for(clock::boottime()), longest) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn is_fed(silent_for: Option<Millis>, longest: Millis) -> bool {
    silent_for.is_none_or(|silent| silent <= longest)
}

fn tell(words: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and a manager that cannot hear changes nothing here.
    drop(sd_notify::notify(words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_while_joining_and_while_the_decisions_go_on_and_then_no_more() {
        let pulse = Pulse::default();
        let longest = Millis(15_000);
        assert!(is_fed(pulse.silent_for(Boottime(1_000_000)), longest), "it still joins");
        pulse.beat();
        let beat = Boottime(pulse.0.load(Ordering::Relaxed));
        assert!(is_fed(pulse.silent_for(beat + Millis(15_000)), longest));
        assert!(!is_fed(pulse.silent_for(beat + Millis(15_001)), longest));
    }
}
