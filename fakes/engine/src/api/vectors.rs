//! `/v1/embeddings`: the same text has the same vector, of length one.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::answer::{CONTEXT_TOKENS, Script, count};

use super::Engine;
use super::problem::Problem;
use super::request::Body;

const DIMENSIONS: usize = 64;

/// Texts in one request, as OpenAI bounds them.
const MOST_TEXTS: usize = 2048;

/// `POST /v1/embeddings`.
pub async fn embed(
    State(engine): State<Arc<Engine>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let body = Body::parse(body, &engine.model)?;
    let texts = texts(&body)?;
    let is_packed = match body.value("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(Problem::field("encoding_format", "must be `float` or `base64`")),
    };
    let tokens: u32 = texts.iter().map(|text| count(text)).sum();
    // It takes a turn like any request, but generates nothing.
    let script =
        Script { prompt_tokens: tokens, tokens: Vec::new(), finish: crate::meter::Finish::Stop };
    let _turn = engine.stage.begin(script).await;
    let rows: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text);
            let value = if is_packed { json!(packed(&vector)) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": value})
        })
        .collect();
    Ok(Json(json!({
        "id": engine.new_id("embd"),
        "object": "list",
        "created": super::unix_seconds(),
        "model": engine.model,
        "data": rows,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// `input`: a text, texts, token ids, or several lists of them.
fn texts(body: &Body) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::field("input", "must be a text, token ids, or a list of up to 2048");
    let ids = |parts: &[Value]| {
        let words: Option<Vec<String>> =
            parts.iter().map(|id| id.as_u64().map(|id| id.to_string())).collect();
        words.filter(|words| !words.is_empty()).map(|words| words.join(" "))
    };
    let texts = match body.value("input").ok_or_else(wrong)? {
        Value::String(text) => vec![text.clone()],
        Value::Array(parts) if parts.first().is_some_and(Value::is_u64) => {
            vec![ids(parts).ok_or_else(wrong)?]
        }
        Value::Array(parts) if (1..=MOST_TEXTS).contains(&parts.len()) => {
            let texts = parts.iter().map(|part| match part {
                Value::String(text) => Some(text.clone()),
                Value::Array(parts) => ids(parts),
                _ => None,
            });
            texts.collect::<Option<Vec<String>>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    if texts.iter().any(|text| text.is_empty() || count(text) > CONTEXT_TOKENS) {
        let message = format!("must not be empty and have at most {CONTEXT_TOKENS} tokens");
        return Err(Problem::field("input", message));
    }
    Ok(texts)
}

/// Spreads the words over the dimensions, so that texts that share words are near.
fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; DIMENSIONS];
    for word in text.split_whitespace() {
        // FNV-1a.
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let place = hash as usize % DIMENSIONS;
        vector[place] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// OpenAI's packed form: little-endian floats in base64.
fn packed(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
