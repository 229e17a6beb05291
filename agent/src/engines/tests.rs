//! Definitions: what is filled in, what is refused by name, what the page and the log mean.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wharfage_shared::order::Gang;
use wharfage_shared::replica::{Ended, EngineLoad};

use super::failures::{Kind, classify};
use super::wire::{Metrics, Series};
use super::*;
use crate::testing::{Folder, order, repeatable};

const STUB: &str = r#"
    name = "stub"
    versions = ["2", "1"]
    flags = ["quantization"]
    ports = ["metrics"]
    command = ["/bin/sh", "--port={port}", "--m={port.metrics}", "{gpus}", "{model_name}"]
    metrics = { port = "metrics", TotalRunningRequests = ["running"] }
    [parameters]
    max-model-len = { type = "integer", min = 1, max = 9000 }
    share = { type = "number", min = 0.1, max = 0.9 }
    cache = { type = "boolean", off = ["--no-{name}"] }
    dtype = { type = "choice", values = ["auto", "half"] }
    tag = { type = "text", longest = 4 }
"#;

fn loaded(folder: &Folder) -> Engines {
    std::fs::write(folder.path().join("stub.toml"), STUB).expect("written");
    Engines::load(folder.path(), Owner::RootOrSelf)
}

fn asked(flags: &[(&str, &str)]) -> RunOrder {
    let mut order = order(7);
    order.engine = "stub".into();
    order.engine_version = "1".into();
    order.engine_flags =
        flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    order
}

fn refusal(flags: &[(&str, &str)]) -> String {
    let engine = Engine::parse(STUB).expect("it is good");
    engine.allows(&asked(flags)).expect_err("refused")
}

#[test]
fn placeholders_are_filled_and_a_value_is_never_split_or_filled_again() {
    let folder = Folder::new("engines-line");
    let engines = loaded(&folder);
    assert_eq!(engines.refused, Vec::<String>::new());
    let mut order = asked(&[("max-model-len", "4096"), ("cache", "false"), ("tag", "{gp")]);
    order.model_name = "a model; rm -rf {port}".into();
    let engine = engines.select(&order).expect("it is there");
    let further = BTreeMap::from([("metrics".to_owned(), 82)]);
    let seat = Seat { port: 81, further: &further, model_dir: Path::new("/m") };
    let line = engine.command_line(&order, &seat);
    let expected = [
        "/bin/sh",
        "--port=81",
        "--m=82",
        "GPU-7",
        "a model; rm -rf {port}",
        "--no-cache",
        "--max-model-len",
        "4096",
        "--tag",
        "{gp",
    ];
    assert_eq!(line, expected);
}

const OVER_NODES: &str = r#"
    [gang]
    leader = ["--lead", "{leader_port}", "--of", "{world_size}"]
    follower = ["--join", "{leader_host}:{leader_port}", "--as", "{rank}", "--tp", "{total_gpus}"]
    environment = { PEERS = "{world_size}" }
"#;

#[test]
fn a_member_of_several_is_told_its_rank_and_where_its_leader_is() {
    let engine = Engine::parse(&format!("{STUB}{OVER_NODES}")).expect("it is good");
    let gang = |rank| {
        let (leader_host, leader_port) = ("10.0.0.1".to_owned(), 12_007);
        Some(Gang { rank, world_size: 2, gpus: 16, leader_host, leader_port })
    };
    let further = BTreeMap::new();
    let seat = Seat { port: 81, further: &further, model_dir: Path::new("/m") };
    let line = |rank| {
        let order = RunOrder { gang: gang(rank), ..asked(&[("tag", "x")]) };
        engine.allows(&order).expect("it can");
        engine.command_line(&order, &seat).join(" ")
    };
    assert!(line(0).ends_with(" --lead 12007 --of 2 --tag x"), "{}", line(0));
    assert!(line(1).ends_with(" --join 10.0.0.1:12007 --as 1 --tp 16 --tag x"), "{}", line(1));
    let order = RunOrder { gang: gang(1), ..asked(&[]) };
    assert_eq!(engine.environment_for(&order, &seat).get("PEERS").map(String::as_str), Some("2"));

    let alone = asked(&[]);
    assert_eq!(engine.environment_for(&alone, &seat).get("PEERS"), None);
    let line = engine.command_line(&alone, &seat).join(" ");
    assert!(!line.contains("--lead"), "{line}");
    let engine = Engine::parse(STUB).expect("it is good");
    let said = engine.allows(&order).expect_err("it cannot");
    assert_eq!(said, "engine `stub` cannot run over several nodes here");
}

