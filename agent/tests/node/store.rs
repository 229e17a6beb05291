//! Checkpoints in an object store: pushed when they are complete, restored on another host, and what
//! is said when the store fails.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use wharfage_fake_objects::{Bucket, Mood};
use wharfage_shared::replica::HookKind;

use crate::common::node::{Node, run_order, run_with, stop_order};
use crate::common::wait_for;
use crate::doctor::{examined, rows};
use crate::hooks::saves;
use crate::journeys::{Fleet, fleet};

const KEY_ID: &str = "AKWHARF";

fn uses(node: &mut Node, bucket: &Bucket) {
    let keys = node.root().join("keys.toml");
    let text = format!("access_key_id = \"{KEY_ID}\"\nsecret_access_key = \"secret\"\n");
    std::fs::write(&keys, text).expect("written");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let (endpoint, keys) = (bucket.endpoint(), keys.display());
    writeln!(
        node.settings,
        "[checkpoints.store]\nurl = \"s3://models/state\"\nendpoint = \"{endpoint}\"\n\
         allow_http = true\ncredentials = \"{keys}\""
    )
    .expect("text");
}

/// A host whose replica saves this text, ready.
fn saver(name: &str, bucket: &Bucket, text: &str) -> Fleet {
    let mut fleet = fleet(name);
    uses(&mut fleet.node, bucket);
    fleet.node.hook("save", &saves(text), 20, 0o644);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    fleet
}

/// A host on which a replica starts that restores; where it writes what it has found.
fn restorer(name: &str, bucket: &Bucket) -> (Fleet, PathBuf) {
    let mut fleet = fleet(name);
    uses(&mut fleet.node, bucket);
    let restored = fleet.node.root().join("restored");
    let script = format!("cat $WHARFAGE_PREVIOUS_CHECKPOINT/state.bin > {}", restored.display());
    fleet.node.hook("load", &script, 20, 0o644);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(2, "GPU-a"), &[(HookKind::Restore, "load")])]);
    (fleet, restored)
}

fn notes_say(node: &Node, said: &str) {
    wait_for(said, || node.status()?["notes"].to_string().contains(said).then_some(()));
}

#[test]
fn a_replacement_on_another_host_restores_from_the_object_store() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let first = saver("pushes", &bucket, "what it knew");
    first.scheduler.order(vec![stop_order(1, 20)]);
    first.until_gone();
    notes_say(&first.node, "checkpoint of 12 bytes is complete, here and in the store");
    let keys = bucket.keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("models/state/chat/")), "{keys:?}");
    let (second, restored) = restorer("pulls", &bucket);
    second.until_ready();
    assert_eq!(std::fs::read_to_string(restored).expect("restored"), "what it knew");
    // What is here is not fetched again, and nothing half stays.
    let folder = second.node.root().join("state/checkpoints/chat");
    let names: Vec<_> = std::fs::read_dir(folder).expect("there").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_large_checkpoint_goes_in_parts_and_old_ones_go_from_the_store() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let mut fleet = fleet("parts");
    uses(&mut fleet.node, &bucket);
    let script = "cd $WHARFAGE_CHECKPOINT_DIR; head -c 40000000 /dev/zero > state.bin\n\
                  sum=$(sha256sum state.bin | cut -d' ' -f1)\n\
                  printf '{\"files\":[{\"path\":\"state.bin\",\"bytes\":40000000,\"sha256\":\"%s\"}]}' \
                  $sum > manifest.json";
    fleet.node.hook("save", script, 60, 0o644);
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")])]);
    fleet.until_ready();
    let mut seen = Vec::new();
    for round in 0..3 {
        fleet.node.notice(600 + 60 * round);
        let newest = wait_for("its checkpoint in the store", || {
            let mut manifests =
                bucket.keys().into_iter().filter(|key| key.ends_with("manifest.json"));
            manifests.next_back().filter(|key| !seen.contains(key))
        });
        seen.push(newest);
        let notice = fleet.node.root().join("notices/notice.json");
        std::fs::remove_file(notice).expect("removed");
        wait_for("its withdrawal", || fleet.scheduler.last()?.notices.is_empty().then_some(()));
    }
    let left = |key: &String| bucket.keys().contains(key);
    wait_for("the oldest to go", || (!left(&seen[0])).then_some(()));
    assert!(left(&seen[1]) && left(&seen[2]), "two are kept: {:?}", bucket.keys());
    assert_eq!(bucket.keys().len(), 4, "nothing of the oldest stays");
}

#[test]
fn a_store_that_refuses_fails_the_checkpoint_and_keeps_it_here() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let fleet = saver("refuses", &bucket, "whole");
    bucket.set_mood(Mood::ReadOnly);
    fleet.node.notice(600);
    notes_say(&fleet.node, "complete on this host alone, not in the store: it exited with 69");
    let kept = fleet.node.root().join("state/checkpoints/chat/r-1-1/state.bin");
    assert_eq!(std::fs::read_to_string(kept).expect("it stays"), "whole");
    assert!(bucket.keys().is_empty(), "{:?}", bucket.keys());
}

#[test]
fn a_store_that_never_answers_does_not_keep_a_replica_beyond_its_time() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let fleet = saver("hangs", &bucket, "whole");
    bucket.set_mood(Mood::Hangs);
    fleet.scheduler.order(vec![stop_order(1, 8)]);
    wait_for("a request", || (bucket.requests() > 0).then_some(()));
    fleet.until_gone();
    notes_say(&fleet.node, "not in the store");
}

#[test]
fn a_store_that_cannot_be_read_is_no_store_without_checkpoints() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let first = saver("damaged", &bucket, "what it knew");
    first.scheduler.order(vec![stop_order(1, 20)]);
    first.until_gone();
    let keys = bucket.keys();
    let state = keys.iter().find(|key| key.ends_with("state.bin")).expect("pushed");
    bucket.damage(state, b"what it kneW");
    let (second, restored) = restorer("refused", &bucket);
    notes_say(&second.node, "no checkpoint of the store is whole");
    second.until_ready();
    assert!(!restored.exists(), "nothing damaged is restored");
}

#[test]
fn the_doctor_says_whether_the_store_lets_this_host_in() {
    let bucket = Bucket::start(KEY_ID).expect("a bucket");
    let mut fleet = fleet("store-doctor");
    uses(&mut fleet.node, &bucket);
    let found = rows(&examined(&fleet.node).1, "checkpoints");
    assert_eq!(found[0].1, "s3://models/state lets this host in", "{found:?}");
    let keys = "access_key_id = \"other\"\nsecret_access_key = \"secret\"\n";
    std::fs::write(fleet.node.root().join("keys.toml"), keys).expect("written");
    let found = rows(&examined(&fleet.node).1, "checkpoints");
    assert!(found[0].0 == "broken" && found[0].1.contains("InvalidAccessKeyId"), "{found:?}");
    assert!(!found[0].1.contains("secret"), "{found:?}");
}
