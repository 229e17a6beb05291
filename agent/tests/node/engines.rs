//! Engines that fail, lie, are full of work or want another signal, on a host with real processes.

use std::path::{Path, PathBuf};

use wharfage_shared::order::RunOrder;
use wharfage_shared::replica::{Ended, ReportedPhase};

use crate::common::node::{run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::journeys::{Fleet, ask_through_guard, fleet};

#[test]
fn an_engine_that_cannot_start_is_gone_with_the_line_that_tells_why() {
    let mut fleet = fleet("oom");
    let line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB";
    fleet.node.engine_that_first(&format!("echo '{line}' >&2; echo bye; exit 1"));
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let Ended::NeverStarted { because } = fleet.until_gone().ended else {
        panic!("it was never ready")
    };
    assert!(because.starts_with("GPU memory: "), "{because}");
    assert!(because.ends_with(&format!("(exit 1): {line}")), "{because}");
}

#[test]
fn an_engine_whose_port_was_taken_is_started_again_on_another_one_at_once() {
    let mut fleet = fleet("port");
    let clash = "if [ ! -e tried ]; then touch tried; \
                 echo 'OSError: [Errno 98] Address already in use' >&2; exit 1; fi";
    fleet.node.engine_that_first(clash);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let address = fleet.until_ready();
    let record = fleet.node.record(1).expect("a record");
    assert_eq!(record.port_clashes, 1);
    assert_eq!(record.address, address, "gateways need not know");
    assert!(record.engine.is_some_and(wharfage_agent_sys::process::is_alive));
    assert!(
        fleet.node.replica_folder(1).join("engine.err.log.1").exists(),
        "the first try's words"
    );
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 });
}

#[test]
fn an_engine_that_never_finds_a_free_port_is_gone_after_a_few_tries() {
    let mut fleet = fleet("ports");
    fleet.node.engine_that_first("echo x >> tries; echo 'Address already in use' >&2; exit 1");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let ended = fleet.until_gone().ended;
    let Ended::NeverStarted { because } = ended else { panic!("it was never ready: {ended:?}") };
    assert!(because.starts_with("port: "), "{because}");
    let tries = std::fs::read_to_string(fleet.node.replica_folder(1).join("tries"));
    assert_eq!(tries.expect("counted").lines().count(), 4);
}

#[test]
fn an_engines_numbers_are_in_the_report_and_on_the_page_under_the_common_names() {
    let mut fleet = fleet("load");
    let mapping = "[metrics]\nTotalQueuedRequests = [\"vllm:num_requests_waiting\"]\n\
                   TotalRunningRequests = [\"vllm:num_requests_running\"]\n\
                   KVCacheUtilization = [\"vllm:kv_cache_usage_perc\"]";
    fleet.node.engine_also("stub", mapping);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let load = wait_for("numbers of the engine", || fleet.scheduler.replica()?.load);
    assert_eq!((load.queued, load.kv_cache_permille), (Some(0), Some(0)));
    assert!(load.running.is_some());
    let page = wait_for("the page", || fleet.node.page("/metrics"));
    let labels = "{replica=\"r-1\",deployment=\"chat\"}";
    for name in ["total_queued_requests", "kv_cache_utilization"] {
        assert!(page.contains(&format!("wharfage_engine_{name}{labels} 0")), "{page}");
    }
    let history = fleet.node.root().join("state/history.json");
    let learned = std::fs::read_to_string(history).expect("how long the start took is kept");
    assert!(learned.contains("\"path\":\"small/1\""), "{learned}");
}

#[test]
fn a_version_that_lies_about_being_ready_is_in_the_inventory() {
    let mut fleet = fleet("lies");
    fleet.node.engine_also("stub", "prove = { path = \"/debug/flags\" }");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let row = wait_for("the version in the inventory", || {
        fleet.scheduler.inventory()?.false_ready.into_iter().next()
    });
    assert_eq!((row.engine.as_str(), row.version.as_str(), row.count), ("stub", "1", 1));
    let replica = fleet.scheduler.replica().expect("it is still tried");
    assert_eq!(replica.phase, ReportedPhase::Warming);
    let page = fleet.node.page("/metrics").expect("the page");
    let row = "wharfage_engine_false_ready_total{engine=\"stub\",version=\"1\"} 1";
    assert!(page.contains(row), "{page}");
}

