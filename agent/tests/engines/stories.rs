//! One story an engine: loading in its own way, ready only by a token, its numbers, draining, dead.

use std::path::PathBuf;

use wharfage_agent::engines::Engine;
use wharfage_agent::probe::{self, Target};
use wharfage_agent_core::input::Probe;
use wharfage_shared::replica::EngineLoad;

use crate::server::Server;

const TOKEN: &str = r#"{"object":"text_completion","choices":[{"index":0,"text":" I"}]}"#;

/// The shipped definition of this name.
fn shipped(name: &str) -> Engine {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd/engines.d");
    let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).expect(name);
    Engine::parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// An engine of a shipped definition, and the server that speaks for it.
struct Story {
    target: Target,
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Story {
    fn of(name: &str) -> Self {
        let (engine, server) = (shipped(name), Server::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let target = Target::of(&engine, "org/chat", server.port, None);
        Self { target, server, runtime: runtime.expect("a runtime") }
    }

    fn says(&mut self, answers: &[(&str, u16, &str)]) {
        self.server.says(answers);
    }

    /// What a look with the proof sees.
    fn seen(&self) -> Probe {
        self.runtime.block_on(probe::look(&self.target, true))
    }

    fn load(&self) -> Option<EngineLoad> {
        self.runtime.block_on(probe::measure(&self.target))
    }

    /// It ends: refused is no sign of life, whatever it was before.
    fn ends(&mut self) {
        self.server.ends();
        assert_eq!(self.seen(), Probe::Loading);
        assert_eq!(self.load(), None);
    }
}

fn load(queued: Option<u32>, running: Option<u32>, share: Option<u16>) -> Option<EngineLoad> {
    Some(EngineLoad { queued, running, kv_cache_permille: share, age_ms: 0 })
}

#[test]
fn vllm_refuses_until_it_is_loaded_and_503_means_that_its_core_died() {
    let mut vllm = Story::of("vllm");
    assert_eq!(vllm.seen(), Probe::Loading, "its socket is bound, and not listened on");
    let page = "# TYPE vllm:num_requests_running gauge\n\
                vllm:num_requests_running{engine=\"0\",model_name=\"org/chat\"} 4.0\n\
                vllm:num_requests_running{engine=\"1\",model_name=\"org/chat\"} 3.0\n\
                vllm:num_requests_waiting{engine=\"0\",model_name=\"org/chat\"} 9.0\n\
                vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 2.0\n\
                vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"deferred\"} 7.0\n\
                vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"org/chat\"} 0.2\n\
                vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"org/chat\"} 0.4\n";
    vllm.says(&[
        ("GET /health", 200, ""),
        ("POST /v1/completions", 200, TOKEN),
        ("GET /metrics", 200, page),
    ]);
    assert_eq!(vllm.seen(), Probe::Proven);
    assert_eq!(vllm.load(), load(Some(2), Some(7), Some(300)));
    let asked = vllm.server.asked().join("\n");
    assert!(
        asked.contains("\"max_tokens\":1") && asked.contains("\"model\":\"org/chat\""),
        "{asked}"
    );

    vllm.says(&[("GET /health", 200, ""), ("POST /v1/completions", 500, "EngineDeadError")]);
    let because = "the one-token generation answers 500 Internal Server Error".to_owned();
    assert_eq!(vllm.seen(), Probe::Failed(because), "healthy in its own words alone");
    vllm.says(&[("GET /health", 503, "")]);
    assert!(matches!(vllm.seen(), Probe::Dead(why) if why.contains("503")));
    vllm.ends();
}

#[test]
fn an_older_vllm_has_other_names_for_the_same_numbers() {
    let mut vllm = Story::of("vllm");
    let page = "vllm:num_requests_running 1\nvllm:num_requests_waiting 5\n\
                vllm:gpu_cache_usage_perc 0.125\n";
    vllm.says(&[("GET /metrics", 200, page)]);
    assert_eq!(vllm.load(), load(Some(5), Some(1), Some(125)));
}

#[test]
fn sglang_says_503_while_it_starts_and_while_it_ends() {
    let mut sglang = Story::of("sglang");
    assert_eq!(sglang.seen(), Probe::Loading);
    // The list of models is static: it is there long before the model.
    sglang.says(&[("GET /health", 503, ""), ("GET /v1/models", 200, "{}")]);
    assert_eq!(sglang.seen(), Probe::Loading, "starting");
    let page = "sglang:num_running_reqs{model_name=\"org/chat\",tp_rank=\"0\"} 3.0\n\
                sglang:num_queue_reqs{model_name=\"org/chat\",tp_rank=\"0\"} 1.0\n\
                sglang:token_usage{model_name=\"org/chat\",tp_rank=\"0\"} 0.28\n";
    sglang.says(&[
        ("GET /health", 200, ""),
        ("POST /v1/completions", 200, TOKEN),
        ("GET /metrics", 200, page),
    ]);
    assert_eq!(sglang.seen(), Probe::Proven);
    assert_eq!(sglang.load(), load(Some(1), Some(3), Some(280)));
    sglang.says(&[("GET /health", 503, "")]);
    assert_eq!(sglang.seen(), Probe::Loading, "it drains: no new work, no alarm");
    sglang.ends();
}

#[test]
fn dynamos_frontend_is_healthy_long_before_its_worker_has_registered_the_model() {
    for name in ["dynamo-vllm", "dynamo-sglang"] {
        let mut dynamo = Story::of(name);
        assert_eq!(dynamo.seen(), Probe::Loading);
        let healthy = ("GET /health", 200, r#"{"status":"healthy","endpoints":[]}"#);
        let unknown = r#"{"error":"Model not found"}"#;
        dynamo.says(&[healthy, ("POST /v1/completions", 404, unknown)]);
        assert_eq!(dynamo.seen(), Probe::Loading, "{name}: no lie, the worker loads");
        let page = "dynamo_frontend_inflight_requests{model=\"org/chat\"} 12\n\
                    dynamo_frontend_queued_requests{model=\"org/chat\"} 0\n";
        dynamo.says(&[healthy, ("POST /v1/completions", 200, TOKEN), ("GET /metrics", 200, page)]);
        assert_eq!(dynamo.seen(), Probe::Proven);
        assert_eq!(dynamo.load(), load(Some(0), Some(12), None));
        dynamo.ends();
    }
}

#[test]
fn tgi_proves_itself_with_its_own_words_and_full_is_not_broken() {
    let mut tgi = Story::of("tgi");
    assert_eq!(tgi.seen(), Probe::Loading, "refused until its router is up");
    tgi.says(&[("GET /health", 503, r#"{"error":"unhealthy","error_type":"healthcheck"}"#)]);
    assert_eq!(tgi.seen(), Probe::Loading);
    let page = "tgi_batch_current_size 2\ntgi_queue_size 6\ntgi_batch_current_max_tokens 4096\n";
    tgi.says(&[
        ("GET /health", 200, ""),
        ("POST /generate", 200, r#"{"generated_text":" I"}"#),
        ("GET /metrics", 200, page),
    ]);
    assert_eq!(tgi.seen(), Probe::Proven);
    assert_eq!(tgi.load(), load(Some(6), Some(2), None), "it gives no share of a cache");
    tgi.says(&[("GET /health", 200, ""), ("POST /generate", 429, "Model is overloaded")]);
    assert_eq!(tgi.seen(), Probe::Busy);
    tgi.says(&[("GET /health", 200, ""), ("POST /generate", 424, "Request failed")]);
    assert!(matches!(tgi.seen(), Probe::Failed(why) if why.contains("424")));
    tgi.ends();
}

#[test]
fn triton_says_400_for_not_yet_and_is_asked_for_this_model_alone() {
    let mut triton = Story::of("triton");
    let metrics = Server::new();
    triton.target.metrics_port = metrics.port;
    let mut metrics = metrics;
    assert_eq!(triton.seen(), Probe::Loading);
    triton.says(&[("GET /v2/health/live", 400, "")]);
    assert_eq!(triton.seen(), Probe::Loading);
    let (live, model) = (("GET /v2/health/live", 200, ""), "GET /v2/models/org%2Fchat/ready");
    triton.says(&[live, (model, 400, "")]);
    assert_eq!(triton.seen(), Probe::Loading, "the server lives, the model loads");
    let answer = r#"{"model_name":"org/chat","text_output":" I"}"#;
    // A second model loads: the server is not ready, this model is.
    triton.says(&[
        live,
        ("GET /v2/health/ready", 400, ""),
        (model, 200, ""),
        ("POST /v2/models/org%2Fchat/generate", 200, answer),
    ]);
    assert_eq!(triton.seen(), Probe::Proven);
    assert_eq!(triton.load(), None, "its metrics are on a port of their own");
    let page = "nv_trt_llm_request_metrics{model=\"m\",request_type=\"active\",version=\"1\"} 5\n\
                nv_trt_llm_request_metrics{model=\"m\",request_type=\"waiting\",version=\"1\"} 2\n\
                nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.5\n\
                nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\"} 77\n";
    metrics.says(&[("GET /metrics", 200, page)]);
    assert_eq!(triton.load(), load(Some(2), Some(5), Some(500)));
    metrics.says(&[("GET /metrics", 200, "nv_inference_pending_request_count{model=\"m\"} 3\n")]);
    assert_eq!(triton.load(), load(Some(3), None, None), "a plain backend gives one number");
    metrics.ends();
    triton.ends();
}

#[test]
fn llama_cpp_says_loading_model_on_every_path() {
    let mut llama = Story::of("llama-cpp");
    assert_eq!(llama.seen(), Probe::Loading);
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    llama.says(&[
        ("GET /health", 503, loading),
        ("POST /v1/completions", 503, loading),
        ("GET /metrics", 503, loading),
    ]);
    assert_eq!(llama.seen(), Probe::Loading);
    assert_eq!(llama.load(), None);
    let page = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n\
                # TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 0\n";
    llama.says(&[
        ("GET /health", 200, r#"{"status":"ok"}"#),
        ("POST /v1/completions", 200, TOKEN),
        ("GET /metrics", 200, page),
    ]);
    assert_eq!(llama.seen(), Probe::Proven);
    assert_eq!(llama.load(), load(Some(0), Some(1), None));
    llama.ends();
}

#[test]
fn a_server_of_ones_own_is_described_whole_in_its_file() {
    let mut custom = Story::of("custom-http");
    assert_eq!(custom.seen(), Probe::Loading);
    custom.says(&[("GET /livez", 200, ""), ("GET /readyz", 503, "")]);
    assert_eq!(custom.seen(), Probe::Loading);
    let up = [("GET /livez", 200, ""), ("GET /readyz", 200, "")];
    custom.says(&[up[0], up[1], ("POST /predict", 200, r#"{"output":[]}"#)]);
    assert!(matches!(custom.seen(), Probe::Failed(_)), "an answer without its result");
    let page = "requests{state=\"running\"} 1\nrequests{state=\"done\"} 90\n\
                requests_waiting 0\ncache_used_ratio 1.5\n";
    custom.says(&[
        up[0],
        up[1],
        ("POST /predict", 200, r#"{"output":[0.5]}"#),
        ("GET /metrics", 200, page),
        ("POST /drain", 200, ""),
    ]);
    assert_eq!(custom.seen(), Probe::Proven);
    assert_eq!(custom.load(), load(Some(0), Some(1), Some(1000)));
    custom.runtime.block_on(probe::drain(&custom.target));
    let asked = custom.server.asked();
    assert!(asked.iter().any(|ask| ask.contains("{\"input\":[1,2,3],\"model\":\"org/chat\"}")));
    assert_eq!(asked.last().map(String::as_str), Some("POST /drain {}"));
    custom.says(&[("GET /livez", 500, "")]);
    assert!(matches!(custom.seen(), Probe::Dead(_)));
    custom.ends();
}

#[test]
fn every_shipped_definition_is_good_and_offers_what_deployments_may_set() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd/engines.d");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).expect("it is there") {
        let path = file.expect("readable").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let engine = shipped(&stem);
        assert!(!engine.flag_names().is_empty(), "{stem}");
        assert!(engine.command.iter().any(|part| part.contains("{port}")), "{stem}");
        assert!(engine.metrics.is_some(), "{stem}");
        names.push(engine.name);
    }
    names.sort();
    let expected = [
        "custom-http",
        "dynamo-sglang",
        "dynamo-vllm",
        "engine-stub",
        "llama.cpp",
        "sglang",
        "tgi",
        "triton",
        "vllm",
    ];
    assert_eq!(names, expected);
}
