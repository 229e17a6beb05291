//! Replicas as instances of the packaged template `wharfage-replica@.service`, ordered about over
//! D-Bus.
//!
//! The agent may crash, be killed or be upgraded: the units go on. It names nothing but instances
//! of this template, so a rule that lets it do only that is enough. Each question opens a
//! connection of its own: starts are rare, and a bus that was restarted needs no special case.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use wharfage_shared::ids::ReplicaId;
use zbus::{Connection, OwnedObjectPath, Variant};

use crate::pci::Pci;

/// The template's name before the instance.
const TEMPLATE: &str = "wharfage-replica@";

/// systemd answers at once; a bus that hangs must not hold the agent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// From the order to start a unit to its first instruction.
const JOB_DEADLINE: Duration = Duration::from_secs(20);

/// A command of a unit as systemd tells it: program, arguments and eight figures of its last run.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// A unit as systemd lists it.
type Row =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], names: &[&str]) -> zbus::Result<Vec<Row>>;
    fn get_unit_processes(&self, name: &str) -> zbus::Result<Vec<(String, u32, String)>>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn load_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property)]
    fn exec_start(&self) -> zbus::Result<Vec<Command>>;
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
}

/// The units of this host's replicas: made only where they can be.
#[derive(Clone, Debug)]
pub struct Units(());

/// Whether a replica's unit runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Something of it lives, or is being started or ended.
    Running,
    /// Nothing of it lives.
    Gone {
        /// How systemd says that it ended.
        how: String,
    },
}

/// What the node's owner grants one replica of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most memory.
    pub memory_max_mib: Option<u64>,
    /// Its share of the processors against others'.
    pub cpu_weight: Option<u32>,
    /// Where it may run and have its memory.
    pub near: Near,
}

/// The processors and the memory beside some GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// Processors; empty = all.
    pub cpus: Vec<u32>,
    /// NUMA nodes whose memory is used; empty = all.
    pub nodes: Vec<u32>,
}

