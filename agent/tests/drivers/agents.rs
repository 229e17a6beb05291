//! The agent is killed at every step of every transition; the next one finds either a replica that
//! lives, or one that ended, or none that ever began, and never a half.

use std::path::PathBuf;

use wharfage_agent::guard::record::{Claim, Command};
use wharfage_agent_sys::process;
use wharfage_shared::replica::Ended;

use crate::bench::{Bench, other_boot, wait_for};

const ENGINE: &str = "trap 'exit 0' TERM; while :; do sleep 0.02; done";

/// The next agent must be able to bring whatever was left to a proven end.
fn brought_to_an_end(bench: &Bench, step: &str) {
    let mut agent = bench.agent();
    let Some(found) = agent.adopt(bench) else {
        assert!(bench.living().is_empty(), "{step}: {:?}", bench.living());
        assert!(!bench.folder().path().exists(), "{step}: what is not found leaves nothing");
        return;
    };
    match found.ended {
        None => {
            let record = bench.folder().record().unwrap_or_else(|| panic!("{step}: no record"));
            assert!(process::is_alive(record.guard), "{step}: adopted without a guard");
            assert_eq!(found.address, Some(record.address), "{step}");
            agent.command(bench, Command::Kill);
            agent.exited();
        }
        Some(Ended::NeverStarted { .. }) => {
            assert!(bench.living().is_empty(), "{step}: {:?}", bench.living());
        }
        Some(Ended::Exited { .. } | Ended::Signaled { .. } | Ended::Unknown) => {}
    }
    agent.release(bench);
}

#[test]
fn an_agent_killed_at_any_step_of_a_start_leaves_one_whole_replica_or_none() {
    let steps: [(&str, &str); 5] = [
        ("before anything", ""),
        ("the folder is made", "."),
        ("the parameters are written", "params.json"),
        ("the guard has begun", "claim"),
        ("the guard has written its record", "guard.json"),
    ];
    for (step, file) in steps {
        let bench = Bench::new(ENGINE);
        let agent = bench.agent();
        agent.start(&bench);
        let seen: PathBuf = bench.folder().path().join(file);
        if !file.is_empty() {
            wait_for(step, || seen.exists().then_some(()));
        }
        agent.kill();
        brought_to_an_end(&bench, step);
    }
}

#[test]
fn an_agent_killed_while_a_replica_runs_is_followed_by_one_that_adopts_the_same_process() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    agent.kill();
    let engine = record.engine.expect("an engine");
    assert!(process::is_alive(engine), "a replica outlives its agent");
    let mut next = bench.agent();
    let found = next.adopt(&bench).expect("it is found");
    assert_eq!((found.ended, found.address), (None, Some(record.address)));
    let adopted = bench.folder().record().expect("a record");
    assert_eq!((adopted.guard, adopted.engine), (record.guard, Some(engine)));
    next.command(&bench, Command::Terminate);
    assert_eq!(next.exited(), Ended::Exited { code: 0 });
    next.release(&bench);
}

/// An engine that hears the order to end, says so and goes on until it may end.
fn hears_and_waits(bench: &Bench) {
    let (heard, go) = (bench.path("heard"), bench.path("go"));
    let script = format!(
        "trap 'touch {}; while [ ! -e {1} ]; do sleep 0.02; done; exit 0' TERM; \
         while :; do sleep 0.02; done",
        heard.display(),
        go.display()
    );
    bench.engine(&["/bin/sh", "-c", &script]);
}

#[test]
fn an_agent_killed_when_its_engine_was_asked_to_end_is_followed_by_one_that_waits_for_it() {
    let bench = Bench::without_engine();
    hears_and_waits(&bench);
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.command(&bench, Command::Terminate);
    wait_for("the engine's ear", || bench.path("heard").exists().then_some(()));
    agent.kill();
    let mut next = bench.agent();
    let found = next.adopt(&bench).expect("it is found");
    assert_eq!(found.ended, None, "it lives until it ends by itself");
    std::fs::write(bench.path("go"), "").expect("written");
    assert_eq!(next.exited(), Ended::Exited { code: 0 });
    next.release(&bench);
}

