//! SIGKILL at random moments: nothing acknowledged is lost, nothing is done twice, and the replay
//! equals the live fleet. 50 rounds; `KILLS=1000` for more, `KILLS_SEED=` for one again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use crate::support::{Folder, bytes, driver, options, organization};
use wharfage_scheduler::driver::{Handle, Once, Record, SubmitError, start};
use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::words::event::access;

/// Names the folder in which the child writes, and the round.
const CHILD: &str = "WHARFAGE_TEST_KILLED_CHILD";

/// Writers in the child at the same time.
const WRITERS: u64 = 8;

fn once(id: &str) -> Once {
    Once {
        method: "POST".to_owned(),
        path: "/api/v1/organizations".to_owned(),
        key: id.to_owned(),
        body_sha256: String::new(),
        render: Box::new(|_, _| (201, "done".to_owned())),
    }
}

/// The child: writes until it is killed and prints each id once it was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_is_killed() {
    let Ok(place) = std::env::var(CHILD) else { return };
    let (dir, round) = place.rsplit_once('#').expect("folder#round");
    let mut options = options(Path::new(dir));
    options.snapshot_after = 40;
    let driver = start(options).await.expect("starts");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(driver.handle.clone(), format!("{round}-{writer}"))))
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
}

async fn write(handle: Handle, prefix: String) {
    for number in 0u64.. {
        let id = format!("o-{prefix}-{number}");
        match handle.submit_once(organization(&id), once(&id)).await {
            Ok(rendered) if !rendered.is_repeated => {
                // One write call: a kill cannot leave half a line that was acknowledged.
                let line = format!("ok {id}\n");
                std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
            }
            Err(SubmitError::Busy) => tokio::task::yield_now().await,
            other => panic!("{id}: {other:?}"),
        }
    }
}

/// The same numbers for the same seed on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Lets the child write, kills it after a random count of acknowledgements, returns what it said.
fn killed_child(dir: &Path, round: u64, random: &mut Random) -> Vec<String> {
    let exe = std::env::current_exe().expect("this test's own path");
    let mut child = Process::new(exe)
        .args(["--exact", "kills::the_child_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{}#{round}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (most, spins) = (random.below(120), random.below(200_000));
    let mut said = Vec::new();
    while (said.len() as u64) < most {
        let Some(Ok(line)) = lines.next() else { panic!("the child ended by itself") };
        said.extend(line.strip_prefix("ok ").map(str::to_owned));
    }
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    // What it had said and nobody had read yet was acknowledged too.
    let rest = lines.map_while(Result::ok);
    said.extend(rest.filter_map(|line| line.strip_prefix("ok ").map(str::to_owned)));
    said
}

async fn creations(handle: &Handle) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let mut after = 0;
    loop {
        let records = handle.log().after(after, 1000).await.expect("reads");
        let Some(last) = records.last() else { return counts };
        after = last.position;
        for stored in &records {
            for event in Record::decode(&stored.payload).expect("a record").events {
                if let Event::Access(access::Event::OrganizationCreated { organization, .. }) =
                    event
                {
                    *counts.entry(organization.to_string()).or_default() += 1;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_acknowledged_and_doubles_nothing() {
    let number = |name: &str, otherwise| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    };
    let (rounds, seed) = (number("KILLS", 50), number("KILLS_SEED", 20_261_121));
    println!("KILLS={rounds} KILLS_SEED={seed}");
    let mut random = Random(seed);
    let folder = Folder::new("kills");
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        // A fresh log now and then: the first records are worth killing too.
        if round % 10 == 0 {
            acknowledged.clear();
            let _ = std::fs::remove_dir_all(&folder.0);
            std::fs::create_dir_all(&folder.0).expect("a folder");
        }
        acknowledged.extend(killed_child(&folder.0, round, &mut random));
        let driver = driver(&folder.0).await.expect("what a kill leaves is whole");
        let handle = &driver.handle;
        let live = handle.view();
        for id in &acknowledged {
            let there = live.fleet().organization(&id.as_str().into());
            assert!(there.is_some(), "round {round}: {id} was acknowledged and is lost");
        }
        let replayed = handle.fleet_at(live.position()).await.expect("replays");
        assert_eq!(bytes(&replayed), bytes(live.fleet()), "round {round}: replay equals live");
        // A client that got no answer asks again with the same key.
        for writer in 0..WRITERS {
            let mine = format!("o-{round}-{writer}-");
            let next = acknowledged.iter().filter(|id| id.starts_with(&mine)).count();
            let id = format!("{mine}{next}");
            let again = handle.submit_once(organization(&id), once(&id)).await;
            assert_eq!(again.map(|rendered| rendered.status), Ok(201), "round {round}: {id}");
        }
        let doubled = creations(handle).await.into_iter().find(|(_, count)| *count > 1);
        assert_eq!(doubled, None, "round {round}: done twice");
        driver.stop().await;
    }
}
