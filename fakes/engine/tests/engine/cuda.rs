//! Memory that is taken through CUDA's driver library.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt;

use crate::support::{CLAIMED, Engine, soon};

/// In NVIDIA's own form: CUDA knows no other.
const GPU: &str = "GPU-00000000-0000-0000-0000-00000000000a";

fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.with_file_name("libwharfage_fake_cuda.so")
}

/// An engine with one GPU of so much memory.
async fn start(story: &str, memory_mib: u64) -> Engine {
    Engine::start_with(story, &["--load-seconds", "0"], |command| {
        let folder = crate::support::folder(&format!("{story}-gpus"));
        let gpus = format!(
            r#"{{"gpus":[{{"uuid":"{GPU}","memory_mib":{memory_mib},"reserved_mib":0,
                "baseline_mib":0}}]}}"#
        );
        std::fs::write(folder.join("gpus.json"), gpus).expect("the folder can be written");
        command
            .env("WHARFAGE_FAKE_GPUS", folder)
            .env("WHARFAGE_CUDA_LIBRARY", library())
            .env("CUDA_VISIBLE_DEVICES", GPU)
            .stderr(Stdio::piped());
    })
    .await
}

#[tokio::test]
async fn a_library_that_was_named_gives_the_memory_and_has_it_back_at_the_end() {
    let mut engine = start("cuda", 1000).await;
    engine.stage("ready").await;
    let claim = engine.folder.with_file_name("cuda-gpus").join("claims").join(GPU);
    let claim = claim.join(engine.pid.to_string());
    let held = std::fs::read_to_string(&claim).expect("there is a claim");
    // The stand-in for CUDA writes one line; the engine's own claims have a second one.
    assert_eq!(held, format!("{CLAIMED}\n"));
    engine.signal("TERM").await;
    assert_eq!(engine.end().await.code(), Some(0));
    assert!(!claim.exists(), "the memory is given back");
}

#[tokio::test]
async fn too_little_memory_ends_the_load_with_the_words_of_cuda() {
    let mut engine = start("cuda-full", CLAIMED / 1024 / 1024 - 1).await;
    let mut said = String::new();
    let mut errors = engine.errors().expect("they are piped");
    soon("its last words", errors.read_to_string(&mut said)).await.expect("they can be read");
    assert_eq!(engine.end().await.code(), Some(1));
    assert_eq!(said, "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (2)\n");
}
