//! A disk that is full again and again: writes are refused, steady heartbeats go on, and with room
//! the log goes on too, twenty times, with nothing lost.
//!
//! The disk is a small tmpfs in a mount namespace of the test's own child. Where the kernel does
//! not permit one, the refusals alone are tested, by a page limit, in `order.rs`.

use std::path::Path;
use std::process::Command as Process;

use crate::machine::{boottime, heartbeat, inventory, wall};
use crate::support::{Folder, bytes, organization};
use wharfage_scheduler::driver::{Handle, SubmitError};
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::command::{Action, Command, nodes};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_scheduler_core::{Caller, Heard, Reply};
use wharfage_shared::capacity::{ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::time::Millis;

/// Names the child's folder, on which the tmpfs lies.
const CHILD: &str = "WHARFAGE_TEST_FULL_CHILD";

/// How often the disk fills up.
const CYCLES: usize = 20;

async fn provider(handle: &Handle, action: Action) {
    let command = Command { caller: Caller::provider(), action };
    handle.submit(command).await.expect("carried out");
}

async fn beat(handle: &Handle, heartbeat: &mut Heartbeat) -> Result<HeartbeatAnswer, SubmitError> {
    heartbeat.number += 1;
    heartbeat.sent_at = boottime();
    heartbeat.wall = wall();
    match handle.observe(Heard::Heartbeat(Box::new(heartbeat.clone()))).await? {
        Reply::Heartbeat(answer) => Ok(*answer.expect("a node of ours")),
        other => panic!("a heartbeat was answered with {other:?}"),
    }
}

/// A node that is connected and has nothing new to say.
async fn steady_node(handle: &Handle) -> Heartbeat {
    let pool = Pool {
        id: "pool-a".into(),
        zone: Zone::new("US-EAST-04A"),
        sku: Sku::new("gd-8xh100ib-i128"),
        compute_class: ComputeClass::Standard,
        tenancy: Tenancy::Dedicated,
        owner: None,
    };
    provider(handle, Action::Node(nodes::Action::CreatePool(pool))).await;
    let join = access::Action::CreateJoin {
        id: "join-1".into(),
        admits: Admits::Nodes { pool: "pool-a".into() },
        uses: 1,
        expires: handle.now() + Millis::from_seconds(600),
        sha256: "5".repeat(64),
    };
    provider(handle, Action::Access(join)).await;
    let enroll = nodes::Action::Enroll {
        node: "node-1".into(),
        join: "join-1".into(),
        pool: None,
        key: "7".repeat(64),
    };
    provider(handle, Action::Node(enroll)).await;
    let mut steady = heartbeat(&"node-1".into());
    steady.epoch = Some(beat(handle, &mut steady).await.expect("an epoch").epoch);
    steady.inventory = Some(inventory(&"node-1".into()));
    let mut answer = beat(handle, &mut steady).await.expect("taken");
    steady.inventory = None;
    while let Some(desired) = answer.desired {
        (steady.persisted, steady.applied) = (desired.version, desired.version);
        answer = beat(handle, &mut steady).await.expect("taken");
    }
    steady
}

/// The child: on a tmpfs of 4 MiB.
#[tokio::test]
async fn the_child_whose_disk_fills_up() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let dir = Path::new(&dir);
    let ballast = dir.join("ballast");
    let driver = crate::support::driver(dir).await.expect("starts");
    let handle = &driver.handle;
    let mut steady = steady_node(handle).await;
    let mut done = 0;
    for cycle in 0..CYCLES {
        // Everything that is left is taken; a write's own remainder may still go through.
        let taken = std::io::copy(
            &mut std::io::repeat(7),
            &mut std::fs::File::create(&ballast).expect("a file"),
        );
        assert!(taken.is_err(), "a tmpfs has an end");
        let refused = loop {
            match handle.submit(organization(&format!("o-{done}"))).await {
                Ok(_) => done += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, SubmitError::DiskFull, "cycle {cycle}");
        assert!(handle.is_disk_full());
        for _ in 0..10 {
            let answer = beat(handle, &mut steady).await.expect("steady heartbeats go on");
            assert_eq!(answer.desired, None);
        }
        std::fs::remove_file(&ballast).expect("room again");
        let id = format!("o-{done}");
        while let Err(refused) = handle.submit(organization(&id)).await {
            assert_eq!(refused, SubmitError::DiskFull, "cycle {cycle}");
            tokio::task::yield_now().await;
        }
        done += 1;
        assert!(!handle.is_disk_full());
    }
    let live = handle.view();
    assert_eq!(live.fleet().organizations().count(), done, "what was acknowledged and no more");
    let replayed = handle.fleet_at(live.position()).await.expect("replays");
    assert_eq!(bytes(&replayed), bytes(live.fleet()), "replay equals live");
    driver.stop().await;
    let again = crate::support::driver(dir).await.expect("whole");
    assert_eq!(again.handle.view().fleet().organizations().count(), done);
    again.stop().await;
    println!("CYCLES SEEN {CYCLES}");
}

#[test]
fn a_disk_that_fills_up_twenty_times_loses_nothing() {
    let folder = Folder::new("tmpfs");
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let namespace = |script: &str| {
        let mut process = Process::new("unshare");
        process.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&folder.0);
        process
    };
    let is_permitted = namespace(script).arg("true").status().is_ok_and(|status| status.success());
    if !is_permitted {
        println!("skipped: no tmpfs of one's own here; the page limit's test stands in");
        return;
    }
    let exe = std::env::current_exe().expect("this test's own path");
    let output = namespace(script)
        .arg(exe)
        .args(["--exact", "full::the_child_whose_disk_fills_up", "--nocapture", "--test-threads=1"])
        .env(CHILD, &folder.0)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains(&format!("CYCLES SEEN {CYCLES}")), "{said}");
}