impl Units {
    /// The units of a host whose template reads the parameters of replicas in `state_dir`, or one
    /// sentence why replicas cannot be units here.
    pub async fn of_host(state_dir: &Path) -> Result<Self, String> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err("systemd does not run on this host".to_owned());
        }
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        let failed = |error: zbus::Error| format!("systemd does not answer on D-Bus: {error}");
        // Loading an instance reads the template and starts nothing.
        let probe = unit_name(ReplicaId(0));
        let path = manager.load_unit(&probe).await.map_err(failed)?;
        let unit = UnitProxy::new(&bus, path.clone()).await.map_err(failed)?;
        if unit.load_state().await.map_err(failed)? != "loaded" {
            return Err("the template `wharfage-replica@.service` is not installed".to_owned());
        }
        let service = ServiceProxy::new(&bus, path).await.map_err(failed)?;
        let commands = service.exec_start().await.map_err(failed)?;
        let wanted = crate::guard::record::Folder::of(state_dir, ReplicaId(0)).params_path();
        let reads_it =
            |command: &Command| command.1.iter().any(|part| Path::new(part) == wanted.as_path());
        if !commands.iter().any(reads_it) {
            return Err(format!(
                "the template `wharfage-replica@.service` does not read `{}`: its --params must \
                 follow state_dir",
                wanted.display()
            ));
        }
        Ok(Self(()))
    }

    /// Starts a replica's guard and waits until it executes.
    pub async fn start(&self, replica: ReplicaId, limits: &Limits) -> Result<(), String> {
        let name = unit_name(replica);
        let failed = |error: zbus::Error| format!("its unit `{name}` cannot be started: {error}");
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        grant(&manager, &name, limits).await.map_err(failed)?;
        manager.subscribe().await.map_err(failed)?;
        // Heard from before the order: the job may be over before its name is known.
        let mut removed = manager.receive_job_removed().await.map_err(failed)?;
        let job = manager.start_unit(&name, "fail").await.map_err(failed)?;
        let done = async {
            while let Some(signal) = removed.next().await {
                let Ok(said) = signal.args() else { continue };
                if said.job == job {
                    return said.result.clone();
                }
            }
            "the bus was closed".to_owned()
        };
        match tokio::time::timeout(JOB_DEADLINE, done).await {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                Err(format!("its unit `{name}` did not start ({result}): see journalctl -u {name}"))
            }
            Err(_) => {
                Err(format!("its unit `{name}` was not up within {} s", JOB_DEADLINE.as_secs()))
            }
        }
    }

    /// Grants a running replica this much from now on.
    pub async fn limit(&self, replica: ReplicaId, limits: &Limits) -> Result<(), String> {
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        let granted = grant(&manager, &unit_name(replica), limits).await;
        granted.map_err(|error| format!("the limits of {replica} cannot be set: {error}"))
    }

    /// Whether anything of a replica's unit lives. A bus that does not answer says nothing of it.
    pub async fn state(&self, replica: ReplicaId) -> Result<UnitState, String> {
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        let gone = |how: &str| Ok(UnitState::Gone { how: how.to_owned() });
        let path = match manager.get_unit(&unit_name(replica)).await {
            Ok(path) => path,
            Err(error) if is_unknown_unit(&error) => return gone("its unit has ended"),
            Err(error) => return Err(said(error)),
        };
        let unit = UnitProxy::new(&bus, path.clone()).await.map_err(said)?;
        match unit.active_state().await.as_deref() {
            Ok("inactive") => gone("its unit has ended"),
            Ok("failed") => {
                let service = ServiceProxy::new(&bus, path).await.map_err(said)?;
                let result = service.result().await.unwrap_or_else(|_| "failed".to_owned());
                gone(&format!("its unit has failed: {result}"))
            }
            Ok(_) => Ok(UnitState::Running),
            // It was collected between the two questions.
            Err(error) if is_unknown_unit(error) => gone("its unit has ended"),
            Err(error) => Err(said(error.clone())),
        }
    }

    /// The processes in a replica's control group; none when it has no unit any more.
    pub async fn processes(&self, replica: ReplicaId) -> Result<Vec<u32>, String> {
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        match manager.get_unit_processes(&unit_name(replica)).await {
            Ok(rows) => Ok(rows.into_iter().map(|(_, pid, _)| pid).collect()),
            Err(error) if is_unknown_unit(&error) => Ok(Vec::new()),
            Err(error) => Err(format!("systemd does not say what lives of {replica}: {error}")),
        }
    }

    /// Ends everything of a replica at once; one that has no unit needs nothing.
    pub async fn kill(&self, replica: ReplicaId) -> Result<(), String> {
        const SIGKILL: i32 = 9;
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        match manager.kill_unit(&unit_name(replica), "all", SIGKILL).await {
            Ok(()) => Ok(()),
            Err(error) if is_unknown_unit(&error) => Ok(()),
            Err(error) => Err(format!("its unit cannot be ended: {error}")),
        }
    }

    /// The replicas whose units live.
    pub async fn list(&self) -> Result<Vec<ReplicaId>, String> {
        let bus = connect().await?;
        let manager = manager(&bus).await?;
        let pattern = format!("{TEMPLATE}*.service");
        let rows = manager
            .list_units_by_patterns(&[], &[&pattern])
            .await
            .map_err(|error| format!("systemd does not list the replicas' units: {error}"))?;
        let lives = |row: &Row| !matches!(row.3.as_str(), "inactive" | "failed");
        Ok(rows.iter().filter(|row| lives(row)).filter_map(|row| replica_of(&row.0)).collect())
    }

    /// Leaves nothing of an ended replica behind. Its limits went with its unit, which removes
    /// them itself: no rule could let an agent that is not root do it for these units alone.
    pub async fn forget(&self, replica: ReplicaId) {
        let Ok(bus) = connect().await else { return };
        let Ok(manager) = manager(&bus).await else { return };
        // A unit that ended well is forgotten already.
        drop(manager.reset_failed_unit(&unit_name(replica)).await);
    }
}

async fn grant(manager: &ManagerProxy<'_>, unit: &str, limits: &Limits) -> zbus::Result<()> {
    let properties = limits.properties();
    if properties.is_empty() {
        return Ok(());
    }
    manager.set_unit_properties(unit, true, &properties).await
}

impl Limits {
    fn properties(&self) -> Vec<(&'static str, Variant<'static>)> {
        let mut properties = Vec::new();
        if let Some(mib) = self.memory_max_mib {
            properties.push(("MemoryMax", Variant::from(mib.saturating_mul(1024 * 1024))));
        }
        if let Some(weight) = self.cpu_weight {
            properties.push(("CPUWeight", Variant::from(u64::from(weight))));
        }
        for (name, allowed) in
            [("AllowedCPUs", &self.near.cpus), ("AllowedMemoryNodes", &self.near.nodes)]
        {
            if !allowed.is_empty() {
                properties.push((name, Variant::from(mask(allowed))));
            }
        }
        properties
    }
}