#[test]
fn what_the_owner_did_not_allow_is_refused_by_name() {
    let folder = Folder::new("engines-refused");
    let engines = loaded(&folder);
    let mut order = order(1);
    assert!(engines.select(&order).expect_err("refused").contains("has no engine `vllm`"));
    order.engine = "stub".into();
    order.engine_version = "9".into();
    assert!(engines.select(&order).expect_err("refused").contains("it has 2, 1"));
    let said = refusal(&[("host", "0.0.0.0")]);
    let allowed = "quantization, cache, dtype, max-model-len, share, tag";
    assert_eq!(
        said,
        format!("engine `stub` does not allow the flag `host` here; allowed: {allowed}")
    );
    assert_eq!(engines.offers()[0].flags.join(", "), allowed, "the inventory says the same");
}

#[test]
fn a_value_out_of_bounds_is_refused_before_an_engine_starts() {
    for (name, value, accepted) in [
        ("max-model-len", "0", "a whole number from 1 to 9000"),
        ("max-model-len", "9e3", "a whole number from 1 to 9000"),
        ("share", "NaN", "a number from 0.1 to 0.9"),
        ("share", "1", "a number from 0.1 to 0.9"),
        ("cache", "yes", "true or false"),
        ("dtype", "int4", "one of auto, half"),
        ("tag", "-x", "text of at most 4 bytes that does not begin with -"),
        ("tag", "12345", "text of at most 4 bytes that does not begin with -"),
        ("quantization", "--host", "text that does not begin with -"),
    ] {
        let said = refusal(&[(name, value)]);
        let expected =
            format!("engine `stub`: the flag `{name}` cannot be `{value}`: accepted is {accepted}");
        assert_eq!(said, expected);
    }
}

#[test]
fn a_definition_is_refused_with_the_key_that_is_wrong() {
    let good = "name = \"x\"\nversions = [\"1\"]\n";
    for (rest, said) in [
        ("command = [\"sh\"]", "command: must begin with an absolute path"),
        ("command = [\"/x\", \"{prot}\"]", "command: `{prot}` is no placeholder"),
        ("command = [\"/x\", \"{port.grpc}\"]", "command: `{port.grpc}` is no placeholder"),
        ("command = [\"/x\", \"{rank}\"]", "command: `{rank}` is no placeholder"),
        (
            "command = [\"/x\"]\ngang = { leader = [], follower = [\"{lead}\"] }",
            "gang.follower: `{lead}` is no placeholder",
        ),
        ("command = [\"/x\"]\ngang = { leader = [] }", "missing field `follower`"),
        ("command = [\"/x\"]\ncolour = 1", "unknown field `colour`"),
        ("command = [\"/x\"]\nports = [\"A\"]", "ports: `A` is no name"),
        ("command = [\"/x\"]\nflags = [\"--a\"]", "flags: `--a` is no flag"),
        ("command = [\"/x\"]\nreadiness = { loading = [200] }", "readiness.loading: accepted"),
        (
            "command = [\"/x\"]\nreadiness = { loading = [503], dead = [503] }",
            "readiness.dead: 503 cannot mean both",
        ),
        ("command = [\"/x\"]\nprove = { kind = \"request\" }", "prove.kind: \"request\" needs"),
        ("command = [\"/x\"]\nprove = { timeout_seconds = 0 }", "prove.timeout_seconds: must be"),
        ("command = [\"/x\"]\nstop = { signal = \"SIGHUP\" }", "SIGTERM"),
        ("command = [\"/x\"]\nmetrics = { port = \"m\" }", "metrics.port: `m` is not one of"),
        ("command = [\"/x\"]\nmetrics = { TotalQueuedRequests = [\"a b\"] }", "`a b` is no series"),
        (
            "command = [\"/x\"]\n[parameters]\na = { type = \"integer\", min = 2, max = 1 }",
            "parameters.a: min is above max",
        ),
        (
            "command = [\"/x\"]\nenvironment = { A = \"\\u0000\" }",
            "environment.A: a zero byte is accepted nowhere",
        ),
        ("command = [\"/x\"]\nenvironment = 1979-05-27", "is no name of an environment variable"),
        ("command = [\"/x\"]\nflag = []", "flag: `{name}` must stand in it"),
        ("command = [\"/x\"]\nflag = [\"--{name}\", \"{val}\"]", "flag: `{val}` is no placeholder"),
        ("command = [\"/x\"]\nuser = \"\"", "user: must be a word"),
        ("command = [\"/x\"]\n[[failure]]\nkind = \"port\"", "failure: each row needs texts"),
    ] {
        let why = Engine::parse(&format!("{good}{rest}\n")).expect_err(rest);
        assert!(why.contains(said), "{rest}: {why}");
    }
}

