//! P4: an agent and its NVML helper at rest, beside node_exporter in the same minute. What the fake
//! driver costs inside the helper is told apart: a real one does other work.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use wharfage_tests::Dev;

use crate::cost::{Cpu, Memory, processes};

/// How long is looked.
const MEASURED: Duration = Duration::from_secs(60);

/// Between two scrapes of the exporter: as often as the agent reports.
const SCRAPE: u64 = 5;

const EXPORTER: &str = "prometheus-node-exporter";

/// Looks for a minute at all of them.
pub async fn measure(dev: &Dev) {
    let agent = dev.daemon("node-1");
    let driver = Driver::counted(dev, agent).await;
    let helper = driver.helper;
    let exporter = Exporter::start().await;
    let mut rows = vec![
        Row::new("agent", &[agent]),
        Row::new("NVML helper, fake driver included", &[helper]),
        Row::new("agent and helper", &[agent, helper]),
        Row::new("scheduler of this one node", &[dev.daemon("scheduler")]),
        Row::new("gateway without requests", &[dev.daemon("gateway")]),
    ];
    if let Some(exporter) = &exporter {
        let pid = exporter.child.id().expect("it runs") as i32;
        rows.push(Row::new(&format!("node_exporter, a scrape each {SCRAPE} s"), &[pid]));
    }
    let http = reqwest::Client::new();
    let (begun, spent) = (Instant::now(), driver.spent());
    let mut seconds = 0;
    while begun.elapsed() < MEASURED {
        tokio::time::sleep(Duration::from_secs(1)).await;
        seconds += 1;
        if let Some(exporter) = exporter.as_ref().filter(|_| seconds % SCRAPE == 0) {
            exporter.scrape(&http).await;
        }
        for row in &mut rows {
            row.cpu.look();
        }
    }
    let took = begun.elapsed();
    let drivers = share(driver.spent() - spent, took);
    println!(
        "at rest for {} s: 8 GPUs, no replica, a heartbeat each {SCRAPE} s",
        MEASURED.as_secs()
    );
    println!("{:<36} {:>8} {:>8} {:>16}", "process", "RSS MiB", "PSS MiB", "CPU % of a core");
    for row in &mut rows {
        row.finish(took);
    }
    println!("{:<36} {:>34.3}", "of the helper: the fake driver", drivers);
    match (&exporter, rows.as_slice()) {
        (Some(_), [.., ours, _, _, theirs]) => println!(
            "agent and helper against node_exporter: memory (PSS) {:.2} x, CPU {:.2} x without the \
             driver, {:.2} x with it",
            ours.memory.pss as f64 / theirs.memory.pss as f64,
            (ours.share - drivers) / theirs.share,
            ours.share / theirs.share,
        ),
        _ => println!("skipped: {EXPORTER} is not installed, so nothing stands beside these"),
    }
}

/// So many nanoseconds as a share of a core, in percent.
fn share(spent: u64, took: Duration) -> f64 {
    spent as f64 * 100.0 / took.as_nanos() as f64
}

/// The fake driver inside a helper that was started to count it.
struct Driver {
    helper: i32,
    cost: PathBuf,
}

impl Driver {
    async fn counted(dev: &Dev, agent: i32) -> Self {
        let folder = dev.node("node-1")["fake_dir"].as_str().expect("a folder");
        let folder = Path::new(folder).join("cost");
        std::fs::create_dir_all(&folder).expect("the fake driver's folder");
        let helpers = || processes(&["nvml-helper"], Some(agent));
        let before = helpers();
        for helper in &before {
            wharfage_tests::signal(*helper, rustix::process::Signal::KILL);
        }
        let found = wharfage_tests::until("a helper that counts its driver", async || {
            let new = *helpers().iter().find(|helper| !before.contains(helper))?;
            Some((new, folder.join(new.to_string()))).filter(|(_, cost)| cost.exists())
        });
        let (helper, cost) = found.await;
        Self { helper, cost }
    }

    /// Nanoseconds until now, but for the last moments.
    fn spent(&self) -> u64 {
        let text = std::fs::read_to_string(&self.cost).expect("the driver's cost");
        text.parse().expect("nanoseconds")
    }
}

struct Row {
    name: String,
    pids: Vec<i32>,
    cpu: Cpu,
    memory: Memory,
    share: f64,
}

impl Row {
    fn new(name: &str, pids: &[i32]) -> Self {
        let cpu = Cpu::of(pids);
        Self {
            name: name.to_owned(),
            pids: pids.to_vec(),
            cpu,
            memory: Memory::default(),
            share: 0.0,
        }
    }

    fn finish(&mut self, took: Duration) {
        self.memory = Memory::of(&self.pids);
        self.share = share(self.cpu.look(), took);
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (rss, pss) = (mib(self.memory.rss), mib(self.memory.pss));
        println!("{:<36} {rss:>8.1} {pss:>8.1} {:>16.3}", self.name, self.share);
    }
}

/// node_exporter with the collectors that it has by itself.
struct Exporter {
    child: Child,
    url: String,
}

impl Exporter {
    /// None where it is not installed.
    async fn start() -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let child = Command::new(EXPORTER)
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let exporter = Self { child, url: format!("http://{address}/metrics") };
        let http = reqwest::Client::new();
        wharfage_tests::until("the exporter answers", async || {
            http.get(&exporter.url).send().await.ok()
        })
        .await;
        Some(exporter)
    }

    async fn scrape(&self, http: &reqwest::Client) {
        let answer = http.get(&self.url).send().await.expect("the exporter answers");
        let page = answer.text().await.expect("a whole page");
        assert!(page.contains("node_cpu_seconds_total"), "the exporter reads the host");
    }
}
