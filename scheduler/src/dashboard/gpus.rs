//! GPUs as small bars: memory filled from below, utilization beside it.
//!
//! Drawn as SVG with plain attributes, because the page's policy allows no inline style.

use maud::{Markup, html};

use crate::http::rows::node::{Gpu, Row};

const TALL: u32 = 44;
const MEMORY: u32 = 16;
const USE: u32 = 5;
const STEP: u32 = 29;

/// A reading older than this is drawn pale: three missed heartbeats.
const STALE_MS: u64 = 15_000;

/// One node's GPUs.
pub fn bars(node: &Row) -> Markup {
    let width = STEP * u32::try_from(node.gpus.len()).unwrap_or(0).max(1);
    html! {
        svg.gpus viewBox=(format!("0 0 {width} {TALL}")) width=(width) height=(TALL) role="img"
            aria-label=(summary(&node.gpus)) {
            @for (at, gpu) in (0..).zip(&node.gpus) { (bar(at * STEP, gpu)) }
        }
        p.numbers { (summary(&node.gpus)) }
    }
}

fn bar(x: u32, gpu: &Gpu) -> Markup {
    let memory = share(gpu.memory_used_mib, gpu.memory_mib);
    let used = u32::from(gpu.utilization.unwrap_or(0).min(100));
    let (filled, busy) = (height(memory.unwrap_or(0)), height(used));
    let stale = gpu.age_ms.is_some_and(|age| age > STALE_MS);
    let look = match (gpu.trouble.is_some() || gpu.unfit.is_some(), gpu.in_use) {
        (true, _) => "gpu trouble",
        (false, true) => "gpu held",
        (false, false) => "gpu free",
    };
    html! {
        g class=(look) data-stale[stale] {
            title { (told(gpu)) }
            rect.room x=(x) y="0" width=(MEMORY) height=(TALL) rx="2" {}
            @if gpu.in_use && memory.is_none() {
                rect.others x=(x) y="0" width=(MEMORY) height=(TALL) rx="2" {}
            }
            rect.memory x=(x) y=(TALL - filled) width=(MEMORY) height=(filled) rx="2" {}
            rect.room x=(x + MEMORY + 2) y="0" width=(USE) height=(TALL) rx="1.5" {}
            rect.busy x=(x + MEMORY + 2) y=(TALL - busy) width=(USE) height=(busy) rx="1.5" {}
        }
    }
}

/// Percent of a bar's height; what is not nothing is seen.
fn height(percent: u32) -> u32 {
    if percent == 0 { 0 } else { (TALL * percent / 100).max(1) }
}

fn share(used: Option<u64>, all: Option<u64>) -> Option<u32> {
    let (used, all) = (used?, all.filter(|all| *all > 0)?);
    u32::try_from((used * 100 / all).min(100)).ok()
}

fn told(gpu: &Gpu) -> String {
    let mut text = format!("{} {}", gpu.name, gpu.uuid);
    if let (Some(used), Some(all)) = (gpu.memory_used_mib, gpu.memory_mib) {
        text.push_str(&format!("\nmemory {used} of {all} MiB"));
    }
    if let Some(utilization) = gpu.utilization {
        text.push_str(&format!("\nutilization {utilization} %"));
    }
    match (&gpu.replica, gpu.in_use) {
        (Some(replica), _) => text.push_str(&format!("\nheld by {replica}")),
        (None, true) => text.push_str("\nin use"),
        (None, false) => text.push_str("\nfree"),
    }
    if let Some(because) = gpu.unfit.as_ref().or(gpu.trouble.as_ref()).or(gpu.unread.as_ref()) {
        text.push_str(&format!("\n{because}"));
    }
    text
}

/// The same as a sentence, for those who do not see bars.
fn summary(gpus: &[Gpu]) -> String {
    if gpus.is_empty() {
        return "no GPUs reported".to_owned();
    }
    let held = gpus.iter().filter(|gpu| gpu.in_use).count();
    let used: u64 = gpus.iter().filter_map(|gpu| gpu.memory_used_mib).sum();
    let all: u64 = gpus.iter().filter_map(|gpu| gpu.memory_mib).sum();
    let read: Vec<u64> = gpus.iter().filter_map(|gpu| gpu.utilization).map(u64::from).collect();
    let mut text = format!("{held} of {} GPUs in use", gpus.len());
    if all > 0 {
        text.push_str(&format!(" · {} of {} GiB", used / 1024, all / 1024));
    }
    if !read.is_empty() {
        let mean = read.iter().sum::<u64>() / read.len() as u64;
        text.push_str(&format!(" · {mean} % busy"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_not_be_read_is_told_where_nothing_worse_is_and_marks_no_trouble() {
        let mut gpu = Gpu {
            uuid: "GPU-1".into(),
            name: "H100".to_owned(),
            in_use: false,
            replica: None,
            memory_mib: Some(81_559),
            memory_used_mib: Some(4),
            utilization: None,
            temperature_c: None,
            power_mw: None,
            age_ms: Some(5),
            trouble: None,
            unread: Some("no data (power_mw: nvmlDeviceGetPowerUsage returned 21)".to_owned()),
            unfit: None,
        };
        assert!(told(&gpu).ends_with("\nno data (power_mw: nvmlDeviceGetPowerUsage returned 21)"));
        assert!(bar(0, &gpu).into_string().starts_with("<g class=\"gpu free\">"));
        gpu.trouble = Some("the GPU is lost".to_owned());
        assert!(told(&gpu).ends_with("\nthe GPU is lost"));
    }
}