#[test]
fn a_broken_definition_is_refused_and_the_others_count() {
    let folder = Folder::new("engines-broken");
    let bad = "name = \"x\"\nversions = [\"1\"]\ncommand = [\"/no/such/program\"]\n";
    std::fs::write(folder.path().join("bad.toml"), bad).expect("written");
    let engines = loaded(&folder);
    assert_eq!(engines.offers().len(), 1);
    assert!(engines.refused[0].contains("command: `/no/such/program` does not exist"));
}

#[test]
fn the_last_output_tells_why_an_engine_ended() {
    let exit = Ended::Exited { code: 1 };
    for (output, kind) in [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", Some(Kind::GpuMemory)),
        ("RuntimeError: CUDA error: out of memory", Some(Kind::GpuMemory)),
        (
            "ValueError: No available memory for the cache blocks. Try increasing",
            Some(Kind::GpuMemory),
        ),
        ("RuntimeError: CUDA error: an illegal memory access", Some(Kind::Cuda)),
        ("The NVIDIA driver version is insufficient for CUDA runtime", Some(Kind::Driver)),
        ("OSError: [Errno 98] Address already in use", Some(Kind::Port)),
        ("couldn't bind HTTP server socket, hostname: 127.0.0.1", Some(Kind::Port)),
        ("safetensors_rust.SafetensorError: Error while deserializing", Some(Kind::Weights)),
        ("llama_model_load: error loading model: invalid magic", Some(Kind::Weights)),
        ("vllm: error: unrecognized arguments: --colour", Some(Kind::Configuration)),
        ("ValueError: Total number of attention heads (5)", Some(Kind::Configuration)),
        ("the weather was bad", None),
    ] {
        let log = format!("INFO starting\n{output}\nINFO bye\n");
        let failure = classify(&[], &exit, &log);
        assert_eq!(failure.kind, kind, "{output}");
        if kind.is_some() {
            assert!(failure.because.ends_with(&format!("(exit 1): {output}")), "{failure:?}");
        }
    }
    let silent = classify(&[], &Ended::Signaled { signal: 9 }, "");
    assert_eq!(silent.kind, Some(Kind::HostMemory), "the kernel says nothing and sends SIGKILL");
    let usage = classify(&[], &Ended::Exited { code: 2 }, "usage: serve");
    assert_eq!(usage.kind, Some(Kind::Configuration));
}

#[test]
fn an_engines_own_patterns_count_before_the_shipped_ones() {
    let own = super::failures::Pattern {
        kind: Kind::Weights,
        says: vec!["Cannot Open Checkpoint".to_owned()],
        codes: vec![3],
    };
    let log = "cannot open checkpoint: CUDA error";
    let exit = Ended::Exited { code: 3 };
    assert_eq!(classify(std::slice::from_ref(&own), &exit, log).kind, Some(Kind::Weights));
    assert_eq!(classify(&[own], &exit, "").kind, Some(Kind::Weights));
    assert_eq!(classify(&[], &exit, log).kind, Some(Kind::Cuda));
}

fn mapping(queued: &[&str], kv_cache: &[&str]) -> Metrics {
    let series = |texts: &[&str]| {
        texts.iter().map(|text| Series::try_from((*text).to_owned()).expect(text)).collect()
    };
    Metrics {
        path: "/metrics".to_owned(),
        port: None,
        queued: series(queued),
        running: Vec::new(),
        kv_cache: series(kv_cache),
    }
}