impl Near {
    /// What the kernel says is beside these PCI addresses; all where it does not say it of each: a
    /// GPU whose place is not known may be anywhere. `sys` is where the kernel says it.
    pub fn to(addresses: &[String], sys: &Path) -> Self {
        let devices = sys.join("bus/pci/devices");
        let of_each = |name: &str| -> Option<BTreeSet<u32>> {
            let mut all = BTreeSet::new();
            for address in addresses {
                let text = devices.join(Pci::parse(address)?.kernel()).join(name);
                // A device of no node has the number -1, which is no list.
                all.extend(cpu_list(&std::fs::read_to_string(text).ok()?)?);
            }
            Some(all)
        };
        // A node without memory of its own could hold none of the replica's.
        let has_memory = || {
            let text = std::fs::read_to_string(sys.join("devices/system/node/has_memory")).ok()?;
            cpu_list(&text)
        };
        let nodes = of_each("numa_node").filter(|nodes| {
            has_memory().is_some_and(|has| nodes.iter().all(|node| has.contains(node)))
        });
        let numbers =
            |found: Option<BTreeSet<u32>>| found.unwrap_or_default().into_iter().collect();
        Self { cpus: numbers(of_each("local_cpulist")), nodes: numbers(nodes) }
    }
}

/// `0-3,8` as its numbers.
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    /// More processors than any host has.
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn mask(cpus: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in cpus {
        let (byte, bit) = ((cpu / 8) as usize, cpu % 8);
        if bytes.len() <= byte {
            bytes.resize(byte + 1, 0);
        }
        bytes[byte] |= 1 << bit;
    }
    bytes
}

