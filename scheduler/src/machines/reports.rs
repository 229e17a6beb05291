//! What agents hand in besides heartbeats: closed segments and the end of replicas' output.

use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use wharfage_scheduler_core::{Heard, Reply};
use wharfage_shared::logs::LogLines;
use wharfage_shared::segment::{SEGMENTS_PER_BATCH, SegmentBatch, SegmentsAcknowledged};

use super::State;
use super::peer::Node;
use super::problem::{Problem, whole};

/// `POST /agent/v1/segments`: acknowledged once they are in the log.
pub async fn segments(
    Shared(state): Shared<State>,
    Node(node): Node,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SegmentsAcknowledged>, Problem> {
    let batch: SegmentBatch = state.read("segments", &whole(body)?)?;
    if batch.segments.len() > SEGMENTS_PER_BATCH {
        let count = batch.segments.len();
        let detail = format!("segments: {count} in one batch; at most {SEGMENTS_PER_BATCH}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
    }
    if let Some(foreign) = batch.segments.iter().find(|segment| segment.key.node != node) {
        let whose = &foreign.key.node;
        return Err(Problem::not_yours(format!("node {node} cannot report for node {whose}")));
    }
    match state.handle.observe(Heard::Segments { node, batch }).await? {
        Reply::Segments(acknowledged) => Ok(Json(acknowledged?)),
        Reply::Heartbeat(_) | Reply::Gateway(_) => {
            unreachable!("the controller answers segments with their acknowledgement")
        }
    }
}

/// `POST /agent/v1/logs`: the end of a replica's output, kept in memory only.
pub async fn logs(
    Shared(state): Shared<State>,
    Node(node): Node,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let told: LogLines = state.read("logs", &whole(body)?)?;
    let view = state.handle.view();
    let replica = view.fleet().replica(told.replica);
    if !replica.is_some_and(|row| row.nodes().any(|on| *on == node)) {
        let replica = told.replica;
        return Err(Problem::not_yours(format!("replica {replica} does not stand on node {node}")));
    }
    state.telemetry.output(told.replica, told.lines);
    state.telemetry.forget_output(|replica| view.fleet().replica(replica).is_some());
    Ok(StatusCode::NO_CONTENT)
}
