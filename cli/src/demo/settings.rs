//! Step 3: Baseten's documented call, byte for byte as its cURL sends it.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SEEN_WITHIN, Stage, text};
use crate::exit::Failure;

/// The call's `--data`, with its line breaks.
const DATA: &str = r#"{
  "min_replica": 0,
  "max_replica": 7,
  "autoscaling_window": 600,
  "scale_down_delay": 120,
  "concurrency_target": 2,
  "target_utilization_percentage": 70,
  "target_in_flight_tokens": 40000
}"#;

/// Sends it twice.
pub async fn run(stage: &mut Stage) -> Result<(), Failure> {
    stage
        .say
        .step(3, "Baseten's autoscaling call, as its cURL sends it (form content type included)");
    for expected in ["ACCEPTED", "UNCHANGED"] {
        let answer = patch(stage, "chat-model", DATA).await?;
        let (status, message) = (text(&answer, "status"), text(&answer, "message"));
        stage.say.seen(format!("{status}: {message}"));
        if status != expected || message.is_empty() {
            return Err(Failure::check(format!(
                "{expected} with a message was expected: {answer}"
            )));
        }
    }
    Ok(())
}

/// The call with this body; the answer as JSON.
pub async fn patch(stage: &Stage, model: &str, data: &str) -> Result<Value, Failure> {
    let host = stage.up().scheduler_url.trim_start_matches("http://").to_owned();
    let head = format!(
        "PATCH /v1/models/{model}/deployments/development/autoscaling_settings HTTP/1.1\r\n\
         Host: {host}\r\nAccept: */*\r\nAuthorization: Api-Key {}\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n",
        stage.up().token,
        data.len(),
    );
    let exchange = async {
        let mut socket = TcpStream::connect(&host).await?;
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(data.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(SEEN_WITHIN, exchange)
        .await
        .map_err(|_| Failure::check("the autoscaling call was not answered"))?
        .map_err(|error| Failure::check(format!("the autoscaling call: {error}")))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if !answer.starts_with("HTTP/1.1 200") {
        let first = answer.lines().next().unwrap_or_default();
        return Err(Failure::check(format!("the autoscaling call gave {first}: {body}")));
    }
    serde_json::from_str(body)
        .map_err(|error| Failure::check(format!("the answer is no JSON ({error}): {body}")))
}
