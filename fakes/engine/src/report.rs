//! Progress on standard output: one JSON object a line, for the agent's log.

use std::io::Write;

use serde::Serialize;

/// Where the engine stands.
#[derive(Debug, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Progress<'a> {
    /// The address is taken; nothing listens there yet.
    Starting { port: u16, model: &'a str, gpus: &'a [String] },
    /// Bytes of the model that were read.
    Loading { bytes: u64, total: u64 },
    /// Requests are answered.
    Ready { url: &'a str },
    /// No new connections; what is in flight goes on.
    Stopping { in_flight: u32 },
    /// The end.
    Stopped,
}

/// Prints one line. Nobody reading is no reason to fail.
pub fn print(progress: &Progress<'_>) {
    if let Ok(line) = serde_json::to_string(progress) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
