//! Settings in two dialects, rollouts, and what a deployment's word does to its replicas.

use wharfage_scheduler_core::policies::rollout;
use wharfage_scheduler_core::words::command::deployments::Action as Deployments;
use wharfage_scheduler_core::words::command::{Action, Answer, SettingsStatus};
use wharfage_scheduler_core::words::deployment::{
    Bounds, GpuCount, Rollout, Scaling, ScalingPatch, Spec,
};

use crate::world::{World, id, spec};

fn patch(world: &mut World, name: &str, patch: ScalingPatch) -> (SettingsStatus, String) {
    let action = Action::Deployment(Deployments::Settings { id: id(name), patch });
    match world.command(action).expect("good settings") {
        Answer::Settings { status, message } => (status, message),
        Answer::Done => panic!("a change of settings is answered in Baseten's words"),
    }
}

fn min(min: u32) -> ScalingPatch {
    ScalingPatch { min: Some(min), ..ScalingPatch::default() }
}

#[test]
fn a_min_of_0_is_kept_as_1_on_a_deployment_made_through_coreweaves_api() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.run(20);
    let (status, message) = patch(&mut world, "chat", min(0));
    assert_eq!(status, SettingsStatus::Unchanged, "the resulting settings are the current ones");
    assert!(message.contains("min_replica 0 is kept as 1"), "{message}");
    let both = ScalingPatch { min: Some(0), max: Some(3), ..ScalingPatch::default() };
    let (status, message) = patch(&mut world, "chat", both);
    assert_eq!(status, SettingsStatus::Accepted);
    assert!(message.contains("min_replica 0 is kept as 1"), "{message}");
    let bounds = world.spec_of("chat").scaling.bounds;
    assert_eq!((bounds.min(), bounds.max()), (1, 3));
    assert_eq!(world.ready("chat").len(), 1);
}

#[test]
fn settings_that_are_the_current_ones_are_unchanged_and_no_fact() {
    let mut world = World::with_nodes(1, 0);
    let mut chat = spec("chat");
    chat.scaling = Scaling::baseten();
    world.deploy(chat);
    let facts = world.log.len();
    let same = ScalingPatch { max: Some(1), window_seconds: Some(60), ..ScalingPatch::default() };
    for given in [ScalingPatch::default(), same] {
        let (status, message) = patch(&mut world, "chat", given);
        assert_eq!(status, SettingsStatus::Unchanged);
        assert!(!message.is_empty());
    }
    assert_eq!(world.log.len(), facts);
}

#[test]
fn a_deployment_in_basetens_dialect_scales_to_zero_and_back() {
    let mut world = World::with_nodes(1, 0);
    let mut chat = spec("chat");
    chat.scaling = Scaling { scale_down_delay_seconds: 0, ..Scaling::baseten() };
    world.deploy(chat);
    world.run(10);
    assert!(world.replicas("chat").is_empty());
    assert_eq!(patch(&mut world, "chat", min(1)).0, SettingsStatus::Accepted);
    world.until(30, "it serves", |world| world.ready("chat").len() == 1);
    assert_eq!(patch(&mut world, "chat", min(0)).0, SettingsStatus::Accepted);
    world.until(60, "it is gone", |world| world.replicas("chat").is_empty());
}

#[test]
fn settings_out_of_range_are_refused_field_by_field() {
    let mut world = World::with_nodes(0, 0);
    world.deploy(spec("chat"));
    let bad = ScalingPatch {
        max: Some(0),
        window_seconds: Some(9),
        utilization_percent: Some(101),
        max_scale_down_percent: Some(51),
        ..ScalingPatch::default()
    };
    let action = Action::Deployment(Deployments::Settings { id: id("chat"), patch: bad });
    let refusal = world.command(action).expect_err("four bad fields").to_string();
    for field in [
        "max_replica",
        "autoscaling_window",
        "target_utilization_percentage",
        "max_scale_down_rate",
    ] {
        assert!(refusal.contains(field), "{field}: {refusal}");
    }
}

#[test]
fn more_are_placed_and_surplus_leaves_as_min_moves() {
    let mut world = World::with_nodes(2, 0);
    let mut chat = spec("chat");
    chat.gpus = GpuCount::new(4).expect("allowed");
    chat.scaling.bounds = Bounds::new(1, 4).expect("1 to 4");
    chat.scaling.scale_down_delay_seconds = 0;
    world.deploy(chat);
    world.run(20);
    patch(&mut world, "chat", min(4));
    world.until(30, "four serve", |world| world.ready("chat").len() == 4);
    assert_eq!(world.places("chat"), ["node-1", "node-1", "node-2", "node-2"]);
    patch(&mut world, "chat", min(2));
    world.until(60, "two are left", |world| world.replicas("chat").len() == 2);
    assert_eq!(world.ready("chat").len(), 2);
}

#[test]
fn a_new_version_replaces_replicas_one_by_one_without_a_gap() {
    let mut world = World::with_nodes(4, 0);
    let mut chat = spec("chat");
    chat.gpus = GpuCount::new(4).expect("allowed");
    chat.scaling.bounds = Bounds::new(3, 3).expect("3 to 3");
    world.deploy(chat.clone());
    world.until(30, "three serve", |world| world.ready("chat").len() == 3);
    chat.runtime.config.insert("max-model-len".to_owned(), "4096".to_owned());
    world.replace(chat).expect("a good spec");
    for _ in 0..120 {
        assert!(world.ready("chat").len() >= 3, "{}", world.picture());
        let standing = world.places("chat").len();
        assert!(standing <= 4, "a surge of one: {standing} stand");
        world.run(1);
    }
    let rows = world.replicas("chat");
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.revision == 2));
}

