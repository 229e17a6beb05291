//! A fleet of one for the journeys: a scheduler that says what the test wants over real TLS, and
//! the real agent as a real process with fake GPUs and the development engine.

pub mod node;
pub mod scheduler;

use std::time::{Duration, Instant};

/// Everything that a journey waits for comes within this long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `seen` gives something; fails naming what was waited for.
pub fn wait_for<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(Instant::now() < deadline, "not seen in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
