//! Step 4: a notice on the spot node, from the file to the proof that its GPUs are free.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wharfage_billing::timestamp::to_rfc3339;
use wharfage_shared::time::Timestamp;

use super::deploy::show_change;
use super::requests::{Asker, Streamed};
use super::{SEEN_WITHIN, Stage, text, timeline};
use crate::dev::{DescribedNode, ready};
use crate::exit::Failure;

/// The window of the notice.
const WINDOW: Duration = Duration::from_secs(30);

/// Tokens of the stream that is open at T0: about seven seconds of it at 50 a second.
const STREAM_TOKENS: u32 = 350;

/// Lets the notice appear and watches the evacuation to its end.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    stage.say.step(4, "A spot notice: checkpoint, replacement, traffic, drain, stop, proof");
    let node = stage.up().nodes[2].clone();
    let old = replica_on(stage, &node.id).await?;
    let asker = Asker::of(stage)?;
    let (opened, is_open) = tokio::sync::oneshot::channel();
    let streaming = {
        let asker = asker.clone();
        tokio::spawn(async move {
            asker.stream("batch-model", "Tell me a long story", STREAM_TOKENS, opened).await
        })
    };
    let begun = tokio::time::timeout(SEEN_WITHIN, is_open).await;
    let begun = begun
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Failure::check("the stream that shall be open at T0 did not begin"))?;
    stage.say.seen(format!("a stream is open: \"{}...\"", begun.trim()));
    let t0 = Instant::now();
    write_notice(&node)?;
    stage.say.seen(format!("notice file written for {}: gone in {} s", node.id, WINDOW.as_secs()));
    noticed(stage, &node, t0).await?;
    let new = replaced(stage, &node, &old, t0).await?;
    let meanwhile = match streaming.is_finished() {
        false => format!("while {old} finishes its stream"),
        true => format!("and {old} has finished its stream"),
    };
    stage.say.seen(format!("new requests are answered by {new}, {meanwhile}"));
    let streamed = finished(streaming).await?;
    stage.say.seen(format!(
        "the stream that was open at T0 ended complete: {} pieces, [DONE], longest gap {} ms",
        streamed.pieces,
        streamed.longest_gap.as_millis()
    ));
    gone(stage, &node, &old, t0).await
}

async fn replica_on(stage: &Stage, node: &str) -> Result<String, Failure> {
    let rows = stage.rows("/api/v1/replicas", "replicas").await?;
    rows.iter()
        .find(|row| text(row, "node") == node && text(row, "phase") == "ready")
        .map(|row| text(row, "id").to_owned())
        .ok_or_else(|| Failure::check(format!("no ready replica stands on {node}, the spot node")))
}

fn write_notice(node: &DescribedNode) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + WINDOW;
    let gone_at = to_rfc3339(Timestamp(now.as_millis() as i64));
    let notice = json!({ "kind": "preempt", "gone_at": gone_at });
    let part = node.notice_file.with_extension("part");
    std::fs::write(&part, notice.to_string())
        .and_then(|()| std::fs::rename(&part, &node.notice_file))
        .map_err(|error| Failure::check(format!("{}: {error}", node.notice_file.display())))
}

/// The node is noticed and takes nothing new.
async fn noticed(stage: &Stage, node: &DescribedNode, t0: Instant) -> Result<(), Failure> {
    ready::until("the scheduler shows the node under a notice", SEEN_WITHIN, || async {
        let row = stage.node(&node.id).await?;
        Ok((text(&row, "departure") == "noticed").then_some(()))
    })
    .await?;
    stage.say.seen(format!(
        "{} is noticed and takes nothing new, {} ms after the file appeared",
        node.id,
        t0.elapsed().as_millis()
    ));
    Ok(())
}

