//! What the host gives: systemd, control groups, the clock, ports, an agent that runs already.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use wharfage_agent_sys::cgroup::Cgroup;

use super::{Finding, is_run_by_systemd};
use crate::config::Config;
use crate::drivers::{Way, systemd};
use crate::health::socket;

/// Seconds of 2025-01-01: a wall clock before it has lost its battery.
const NOT_BEFORE: u64 = 1_735_689_600;

/// systemd answers at once.
const BUS: Duration = Duration::from_secs(10);

#[zbus::proxy(
    interface = "org.freedesktop.timedate1",
    default_service = "org.freedesktop.timedate1",
    default_path = "/org/freedesktop/timedate1"
)]
trait Clock {
    #[zbus(property, name = "NTPSynchronized")]
    fn ntp_synchronized(&self) -> zbus::Result<bool>;
}

/// How replicas run here, and what contains them.
pub(super) async fn replicas(config: &Config) -> Vec<Finding> {
    match Way::choose(config).await {
        Ok((Way::Systemd(_), _)) => vec![
            Finding::works("systemd", "it runs this host, replicas are units of their own"),
            Finding::works("cgroups", "each replica's unit has a control group of its own"),
        ],
        Ok((Way::Process, None)) => {
            let detail =
                "driver = \"process\": replicas are processes of this host, without limits";
            let help = "leave driver out: replicas become units where systemd runs";
            vec![Finding::limited("systemd", detail, help), cgroups()]
        }
        Ok((Way::Process, Some(why))) => {
            let help = if is_run_by_systemd() {
                "install the package's wharfage-replica@.service, then `systemctl daemon-reload`"
            } else {
                "none needed in a container; on a host boot it with systemd"
            };
            vec![Finding::limited("systemd", why, help), cgroups()]
        }
        Err(why) => {
            let help = "install the package's wharfage-replica@.service, or leave driver out";
            vec![Finding::broken("systemd", why, help), cgroups()]
        }
    }
}

/// For replicas that are processes. It is tried from where this page runs, which may be given more
/// than the agent is.
fn cgroups() -> Finding {
    let help = "on cgroup v2: a drop-in for the agent's unit with Delegate=yes and \
                ProtectControlGroups=no";
    let name = format!("wharfage-doctor-{}", std::process::id());
    let Some(group) = Cgroup::create(&name) else {
        let detail =
            "none can be made from here: replicas are told apart by session and environment";
        return Finding::limited("cgroups", detail, help);
    };
    group.remove();
    if is_run_by_systemd() && !is_in_agents_unit() {
        let detail =
            "one can be made from this shell; whether the agent's unit may is not seen here";
        return Finding::limited("cgroups", detail, help);
    }
    Finding::works("cgroups", "each replica gets a control group of its own")
}

fn is_in_agents_unit() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.contains("wharfage-agent.service")
}

pub(super) async fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let help = "enable systemd-timesyncd or chrony; leases and bills do not need it, certificates \
                and the deadlines of notices do";
    if now.as_secs() < NOT_BEFORE {
        let detail = "the wall clock is years behind: certificates will not be accepted";
        return Finding::broken("clock", detail, help);
    }
    match tokio::time::timeout(BUS, synchronised()).await {
        Ok(Ok(true)) => Finding::works("clock", "the kernel says that it is synchronised"),
        Ok(Ok(false)) => {
            Finding::limited("clock", "the kernel says that nobody keeps it right", help)
        }
        Ok(Err(why)) => {
            let detail = format!("whether it is kept right is not known: {why}");
            Finding::limited("clock", detail, "`chronyc tracking` or `timedatectl` tell")
        }
        Err(_) => {
            let detail = "whether it is kept right is not known: the system bus does not answer";
            Finding::limited("clock", detail, "`chronyc tracking` or `timedatectl` tell")
        }
    }
}

async fn synchronised() -> Result<bool, String> {
    let bus = systemd::connect().await?;
    let asked = async { ClockProxy::new(&bus).await?.ntp_synchronized().await };
    asked.await.map_err(|error| error.to_string())
}

/// Whether an agent runs with this state folder, and whether one could listen.
pub(super) fn agent(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if socket::connect(&config.state_dir).is_ok() {
        let page = config.status.listen;
        let detail = format!("one runs with this state folder; its page is http://{page}/status");
        findings.push(Finding::works("agent", detail));
    } else {
        let detail = "none is heard in this state folder";
        findings.push(Finding::limited("agent", detail, "`systemctl start wharfage-agent`"));
        let listen = config.status.listen;
        if let Err(error) = TcpListener::bind(listen) {
            let detail = format!("status.listen {listen} cannot be had: {error}");
            let help = "free the port (`ss -ltnp`), or name another one";
            findings.push(Finding::broken("agent", detail, help));
        }
    }
    let ip = config.guard_listen_ip;
    if let Err(error) = TcpListener::bind((ip, 0)) {
        let detail = format!("guard_listen_ip {ip} cannot be listened on: {error}");
        findings.push(Finding::broken("agent", detail, "name an address that this host has"));
    }
    let user = config.replicas.user.as_deref();
    if let Some(Err(why)) = user.map(crate::users::User::named) {
        let help = "add it (the package's wharfage.sysusers.conf), or name another user";
        findings.push(Finding::broken("agent", format!("replicas.user: {why}"), help));
    }
    findings
}
