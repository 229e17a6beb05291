//! A replica's start and its natural end.

use std::process::Command;

use wharfage_agent::config::Config;
use wharfage_agent::drivers::Way;
use wharfage_agent::drivers::systemd::{Limits, Near};
use wharfage_agent::guard::record::Command as Order;
use wharfage_agent_core::input::Release;
use wharfage_agent_sys::process;
use wharfage_shared::replica::Ended;

use crate::bench::{Bench, OWNERS_ENGINES, is_inside, wait_for};

#[test]
fn an_engine_runs_below_its_guard_is_heard_and_its_exit_code_is_told() {
    let bench = Bench::new("echo to the reader; echo to the finder >&2; exit 7");
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    assert!(record.address.starts_with("127.0.0.1:"), "{record:?}");
    assert_eq!(agent.exited(), Ended::Exited { code: 7 });
    let said = |name: &str| std::fs::read_to_string(bench.folder().path().join(name));
    assert_eq!(said("engine.log").expect("a log"), "to the reader\n");
    assert_eq!(said("engine.err.log").expect("a log"), "to the finder\n");
    agent.release(&bench);
}

/// In a container the session that an agent was started in is often one of the outside: its number
/// there is 0.
#[test]
fn an_engine_runs_where_the_agents_session_is_outside_its_pid_namespace() {
    if is_inside() {
        // A unit's guard is no child of its agent.
        return;
    }
    let mut unshared = Command::new("unshare");
    unshared.args(["--pid", "--fork", "--mount-proc"]);
    if !rustix::process::getuid().is_root() {
        unshared.arg("--map-root-user");
    }
    let outcome = unshared
        .arg(std::env::current_exe().expect("these stories"))
        .args(["--exact", "starts::the_signal_that_ended_an_engine_is_told"])
        .output()
        .expect("`unshare` of util-linux runs");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn the_signal_that_ended_an_engine_is_told() {
    let bench = Bench::new("kill -SEGV $$");
    let mut agent = bench.agent();
    agent.run(&bench);
    assert_eq!(agent.exited(), Ended::Signaled { signal: 11 });
    agent.release(&bench);
}

#[test]
fn the_engine_gets_what_its_owner_wrote_and_nothing_of_the_agents() {
    let bench = Bench::without_engine();
    let seen = bench.path("seen");
    let script = format!("env > {0}.new; echo \"$0\" >> {0}.new; mv {0}.new {0}", seen.display());
    bench.engine(&["/bin/sh", "-c", &script, "a; b {model_name} $(c)"]);
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.exited();
    let seen = std::fs::read_to_string(&seen).expect("it was written");
    assert!(seen.ends_with("a; b small $(c)\n"), "one argument, read by no shell: {seen}");
    assert!(seen.contains(&format!("WHARFAGE_REPLICA={}\n", bench.replica)), "{seen}");
    assert!(!seen.contains("CARGO") && !seen.contains("NOTIFY_SOCKET"), "{seen}");
    agent.release(&bench);
}

#[test]
fn a_start_that_cannot_be_says_why_and_leaves_nothing() {
    let bench = Bench::without_engine();
    let program = bench.path("no-program");
    std::fs::write(&program, "words").expect("written");
    let program = program.display().to_string();
    bench.engine(&[&program]);
    let mut agent = bench.agent();
    agent.start(&bench);
    let why = agent.started().expect_err("it is no program");
    assert!(why.contains(&format!("cannot start `{program}`")), "{why}");
    assert!(matches!(agent.look(&bench), Release::Free { .. }));
    agent.release(&bench);
}

#[test]
fn the_guard_reads_the_engine_file_itself_and_trusts_no_command_that_it_is_told() {
    let bench = Bench::new("exit 1");
    let mut agent = bench.agent();
    let before = bench.engines();
    let marker = bench.path("second");
    bench.engine(&["/bin/sh", "-c", &format!("touch {}; exec sleep 1000", marker.display())]);
    // The agent still knows the first definition; the guard finds the second.
    agent.start_with(&bench, &before);
    agent.started().expect("it starts");
    wait_for("the second definition's engine", || marker.exists().then_some(()));
    agent.command(&bench, Order::Kill);
    assert_eq!(agent.exited(), Ended::Signaled { signal: 9 });
    agent.release(&bench);
}

#[test]
fn what_is_printed_without_end_is_kept_to_its_last_64_kib() {
    let bench =
        Bench::new("i=0; while [ $i -lt 9000 ]; do echo line $i of many words; i=$((i+1)); done");
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.exited();
    let log = bench.folder().path().join("engine.log");
    let last = wait_for("the last line", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.ends_with("line 8999 of many words\n").then_some(text)
    });
    let before = std::fs::read_to_string(log.with_extension("log.1")).expect("put aside");
    let kept = before.len() + last.len();
    assert!((64 * 1024..160 * 1024).contains(&kept), "{kept} bytes are kept");
    agent.release(&bench);
}

