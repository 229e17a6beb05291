//! Records per second through the driver, beside what the disk can do at all.

use std::io::{Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wharfage_scheduler::metrics::cpu_seconds;

use crate::support::{Folder, driver, organization};

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// Writes 4 KiB and syncs, again and again, on the disk that the logs are on: milliseconds each.
pub fn raw_syncs(when: &str) -> f64 {
    let folder = Folder::new("raw");
    let mut file = std::fs::File::create(folder.0.join("raw")).expect("a file");
    let page = [7; 4096];
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < Duration::from_secs(1) {
        if count.is_multiple_of(1024) {
            file.rewind().expect("rewinds");
        }
        file.write_all(&page).expect("writes");
        file.sync_data().expect("syncs");
        count += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (rate, each) = (f64::from(count) / seconds, seconds * 1000.0 / f64::from(count));
    println!("raw 4 KiB write + fdatasync, {when}: {rate:.0}/s, {each:.3} ms each");
    each
}

/// Commands of so many callers at a time, each waiting for its own durable answer.
pub async fn records() {
    println!("callers  records/s  records/commit  CPU us/record");
    for callers in [1u64, 8, 64, 512] {
        let folder = Folder::new("records");
        let driver = driver(&folder.0).await.expect("starts");
        let done = Arc::new(AtomicU64::new(0));
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let (handle, done) = (driver.handle.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for number in 0u64.. {
                        if began.elapsed() > MEASURED {
                            return;
                        }
                        let id = format!("o-{caller}-{number}");
                        handle.submit(organization(&id)).await.expect("carried out");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let records = done.load(Ordering::Relaxed) as f64;
        let text = driver.handle.render_metrics();
        let commits = value(&text, "wharfage_log_commit_seconds_count").max(1.0);
        println!(
            "{callers:7}  {:9.0}  {:14.1}  {:13.1}",
            records / seconds,
            records / commits,
            cpu * 1e6 / records
        );
        driver.stop().await;
    }
}

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}