/// The replacement stands elsewhere, becomes ready and takes the traffic; its id.
async fn replaced(
    stage: &Stage,
    node: &DescribedNode,
    old: &str,
    t0: Instant,
) -> Result<String, Failure> {
    let mut shown = BTreeMap::new();
    let asker = Asker::of(stage)?;
    let deadline = Instant::now() + WINDOW;
    let new = loop {
        let rows = stage.rows("/api/v1/replicas", "replicas").await?;
        let batch: Vec<&Value> =
            rows.iter().filter(|row| text(row, "deployment_name") == "batch").collect();
        for row in &batch {
            show_change(stage, row, &mut shown);
        }
        let ready = batch.iter().find(|row| {
            text(row, "id") != old && text(row, "phase") == "ready" && text(row, "node") != node.id
        });
        if let Some(row) = ready {
            break text(row, "id").to_owned();
        }
        if Instant::now() > deadline {
            return Err(Failure::check("no replacement was ready within the window"));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    stage.say.seen(format!(
        "the replacement {new} is ready {:.1} s after T0",
        t0.elapsed().as_secs_f64()
    ));
    ready::until("traffic moves to the replacement", SEEN_WITHIN, || async {
        let answer = asker.ask("batch-model", "who is there?", 4).await?;
        Ok(answer.contains(&format!("replica {new} ")).then_some(()))
    })
    .await?;
    Ok(new)
}

async fn finished(
    streaming: tokio::task::JoinHandle<Result<Streamed, Failure>>,
) -> Result<Streamed, Failure> {
    let streamed = tokio::time::timeout(WINDOW, streaming)
        .await
        .map_err(|_| Failure::check("the stream that was open at T0 did not end"))?
        .map_err(|error| Failure::check(format!("the stream's reader failed: {error}")))??;
    if streamed.done && streamed.pieces >= STREAM_TOKENS / 2 {
        return Ok(streamed);
    }
    Err(Failure::check(format!("the stream that was open at T0 was cut: {streamed:?}")))
}

/// The process is gone before the deadline and the memory is back; then the timeline.
async fn gone(stage: &Stage, node: &DescribedNode, old: &str, t0: Instant) -> Result<(), Failure> {
    let evacuation = ready::until("the evacuation ends before the deadline", WINDOW, || async {
        let status = status_of(node).await?;
        let evacuation = status.get("evacuation").cloned().unwrap_or(Value::Null);
        Ok(evacuation.get("ended_at").is_some_and(Value::is_number).then_some(evacuation))
    })
    .await?;
    if t0.elapsed() >= WINDOW {
        return Err(Failure::check("the evacuation ended after the deadline"));
    }
    ready::until("the scheduler has the proof in its log", SEEN_WITHIN, || async {
        let rows = stage.rows("/api/v1/replicas", "replicas").await?;
        let left = rows.iter().any(|row| text(row, "id") == old && text(row, "phase") != "stopped");
        Ok((!left).then_some(()))
    })
    .await?;
    let claims = claims(node);
    if claims > 0 {
        return Err(Failure::check(format!("{claims} bytes are still claimed on {}", node.id)));
    }
    stage.say.seen(format!(
        "{old} is gone with proof {:.1} s after T0, its GPU memory is back, {:.1} s to spare",
        t0.elapsed().as_secs_f64(),
        (WINDOW - t0.elapsed()).as_secs_f64()
    ));
    let manifest = manifest(&stage.up().state_dir.join("nodes").join(&node.id))
        .ok_or_else(|| Failure::check("the checkpoint left no manifest.json"))?;
    stage.say.seen(format!("the checkpoint's manifest: {manifest}"));
    stage.say.below(&timeline::draw(&evacuation));
    // The provider takes its node; the notice file goes with it.
    let _ = std::fs::remove_file(&node.notice_file);
    Ok(())
}

/// The agent's own page.
pub async fn status_of(node: &DescribedNode) -> Result<Value, Failure> {
    let url = format!("{}/status", node.status_url);
    let unread = |error: reqwest::Error| Failure::check(format!("{url}: {error}"));
    let answer = reqwest::Client::new().get(&url).timeout(SEEN_WITHIN).send().await;
    answer.map_err(unread)?.json().await.map_err(unread)
}

/// Bytes that processes still claim in the node's GPUs.
fn claims(node: &DescribedNode) -> u64 {
    let Ok(gpus) = std::fs::read_dir(node.fake_dir.join("claims")) else { return 0 };
    let files = gpus.flatten().filter_map(|gpu| std::fs::read_dir(gpu.path()).ok()).flatten();
    files
        .flatten()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file.path()).ok()?;
            text.lines().next()?.trim().parse::<u64>().ok()
        })
        .sum()
}

fn manifest(below: &std::path::Path) -> Option<String> {
    for entry in std::fs::read_dir(below).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| name == "manifest.json") {
            return std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        }
        if path.is_dir()
            && let Some(found) = manifest(&path)
        {
            return Some(found);
        }
    }
    None
}