#[test]
fn the_first_series_that_the_page_has_counts_and_parts_are_summed() {
    let page = "# HELP waiting Requests.\n# TYPE waiting gauge\n\
                waiting{engine=\"0\",reason=\"capacity\"} 2.0\n\
                waiting{engine=\"1\",reason=\"capacity\"} 3 1700000000\n\
                waiting{engine=\"0\",reason=\"a \\\"quoted\\\\ } reason\"} 40\n\
                cache{engine=\"0\"} 0.25\ncache{engine=\"1\"} 0.75\nbroken{ 1\n\nlast NaN\n";
    let of = |queued: &[&str], cache: &[&str]| {
        let load = load::read(page, &mapping(queued, cache));
        (load.queued, load.kv_cache_permille)
    };
    assert_eq!(of(&["waiting{reason=\"capacity\"}", "waiting"], &["cache"]), (Some(5), Some(500)));
    assert_eq!(of(&["nothing", "waiting"], &["old_cache", "cache"]), (Some(45), Some(500)));
    assert_eq!(of(&[r#"waiting{reason="a \"quoted\\ } reason"}"#], &[]), (Some(40), None));
    assert_eq!(of(&["last"], &["broken"]), (None, None), "absent, never zero");
}

#[test]
fn a_series_is_written_as_it_is_read() {
    for text in ["a:b_c", "a{x=\"1\"}", "a{x=\"q\\\"\\\\\",y=\"\"}"] {
        let series = Series::try_from(text.to_owned()).expect(text);
        assert_eq!(String::from(series), text);
    }
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn no_page_and_no_log_is_too_strange_to_read(text in "\\PC{0,400}", raw: Vec<u8>) {
        let metrics = mapping(&["a", "a{b=\"c\"}"], &["a"]);
        for page in [text, String::from_utf8_lossy(&raw).into_owned()] {
            let load = load::read(&page, &metrics);
            prop_assert!(load.kv_cache_permille.is_none_or(|share| share <= 1000));
            classify(&[], &Ended::Unknown, &page);
            drop(Engine::parse(&page));
        }
    }

    #[test]
    fn a_text_is_filled_in_one_pass_and_names_only_what_stands_in_it(
        text in "[{}a-c._é]{0,40}", value in "\\PC{0,8}",
    ) {
        prop_assert_eq!(&placeholders::fill(&text, &[]), &text);
        let inside = placeholders::named(&text);
        prop_assert!(inside.iter().all(|name| text.contains(name)));
        let values: Vec<_> = inside.iter().map(|name| ((*name).to_owned(), value.clone())).collect();
        let filled = placeholders::fill(&text, &values);
        if inside.is_empty() {
            prop_assert_eq!(filled, text);
        } else {
            prop_assert!(filled.contains(&value));
        }
    }

    #[test]
    fn pages_of_almost_samples_never_panic_and_never_make_numbers_up(
        lines in prop::collection::vec("a(\\{[a-c\"=,\\\\ }]{0,12}\\}?)? ?[-0-9.eE+NaIinf]{0,8}", 0..20),
    ) {
        let page = lines.join("\n");
        let load = load::read(&page, &mapping(&["b"], &["c{a=\"b\"}"]));
        prop_assert_eq!(load, EngineLoad::default());
        load::read(&page, &mapping(&["a"], &["a"]));
    }

    #[test]
    fn a_definition_with_any_key_changed_is_refused_or_good_and_never_a_panic(
        at in 0..STUB.len(), put in "[\\[\\]{}\"=.,a-z0-9\\n-]{0,6}",
    ) {
        prop_assume!(STUB.is_char_boundary(at));
        let text = format!("{}{put}{}", &STUB[..at], &STUB[at..]);
        if let Ok(engine) = Engine::parse(&text) {
            prop_assert!(engine.command[0].starts_with('/'));
        }
    }

    #[test]
    fn a_flag_that_is_accepted_is_one_argument_and_no_other_flag(value in "\\PC{0,40}") {
        let engine = Engine::parse(STUB).expect("it is good");
        let order = asked(&[("quantization", &value)]);
        prop_assume!(engine.allows(&order).is_ok());
        let further = BTreeMap::new();
        let seat = Seat { port: 1, further: &further, model_dir: Path::new("/m") };
        let line = engine.command_line(&order, &seat);
        prop_assert_eq!(&line[line.len() - 2..], ["--quantization", &value]);
        prop_assert!(!value.starts_with('-') || value.parse::<f64>().is_ok());
    }
}
