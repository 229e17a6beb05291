//! The heartbeat: taken in at once, answered at once when there is news, else held open.
//!
//! A full disk keeps facts from being written, not nodes from being alive: then the answer renews
//! the lease and says nothing new.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use wharfage_scheduler_core::{Heard, Reply};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::order::Desired;
use wharfage_shared::time::Millis;
use wharfage_shared::version::Epoch;

use super::State;
use super::enroll::check_protocol;
use super::peer::Node;
use super::problem::{Problem, whole};
use crate::driver::{News, SubmitError};
use crate::telemetry::NodeTelemetry;

/// The largest heartbeat without an inventory.
pub const STEADY_BYTES: usize = 64 << 10;

/// `POST /agent/v1/heartbeat`.
pub async fn take(
    Shared(state): Shared<State>,
    Node(node): Node,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    let began = Instant::now();
    let body = whole(body)?;
    let heartbeat: Heartbeat = state.read("heartbeat", &body)?;
    check_protocol(heartbeat.protocol)?;
    if heartbeat.node != node {
        let detail = format!("node {node} cannot report for node {}", heartbeat.node);
        return Err(Problem::not_yours(detail));
    }
    if heartbeat.inventory.is_none() && body.len() > STEADY_BYTES {
        let detail = format!("{} bytes without an inventory; at most {STEADY_BYTES}", body.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
    }
    let beat = state.handle.beat(&node);
    let asked = Asked::of(&heartbeat);
    let told = NodeTelemetry::of(&heartbeat, state.handle.now());
    let reply = state.handle.observe(Heard::Heartbeat(Box::new(heartbeat))).await;
    let mut answer = match reply {
        Ok(Reply::Heartbeat(answer)) => *answer?,
        Ok(Reply::Segments(_) | Reply::Gateway(_)) => {
            unreachable!("the controller answers a heartbeat with a heartbeat's answer")
        }
        Err(SubmitError::DiskFull) => asked.kept_alive(&state)?,
        Err(error) => return Err(error.into()),
    };
    // An older start of the agent has no say, in numbers neither.
    if asked.epoch == Some(answer.epoch) {
        state.telemetry.keep(&node, told);
    }
    state.handle.metrics().machine_request("heartbeat", began.elapsed());
    if asked.may_be_held(&answer) {
        let held = Duration::from_millis(answer.next_in.0);
        let news = beat.wait_for(|| asked.newer(&state));
        tokio::select! {
            news = news => match news {
                News::Arrived(desired) => answer.desired = Some(desired),
                News::Overtaken => {}
            },
            () = tokio::time::sleep(held) => {}
            () = state.shutdown.cancelled() => {}
        }
        answer.now = state.handle.now();
        answer.held = Millis(began.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
    }
    // The hold is the interval: whoever was answered comes back at once to be held again, so that
    // news never waits for a heartbeat.
    answer.next_in = Millis(0);
    Ok(Json(answer))
}

/// What of a heartbeat decides how it is answered.
struct Asked {
    node: wharfage_shared::ids::NodeId,
    epoch: Option<Epoch>,
    persisted: wharfage_shared::version::DesiredVersion,
    at_once: bool,
}

impl Asked {
    fn of(heartbeat: &Heartbeat) -> Self {
        Self {
            node: heartbeat.node.clone(),
            epoch: heartbeat.epoch,
            persisted: heartbeat.persisted,
            at_once: heartbeat.answer_at_once,
        }
    }

    /// Whether there is nothing in the answer that the agent waits for.
    fn may_be_held(&self, answer: &HeartbeatAnswer) -> bool {
        !self.at_once
            && answer.desired.is_none()
            && !answer.send_inventory
            && !answer.send_health
            && self.epoch == Some(answer.epoch)
    }

    /// The node's desired state, once it is newer than what the agent has and durable.
    fn newer(&self, state: &State) -> Option<Desired> {
        let view = state.handle.view();
        let generation = view.fleet().node(&self.node)?.generation;
        if view.term() == self.persisted.term && generation <= self.persisted.generation {
            return None;
        }
        view.desired(&self.node).filter(|desired| desired.version > self.persisted)
    }

    /// The answer while nothing can be written: the lease goes on, nothing else changes.
    fn kept_alive(&self, state: &State) -> Result<HeartbeatAnswer, Problem> {
        let view = state.handle.view();
        let known = view.fleet().node(&self.node).map(|row| row.epoch);
        let Some(epoch) = known.filter(|known| Some(*known) == self.epoch) else {
            // A new start of an agent needs a number, and numbers are facts.
            return Err(SubmitError::DiskFull.into());
        };
        let policy = state.handle.policy();
        Ok(HeartbeatAnswer {
            term: view.term(),
            epoch,
            lease: policy.lease(),
            next_in: Millis::from_seconds(policy.heartbeat_interval_seconds.into()),
            now: state.handle.now(),
            held: Millis(0),
            segments: None,
            desired: None,
            send_inventory: false,
            send_health: false,
        })
    }
}
