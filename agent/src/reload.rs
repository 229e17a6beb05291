//! `agent.toml` read again while the agent runs (SIGHUP): a good file counts from now on, a bad one
//! changes nothing. Replicas are not touched either way.

use std::path::Path;

use wharfage_shared::causes::with_causes;

use crate::config::Config;

/// The new settings, or one sentence why the old ones stay.
pub fn read_again(path: &Path, now: &Config) -> Result<Config, String> {
    let new = Config::load(path).map_err(|error| with_causes(&error))?;
    crate::health::policy::load(new.health.xid_policy.as_deref())?;
    let changed = changed_for_a_restart(now, &new);
    if changed.is_empty() {
        return Ok(new);
    }
    Err(format!(
        "`{}`: {} can only be changed by restarting the agent (replicas go on)",
        path.display(),
        changed.join(", ")
    ))
}

/// Keys that this process is built around and that differ.
fn changed_for_a_restart(now: &Config, new: &Config) -> Vec<&'static str> {
    // The words of `Debug` differ when the values do; nobody reads them.
    let fixed = |config: &Config| {
        [
            ("node", format!("{:?}", config.node)),
            ("pool", format!("{:?}", config.pool)),
            ("state_dir", format!("{:?}", config.state_dir)),
            ("driver", format!("{:?}", config.driver)),
            ("nvml", format!("{:?}", config.nvml)),
            ("notices", format!("{:?}", config.notices)),
            ("health.kmsg", format!("{} {:?}", config.health.read_kmsg, config.health.kmsg)),
            ("status", format!("{:?}", config.status)),
        ]
    };
    let pairs = fixed(now).into_iter().zip(fixed(new));
    pairs.filter(|(old, new)| old.1 != new.1).map(|(old, _)| old.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, fifo};

    const OLD: &str = "node = \"node-1\"\nstate_dir = \"/s\"\ncache_dir = \"/c\"\n";

    #[test]
    fn a_good_file_counts_and_a_bad_one_says_what_is_wrong_with_it() {
        let folder = Folder::new("reload");
        let path = folder.path().join("agent.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write(OLD);
        let now = Config::load(&path).expect("good");
        write(&format!("{OLD}[timing]\ndrain_seconds = 9\n"));
        assert_eq!(read_again(&path, &now).expect("good").timing.drain_seconds, 9);
        for (text, expected) in [
            (format!("{OLD}colour = 1\n"), "unknown field `colour`"),
            (OLD.replace("node-1", "Node 1"), "node: `Node 1` is no name"),
            (
                format!("{}[status]\nlisten = \"127.0.0.1:1\"\n", OLD.replace("/s", "/t")),
                "state_dir, status can only be changed by restarting the agent",
            ),
        ] {
            write(&text);
            let said = read_again(&path, &now).expect_err("refused");
            assert!(said.contains(expected), "{said}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(read_again(&path, &now).expect_err("gone").contains("cannot read"));
        fifo(&path);
        assert!(read_again(&path, &now).expect_err("a pipe").contains("it is no plain file"));
    }
}