/// A connection to the system's bus, or one sentence.
pub(crate) async fn connect() -> Result<Connection, String> {
    let connecting =
        async { zbus::connection::Builder::system().method_timeout(TIMEOUT).build().await };
    match tokio::time::timeout(TIMEOUT, connecting).await {
        Ok(Ok(bus)) => Ok(bus),
        Ok(Err(error)) => Err(format!("the system bus cannot be reached: {error}")),
        Err(_) => Err(format!("the system bus did not answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn manager(bus: &Connection) -> Result<ManagerProxy<'static>, String> {
    ManagerProxy::new(bus).await.map_err(said)
}

fn said(error: zbus::Error) -> String {
    format!("systemd does not answer on D-Bus: {error}")
}

/// Whether systemd has answered that it knows no such unit: the only word that means that it is gone.
fn is_unknown_unit(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, _, _) => {
            name.as_str() == "org.freedesktop.systemd1.NoSuchUnit"
        }
        zbus::Error::FDO(known) => match known.as_ref() {
            zbus::fdo::Error::UnknownObject(_) => true,
            zbus::fdo::Error::ZBus(inner) => is_unknown_unit(inner),
            _ => false,
        },
        _ => false,
    }
}

fn unit_name(replica: ReplicaId) -> String {
    format!("{TEMPLATE}{replica}.service")
}

fn replica_of(unit: &str) -> Option<ReplicaId> {
    unit.strip_prefix(TEMPLATE)?.strip_suffix(".service")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::repeatable;

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn a_list_of_processors_reads_as_it_was_written(
            cpus in prop::collection::btree_set(0u32..300, 0..40), any in "[0-9,-]{0,24}|\\PC{0,12}",
        ) {
            let mut parts: Vec<(u32, u32)> = Vec::new();
            for cpu in &cpus {
                match parts.last_mut() {
                    Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
                    Some(_) | None => parts.push((*cpu, *cpu)),
                }
            }
            let text = |(first, last): &(u32, u32)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            let list = parts.iter().map(text).collect::<Vec<_>>().join(",");
            let all: Vec<u32> = cpus.into_iter().collect();
            prop_assert_eq!(cpu_list(&format!("{list}\n")), Some(all.clone()));
            let bits = mask(&all);
            let set = (0..300).filter(|cpu| {
                bits.get(*cpu as usize / 8).is_some_and(|byte| byte & (1 << (cpu % 8)) != 0)
            });
            prop_assert_eq!(set.collect::<Vec<u32>>(), all);
            prop_assert!(cpu_list(&any).is_none_or(|cpus| cpus.iter().all(|cpu| *cpu < 1 << 16)));
        }
    }

    #[test]
    fn a_unit_is_named_after_its_replica_and_read_back() {
        assert_eq!(unit_name(ReplicaId(7)), "wharfage-replica@r-7.service");
        assert_eq!(replica_of("wharfage-replica@r-7.service"), Some(ReplicaId(7)));
        for other in ["wharfage-replica@.service", "wharfage-replica@x.service", "ssh.service"] {
            assert_eq!(replica_of(other), None, "{other}");
        }
    }

    #[test]
    fn processors_are_a_mask_with_one_bit_each_and_a_strange_list_is_none() {
        assert_eq!(cpu_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list(""), Some(Vec::new()));
        for strange in ["3-1", "a", "1-", "0-99999999", "-1"] {
            assert_eq!(cpu_list(strange), None, "{strange}");
        }
        assert_eq!(mask(&[0, 1, 2, 3, 8]), [0b1111, 0b1]);
    }

    #[test]
    fn only_systemds_own_word_means_that_a_unit_is_gone() {
        let silent = [
            zbus::Error::Failure("nothing".to_owned()),
            std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            std::io::Error::from(std::io::ErrorKind::BrokenPipe).into(),
            zbus::fdo::Error::NoReply("silent".to_owned()).into(),
            zbus::fdo::Error::ServiceUnknown("no systemd".to_owned()).into(),
            zbus::fdo::Error::AccessDenied("not yours".to_owned()).into(),
        ];
        for error in silent {
            assert!(!is_unknown_unit(&error), "{error}");
        }
        let collected = zbus::fdo::Error::UnknownObject("collected".to_owned());
        assert!(is_unknown_unit(&collected.into()));
        let answered = |name: &str| {
            let reply = zbus::Message::method_call("/", "Get").build(&()).expect("a message");
            let name = zbus::names::OwnedErrorName::try_from(name).expect("a name");
            is_unknown_unit(&zbus::Error::MethodError(name, None, reply))
        };
        assert!(answered("org.freedesktop.systemd1.NoSuchUnit"));
        assert!(!answered("org.freedesktop.systemd1.LoadFailed"));
        assert!(!answered("org.freedesktop.DBus.Error.NoReply"));
    }

    #[test]
    fn a_replica_is_bound_to_what_is_beside_all_of_its_gpus_and_to_nothing_that_is_not_known() {
        let sys = std::env::temp_dir().join(format!("wharfage-near-{}", std::process::id()));
        let says = |path: &str, text: &str| {
            let path = sys.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        says("devices/system/node/has_memory", "0-1\n");
        for (gpu, cpus, node) in
            [("1b", "0-1\n", "0\n"), ("43", "2-3,8\n", "1\n"), ("60", "4\n", "2\n")]
        {
            says(&format!("bus/pci/devices/0000:{gpu}:00.0/local_cpulist"), cpus);
            says(&format!("bus/pci/devices/0000:{gpu}:00.0/numa_node"), node);
        }
        says("bus/pci/devices/0000:70:00.0/local_cpulist", "5\n");
        says("bus/pci/devices/0000:70:00.0/numa_node", "-1\n");
        let near = |gpus: &[&str]| {
            let gpus: Vec<_> = gpus.iter().map(|gpu| format!("00000000:{gpu}:00.0")).collect();
            let near = Near::to(&gpus, &sys);
            (near.cpus, near.nodes)
        };
        let seen = [&["1B"][..], &["1B", "43"], &["60"], &["1B", "70"], &["1B", "99"]].map(near);
        std::fs::remove_dir_all(&sys).expect("removed");
        assert_eq!(seen[0], (vec![0, 1], vec![0]));
        assert_eq!(seen[1], (vec![0, 1, 2, 3, 8], vec![0, 1]));
        assert_eq!(seen[2], (vec![4], Vec::new()), "a node without memory binds none");
        assert_eq!(seen[3], (vec![0, 1, 5], Vec::new()), "a GPU of no node");
        assert_eq!(seen[4], (Vec::new(), Vec::new()), "a GPU of which the kernel says nothing");
    }

    #[test]
    fn an_address_of_nvml_is_the_kernels_and_leads_nowhere_else() {
        let address = |nvml| Pci::parse(nvml).map(Pci::kernel);
        assert_eq!(address("00000000:1B:00.0").as_deref(), Some("0000:1b:00.0"));
        for strange in ["", "1B", "0000:../../x", "0000:1b:../x", "zz:1B:00.0"] {
            assert_eq!(address(strange), None, "{strange}");
        }
    }
}
