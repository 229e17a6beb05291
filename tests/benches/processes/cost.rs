//! What processes cost, as the kernel counts it.

use std::collections::BTreeMap;
use std::fmt;

/// Memory of some processes together, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, pages that are shared counted by their share.
    pub pss: u64,
}

impl Memory {
    /// Reads it now.
    pub fn of(pids: &[i32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = std::fs::read_to_string(&path).expect("the process lives and is ours");
            let kib = |key: &str| {
                let line = text.lines().find(|line| line.starts_with(key));
                let number = line.and_then(|line| line.split_whitespace().nth(1));
                number.and_then(|number| number.parse::<u64>().ok()).expect("KiB of a process")
            };
            sum.rss += kib("Rss:");
            sum.pss += kib("Pss:");
        }
        sum
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(out, "RSS {:.1} MiB, PSS {:.1} MiB", mib(self.rss), mib(self.pss))
    }
}

/// CPU time of some processes since this was made, in nanoseconds.
///
/// `/proc/<pid>/stat` counts in hundredths of a second, too coarse for a program at rest, so each
/// thread's own count is followed. What a thread did after the last look before its end is missed.
pub struct Cpu {
    pids: Vec<i32>,
    threads: BTreeMap<(i32, i32), (u64, u64)>,
}

impl Cpu {
    /// Starts to count.
    pub fn of(pids: &[i32]) -> Self {
        let mut cpu = Self { pids: pids.to_vec(), threads: BTreeMap::new() };
        for (thread, spent) in cpu.seen() {
            cpu.threads.insert(thread, (spent, spent));
        }
        cpu
    }

    /// Looks again and gives the sum so far.
    pub fn look(&mut self) -> u64 {
        for (thread, spent) in self.seen() {
            self.threads.entry(thread).or_insert((0, 0)).1 = spent;
        }
        self.threads.values().map(|(first, last)| last - first).sum()
    }

    fn seen(&self) -> Vec<((i32, i32), u64)> {
        let mut seen = Vec::new();
        for pid in &self.pids {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            for entry in tasks.expect("the process lives").flatten() {
                // A thread may end between the two reads.
                let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                    continue;
                };
                let thread = entry.file_name().to_str().and_then(|name| name.parse().ok());
                let spent = text.split_whitespace().next().and_then(|first| first.parse().ok());
                seen.push(((*pid, thread.expect("a number")), spent.expect("nanoseconds")));
            }
        }
        seen
    }
}

/// Processes whose arguments hold all of these words, children of `parent` if one is named.
pub fn processes(words: &[&str], parent: Option<i32>) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let arguments = arguments(pid);
        let is_child = parent.is_none_or(|parent| parent_of(pid) == Some(parent));
        if is_child && words.iter().all(|word| arguments.iter().any(|it| it.contains(word))) {
            found.push(pid);
        }
    }
    found
}

/// The arguments of a process; none when it has ended.
pub fn arguments(pid: i32) -> Vec<String> {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = raw.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}

/// CPU seconds of the children of this process that have ended and were waited for.
pub fn children_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields = stat.rsplit_once(") ").expect("a stat line").1;
    // `cutime` and `cstime`, which Linux gives in hundredths of a second.
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a count")).sum::<f64>() / 100.0
}
