//! `/v1/chat/completions` and `/v1/completions`, whole or as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body as ResponseBody, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::answer::{Generation, Script};

use super::problem::Problem;
use super::request::{Ask, Body};
use super::shape::{Kind, Shape};
use super::{Engine, unix_seconds};

/// `POST /v1/chat/completions`.
pub async fn chat(
    State(engine): State<Arc<Engine>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let ask = Ask::chat(&Body::parse(body, &engine.model)?)?;
    Ok(answer(&engine, Kind::Chat, &ask).await)
}

/// `POST /v1/completions`.
pub async fn text(
    State(engine): State<Arc<Engine>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let ask = Ask::text(&Body::parse(body, &engine.model)?)?;
    Ok(answer(&engine, Kind::Text, &ask).await)
}

/// A client that goes away drops this future or the stream, and with it the generation.
async fn answer(engine: &Engine, kind: Kind, ask: &Ask) -> Response {
    let prefix = match kind {
        Kind::Chat => "chatcmpl",
        Kind::Text => "cmpl",
    };
    let shape = Shape {
        kind,
        id: engine.new_id(prefix),
        created: unix_seconds(),
        model: engine.model.clone(),
        tells_usage: ask.tells_usage,
    };
    let mut generation = engine.stage.begin(script(engine, ask)).await;
    if ask.streams {
        return stream(shape, generation);
    }
    let mut text = String::new();
    while let Some(token) = generation.next().await {
        text.push_str(&token);
    }
    Json(shape.whole(&text, generation.finish(), generation.usage())).into_response()
}

/// An ordered answer is said as it is; one without order repeats the prompt and, when a limit was
/// named, goes on to it, so that a test can ask for a generation of any length.
fn script(engine: &Engine, ask: &Ask) -> Script {
    let text = engine.answer.as_deref().unwrap_or(&ask.echo);
    let text = match &engine.replica {
        Some(replica) => format!("replica {replica} answers: {text}"),
        None => text.to_owned(),
    };
    let mut bounds = ask.bounds.clone();
    bounds.goes_on &= engine.answer.is_none();
    Script::new(&ask.prompt, &text, &bounds)
}

/// What a stream sends next.
enum Next {
    Opening,
    Token,
    Closing,
    Usage,
    Done,
    End,
}

fn stream(shape: Shape, generation: Generation) -> Response {
    let events = futures_util::stream::unfold(
        (Next::Opening, shape, generation),
        |(next, shape, mut generation)| async move {
            let (event, next) = event(next, &shape, &mut generation).await?;
            Some((Ok::<_, Infallible>(event), (next, shape, generation)))
        },
    );
    let head = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (head, ResponseBody::from_stream(events)).into_response()
}

async fn event(next: Next, shape: &Shape, generation: &mut Generation) -> Option<(Bytes, Next)> {
    let mut next = next;
    loop {
        match next {
            Next::Opening => {
                if let Some(chunk) = shape.opening() {
                    return Some((line(&chunk), Next::Token));
                }
                next = Next::Token;
            }
            Next::Token => match generation.next().await {
                Some(token) => return Some((line(&shape.token(&token)), Next::Token)),
                None => next = Next::Closing,
            },
            Next::Closing => {
                let after = if shape.tells_usage { Next::Usage } else { Next::Done };
                return Some((line(&shape.closing(generation.finish())), after));
            }
            Next::Usage => return Some((line(&shape.usage(generation.usage())), Next::Done)),
            Next::Done => return Some((Bytes::from_static(b"data: [DONE]\n\n"), Next::End)),
            Next::End => return None,
        }
    }
}

fn line(chunk: &Value) -> Bytes {
    Bytes::from(format!("data: {chunk}\n\n"))
}