#[test]
fn an_agent_killed_at_any_step_after_the_kill_is_followed_by_one_that_tells_the_same_end() {
    for step in ["written down", "heard", "looked"] {
        let bench = Bench::new(ENGINE);
        let mut agent = bench.agent();
        agent.run(&bench);
        agent.command(&bench, Command::Kill);
        wait_for("the record of the end", || bench.folder().record()?.ended);
        if step != "written down" {
            agent.exited();
        }
        if step == "looked" {
            agent.look(&bench);
        }
        agent.kill();
        let next = bench.agent();
        let found = next.adopt(&bench).unwrap_or_else(|| panic!("{step}: it is found"));
        assert_eq!(found.ended, Some(Ended::Signaled { signal: 9 }), "{step}");
        next.release(&bench);
    }
}

#[test]
fn an_agent_killed_while_it_forgets_a_replica_is_followed_by_one_that_forgets_the_rest() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.command(&bench, Command::Kill);
    agent.exited();
    wait_for("a free place", || bench.living().is_empty().then_some(()));
    // Folders are removed file by file: the parameters may go first.
    std::fs::remove_file(bench.folder().params_path()).expect("removed");
    agent.kill();
    let next = bench.agent();
    assert!(next.adopt(&bench).is_none());
    assert!(!bench.folder().path().exists(), "what is not found leaves nothing");
    assert_eq!(next.driver.untended(), Vec::<String>::new());
}

#[test]
fn an_end_that_came_while_no_agent_was_there_is_told_by_the_next_one() {
    let bench = Bench::without_engine();
    let go = bench.path("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exit 3", go.display());
    bench.engine(&["/bin/sh", "-c", &script]);
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    agent.kill();
    std::fs::write(&go, "").expect("written");
    wait_for("the guard's end", || (!process::is_alive(record.guard)).then_some(()));
    let next = bench.agent();
    let found = next.adopt(&bench).expect("it is found");
    assert_eq!(found.ended, Some(Ended::Exited { code: 3 }));
    next.release(&bench);
}

#[test]
fn a_start_that_was_given_up_is_never_begun_however_late_the_guard_comes() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    let folder = bench.folder();
    // As an agent leaves it that is killed between the parameters and the guard.
    let record = agent.run(&bench);
    let params = folder.params().expect("parameters");
    agent.command(&bench, Command::Kill);
    agent.exited();
    assert!(!process::is_alive(record.guard) || bench.living().is_empty());
    agent.release(&bench);
    folder.create().expect("made");
    folder.write_params(&params).expect("written");
    let found = agent.adopt(&bench).expect("it is found");
    assert!(matches!(found.ended, Some(Ended::NeverStarted { .. })), "{:?}", found.ended);
    assert_eq!(folder.claimed().expect("readable"), Some(Claim::Withdrawn));
    let late = std::process::Command::new(env!("CARGO_BIN_EXE_wharfage-agent"))
        .arg("guard")
        .arg("--params")
        .arg(folder.params_path())
        .output();
    // Inside a machine the program lies elsewhere; there the claim alone says it.
    if let Ok(late) = late {
        let said = String::from_utf8_lossy(&late.stderr).into_owned();
        assert!(said.contains("was given up before the guard came to it"), "{said}");
    }
    assert!(bench.living().is_empty());
    agent.release(&bench);
}

#[test]
fn records_of_another_boot_are_an_end_that_nobody_saw() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.command(&bench, Command::Kill);
    agent.exited();
    agent.kill();
    let folder = bench.folder();
    let mut params = folder.params().expect("parameters");
    params.boot = other_boot();
    folder.write_params(&params).expect("written");
    let mut record = folder.record().expect("a record");
    record.ended = None;
    folder.write_record(&record).expect("written");
    let next = bench.agent();
    let found = next.adopt(&bench).expect("it is found");
    assert_eq!(found.ended, Some(Ended::Unknown));
    next.release(&bench);
}
