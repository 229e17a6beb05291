//! Exit codes and formats that programs rely on.

use std::path::PathBuf;
use std::process::Output;

use wharfage_tests::{Folder, program};

fn run(name: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(program(name))
        .args(arguments)
        .env_remove("WHARFAGE_URL")
        .output()
        .expect("the program runs")
}

#[test]
fn every_program_knows_its_version_its_help_and_its_wrong_uses() {
    for name in ["wharfage", "wharfage-scheduler", "wharfage-agent", "wharfage-gateway"] {
        for flag in ["--version", "--help"] {
            let output = run(name, &[flag]);
            assert_eq!(output.status.code(), Some(0), "{name} {flag}");
            assert!(!output.stdout.is_empty(), "{name} {flag} says something");
        }
        assert_eq!(run(name, &["--no-such-flag"]).status.code(), Some(64), "{name}");
    }
}

#[test]
fn a_bad_configuration_ends_with_78_and_names_the_key() {
    let folder = Folder::new("configurations");
    for name in ["scheduler", "agent", "gateway"] {
        let path = folder.file(&format!("{name}.toml"), "colour = \"red\"\n");
        let output =
            run(&format!("wharfage-{name}"), &["--config", path.to_str().unwrap(), "check-config"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{name}: {said}");
        assert!(said.contains("colour"), "{name}: {said}");
    }
}

#[test]
fn bad_input_data_ends_with_65_and_names_file_line_and_field() {
    let folder = Folder::new("inputs");
    let fleet = folder.file("fleet.toml", "[[node]]\nsku = \"a\"\nzone = \"Z\"\ncount = 0\n");
    let output = run("wharfage", &["dev", "--nodes", fleet.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("fleet.toml:4: count"), "{said}");

    let terms = folder.file(
        "terms.toml",
        "currency = \"USD\"\n[[price]]\nsku = \"a\"\nregion = \"R\"\non_demand = \"1.00\"\n",
    );
    let usage = folder.file(
        "usage.csv",
        "organization,region,sku,compute_class,node,start,end\nacme,R,a,standard,n,2026-06-02T00:00:00Z,2026-06-01T00:00:00Z\n",
    );
    let rate = |usage: &PathBuf| {
        run(
            "wharfage",
            &[
                "rate",
                "--terms",
                terms.to_str().unwrap(),
                "--usage",
                usage.to_str().unwrap(),
                "--from",
                "2026-06-01T00:00:00Z",
                "--to",
                "2026-07-01T00:00:00Z",
                "--format",
                "json",
            ],
        )
    };
    let output = rate(&usage);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("usage.csv") && said.contains("line 2"), "{said}");

    let unpriced = folder.file(
        "unpriced.csv",
        "organization,region,sku,compute_class,node,start,end\nacme,R,b,standard,n,2026-06-01T00:00:00Z,2026-06-02T00:00:00Z\n",
    );
    let output = rate(&unpriced);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains('b') && said.contains('R'), "{said}");
}

#[test]
fn a_scheduler_that_is_not_there_ends_with_69() {
    let output = std::process::Command::new(program("wharfage"))
        .args(["get", "nodes"])
        .env("WHARFAGE_URL", "http://127.0.0.1:1")
        .env("WHARFAGE_TOKEN", "nobody")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn a_command_lines_own_bad_configuration_ends_with_78_and_names_its_place() {
    let folder = Folder::new("own-configuration");
    std::fs::create_dir_all(folder.path().join(".config/wharfage")).unwrap();
    let get = |text: &str, url: Option<&str>| {
        folder.file(".config/wharfage/config.toml", text);
        let mut command = std::process::Command::new(program("wharfage"));
        command.args(["get", "nodes"]).env("HOME", folder.path());
        command.env_remove("WHARFAGE_URL").env_remove("WHARFAGE_TOKEN");
        command.envs(url.map(|url| ("WHARFAGE_URL", url)));
        let output = command.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let cases = [
        ("colour = \"red\"\n", None, "colour"),
        ("url = 7\n", None, "line 1"),
        ("url = \"127.0.0.1:1\"\ntoken = \"t\"\n", None, "config.toml: url: `127.0.0.1:1`"),
        ("token = \"t\"\n", Some("nowhere"), "WHARFAGE_URL: `nowhere`"),
        ("token = \"t\"\n", Some("ftp://localhost"), "http://"),
    ];
    for (text, url, named) in cases {
        let (code, said) = get(text, url);
        assert_eq!(code, Some(78), "{text}: {said}");
        assert!(said.contains(named), "{text}: {said}");
    }
    let (code, said) = get("url = \"http://127.0.0.1:1\"\ntoken = \"t\"\n", None);
    assert_eq!(code, Some(69), "a good one is used: {said}");
    assert_eq!(get("", None).0, Some(64), "neither is a wrong use");
}

#[test]
fn a_file_that_is_no_text_ends_with_65_and_names_the_line() {
    let folder = Folder::new("no-text");
    let good = folder.file("good.toml", "currency = \"USD\"\n");
    let bad = folder.path().join("bad");
    std::fs::write(&bad, b"one\ntwo \xff\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let period = ["--from", "2026-06-01T00:00:00Z", "--to", "2026-07-01T00:00:00Z"];
    let cases: [&[&str]; 5] = [
        &["simulate", bad],
        &["dev", "--nodes", bad],
        &["rate", "--terms", bad, "--usage", good],
        &["rate", "--terms", good, "--usage", bad],
        &["simulate", "placement", "--nodes", bad, "--pods", good],
    ];
    for arguments in cases {
        let mut arguments = arguments.to_vec();
        if arguments[0] == "rate" {
            arguments.extend(period);
        }
        let output = run("wharfage", &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(65), "{arguments:?}: {said}");
        assert!(said.contains("bad:2: ") && said.contains("UTF-8"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_sheet_that_cannot_be_read_ends_with_65_and_an_expectation_that_fails_with_1() {
    let folder = Folder::new("sheets");
    let fleet = "fleet 1x gd-8xh100ib-i128 standard US-EAST-04A\n";
    let bad = folder.file("bad.sheet", &format!("{fleet}jump node-1\n"));
    let output = run("wharfage", &["simulate", bad.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("bad.sheet:2"), "{said}");
    let failing = folder.file(
        "failing.sheet",
        &format!("{fleet}deploy chat gpus=8\nrun until ready or 5m\nexpect chat ready=2\n"),
    );
    assert_eq!(run("wharfage", &["simulate", failing.to_str().unwrap()]).status.code(), Some(1));
    let good = folder.file(
        "good.sheet",
        &format!(
            "{fleet}deploy chat gpus=8\nrun until ready or 5m\nexpect chat ready=1\nexpect chat on node-1\n"
        ),
    );
    let output = run("wharfage", &["simulate", good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_example_configurations_are_accepted_as_they_are() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for name in ["scheduler", "agent", "gateway"] {
        let path = examples.join(format!("{name}.toml"));
        let output =
            run(&format!("wharfage-{name}"), &["--config", path.to_str().unwrap(), "check-config"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
    }
}
