//! The paths that clients call: OpenAI's, Baseten's, and the gateway's own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::json;

use crate::auth::authenticate;
use crate::counts::Wait;
use crate::errors::Problem;
use crate::gateway::Gateway;
use crate::proxy::{Call, answer, wake};
use crate::selection::{Asked, INFERENCE_PATHS, predict_path, split_path};

/// The largest body of a request.
pub const LARGEST_BODY: usize = 16 << 20;

/// How much of a body that is too large is still read, so that its sender reads the refusal.
const READ_ANYWAY: usize = 64 << 20;

/// A whole body has this long, a body that is too large as well.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

type Shared = State<Arc<Gateway>>;

/// All routes of the gateway.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let mut router = Router::new();
    for path in INFERENCE_PATHS {
        let infer = move |State(gateway): Shared, request: Request<Body>| async move {
            let answered = infer(&gateway, path, request).await;
            finish(&gateway, answered)
        };
        router = router.route(path, post(infer));
    }
    router
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .route("/models/{model}/{word}/{verb}", post(by_word))
        .route("/models/{model}/{kind}/{name}/{verb}", post(by_kind))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(fallback)
        .method_not_allowed_fallback(async |State(gateway): Shared| {
            finish(&gateway, Err(Problem::wrong_method()))
        })
        .with_state(gateway)
}

/// Counts what leaves.
fn finish(gateway: &Gateway, answered: Result<Response<Body>, Problem>) -> Response<Body> {
    let response = answered.unwrap_or_else(IntoResponse::into_response);
    gateway.metrics.answered(response.status());
    response
}

async fn infer(
    gateway: &Arc<Gateway>,
    path: &'static str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let table = gateway.table();
    let key = authenticate(&table, &parts.headers)?;
    let body = read(&parts.headers, body).await?;
    let asked = Asked::from_request(&table, &key.organization, &parts.headers, &body)?;
    answer(gateway, Call { key, asked, path, headers: parts.headers, body }).await
}

/// Paths that no route knows: with a front door that routes by path, `/<model>/v1/...`.
async fn fallback(State(gateway): Shared, request: Request<Body>) -> Response<Body> {
    let answered = infer_by_path(&gateway, request).await;
    finish(&gateway, answered)
}

async fn infer_by_path(
    gateway: &Arc<Gateway>,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let full = parts.uri.path();
    let unknown = || Problem::unknown_path(full);
    let (model, path) = split_path(full).ok_or_else(unknown)?;
    if parts.method != Method::POST {
        return Err(Problem::wrong_method());
    }
    let table = gateway.table();
    let key = authenticate(&table, &parts.headers)?;
    if !table.routes_by_path(&key.organization) {
        return Err(unknown());
    }
    let body = read(&parts.headers, body).await?;
    let asked = Asked::Path { model };
    answer(gateway, Call { key, asked, path, headers: parts.headers, body }).await
}

/// Baseten's `/models/{model}/{production|development}/{predict|wake}`.
async fn by_word(
    State(gateway): Shared,
    Path((model, word, verb)): Path<(String, String, String)>,
    request: Request<Body>,
) -> Response<Body> {
    let known = matches!(word.as_str(), "production" | "development");
    let asked = known.then_some(Asked::Environment { model, environment: word });
    let answered = baseten(&gateway, asked, &verb, request).await;
    finish(&gateway, answered)
}

/// Baseten's `/models/{model}/{environments/E|deployment/D}/{predict|wake}`.
async fn by_kind(
    State(gateway): Shared,
    Path((model, kind, name, verb)): Path<(String, String, String, String)>,
    request: Request<Body>,
) -> Response<Body> {
    let asked = match kind.as_str() {
        "environments" => Some(Asked::Environment { model, environment: name }),
        "deployment" => Some(Asked::Deployment { model, id: name }),
        _ => None,
    };
    let answered = baseten(&gateway, asked, &verb, request).await;
    finish(&gateway, answered)
}

async fn baseten(
    gateway: &Arc<Gateway>,
    asked: Option<Asked>,
    verb: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let Some(asked) = asked else { return Err(Problem::unknown_path(parts.uri.path())) };
    let table = gateway.table();
    let key = authenticate(&table, &parts.headers)?;
    match verb {
        "predict" => {
            let body = read(&parts.headers, body).await?;
            let path = predict_path(&body)?;
            answer(gateway, Call { key, asked, path, headers: parts.headers, body }).await
        }
        "wake" => {
            let found = table.find(&key.organization, &asked);
            let Some(first) = found.first() else {
                return Err(Problem::model_not_found(asked.model()));
            };
            // One wish is enough, and what waits already is one.
            if first.replicas.is_empty() && !gateway.counts.is_waited_for(&first.id) {
                let limit = gateway.bounds.queue_limit;
                let waiting = gateway
                    .counts
                    .wait(&first.id, Wait::Parked, limit)
                    .map_err(|_| Problem::queue_full(limit))?;
                tokio::spawn(wake(Arc::clone(gateway), key, asked, waiting));
            }
            Ok(StatusCode::ACCEPTED.into_response())
        }
        _ => Err(Problem::unknown_path(parts.uri.path())),
    }
}

/// The whole body, if it is not too large.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<usize>().ok());
    // Who asks before sending is told before sending.
    if announced.is_some_and(|length| length > LARGEST_BODY) && headers.contains_key(header::EXPECT)
    {
        return Err(Problem::too_large(LARGEST_BODY));
    }
    let read = read_frames(body);
    tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(Problem::slow_body()))
}

async fn read_frames(mut body: Body) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("The request's body did not arrive whole: {error}.");
            Problem::bad_body("incomplete_body", None, message)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > READ_ANYWAY {
            return Err(Problem::too_large(LARGEST_BODY));
        }
        if length > LARGEST_BODY {
            rest.clear();
        } else if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            // Most bodies are one frame and are never copied.
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    if length > LARGEST_BODY {
        return Err(Problem::too_large(LARGEST_BODY));
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// `GET /v1/models`: the models of the caller's organization.
async fn models(State(gateway): Shared, headers: HeaderMap) -> Response<Body> {
    let table = gateway.table();
    let answered = authenticate(&table, &headers).map(|key| {
        let owner = key.organization.as_str();
        let models: Vec<_> =
            table.models(&key.organization).map(|model| entry(model, owner)).collect();
        Json(json!({"object": "list", "data": models})).into_response()
    });
    finish(&gateway, answered)
}

/// `GET /v1/models/{model}`.
async fn model(
    State(gateway): Shared,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let table = gateway.table();
    let answered = authenticate(&table, &headers).and_then(|key| {
        let found = table.models(&key.organization).find(|model| *model == wanted);
        let model = found.ok_or_else(|| Problem::model_not_found(&wanted))?;
        Ok(Json(entry(model, key.organization.as_str())).into_response())
    });
    finish(&gateway, answered)
}

fn entry(model: &str, owner: &str) -> serde_json::Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": owner})
}

async fn metrics(State(gateway): Shared) -> Response<Body> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], gateway.metrics.text(&gateway)).into_response()
}

/// Ready once there are routes; how the scheduler is reached is told, and does not matter.
async fn healthz(State(gateway): Shared) -> Response<Body> {
    let table = gateway.table();
    let scheduler = if gateway.is_connected() { "connected" } else { "unreachable" };
    let status = if table.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let word = if table.is_empty() { "no_routes" } else { "ok" };
    let body = json!({"status": word, "routes": table.version, "scheduler": scheduler});
    (status, Json(body)).into_response()
}
