//! What was measured, as the lines that `docs/benchmarks.md` shows.

use std::fmt;
use std::time::Duration;

use wharfage_agent_sys::nvml::Versions;

/// The lines so far.
#[derive(Default)]
pub struct Figures {
    lines: Vec<String>,
}

impl Figures {
    /// Adds a line.
    pub fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The driver that all of them are about.
    pub fn host(&mut self, versions: &Versions) {
        let told = |version: &Option<String>| version.clone().unwrap_or("unknown".to_owned());
        let (driver, cuda, nvml) =
            (told(&versions.driver), told(&versions.cuda), told(&versions.nvml));
        self.add(format!("driver {driver}, CUDA {cuda}, NVML {nvml}"));
    }

    /// What one reading costs on a GPU of this name. GPUs of one name are one line.
    pub fn cost_of_reading(&mut self, name: &str, (wall, cpu): (Duration, Duration)) {
        let line = |line: &String| line.starts_with(&format!("{name}: "));
        if !self.lines.iter().any(line) {
            let (wall, cpu) = (milliseconds(wall), milliseconds(cpu));
            self.add(format!("{name}: one reading takes {wall} ms, {cpu} ms of them CPU"));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// Two decimals are more than a wall clock is worth here.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}

/// CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of a process's threads so far; threads that ended are not in it.
pub fn process_cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let spent = tasks.into_iter().flatten().flatten().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// Memory of a process, shared pages by their share, in KiB.
pub fn process_pss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