/// Three serve, and a version that never becomes ready is rolled out.
fn a_bad_version(rollout: Rollout) -> (World, Spec) {
    let mut world = World::with_nodes(4, 0);
    let mut chat = spec("chat");
    chat.gpus = GpuCount::new(4).expect("allowed");
    chat.scaling.bounds = Bounds::new(3, 3).expect("3 to 3");
    chat.extension.start_deadline_seconds = Some(20);
    chat.extension.rollout = rollout;
    world.deploy(chat.clone());
    world.until(30, "three serve", |world| world.ready("chat").len() == 3);
    for agent in world.agents.values_mut() {
        agent.loads_hang = true;
    }
    let mut bad = chat.clone();
    bad.runtime.config.insert("max-model-len".to_owned(), "-1".to_owned());
    world.replace(bad).expect("a good spec");
    (world, chat)
}

const ONE_BY_ONE: Rollout = Rollout { max_surge: 1, max_unavailable: 0 };

#[test]
fn a_version_that_does_not_start_takes_nothing_down_and_its_rollout_stops() {
    let (mut world, _) = a_bad_version(ONE_BY_ONE);
    for _ in 0..200 {
        assert_eq!(world.ready("chat").len(), 3, "{}", world.picture());
        world.run(1);
    }
    let row = world.fleet().deployment(&id("chat")).expect("it is there");
    assert_eq!(row.failures, 3);
    assert!(rollout::is_stopped(world.fleet(), row));
    let started = world.fleet().replicas().count();
    world.run(1200);
    assert_eq!(world.fleet().replicas().count(), started, "nothing is tried any more");
}

#[test]
fn going_back_to_the_settings_before_keeps_what_serves_with_them() {
    let (mut world, good) = a_bad_version(ONE_BY_ONE);
    world.run(10);
    let before: Vec<_> = world.replicas("chat").iter().map(|row| (row.id, row.revision)).collect();
    assert_eq!(before.iter().filter(|(_, revision)| *revision == 2).count(), 1, "one starts");
    world.replace(good.clone()).expect("the way back");
    world.until(60, "the new one is gone", |world| world.replicas("chat").len() == 3);
    let after: Vec<_> = world.replicas("chat").iter().map(|row| (row.id, row.revision)).collect();
    assert_eq!(after, before[..3], "the old ones were never touched");
    assert_eq!(world.fleet().deployment(&id("chat")).expect("it is there").failures, 0);
    let mut other = good;
    other.runtime.config.insert("max-model-len".to_owned(), "4096".to_owned());
    for agent in world.agents.values_mut() {
        agent.loads_hang = false;
    }
    world.replace(other).expect("a good spec");
    let all_new = |world: &World| {
        let rows = world.replicas("chat");
        rows.len() == 3 && rows.iter().all(|row| !before.iter().any(|(old, _)| *old == row.id))
    };
    world.until(200, "every replica runs the new settings", all_new);
}

#[test]
fn a_stopped_rollout_goes_on_when_the_old_replicas_no_longer_suffice() {
    let (mut world, _) = a_bad_version(ONE_BY_ONE);
    let stopped = |world: &World| {
        let row = world.fleet().deployment(&id("chat")).expect("it is there");
        rollout::is_stopped(world.fleet(), row)
    };
    world.until(300, "it has stopped", stopped);
    for agent in world.agents.values_mut() {
        agent.loads_hang = false;
    }
    let old = world.replicas("chat")[0].clone();
    let (node, now) = (old.node().expect("it stands").to_string(), world.now);
    world.agent(&node).crash(old.id, now);
    let all_new = |world: &World| {
        let rows = world.replicas("chat");
        rows.len() == 3 && rows.iter().all(|row| row.revision == 2)
    };
    world.until(400, "every replica runs the new settings", all_new);
}

#[test]
fn no_more_are_missing_than_a_rollout_may_leave_missing() {
    let (mut world, _) = a_bad_version(Rollout { max_surge: 0, max_unavailable: 1 });
    for _ in 0..300 {
        assert!(world.ready("chat").len() >= 2, "{}", world.picture());
        assert!(world.places("chat").len() <= 3, "no surge");
        world.run(1);
    }
}

#[test]
fn a_disabled_deployment_keeps_its_spec_and_none_of_its_replicas() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.run(20);
    let mut off = world.spec_of("chat");
    off.disabled = true;
    world.replace(off).expect("a good spec");
    world.until(60, "nothing runs", |world| world.replicas("chat").is_empty());
    let mut on = world.spec_of("chat");
    on.disabled = false;
    world.replace(on).expect("a good spec");
    world.until(30, "it serves again", |world| world.ready("chat").len() == 1);
}

#[test]
fn a_deleted_deployment_is_gone_with_its_last_replica() {
    let mut world = World::with_nodes(1, 0);
    world.deploy(spec("chat"));
    world.run(20);
    world.delete("chat").expect("a delete");
    assert!(world.fleet().deployment(&id("chat")).is_some(), "it is being deleted");
    world.until(60, "it is gone", |world| world.fleet().deployment(&id("chat")).is_none());
    let row = world.fleet().node(&"node-1".into()).expect("it is known");
    assert!(row.held_for.is_none() && row.free() == 8);
}
