//! From the first byte of the model to the last request.

use std::fs;

use crate::support::{CLAIMED, Engine, events, folder, soon};
use http_body_util::BodyExt;
use serde_json::Value;

const LONG: &str = r#"{"messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":40}"#;

#[tokio::test]
async fn it_refuses_connections_and_claims_memory_until_the_model_is_loaded() {
    let mut endless = Engine::start("refusing", &["--load-seconds", "3600"]).await;
    endless.stage("loading").await;
    let refused = endless.send("/health", "").await.expect_err("nothing listens yet");
    assert!(refused.contains("ConnectionRefused"), "{refused}");

    let mut engine = Engine::start("loading", &["--load-seconds", "1"]).await;
    let mut last = 0;
    loop {
        let line = engine.line().await.expect("it goes on");
        if line["stage"] == "ready" {
            break;
        }
        let (bytes, total) = (line["bytes"].as_u64(), line["total"].as_u64());
        let (bytes, total) = (bytes.expect("a count"), total.expect("a count"));
        let (held, busy) = engine.claimed().expect("there is a claim");
        assert!(bytes >= last && bytes <= total, "{line}");
        assert!(held >= CLAIMED * bytes / total && held <= CLAIMED, "{line}: {held} held");
        assert_eq!(busy, 0);
        last = bytes;
    }
    assert!(last > 200_000, "all files were read: {last}");
    assert_eq!(engine.claimed(), Some((CLAIMED, 0)));
    assert_eq!(engine.ask("/health", "").await.0, 200);
    let flags = engine.json("/debug/flags", "").await;
    assert_eq!(flags["gpus"][0], "GPU-1");

    engine.signal("TERM").await;
    engine.stage("stopped").await;
    assert_eq!(engine.end().await.code(), Some(0));
    assert!(!engine.claim().exists(), "the memory is given back");
}

#[tokio::test]
async fn a_termination_lets_what_is_in_flight_finish() {
    let mut engine = Engine::ready("graceful", &["--tokens-per-second", "6"]).await;
    let mut stream =
        engine.send("/v1/chat/completions", LONG).await.expect("it answers").into_body();
    stream.frame().await.expect("there is a first chunk").expect("it arrives");
    engine.signal("TERM").await;
    assert_eq!(engine.stage("stopping").await["in_flight"], 1);
    let refused = engine.send("/health", "").await.expect_err("it takes nothing new");
    assert!(refused.contains("ConnectionRefused"), "{refused}");

    let rest = soon("the rest", stream.collect()).await.expect("it is not cut").to_bytes();
    let rest = events(std::str::from_utf8(&rest).expect("it is UTF-8"));
    assert_eq!(rest.last(), Some(&Value::from("[DONE]")));
    assert_eq!(engine.end().await.code(), Some(0));
}

#[tokio::test]
async fn a_termination_cuts_what_is_in_flight_if_told_so() {
    let told = ["--tokens-per-second", "1", "--abort-on-sigterm"];
    let mut engine = Engine::ready("abort", &told).await;
    let mut stream =
        engine.send("/v1/chat/completions", LONG).await.expect("it answers").into_body();
    stream.frame().await.expect("there is a first chunk").expect("it arrives");
    engine.signal("TERM").await;
    assert_eq!(engine.end().await.code(), Some(0));
    soon("the cut", stream.collect()).await.expect_err("the stream ends without its end");
    assert!(!engine.claim().exists());
}

#[tokio::test]
async fn a_deaf_engine_goes_on() {
    let mut engine = Engine::ready("deaf", &["--ignore-sigterm"]).await;
    engine.signal("TERM").await;
    // Long after the signal was taken it still answers.
    for _ in 0..50 {
        assert_eq!(engine.ask("/health", "").await.0, 200);
    }
    assert!(engine.is_running());
    engine.signal("KILL").await;
    assert_eq!(engine.end().await.code(), None);
    assert!(engine.claim().exists(), "a killed process cannot clean up");
}

#[tokio::test]
async fn it_ends_at_once_while_it_loads() {
    let mut engine = Engine::start("early", &["--load-seconds", "3600"]).await;
    engine.signal("TERM").await;
    assert_eq!(engine.end().await.code(), Some(0));
    assert!(!engine.claim().exists());
}

#[tokio::test]
async fn it_fails_in_the_ways_it_is_told_to() {
    let mut broken = Engine::start("broken", &["--load-seconds", "0", "--fail-load"]).await;
    while let Some(line) = broken.line().await {
        assert_eq!(line["stage"], "loading");
    }
    assert_eq!(broken.end().await.code(), Some(1));
    assert!(!broken.claim().exists());

    let told = ["--load-seconds", "0", "--exit-after-seconds", "2"];
    let mut crashing = Engine::start("crashing", &told).await;
    assert_eq!(crashing.end().await.code(), Some(1));
    assert!(crashing.claim().exists(), "a crash leaves its claim behind");

    let told = ["--load-seconds", "0", "--startup-refuse"];
    let mut mute = Engine::start("mute", &told).await;
    loop {
        let line = mute.line().await.expect("it goes on");
        if line["bytes"] == line["total"] {
            break;
        }
    }
    mute.send("/health", "").await.expect_err("it never listens");
    assert!(mute.is_running());
    mute.signal("TERM").await;
    assert_eq!(mute.end().await.code(), Some(0));
}

#[test]
fn a_generated_model_is_the_same_each_time_and_well_formed() {
    let [first, second] = ["model-1", "model-2"].map(|name| {
        let folder = folder(name);
        wharfage_fake_engine::generate_model(&folder, 1001).expect("it can be made");
        folder
    });
    let weights = |folder: &std::path::Path| {
        fs::read(folder.join("model-00001-of-00001.safetensors")).expect("there are weights")
    };
    assert_eq!(weights(&first), weights(&second));

    let bytes = weights(&first);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let end = 8 + usize::try_from(length).expect("a small header");
    let header: Value = serde_json::from_slice(&bytes[8..end]).expect("the header is JSON");
    assert_eq!(header["model.weight"]["data_offsets"][1], 1001);
    assert_eq!(bytes.len() - end, 1001);

    fs::write(first.join("config.json"), "{}").expect("it can be written");
    wharfage_fake_engine::generate_model(&first, 5).expect("it is there already");
    assert_eq!(weights(&first), bytes, "what is there stays");
    assert_eq!(fs::read_to_string(first.join("config.json")).expect("it is there"), "{}");
    let names = fs::read_dir(&first).expect("it can be listed").count();
    assert_eq!(names, 3, "nothing half-written stays");
}
