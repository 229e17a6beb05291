//! `cargo bench -p wharfage-scheduler --bench driver`: durable records, heartbeats, and how soon
//! an agent holds a command. Disk figures stand beside the raw syncs of the same run.

mod disk;
mod heartbeats;
mod held;
#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/driver/machine.rs"]
mod machine;
#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/driver/node.rs"]
mod node;
#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/driver/support.rs"]
mod support;

fn main() {
    wharfage_link::tls::install();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if heartbeats::is_child() {
        return runtime.block_on(heartbeats::child());
    }
    // A part by its name: `-- heartbeats`.
    let parts: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    runtime.block_on(async {
        if is_asked("records") {
            disk::raw_syncs("before");
            disk::records().await;
        }
        if is_asked("held") {
            disk::raw_syncs("between");
            held::commands().await;
            disk::raw_syncs("after");
        }
        if is_asked("heartbeats") {
            heartbeats::steady().await;
        }
    });
}

/// The value below which so many of a hundred lie.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}
