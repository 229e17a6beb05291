//! What a client sees: shapes, streams, counts and refusals.

use crate::support::{Engine, events, until};
use http_body_util::BodyExt;
use serde_json::{Value, json};

fn chat(more: &Value) -> String {
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": "hello you"}]});
    let more = more.as_object().expect("more fields");
    body.as_object_mut().expect("it is one").extend(more.clone());
    body.to_string()
}

const FAST: [&str; 2] = ["--tokens-per-second", "10000"];

#[tokio::test]
async fn an_answer_has_openai_s_shape_and_names_the_replica() {
    let engine = Engine::ready("shape", &FAST).await;
    let answer = engine.json("/v1/chat/completions", &chat(&json!({}))).await;
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "chat");
    assert_eq!(answer["choices"][0]["message"]["content"], "replica chat-1 answers: hello you");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = json!({"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7});
    assert_eq!(answer["usage"], usage);

    let answer = engine.json("/v1/chat/completions", &chat(&json!({"max_tokens": 1}))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let answer = engine.json("/v1/chat/completions", &chat(&json!({"max_tokens": 40}))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 40, "the length is the client's choice");

    let answer = engine.json("/v1/completions", r#"{"model":"chat","prompt":"tide"}"#).await;
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    let text = answer["choices"][0]["text"].as_str().expect("it is text");
    assert!(text.starts_with("replica chat-1 answers: tide wharf"), "{text}");

    let models = engine.json("/v1/models", "").await;
    assert_eq!(models["data"][0]["id"], "chat");
}

#[tokio::test]
async fn a_stream_says_the_same_in_chunks() {
    let engine =
        Engine::ready("stream", &[&FAST[..], &["--answer", "one two three"]].concat()).await;
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (status, body) = engine.ask("/v1/chat/completions", &chat(&asked)).await;
    assert_eq!(status, 200);
    let all = events(&body);
    assert_eq!(all.last(), Some(&Value::from("[DONE]")));
    let usage = &all[all.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 6);
    let chunks = &all[..all.len() - 2];
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "replica chat-1 answers: one two three");
    let reasons: Vec<&Value> =
        chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert!(reasons[..reasons.len() - 1].iter().all(|reason| reason.is_null()));
    assert_eq!(reasons.last(), Some(&&Value::from("stop")));

    let body = r#"{"prompt":"x","stream":true,"max_tokens":2}"#;
    let (_, body) = engine.ask("/v1/completions", body).await;
    let text: Vec<Value> =
        events(&body).iter().map(|event| event["choices"][0]["text"].clone()).collect();
    assert_eq!(text, [json!("replica"), json!(" chat-1"), json!(""), Value::Null]);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_generation() {
    let slow = ["--tokens-per-second", "20", "--max-num-seqs", "1"];
    let engine = Engine::ready("disconnect", &slow).await;
    let long = chat(&json!({"stream": true, "max_tokens": 30_000}));
    let mut stream =
        engine.send("/v1/chat/completions", &long).await.expect("it answers").into_body();
    stream.frame().await.expect("there is a first chunk").expect("it arrives");
    assert_eq!(engine.metric("vllm:num_requests_running").await, 1.0);
    assert!(engine.metric("vllm:kv_cache_usage_perc").await > 0.0);
    until("the GPU is shown busy", async || engine.claimed().is_some_and(|(_, busy)| busy == 45))
        .await;

    let whole = chat(&json!({"max_tokens": 30_000}));
    let mut second = Box::pin(engine.ask("/v1/chat/completions", &whole));
    let waits = until("the second waits for its turn", async || {
        engine.metric("vllm:num_requests_waiting").await == 1.0
    });
    tokio::select! {
        _ = &mut second => panic!("there was no turn for it"),
        () = waits => {}
    }
    drop(second);
    drop(stream);
    until("both are cancelled", async || {
        engine.metric("vllm:num_requests_running").await == 0.0
            && engine.metric("vllm:num_requests_waiting").await == 0.0
    })
    .await;
    assert_eq!(engine.metric("vllm:kv_cache_usage_perc").await, 0.0);
    until("the GPU is shown idle", async || engine.claimed().is_some_and(|(_, busy)| busy == 0))
        .await;
}

#[tokio::test]
async fn counters_count_what_was_said() {
    let engine = Engine::ready("metrics", &FAST).await;
    for _ in 0..3 {
        engine.json("/v1/chat/completions", &chat(&json!({"max_tokens": 10}))).await;
    }
    assert_eq!(engine.metric("vllm:prompt_tokens_total").await, 6.0);
    assert_eq!(engine.metric("vllm:generation_tokens_total").await, 30.0);
    let (_, page) = engine.ask("/metrics", "").await;
    let line = r#"vllm:num_requests_running{engine="0",model_name="chat"} 0.0"#;
    assert!(page.contains(line), "{page}");
    let ended = r#"model_name="chat",finished_reason="length"} 3.0"#;
    assert!(page.contains(ended), "{page}");
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_the_field() {
    let engine = Engine::ready("refusals", &FAST).await;
    let messages = |messages: Value| chat(&json!({"messages": messages}));
    let cases = [
        ("{".to_owned(), 400, Value::Null, "not valid JSON"),
        ("[]".to_owned(), 400, Value::Null, "must be a JSON object"),
        ("{}".to_owned(), 400, json!("messages"), "non-empty list"),
        (messages(json!([])), 400, json!("messages"), "non-empty list"),
        (messages(json!([{"content": "x"}])), 400, json!("messages"), "`role`"),
        (messages(json!([{"role": "user", "content": 3}])), 400, json!("messages"), "`content`"),
        (chat(&json!({"max_tokens": 0})), 400, json!("max_tokens"), "at least 1"),
        (chat(&json!({"max_tokens": "9"})), 400, json!("max_tokens"), "whole number"),
        (chat(&json!({"max_tokens": 40_000})), 400, Value::Null, "maximum context length"),
        (chat(&json!({"n": 2})), 400, json!("n"), "must be 1"),
        (chat(&json!({"stream": "yes"})), 400, json!("stream"), "true or false"),
        (chat(&json!({"stream_options": {}})), 400, json!("stream_options"), "needs `stream`"),
        (chat(&json!({"temperature": 9})), 400, json!("temperature"), "from 0 to 2"),
        (chat(&json!({"stop": [1]})), 400, json!("stop"), "strings"),
        (chat(&json!({"model": "other"})), 404, json!("model"), "`other` does not exist"),
    ];
    for (body, status, field, words) in cases {
        let (got, text) = engine.ask("/v1/chat/completions", &body).await;
        let problem: Value = serde_json::from_str(&text).expect("a refusal is JSON");
        assert_eq!(got, status, "{body}");
        assert_eq!(problem["error"]["code"], status, "{body}");
        assert_eq!(problem["error"]["param"], field, "{body}");
        let message = problem["error"]["message"].as_str().expect("it says why");
        assert!(message.contains(words), "{body}: {message}");
    }
    let (status, text) = engine.ask("/v2/health", "").await;
    assert_eq!((status, text.contains("NotFoundError")), (404, true), "{text}");
    assert_eq!(engine.ask("/health", "").await, (200, String::new()));
}

#[tokio::test]
async fn the_same_text_has_the_same_vector() {
    let engine = Engine::ready("vectors", &FAST).await;
    let answer = engine
        .json(
            "/v1/embeddings",
            r#"{"model":"chat","input":["tide and rope","crane","tide and rope"]}"#,
        )
        .await;
    let rows: Vec<&Value> = (0..3).map(|row| &answer["data"][row]["embedding"]).collect();
    assert_eq!(rows[0], rows[2]);
    assert_ne!(rows[0], rows[1]);
    let squares = rows[0].as_array().expect("a vector").iter().filter_map(Value::as_f64);
    let length: f64 = squares.map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));

    let packed = r#"{"input":"tide and rope","encoding_format":"base64"}"#;
    let packed = engine.json("/v1/embeddings", packed).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().map(str::len), Some(344));
    let (status, text) = engine.ask("/v1/embeddings", r#"{"input":[]}"#).await;
    assert_eq!((status, text.contains("input")), (400, true), "{text}");
}
