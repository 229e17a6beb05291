//! `wharfage events`: facts as they happen, one JSON object a line.

use futures_util::StreamExt;

use crate::client::Client;
use crate::exit::Failure;

/// Prints facts until Ctrl-C, or until `count` are printed.
pub async fn follow(
    client: &Client,
    since: Option<u64>,
    count: Option<u64>,
) -> Result<(), Failure> {
    let path = match since {
        Some(position) => format!("/api/v1/events?since={position}"),
        None => "/api/v1/events".to_owned(),
    };
    let mut stream = client.stream(&path).await?.bytes_stream();
    let mut left = count.unwrap_or(u64::MAX);
    let mut pending = Vec::new();
    while left > 0 {
        let Some(chunk) = stream.next().await else {
            return Err(Failure::unavailable("the scheduler ended the stream"));
        };
        let chunk = chunk.map_err(|error| {
            Failure::unavailable(format!("the stream of events broke off: {error}"))
        })?;
        pending.extend_from_slice(&chunk);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(fact) = line.trim_end().strip_prefix("data:") {
                println!("{}", fact.trim_start());
                left = left.saturating_sub(1);
            }
        }
    }
    Ok(())
}
