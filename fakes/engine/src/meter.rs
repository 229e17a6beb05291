//! What the engine counts: requests and tokens, under vLLM's names on `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Blocks of the pretended key-value cache and tokens per block.
const KV_BLOCKS: u64 = 32_768;
const KV_BLOCK_SIZE: u64 = 16;

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The answer was complete.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// The client went away.
    Abort,
}

impl Finish {
    /// OpenAI's word.
    pub fn word(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Abort => "abort",
        }
    }
}

/// Counters since the start, gauges of this moment.
pub struct Meter {
    waiting: AtomicU64,
    running: watch::Sender<u32>,
    held_tokens: AtomicU64,
    prompt_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    stopped: AtomicU64,
    cut_by_length: AtomicU64,
    aborted: AtomicU64,
}

/// A request that waits for its turn; leaving the queue in any way uncounts it.
pub struct Waiting<'a>(&'a Meter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    /// All zero.
    pub fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
            running: watch::Sender::new(0),
            held_tokens: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            cut_by_length: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
        }
    }

    /// A request waits until the returned guard is dropped.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// A generation begins with this many tokens of prompt.
    pub fn begin(&self, prompt_tokens: u64) {
        self.running.send_modify(|count| *count += 1);
        self.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.held_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
    }

    /// One token was made.
    pub fn token(&self) {
        self.generated_tokens.fetch_add(1, Ordering::Relaxed);
        self.held_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// A generation ends and gives back what it held.
    pub fn end(&self, held_tokens: u64, finish: Finish) {
        self.running.send_modify(|count| *count -= 1);
        self.held_tokens.fetch_sub(held_tokens, Ordering::Relaxed);
        let counter = match finish {
            Finish::Stop => &self.stopped,
            Finish::Length => &self.cut_by_length,
            Finish::Abort => &self.aborted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Generations that run now.
    pub fn running(&self) -> u32 {
        *self.running.borrow()
    }

    /// Follows the number of running generations.
    pub fn watch_running(&self) -> watch::Receiver<u32> {
        self.running.subscribe()
    }

    /// The page in Prometheus' text format 0.0.4.
    pub fn page(&self, model: &str) -> String {
        let model = model.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let labels = format!("engine=\"0\",model_name=\"{model}\"");
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let usage = read(&self.held_tokens) as f64 / (KV_BLOCKS * KV_BLOCK_SIZE) as f64;
        let mut page = String::new();
        let mut family = |name: &str, kind: &str, help: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(page, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}\n{value}");
        };
        let mut plain = |name: &str, kind: &str, help: &str, value: f64| {
            family(name, kind, help, format!("vllm:{name}{{{labels}}} {value:?}"));
        };
        let running = f64::from(self.running());
        plain("num_requests_running", "gauge", "Requests in execution.", running);
        let waiting = read(&self.waiting) as f64;
        plain("num_requests_waiting", "gauge", "Requests waiting for their turn.", waiting);
        plain("kv_cache_usage_perc", "gauge", "Share of the KV cache in use.", usage.min(1.0));
        let prompt = read(&self.prompt_tokens) as f64;
        plain("prompt_tokens_total", "counter", "Prompt tokens processed.", prompt);
        let generated = read(&self.generated_tokens) as f64;
        plain("generation_tokens_total", "counter", "Tokens generated.", generated);
        plain("num_preemptions_total", "counter", "Preemptions.", 0.0);
        let finished = [
            (Finish::Stop, read(&self.stopped)),
            (Finish::Length, read(&self.cut_by_length)),
            (Finish::Abort, read(&self.aborted)),
        ]
        .map(|(finish, count)| {
            let reason = finish.word();
            format!("vllm:request_success_total{{{labels},finished_reason=\"{reason}\"}} {count}.0")
        });
        family("request_success_total", "counter", "Requests by end.", finished.join("\n"));
        let blocks = format!(
            "vllm:cache_config_info{{block_size=\"{KV_BLOCK_SIZE}\",engine=\"0\",\
             num_gpu_blocks=\"{KV_BLOCKS}\"}} 1.0"
        );
        family("cache_config_info", "gauge", "Shape of the KV cache.", blocks);
        page
    }
}
