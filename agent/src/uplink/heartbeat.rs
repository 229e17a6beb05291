//! Heartbeats, segments and renewal.
//!
//! A report may be held open by the scheduler; a newer one may overtake it on a second
//! connection. Leases count from the sending, which is written into the report itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wharfage_link::Decoder;
use wharfage_link::client::{ClientError, MachineClient};
use wharfage_link::enroll;
use wharfage_link::identity::IdentityDir;
use wharfage_shared::causes::with_causes;
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::segment::SegmentBatch;
use wharfage_shared::time::Millis;

use crate::runtime::Ask;

/// Longer than the scheduler holds a report, shorter than the control lease.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);

/// The scheduler writes segments to its log before it answers.
const SEGMENTS_TIMEOUT: Duration = Duration::from_secs(30);

/// The first pause after a failed report; doubled up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause after a failed report: well inside the control lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// No answer makes the agent report more often than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Reports in flight: one held, one that overtakes it.
const MOST_IN_FLIGHT: usize = 2;

/// How often closed segments are looked for that were sent and never acknowledged; a new one rings.
const SEGMENTS_LOOK: Duration = Duration::from_secs(10);

/// How often the certificate's age is looked at.
const RENEWAL_LOOK: Duration = Duration::from_secs(30);

/// What the line needs.
pub struct Line {
    /// The scheduler, `host:port`.
    pub address: String,
    /// The node's identity.
    pub identity: IdentityDir,
    /// Reads the answers.
    pub decoder: Decoder,
    /// Where reports are made and answers are heard.
    pub asks: mpsc::Sender<Ask>,
    /// Rung when a report must not wait.
    pub report_now: Arc<Notify>,
    /// Rung when a closed segment may be sent.
    pub segment_closed: Arc<Notify>,
}

impl Line {
    /// A client of the scheduler. The error is one sentence: TLS cannot be set up at all.
    pub fn client(&self) -> Result<MachineClient, String> {
        let client = MachineClient::new(self.identity.clone(), self.address.clone());
        let client = client.map_err(|error| with_causes(&error))?;
        Ok(client.reading_with(self.decoder.clone()))
    }
}

type Outcome = (Heartbeat, Result<HeartbeatAnswer, ClientError>);

/// Talks to the scheduler until `stop`. The error is one sentence: TLS cannot be set up at all.
pub async fn run(line: Line, stop: CancellationToken) -> Result<(), String> {
    let client = || line.client().map(Arc::new);
    let mut idle = vec![client()?, client()?];
    tokio::spawn(renew(client()?, line.identity.clone(), stop.clone()));
    let closed = Arc::clone(&line.segment_closed);
    tokio::spawn(send_segments(client()?, line.asks.clone(), closed, stop.clone()));
    let mut in_flight: JoinSet<(Arc<MachineClient>, Outcome)> = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    let mut next = Instant::now();
    let mut at_once = true;
    loop {
        if at_once && in_flight.len() < MOST_IN_FLIGHT {
            at_once = false;
            send(&line, &mut idle, &mut in_flight, true).await;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = line.report_now.notified() => at_once = true,
            () = tokio::time::sleep_until(next), if in_flight.is_empty() => {
                send(&line, &mut idle, &mut in_flight, false).await;
            }
            Some(done) = in_flight.join_next() => {
                let Ok((client, (sent, outcome))) = done else { continue };
                idle.push(client);
                match outcome {
                    Ok(answer) => {
                        pause = FIRST_PAUSE;
                        next = Instant::now() + jittered(answer.next_in);
                        let ask = Ask::Answered { sent: Box::new(sent), answer: Box::new(answer) };
                        if line.asks.send(ask).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        tracing::warn!("a heartbeat brought no answer: {error}");
                        next = Instant::now() + pause;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        // Whatever was urgent is in the next report too.
                        at_once = false;
                    }
                }
            }
        }
    }
}

async fn send(
    line: &Line,
    idle: &mut Vec<Arc<MachineClient>>,
    in_flight: &mut JoinSet<(Arc<MachineClient>, Outcome)>,
    answer_at_once: bool,
) {
    let (reply, heartbeat) = oneshot::channel();
    if line.asks.send(Ask::Heartbeat { answer_at_once, reply }).await.is_err() {
        return;
    }
    let (Ok(heartbeat), Some(client)) = (heartbeat.await, idle.pop()) else { return };
    in_flight.spawn(async move {
        let path = "/agent/v1/heartbeat";
        let answer = client.post_json(path, &heartbeat, HEARTBEAT_TIMEOUT).await;
        (client, (heartbeat, answer))
    });
}

/// Within a tenth of what the scheduler asked for, so that agents do not march in step.
fn jittered(wanted: Millis) -> Duration {
    let mut random = [0; 2];
    // Without random numbers every agent keeps the plain interval: nothing breaks.
    let _ = getrandom::fill(&mut random);
    let share = u64::from(u16::from_le_bytes(random)) * 200 / 65_536;
    let millis = wanted.0.saturating_mul(900 + share) / 1000;
    Duration::from_millis(millis).max(SHORTEST_PAUSE)
}

async fn renew(client: Arc<MachineClient>, identity: IdentityDir, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEWAL_LOOK) => {}
        }
        let is_due = identity.load().is_ok_and(|known| known.needs_renewal(SystemTime::now()));
        if !is_due {
            continue;
        }
        match enroll::renew(&client, "/agent/v1/renew", &identity).await {
            Ok(()) => tracing::info!("the node's certificate was renewed"),
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(%error, "the node's certificate cannot be renewed");
            }
        }
    }
}

/// Sends closed segments until the scheduler has acknowledged them in a heartbeat's answer.
async fn send_segments(
    client: Arc<MachineClient>,
    asks: mpsc::Sender<Ask>,
    closed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // After a failure the pause is kept: a scheduler that is away is not pressed.
            () = closed.notified(), if pause == SEGMENTS_LOOK => {}
            () = tokio::time::sleep(pause) => {}
        }
        let (reply, batch) = oneshot::channel();
        if asks.send(Ask::Segments { reply }).await.is_err() {
            return;
        }
        let Ok(Some(batch)) = batch.await else {
            pause = SEGMENTS_LOOK;
            continue;
        };
        let path = "/agent/v1/segments";
        let sent =
            client.post_json::<SegmentBatch, serde_json::Value>(path, &batch, SEGMENTS_TIMEOUT);
        match sent.await {
            Ok(_) => {
                // The acknowledgement comes with a heartbeat's answer; until then do not repeat.
                let (log, up_to) = match batch.segments.last() {
                    Some(last) => (last.key.log.clone(), last.key.number),
                    None => continue,
                };
                drop(asks.send(Ask::SegmentsSent { log, up_to }).await);
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                tracing::warn!("segments were not taken: {error}");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
