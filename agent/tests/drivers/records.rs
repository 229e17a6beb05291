//! Records that are spoilt or gone while their replica lives: what cannot be read proves nothing, so
//! it frees nothing, and nobody is ended for it. What can be read again is tended again.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use wharfage_agent::guard::record::{Command, Record};
use wharfage_agent_core::input::Release;
use wharfage_agent_sys::process;

use crate::bench::{Agent, Bench, is_inside};

const ENGINE: &str = "exec sleep 1000";

/// Files of a replica's folder with what was in them.
struct Kept(Vec<(PathBuf, Vec<u8>)>);

impl Kept {
    fn of(bench: &Bench, names: &[&str]) -> Self {
        let paths = names.iter().map(|name| bench.folder().path().join(name));
        Self(paths.map(|path| (path.clone(), fs::read(path).expect("a record"))).collect())
    }

    fn spoil(&self) {
        for (path, _) in &self.0 {
            fs::write(path, "{\"order\": 7").expect("written");
        }
    }

    fn remove(&self) {
        for (path, _) in &self.0 {
            fs::remove_file(path).expect("removed");
        }
    }

    fn put_back(&self) {
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).expect("written");
        }
    }
}

/// Why the place is held, while guard and engine live.
fn held(agent: &Agent, bench: &Bench, record: &Record, what: &str) -> String {
    let engine = record.engine.expect("an engine");
    let saw = agent.look(bench);
    assert!(process::is_alive(record.guard) && process::is_alive(engine), "{what}: it was ended");
    match saw {
        Release::Held { because, .. } => because,
        Release::Free { .. } => panic!("{what}: its place was called free while it lives"),
    }
}

#[test]
fn a_replica_whose_records_are_spoilt_is_left_alone_and_keeps_its_place() {
    let cases: [(&str, &[&str], &str); 3] = [
        ("parameters", &["params.json"], "params.json` is damaged"),
        ("record", &["guard.json"], "still live"),
        ("record and claim", &["guard.json", "claim"], "guard.json` is damaged"),
    ];
    for (what, names, expected) in cases {
        let bench = Bench::new(ENGINE);
        let mut agent = bench.agent();
        let record = agent.run(&bench);
        agent.kill();
        // A guard that can be asked would say what its record said.
        process::signal(record.guard, Signal::STOP).expect("frozen");
        let kept = Kept::of(&bench, names);
        kept.spoil();
        let mut next = bench.agent();
        assert_eq!(next.adopt(&bench).map(|found| found.ended), None, "{what}");
        let told = next.driver.untended().join("\n");
        let who = format!("{} of an earlier agent is left alone", bench.replica);
        assert!(told.contains(&who) && told.contains(names[0]), "{what}: {told}");
        let because = held(&next, &bench, &record, what);
        assert!(because.contains(expected), "{what}: {because}");
        kept.put_back();
        process::signal(record.guard, Signal::CONT).expect("it goes on");
        assert_eq!(next.adopted().ended, None, "{what}: it can be read again");
        assert_eq!(next.driver.untended(), Vec::<String>::new(), "{what}");
        next.command(&bench, Command::Kill);
        next.exited();
        next.release(&bench);
    }
}

#[test]
fn a_guards_record_that_is_spoilt_or_lost_is_written_anew_by_its_own_word() {
    let both: &[&str] = &["guard.json", "claim"];
    for (names, lost) in [(&both[..1], false), (&both[..1], true), (both, false), (both, true)] {
        let bench = Bench::new(ENGINE);
        let mut agent = bench.agent();
        let record = agent.run(&bench);
        agent.kill();
        let kept = Kept::of(&bench, names);
        if lost {
            kept.remove()
        } else {
            kept.spoil()
        }
        let mut next = bench.agent();
        let found = next.adopt(&bench).expect("its guard says who it is");
        assert_eq!((found.ended, found.address), (None, Some(record.address.clone())), "{names:?}");
        assert_eq!(bench.folder().record(), Some(record), "{names:?}");
        next.command(&bench, Command::Kill);
        next.exited();
        next.release(&bench);
    }
}

#[test]
fn a_replica_whose_files_were_removed_keeps_its_place_while_it_lives() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    let kept = Kept::of(&bench, &["params.json", "guard.json", "claim"]);
    kept.remove();
    let because = held(&agent, &bench, &record, "all files");
    assert!(because.contains("still live"), "{because}");
    kept.put_back();
    let parameters = Kept::of(&bench, &["params.json"]);
    parameters.remove();
    agent.kill();
    let mut next = bench.agent();
    assert_eq!(next.adopt(&bench).map(|found| found.ended), None, "nobody knows its order");
    assert!(bench.folder().path().exists(), "what lives keeps its folder");
    let because = held(&next, &bench, &record, "parameters");
    assert!(because.contains("still live"), "{because}");
    parameters.put_back();
    assert_eq!(next.adopted().ended, None, "it is adopted now");
    next.command(&bench, Command::Kill);
    next.exited();
    next.release(&bench);
}

#[test]
fn a_frozen_guard_whose_record_was_lost_is_not_taken_for_one_that_never_came_up() {
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    let record = agent.run(&bench);
    bench.folder().mark_ready().expect("noted");
    agent.kill();
    process::signal(record.guard, Signal::STOP).expect("frozen");
    let kept = Kept::of(&bench, &["guard.json"]);
    kept.remove();
    let mut next = bench.agent();
    assert_eq!(next.adopt(&bench).map(|found| found.ended), None);
    let told = next.driver.untended().join("\n");
    assert!(told.contains("guard.json` is lost"), "{told}");
    assert!(process::is_alive(record.guard) && process::is_alive(record.engine.expect("one")));
    process::signal(record.guard, Signal::CONT).expect("it goes on");
    assert_eq!(next.adopted().ended, None, "its guard says what was lost");
    next.command(&bench, Command::Kill);
    next.exited();
    next.release(&bench);
}

#[test]
fn a_control_group_that_cannot_be_read_is_not_an_empty_one() {
    if is_inside() {
        // systemd lists a unit's processes there.
        return;
    }
    let bench = Bench::new(ENGINE);
    let mut agent = bench.agent();
    agent.run(&bench);
    agent.command(&bench, Command::Kill);
    agent.exited();
    let folder = bench.folder();
    let group = bench.path("group");
    fs::create_dir_all(group.join("cgroup.procs")).expect("a folder where a file belongs");
    let mut params = folder.params().expect("parameters");
    params.cgroup = Some(group.clone());
    folder.write_params(&params).expect("written");
    match agent.look(&bench) {
        Release::Held { processes_left: true, because } => {
            assert!(because.contains("its control group cannot be read"), "{because}");
        }
        other => panic!("nobody knows who is inside: {other:?}"),
    }
    fs::remove_dir_all(&group).expect("removed");
    agent.release(&bench);
}