#[test]
fn where_replicas_cannot_be_units_they_are_processes_and_one_sentence_says_why() {
    let bench = Bench::new("exit 0");
    // Without systemd there is no template; inside the machine it reads another state folder.
    let path = bench.path("elsewhere.toml");
    let text = "node = \"node-1\"\nstate_dir = \"/elsewhere\"\ncache_dir = \"/c\"\n";
    let chosen = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let config = Config::load(&path).expect("a good configuration");
        bench.agent().block_on(async move { Way::choose(&config).await })
    };
    let (way, said) = chosen(text).expect("a way to run replicas");
    assert!(matches!(way, Way::Process), "{way:?}");
    let said = said.expect("a sentence");
    assert!(said.starts_with("replicas run as processes of this host, without limits: "), "{said}");
    let refused = chosen(&format!("driver = \"systemd\"\n{text}")).expect_err("it was asked for");
    assert!(refused.starts_with("driver = \"systemd\": "), "{refused}");
    let (way, said) = chosen(&format!("driver = \"process\"\n{text}")).expect("a way");
    assert!(matches!(way, Way::Process) && said.is_none(), "what was asked for needs no word");
}

#[test]
fn what_the_owner_grants_a_replica_is_its_units_and_goes_with_it() {
    if !is_inside() {
        // A process has no limits.
        return;
    }
    let bench = Bench::new("exec sleep 1000");
    let mut agent = bench.agent();
    agent.run(&bench);
    let Way::Systemd(units) = &agent.driver.way else { panic!("there is a systemd here") };
    let near = Near { cpus: vec![0], nodes: vec![0] };
    let limits = Limits { memory_max_mib: Some(512), cpu_weight: Some(50), near };
    agent.block_on(units.limit(bench.replica, &limits)).expect("granted");
    let unit = format!("wharfage-replica@{}.service", bench.replica);
    let names = "MemoryMax,CPUWeight,AllowedCPUs,AllowedMemoryNodes";
    let shown =
        Command::new("systemctl").args(["show", "-p", names, &unit]).output().expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    let granted = ["AllowedCPUs=0", "AllowedMemoryNodes=0", "CPUWeight=50", "MemoryMax=536870912"];
    assert_eq!(lines, granted);
    let files = std::path::Path::new("/run/systemd/system.control").join(format!("{unit}.d"));
    assert!(files.exists(), "systemd keeps them here");
    agent.command(&bench, Order::Kill);
    agent.exited();
    agent.release(&bench);
    wait_for("the end of its limits", || (!files.exists()).then_some(()));
}

#[test]
fn an_agent_that_is_not_root_does_all_by_polkit() {
    if std::env::var_os(OWNERS_ENGINES).is_none() {
        // `units` prepares a machine for it.
        return;
    }
    assert_ne!(process::effective_user(), 0);
    let bench = Bench::without_engine();
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    assert_eq!(process::user_of(record.guard.pid), Some(0), "its guards are root's");
    let Way::Systemd(units) = &agent.driver.way else { panic!("there is a systemd here") };
    let limits = Limits { memory_max_mib: Some(512), ..Limits::default() };
    agent.block_on(units.limit(bench.replica, &limits)).expect("granted");
    agent.kill();
    let mut next = bench.agent();
    assert!(next.adopt(&bench).is_some_and(|found| found.ended.is_none()), "it is adopted");
    next.command(&bench, Order::Terminate);
    assert_eq!(next.exited(), Ended::Signaled { signal: 15 });
    next.release(&bench);
    let other = Bench::without_engine();
    next.run(&other);
    let Way::Systemd(units) = &next.driver.way else { panic!("there is a systemd here") };
    next.block_on(units.kill(other.replica)).expect("polkit lets it");
    assert_eq!(next.exited(), Ended::Unknown, "guard and engine at once");
    next.release(&other);
}
