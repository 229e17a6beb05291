//! What is installed on a host: units that systemd finds nothing wrong with, as closed as they are
//! meant to be, and examples that the programs accept.

#![expect(clippy::expect_used, reason = "a test states what it relies on")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wharfage_tests::program;

/// How open each unit may be, in tenths of `systemd-analyze security`'s exposure.
const EXPOSURE: [(&str, u32); 4] = [
    ("wharfage-agent.service", 35),
    ("wharfage-scheduler.service", 15),
    ("wharfage-gateway.service", 15),
    ("wharfage-replica@.service", 40),
];

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wharfage-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// Works without a running systemd. Where it is missing the test fails and says what to install.
fn analyze(arguments: &[&str], file: &Path) -> Output {
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .args(arguments)
        .arg(file)
        .output()
        .expect("systemd-analyze is there: tests/prerequisites.sh units installs it")
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The unit as it is checked: a template as an instance, and programs that exist.
fn copied(folder: &Folder, name: &str) -> PathBuf {
    let text = fs::read_to_string(installed().join(name)).expect("a unit");
    let text: String = text
        .lines()
        .map(|line| match line.split_once("/usr/bin/wharfage-") {
            Some((before, _)) => format!("{before}/bin/true\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let path = folder.0.join(name.replace('@', "@r-1"));
    fs::write(&path, text).expect("written");
    path
}

fn units() -> Vec<String> {
    let names = fs::read_dir(installed()).expect("the units' folder");
    let mut names: Vec<String> = names
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".service") || name.ends_with(".slice"))
        .collect();
    names.sort();
    names
}

#[test]
fn systemd_finds_nothing_wrong_with_any_unit() {
    let folder = Folder::new("units-verify");
    let units = units();
    assert!(units.len() >= 5, "{units:?}");
    for name in &units {
        copied(&folder, name);
    }
    for name in units {
        let verified = analyze(&["verify"], &folder.0.join(name.replace('@', "@r-1")));
        assert!(verified.status.success(), "{name}: {}", said(&verified));
        assert_eq!(said(&verified), "", "{name}");
    }
}

#[test]
fn each_unit_is_as_closed_as_it_is_meant_to_be() {
    let folder = Folder::new("units-security");
    for name in units().iter().filter(|name| name.ends_with(".service")) {
        let limit = EXPOSURE.iter().find(|(unit, _)| unit == name).map(|(_, limit)| *limit);
        let limit = limit.expect("every service has a limit here");
        let path = copied(&folder, name);
        let threshold = format!("--threshold={limit}");
        let rated = analyze(&["security", "--offline=true", "--no-pager", &threshold], &path);
        assert!(rated.status.success(), "{name} is more open than {limit}: {}", said(&rated));
    }
}

#[test]
fn programs_accept_the_examples_that_are_shipped_for_them() {
    let folder = Folder::new("units-examples");
    // The gateway has not joined: it wants to read how.
    let join = folder.0.join("join");
    let words = format!("wharfage-join:v1:127.0.0.1:7071:{}:secret", "0".repeat(64));
    fs::write(&join, words).expect("written");
    for daemon in ["agent", "scheduler", "gateway"] {
        let example = installed().join(format!("{daemon}.toml"));
        let example = fs::read_to_string(example).expect("an example");
        let path = folder.0.join(format!("{daemon}.toml"));
        let join = join.display().to_string();
        fs::write(&path, example.replace("/etc/wharfage/join-gateway", &join)).expect("written");
        let checked = Command::new(program(&format!("wharfage-{daemon}")))
            .arg("--config")
            .arg(&path)
            .arg("check-config")
            .output()
            .expect("it runs");
        assert!(checked.status.success(), "{daemon}.toml: {}", said(&checked));
    }
}

#[test]
fn a_full_disk_under_standard_error_changes_no_exit_code() {
    for daemon in ["agent", "scheduler", "gateway"] {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let ended = Command::new(program(&format!("wharfage-{daemon}")))
            .args(["--config", "/nowhere/at/all.toml"])
            .stderr(full)
            .status()
            .expect("it runs");
        assert_eq!(ended.code(), Some(78), "{daemon}");
    }
}

#[test]
fn programs_that_definitions_start_from_the_package_are_in_it_and_the_page_says_where_they_go() {
    const TARGET: &str = "/usr/lib/wharfage/";
    let text = |path: &Path| fs::read_to_string(path).expect("readable");
    let files = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(installed().join(folder)).expect("a folder");
        entries.map(|entry| entry.expect("readable").path()).collect()
    };
    let definitions: Vec<String> =
        files("engines.d").iter().chain(&files("hooks.d")).map(|path| text(path)).collect();
    let named = |definition: &String| -> Vec<String> {
        let starts =
            definition.match_indices(TARGET).map(|(at, _)| &definition[at + TARGET.len()..]);
        starts.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    };
    let mut wanted: Vec<String> = definitions.iter().flat_map(named).collect();
    wanted.sort();
    wanted.dedup();
    let mut shipped: Vec<String> = files("libexec")
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    shipped.sort();
    assert_eq!(shipped, wanted, "what is shipped and what definitions start");
    for path in files("libexec") {
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(
            mode & 0o777,
            0o755,
            "{}: the agent refuses what others may write",
            path.display()
        );
    }
    let row = format!("| `libexec/*`, programs that definitions start | `{TARGET}`");
    let says = |page: &PathBuf| text(page).contains(&row);
    assert!(files("../docs").iter().any(says), "no page says where they go");
}

#[test]
fn the_polkit_rule_names_replicas_of_the_template_and_nothing_else() {
    let rule = fs::read_to_string(installed().join("wharfage.rules")).expect("the rule");
    let pattern = r"/^wharfage-replica@r-[0-9]+\.service$/.test(action.lookup(";
    assert!(rule.contains(pattern), "{rule}");
    // What the agent calls of each: the journey on a host with systemd asks polkit itself.
    let verbs = "/^(start|kill|set-property|reset-failed)$/.test(action.lookup(";
    assert!(rule.contains(verbs), "{rule}");
    assert_eq!(rule.matches("polkit.Result.YES").count(), 2, "units and the inhibitor");
    assert!(!rule.contains("manage-unit-files"), "{rule}");
}
