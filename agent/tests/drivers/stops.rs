//! Ends that are ordered, and what refuses to end.

use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use wharfage_agent::guard::record::Command;
use wharfage_agent_core::input::Release;
use wharfage_agent_sys::process;
use wharfage_shared::replica::Ended;

use crate::bench::{Bench, wait_for};

fn is_root() -> bool {
    process::effective_user() == 0
}

#[test]
fn an_engine_that_is_asked_ends_in_its_own_way() {
    let bench = Bench::new("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    let mut agent = bench.agent();
    agent.run(&bench);
    let log = bench.folder().path().join("engine.log");
    let has = |word: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word));
    wait_for("the engine's trap", || has("up").then_some(()));
    agent.command(&bench, Command::Terminate);
    assert_eq!(agent.exited(), Ended::Exited { code: 0 });
    assert!(has("bye"));
    agent.release(&bench);
}

#[test]
fn an_engine_that_ignores_sigterm_goes_on_until_it_is_killed() {
    let bench = Bench::new("trap 'echo no' TERM; echo up; while :; do sleep 0.02; done");
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    let log = bench.folder().path().join("engine.log");
    let has = |word: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word));
    wait_for("the engine's trap", || has("up").then_some(()));
    agent.command(&bench, Command::Terminate);
    wait_for("its refusal", || has("no").then_some(()));
    assert!(process::is_alive(record.engine.expect("an engine")));
    match agent.look(&bench) {
        Release::Held { processes_left: true, because } => {
            let (guard, engine) = (record.guard.pid, record.engine.expect("an engine").pid);
            let names = |pid: u32| because.starts_with(&format!("process {pid} ("));
            assert!(names(guard) || names(engine), "{because}");
            assert!(because.contains(", user root)") || !is_root(), "whose it is: {because}");
            assert!(because.ends_with(" more still live"), "{because}");
        }
        other => panic!("an engine that lives holds its place: {other:?}"),
    }
    agent.command(&bench, Command::Kill);
    assert_eq!(agent.exited(), Ended::Signaled { signal: 9 });
    agent.release(&bench);
}

#[test]
fn children_that_leave_session_environment_and_parent_go_with_their_engine() {
    let bench = Bench::without_engine();
    let child = bench.path("child");
    let script = format!(
        "setsid env -i sh -c 'sleep 1000 & echo $! > {0}.new; mv {0}.new {0}' & \
         while [ ! -e {0} ]; do sleep 0.02; done; echo up; exec sleep 1000",
        child.display()
    );
    bench.engine(&["/bin/sh", "-c", &script]);
    let mut agent = bench.agent();
    agent.run(&bench);
    let pid = wait_for("the child", || std::fs::read_to_string(&child).ok()?.trim().parse().ok());
    let daemon = process::identify(pid).expect("it lives");
    agent.command(&bench, Command::Terminate);
    assert_eq!(agent.exited(), Ended::Signaled { signal: 15 });
    wait_for("the daemon's end", || (!process::is_alive(daemon)).then_some(()));
    agent.release(&bench);
}

#[test]
fn a_guard_that_is_killed_takes_its_engine_with_it() {
    let bench = Bench::new("exec sleep 1000");
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    process::signal(record.guard, Signal::KILL).expect("sent");
    assert_eq!(agent.exited(), Ended::Unknown);
    let engine = record.engine.expect("an engine");
    wait_for("the engine's end", || (!process::is_alive(engine)).then_some(()));
    agent.release(&bench);
}

#[test]
fn what_cannot_be_ended_holds_its_place_by_name_until_it_is_gone() {
    let bench = Bench::new("exec sleep 1000");
    let mut agent = bench.agent();
    agent.run(&bench);
    let mark = bench.folder().params().expect("its parameters").mark;
    let (name, value) = mark.split_once('=').expect("a name and a value");
    let (name, value) = (name.to_owned(), value.to_owned());
    // Whatever is done to it, a process of the replica lives: so it looks from outside when one
    // sits in the kernel and takes no signal.
    let lives = Arc::new(AtomicBool::new(true));
    let wanted = Arc::clone(&lives);
    let stuck = std::thread::spawn(move || {
        while wanted.load(Ordering::Relaxed) {
            let mut sleep = Program::new("sleep");
            let mut child = sleep.arg("1000").env(&name, &value).spawn().expect("it starts");
            while wanted.load(Ordering::Relaxed) && child.try_wait().expect("seen").is_none() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            drop(child.kill());
            child.wait().expect("collected");
        }
    });
    agent.command(&bench, Command::Kill);
    assert_eq!(agent.exited(), Ended::Signaled { signal: 9 });
    let because = wait_for("a place that is held", || match agent.look(&bench) {
        Release::Held { processes_left: true, because } => {
            because.contains("(sleep, user ").then_some(because)
        }
        Release::Held { .. } | Release::Free { .. } => None,
    });
    assert!(because.starts_with("process ") && because.contains(" still live"), "{because}");
    lives.store(false, Ordering::Relaxed);
    stuck.join().expect("it ended");
    agent.release(&bench);
}
