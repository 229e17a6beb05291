//! P5: CPU of the gateway for a small JSON request, beside a minimal proxy in the same run.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharfage_tests::Dev;

use crate::cost::{Cpu, Memory, arguments, processes};
use crate::proxy::Proxy;

/// Requests in flight; the development engine takes 20 ms for a token.
const CONNECTIONS: usize = 64;

const ROUNDS: usize = 5;

/// Each of the two in each round.
const MEASURED: Duration = Duration::from_secs(2);

/// Gateway and proxy in turns, both before the same engine.
pub async fn measure(dev: &Dev) {
    let id = dev.deploy("chat", 1, &[], json!({})).await;
    dev.ready(&id, 1).await;
    let engines = processes(&["engine-stub", dev.text("state_dir")], None);
    let guards = processes(&["guard", dev.text("state_dir")], None);
    let engine = *engines.first().expect("the engine runs");
    let mut words = arguments(engine).into_iter().skip_while(|word| word != "--port");
    let port = words.nth(1).and_then(|port| port.parse().ok()).expect("the engine's port");
    let proxy = Proxy::start(port).await;

    let token = dev.text("token");
    let through_gateway = format!("{}/v1/chat/completions", dev.text("gateway_url"));
    let through_proxy = format!("{}/v1/chat/completions", proxy.url);
    let gateway_pid = dev.daemon("gateway");
    let (mut ours, mut guard, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms connections.
    for round in 0..=ROUNDS {
        let mut beside = Cpu::of(&guards);
        let one = Round::run(&through_gateway, token, gateway_pid).await;
        let beside = beside.look() as f64 / 1000.0 / one.requests as f64;
        let other = Round::run(&through_proxy, token, proxy.pid()).await;
        if round > 0 {
            ours.push(one);
            guard.push(beside);
            theirs.push(other);
        }
    }
    println!("small JSON requests, {CONNECTIONS} in flight, {ROUNDS} rounds in turns, medians:");
    let our_cpu = print("gateway (token, route, count, TLS to guard)", &ours);
    let their_cpu = print("minimal proxy (parses the body, no TLS)", &theirs);
    println!("gateway against the minimal proxy: CPU {:.2} x", our_cpu / their_cpu);
    println!("guard on the replica's side: {:.1} us CPU per request", median(&guard));
    println!("gateway after this: {}", Memory::of(&[gateway_pid]));
}

fn print(who: &str, rounds: &[Round]) -> f64 {
    let of = |what: fn(&Round) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    let cpu = of(|round| round.cpu_us);
    println!(
        "{who:<44} {:>6.0}/s, {cpu:.1} us CPU per request, p50 {:.1} ms, p99 {:.1} ms",
        of(|round| round.requests as f64 / MEASURED.as_secs_f64()),
        of(|round| round.p50_ms),
        of(|round| round.p99_ms),
    );
    cpu
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

struct Round {
    requests: usize,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Round {
    async fn run(url: &str, token: &str, pid: i32) -> Self {
        let http = reqwest::Client::new();
        let mut cpu = Cpu::of(&[pid]);
        let end = Instant::now() + MEASURED;
        let callers = (0..CONNECTIONS).map(|_| {
            let (http, url, token) = (http.clone(), url.to_owned(), token.to_owned());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let begun = Instant::now();
                    ask(&http, &url, &token).await;
                    took.push(begun.elapsed().as_secs_f64() * 1000.0);
                }
                took
            })
        });
        let mut took = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            took.extend(caller.await.expect("no panic"));
        }
        let cpu_us = cpu.look() as f64 / 1000.0 / took.len() as f64;
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        Self { requests: took.len(), cpu_us, p50_ms: at(50), p99_ms: at(99) }
    }
}

async fn ask(http: &reqwest::Client, url: &str, token: &str) {
    let body = json!({
        "model": "chat-model", "max_tokens": 1,
        "messages": [{ "role": "user", "content": "hello" }],
    });
    let answer = http.post(url).bearer_auth(token).json(&body).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    assert!(status.is_success() && body["choices"].is_array(), "{status}: {body}");
}