#[test]
fn an_engine_is_ended_with_the_signal_of_its_definition() {
    let mut fleet = fleet("signal");
    fleet.node.engine("stub", &["--ignore-sigterm"]);
    fleet.node.engine_also("stub", "stop = { signal = \"SIGINT\", drain = \"/ping\" }");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 });
}

#[test]
fn an_engine_is_asked_to_end_once() {
    let mut fleet = fleet("asked-once");
    let asked = fleet.node.root().join("asked");
    // As engines do it: the first signal ends what is in flight, a second one would cut that off.
    fleet.node.engine_that_first(&format!(
        "trap 'echo asked >> {}; sleep 2; kill $engine' TERM; \"$0\" \"$@\" & engine=$!; \
         while kill -0 $engine; do wait $engine; code=$?; done; exit $code",
        asked.display()
    ));
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 });
    assert_eq!(std::fs::read_to_string(&asked).expect("it was asked"), "asked\n");
}

/// A host with the real server of llama.cpp, its shipped definition and a tiny model, and an order
/// for it. `make engine-check` builds the server and names it; elsewhere this says what is skipped.
fn real_llama(name: &str) -> Option<(Fleet, RunOrder)> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(server), Some(model)) =
        (named("WHARFAGE_LLAMA_SERVER"), named("WHARFAGE_LLAMA_MODEL"))
    else {
        eprintln!(
            "SKIPPED: no real engine was built here; `make engine-check` builds and runs one"
        );
        return None;
    };
    let fleet = fleet(name);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/engines.d/llama-cpp.toml");
    let text = std::fs::read_to_string(shipped).expect("it is shipped");
    let text = text.replace("/opt/llama.cpp/bin/llama-server", &server.display().to_string());
    let here = fleet.node.root();
    std::fs::write(here.join("engines.d/llama-cpp.toml"), text).expect("written");
    std::fs::create_dir_all(here.join("bucket/tiny")).expect("folder");
    std::fs::copy(model, here.join("bucket/tiny/model.gguf")).expect("copied");
    let mut order = run_order(1, "GPU-a");
    order.engine = "llama.cpp".into();
    order.engine_version = "0.5.0".into();
    let flags = [("ctx-size", "256"), ("parallel", "1"), ("threads", "1")];
    order.engine_flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    order.model_path = "tiny".into();
    Some((fleet, order))
}

#[test]
fn the_real_server_of_llama_cpp_is_started_proven_asked_and_ended() {
    let Some((mut fleet, order)) = real_llama("llama") else { return };
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(order, &[])]);
    let address = fleet.until_ready();
    let answer = ask_through_guard(&fleet, &address);
    assert!(answer.contains("\"object\":\"text_completion\""), "{answer}");
    assert!(answer.contains("\"completion_tokens\":4"), "{answer}");
    eprintln!("llama.cpp answered: {answer}");
    let load = wait_for("its numbers", || fleet.scheduler.replica()?.load);
    assert_eq!((load.queued, load.running), (Some(0), Some(0)));
    assert_eq!(load.kv_cache_permille, None, "it does not give it");
    fleet.scheduler.order(vec![stop_order(1, 20)]);
    assert_eq!(fleet.until_gone().ended, Ended::Exited { code: 0 });
}

#[test]
fn what_the_real_server_of_llama_cpp_says_when_it_fails_is_understood() {
    type Spoil = fn(&Fleet, &mut RunOrder);
    let cases: [(&str, Spoil, &str, &str); 2] = [
        (
            "llama-weights",
            |fleet, _| {
                let model = fleet.node.root().join("bucket/tiny/model.gguf");
                let file = std::fs::OpenOptions::new().write(true).open(model).expect("opened");
                file.set_len(200_000).expect("cut");
            },
            "weights: ",
            "tensor 'blk.0.ffn_up.weight' data is not within the file bounds",
        ),
        (
            "llama-flag",
            |_, order| drop(order.engine_flags.insert("cache-type-k".into(), "none".into())),
            "configuration: ",
            "\"--cache-type-k\": Unsupported cache type: none",
        ),
    ];
    for (name, spoil, kind, line) in cases {
        let Some((mut fleet, mut order)) = real_llama(name) else { return };
        spoil(&fleet, &mut order);
        fleet.node.start();
        fleet.scheduler.order(vec![run_with(order, &[])]);
        let Ended::NeverStarted { because } = fleet.until_gone().ended else {
            panic!("{name}: it was never ready")
        };
        eprintln!("llama.cpp failed: {because}");
        assert!(because.starts_with(kind) && because.contains(line), "{name}: {because}");
    }
}
