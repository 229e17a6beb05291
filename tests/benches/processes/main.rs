//! `cargo bench -p wharfage-tests --bench processes`: what the real programs cost, and how soon
//! they act, seen from outside.
//!
//! One node with eight fake GPUs under `wharfage dev`. Costs are read from `/proc`, moments come
//! from the kernel (a program was opened to be executed): nothing here is the product's own claim.
//! A part runs alone by its name: `-- resting`, `notices`, `creates`, `gateway`, `health`,
//! `rate`.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench stops at the first thing unseen")]

mod cost;
mod creates;
mod gateway;
mod health;
mod notices;
mod opened;
mod proxy;
mod rate;
mod resting;

use std::path::PathBuf;
use std::time::Duration;

use wharfage_tests::Dev;

const FLEET: &str = "[[node]]\nsku = \"gd-8xh100ib-i128\"\nzone = \"US-EAST-04A\"\n\
                     load_seconds = 0.05\n";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some(engine) = proxy::is_child() {
        return runtime.block_on(proxy::serve(engine));
    }
    let parts: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if is_asked("rate") {
        rate::measure();
    }
    if parts == ["rate"] {
        return;
    }
    runtime.block_on(async {
        let fleet = FleetFile::new();
        let path = fleet.0.to_str().expect("a temporary path is text");
        let dev = Dev::start_with(&["--nodes", path]).await;
        if is_asked("resting") {
            resting::measure(&dev).await;
        }
        if is_asked("creates") {
            creates::measure(&dev).await;
        }
        if is_asked("notices") {
            notices::measure(&dev).await;
        }
        if is_asked("gateway") {
            gateway::measure(&dev).await;
        }
        // The last: its GPUs stay closed for a while.
        if is_asked("health") {
            health::measure(&dev).await;
        }
        let scheduler = cost::Memory::of(&[dev.daemon("scheduler")]);
        println!("scheduler after all this, 1 node: {scheduler}");
        dev.stop().await;
    });
}

/// The fleet's file, removed at the end.
struct FleetFile(PathBuf);

impl FleetFile {
    fn new() -> Self {
        let name = format!("wharfage-bench-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, FLEET).expect("the temporary folder can be written");
        Self(path)
    }
}

impl Drop for FleetFile {
    fn drop(&mut self) {
        // A file left in the temporary folder harms nobody.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Prints what so many moments took.
fn report(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    let last = took.len();
    println!(
        "{what}: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, largest of {last} {:.1} ms",
        at(50),
        at(90),
        at(99),
        at(100)
    );
}
