//! Where the node hears that it will be taken away, and where it hears of faults.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use wharfage_agent_sys::clock;
use wharfage_shared::time::Millis;

use super::{Finding, cloud, is_run_by_systemd};
use crate::config::Config;
use crate::health::evidence::inhibitor;
use crate::notices::file::{Look, NoticeFile};
use crate::notices::logind;
use crate::users::User;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(file(config));
    findings.extend(socket(config));
    findings.extend(cloud::look(config).await);
    match config.notices.logind {
        Some(false) => {}
        None if !is_run_by_systemd() => {}
        Some(true) | None => findings.push(shutdowns(config, logind::allowed_delay().await)),
    }
    if findings.is_empty() {
        findings.push(Finding::limited(
            "notices",
            "no source is configured: the node is lost without a warning when it is taken away",
            "set notices.logind = true where systemd runs, notices.cloud where it is a cloud's machine, \
             [notices.file] or [notices.socket]",
        ));
    }
    findings
}

fn file(config: &Config) -> Option<Finding> {
    let path = &config.notices.file.as_ref()?.path;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Err(error) = fs::read_dir(folder) {
        return Some(Finding::broken(
            "notices",
            format!("the folder `{}` cannot be read: {error}", folder.display()),
            "make it, and let the agent's user read it",
        ));
    }
    let at = path.display();
    let detail = match NoticeFile::new(path).look(clock::boottime(), clock::wall()) {
        Look::Alarm(why) => {
            return Some(Finding::broken("notices", why, "correct the file or take it away"));
        }
        Look::Heard { .. } => format!("file `{at}`: it holds a notice now"),
        Look::Same | Look::Withdrawn(_) | Look::Quiet => {
            format!("file `{at}`: its folder can be read, there is no notice")
        }
    };
    Some(Finding::works("notices", detail))
}

fn socket(config: &Config) -> Option<Finding> {
    let socket = config.notices.socket.as_ref()?;
    let folder = socket.path.parent().unwrap_or(Path::new("/"));
    if let Err(error) = fs::read_dir(folder) {
        let detail = format!("the folder `{}` cannot be read: {error}", folder.display());
        return Some(Finding::broken("notices", detail, "make it, and let the agent write there"));
    }
    if let Some(Err(why)) = socket.user.as_deref().map(User::named) {
        let fix = "name a user of this host in notices.socket.user, or leave it out";
        return Some(Finding::broken("notices", why, fix));
    }
    let who = socket.user.as_deref().map_or(String::new(), |user| format!(" and `{user}`"));
    let at = socket.path.display();
    Some(Finding::works("notices", format!("socket `{at}`: root{who} may announce there")))
}

fn shutdowns(config: &Config, delay: Result<Millis, String>) -> Finding {
    let timing = config.timing;
    let steps = [timing.stop_margin_seconds, timing.drain_seconds, timing.stop_seconds];
    let steps: u64 = steps.into_iter().map(u64::from).sum();
    // The gate's own rule: the page must not say that all is well while spot is refused.
    let hooks = inhibitor::needed_seconds(config);
    match delay {
        Ok(delay) if delay.0 / 1000 >= steps.max(hooks) => {
            let detail = format!("a shutdown of this host waits up to {} s", delay.0 / 1000);
            Finding::works("notices", detail)
        }
        Ok(delay) => {
            let waits = delay.0 / 1000;
            let what = match waits < hooks {
                true => format!(
                    "the longest hook and its margin need {hooks} s: gate G18 fails and no spot \
                     replica comes here"
                ),
                false => format!("drain, stop and margin need {steps} s"),
            };
            Finding::limited(
                "notices",
                format!("a shutdown of this host waits up to {waits} s; {what}"),
                format!(
                    "set InhibitDelayMaxSec of logind (the package's wharfage-logind.conf) to at \
                     least {}, then `systemctl kill -s HUP systemd-logind`",
                    steps.max(hooks)
                ),
            )
        }
        Err(why) => {
            let detail = format!("a shutdown of this host would come without a notice: {why}");
            let help = "see whether dbus and systemd-logind run, or set notices.logind = false";
            match config.notices.logind {
                Some(true) => Finding::broken("notices", detail, help),
                Some(false) | None => Finding::limited("notices", detail, help),
            }
        }
    }
}

/// Whether XIDs of the kernel's log are heard.
pub(super) fn kernel_log(config: &Config) -> Finding {
    let path = &config.health.kmsg;
    let at = path.display();
    if !config.health.read_kmsg {
        let detail = "not read (health.read_kmsg = false): XIDs come from NVML only";
        return Finding::limited("kernel log", detail, "set health.read_kmsg = true");
    }
    match opened(path) {
        Ok(()) => Finding::works("kernel log", format!("`{at}` can be read for XIDs")),
        Err(error) => Finding::limited(
            "kernel log",
            format!("`{at}` cannot be read ({error}): XIDs come from NVML only"),
            "run the agent as root or give its unit CAP_SYSLOG; a container needs the device",
        ),
    }
}

fn opened(path: &Path) -> io::Result<()> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    File::options().read(true).custom_flags(flags).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_shutdown_must_wait_for_the_steps_of_a_notice_and_for_the_longest_hook() {
        let folder = Folder::new("doctor-delay");
        let hooks = folder.path().join("hooks.d");
        fs::create_dir(&hooks).expect("made");
        let text = format!(
            "node = \"node-1\"\nstate_dir = \"/s\"\ncache_dir = \"/c\"\nhooks_dir = \"{}\"\n\
             require_root_owned = false\n[timing]\nstop_margin_seconds = 5\n\
             drain_seconds = 30\nstop_seconds = 10\n",
            hooks.display()
        );
        let config: Config = toml::from_str(&text).expect("a configuration");
        let look = |seconds| shutdowns(&config, Ok(Millis::from_seconds(seconds)));
        assert_eq!(look(45).state, State::Works);
        let short = look(44);
        assert_eq!(short.state, State::Limited);
        assert!(short.detail.ends_with("drain, stop and margin need 45 s"), "{}", short.detail);
        let hook = "command = [\"/bin/true\"]\ntimeout_seconds = 60\n";
        fs::write(hooks.join("save.toml"), hook).expect("written");
        let short = look(45);
        assert!(short.detail.contains("need 70 s: gate G18 fails"), "{}", short.detail);
        assert!(short.fix.expect("a fix").contains("at least 70,"));
        assert_eq!(look(70).state, State::Works);
    }
}
