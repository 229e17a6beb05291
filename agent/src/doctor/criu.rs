//! Whether CRIU works here, where it is installed: checkpoint hooks that keep a process's memory on
//! disk rest on it.
//!
//! A process of its own asks, with a deadline: it forks, traces and mounts to find out.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::Finding;

/// It takes a fraction of a second.
const DEADLINE: Duration = Duration::from_secs(10);

const HELP: &str = "run `criu check` by hand as root; CRIU 4 or later knows current kernels";

/// Nothing where it is not installed: hooks need it only if their owner wrote them so.
pub(super) async fn look() -> Option<Finding> {
    let mut command = Command::new("criu");
    command.arg("check").stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let asked = match tokio::time::timeout(DEADLINE, command.output()).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(asked) => asked,
        Err(_) => {
            let detail = format!("`criu check` does not end within {} s", DEADLINE.as_secs());
            return Some(Finding::limited("checkpoint", detail, HELP));
        }
    };
    Some(match asked {
        Ok(output) if output.status.success() => {
            Finding::works("checkpoint", format!("`criu check`: {}", last_words(&output)))
        }
        Ok(output) => {
            let detail = format!(
                "`criu check` fails: {}; hooks that need CRIU do not work here",
                last_words(&output)
            );
            Finding::limited("checkpoint", detail, HELP)
        }
        Err(error) => {
            let detail = format!("`criu check` cannot be started: {error}");
            Finding::limited("checkpoint", detail, HELP)
        }
    })
}

/// Its last line, wherever it wrote it.
fn last_words(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    let mut lines = said.iter().flat_map(|said| said.lines()).map(str::trim);
    let last = lines.rfind(|line| !line.is_empty());
    last.map_or_else(|| output.status.to_string(), str::to_owned)
}
