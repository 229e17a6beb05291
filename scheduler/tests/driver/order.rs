//! One writer: what is answered is durable and published, in order, once, and comes back.

use crate::support::{Folder, bytes, driver, options, organization};
use wharfage_scheduler::driver::{Cause, Handle, Once, Record, Rendered, SubmitError, start};
use wharfage_scheduler::log;
use wharfage_scheduler_core::words::command::Command;
use wharfage_scheduler_core::words::event::access;
use wharfage_scheduler_core::words::refusal::Refusal;
use wharfage_scheduler_core::{Event, Fleet};

fn once(key: &str, body: &str) -> Once {
    Once {
        method: "POST".to_owned(),
        path: "/api/v1/organizations".to_owned(),
        key: key.to_owned(),
        body_sha256: wharfage_scheduler::secrets::sha256_hex(body),
        render: Box::new(|fleet, _| (201, format!("{} now", fleet.organizations().count()))),
    }
}

/// The organizations that the log's records create, in their order.
async fn created(handle: &Handle) -> Vec<String> {
    let mut names = Vec::new();
    let mut after = 0;
    loop {
        let records = handle.log().after(after, 500).await.expect("reads");
        let Some(last) = records.last() else { return names };
        after = last.position;
        for stored in &records {
            let record = Record::decode(&stored.payload).expect("a record");
            for event in record.events {
                if let Event::Access(access::Event::OrganizationCreated { organization, .. }) =
                    event
                {
                    names.push(organization.to_string());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_answered_is_in_the_log_and_in_the_view_in_the_order_of_the_answers() {
    let folder = Folder::new("order");
    let driver = driver(&folder.0).await.expect("starts");
    let handle = driver.handle.clone();
    let mut facts = handle.subscribe();
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let id = format!("org-{number}");
                let done = handle.submit(organization(&id)).await.expect("carried out");
                assert!(handle.view().position() >= done.position, "published before answered");
                assert!(done.view.fleet().organization(&id.as_str().into()).is_some());
                (done.position, id)
            })
        })
        .collect();
    let mut answered = Vec::new();
    for task in tasks {
        answered.push(task.await.expect("no panic"));
    }
    answered.sort();
    let positions: Vec<u64> = answered.iter().map(|(position, _)| *position).collect();
    let first = positions[0];
    assert_eq!(positions, (first..first + 200).collect::<Vec<_>>(), "one record for each");
    let names: Vec<String> = answered.into_iter().map(|(_, id)| id).collect();
    assert_eq!(created(&handle).await, names, "the log has them in the same order");
    for position in positions {
        let fact = facts.recv().await.expect("told");
        assert_eq!(fact.position, position, "the stream has them in the same order");
        assert!(matches!(&fact.record.cause, Cause::Command { action, .. }
            if action == "access.create_organization"));
    }
    driver.stop().await;
}

#[tokio::test]
async fn a_start_gives_the_same_fleet_byte_for_byte_under_a_higher_term() {
    let folder = Folder::new("replay");
    let first = driver(&folder.0).await.expect("starts");
    assert!(first.is_first_start);
    for number in 0..25 {
        first.handle.submit(organization(&format!("org-{number}"))).await.expect("carried out");
    }
    let view = first.handle.view();
    let replayed = first.handle.fleet_at(view.position()).await.expect("replays");
    assert_eq!(bytes(&replayed), bytes(view.fleet()), "replay equals live");
    first.stop().await;
    let second = driver(&folder.0).await.expect("starts again");
    assert!(!second.is_first_start);
    let again = second.handle.view();
    assert!(again.term() > view.term());
    assert_eq!(again.position(), view.position() + 1, "the start itself is one record");
    assert_eq!(again.fleet().organizations().count(), 25);
    let replayed = second.handle.fleet_at(again.position()).await.expect("replays");
    assert_eq!(bytes(&replayed), bytes(again.fleet()), "replay equals live");
    assert!(
        second.handle.now()
            >= view.fleet().organizations().map(|row| row.created_at).max().expect("25 of them")
    );
    second.stop().await;
}

#[tokio::test]
async fn a_start_from_a_snapshot_gives_the_same_fleet_and_a_damaged_one_is_passed_over() {
    let folder = Folder::new("snapshot");
    let mut with_snapshots = options(&folder.0);
    with_snapshots.snapshot_after = 10;
    let first = start(with_snapshots.clone()).await.expect("starts");
    for number in 0..35 {
        first.handle.submit(organization(&format!("org-{number}"))).await.expect("carried out");
    }
    first.stop().await;
    let snapshots = log::Snapshots::new(&with_snapshots.snapshots);
    let newest = *snapshots.positions().first().expect("a snapshot was taken");
    for damage in [false, true] {
        if damage {
            let path = with_snapshots.snapshots.join(format!("{newest}.snapshot"));
            let text = std::fs::read_to_string(&path).expect("reads");
            std::fs::write(&path, text.replace("org-1\"", "org-X\"")).expect("writes");
        }
        let again = start(with_snapshots.clone()).await.expect("starts again");
        let view = again.handle.view();
        let replayed = again.handle.fleet_at(view.position()).await.expect("replays");
        assert_eq!(bytes(&replayed), bytes(view.fleet()));
        assert_eq!(view.fleet().organizations().count(), 35);
        again.stop().await;
    }
}

#[tokio::test]
async fn a_refused_command_changes_nothing_and_leaves_no_record() {
    let folder = Folder::new("refused");
    let driver = driver(&folder.0).await.expect("starts");
    let handle = &driver.handle;
    let first = handle.submit(organization("acme")).await.expect("carried out");
    let again = handle.submit(organization("acme")).await.map(|_| ());
    assert!(matches!(again, Err(SubmitError::Refused(Refusal::NameTaken { .. }))), "got {again:?}");
    assert_eq!(handle.view().position(), first.position);
    driver.stop().await;
}

#[tokio::test]
async fn a_repeated_key_does_nothing_again_and_gets_the_first_answer_even_after_a_restart() {
    let folder = Folder::new("once");
    let first = driver(&folder.0).await.expect("starts");
    let ask = |handle: &Handle, id: &str, key: &str, body: &str| {
        let (handle, command, once) = (handle.clone(), organization(id), once(key, body));
        async move { handle.submit_once(command, once).await }
    };
    // Both at the same time: the second finds the first before it is durable.
    let (one, two) = tokio::join!(
        ask(&first.handle, "acme", "k1", "{}"),
        ask(&first.handle, "acme", "k1", "{}")
    );
    let told = |is_repeated| Rendered { status: 201, body: "1 now".to_owned(), is_repeated };
    assert_eq!((one, two), (Ok(told(false)), Ok(told(true))));
    let other = ask(&first.handle, "acme", "k1", "{ }").await;
    assert_eq!(other, Err(SubmitError::KeyReused));
    first.stop().await;
    let second = driver(&folder.0).await.expect("starts again");
    assert_eq!(ask(&second.handle, "acme", "k1", "{}").await, Ok(told(true)));
    assert_eq!(created(&second.handle).await, ["acme"]);
    second.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_keeps_what_there_is() {
    let folder = Folder::new("full");
    let mut small = options(&folder.0);
    small.log_options.most_pages = Some(32);
    let driver = start(small).await.expect("starts");
    let handle = &driver.handle;
    let mut done = 0;
    let refused = loop {
        match handle.submit(organization(&format!("org-{done}"))).await {
            Ok(_) => done += 1,
            Err(refused) => break refused,
        }
        assert!(done < 5000, "32 pages must be full by now");
    };
    assert_eq!(refused, SubmitError::DiskFull);
    assert!(handle.is_disk_full());
    let view = handle.view();
    assert_eq!(view.fleet().organizations().count(), done, "what was refused is not there");
    assert_eq!(handle.submit(organization("later")).await.map(|_| ()), Err(SubmitError::DiskFull));
    driver.stop().await;
    let again = crate::support::driver(&folder.0).await.expect("starts where there is room");
    assert_eq!(again.handle.view().fleet().organizations().count(), done);
    again.handle.submit(organization("later")).await.expect("carried out");
    assert!(!again.handle.is_disk_full());
    again.stop().await;
}

#[tokio::test]
async fn a_record_that_does_not_read_is_refused_and_named() {
    let folder = Folder::new("unreadable");
    driver(&folder.0).await.expect("starts").stop().await;
    let path = folder.0.join("log.sqlite");
    let opening = log::Opening::begin(&path, log::Options::default());
    let (mut writer, _) = opening.await.expect("opens").check(|_| Ok(())).await.expect("whole");
    for payload in ["{\"version\":9,\"cause\":{}}", "[]"] {
        let tip = writer.tip();
        let draft = log::Draft { term: tip.term, at: tip.at, payload: payload.to_owned() };
        writer.append(&[draft]).await.expect("appends");
    }
    writer.close().await.expect("closes");
    let refused = driver(&folder.0).await.map(|_| ()).expect_err("refused").to_string();
    assert!(refused.contains("record 2") && refused.contains("layout 9"), "{refused}");
}

/// Compiles only while the command and the fleet can cross threads.
#[test]
fn commands_and_fleets_can_be_sent() {
    fn sent<T: Send + Sync>() {}
    sent::<Command>();
    sent::<Fleet>();
    sent::<Handle>();
}
