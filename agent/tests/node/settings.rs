//! Settings that change while replicas run, and an agent that is told to end.

use std::time::Duration;

use rustix::process::Signal;
use wharfage_agent_sys::process;
use wharfage_shared::notice::NoticeSource;

use crate::common::node::{run_order, run_with};
use crate::common::wait_for;
use crate::journeys::fleet;

#[test]
fn a_bad_new_configuration_changes_nothing_and_says_why_until_a_good_one_comes() {
    let mut fleet = fleet("reload");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    let address = fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    let alarms = || Some(fleet.node.status()?["alarms"].to_string());

    for (bad, expected) in [
        ("on_exit = \"later\"", "unknown variant `later`"),
        ("on_exit = \"stop\"\npool = \"other\"", "pool can only be changed by restarting"),
    ] {
        fleet.node.reload("on_exit = \"stop\"", bad);
        let said = wait_for("the refusal", || alarms().filter(|said| said.contains(expected)));
        assert!(said.contains("the old one counts"), "{said}");
        fleet.node.reload(bad, "on_exit = \"stop\"");
        wait_for("the end of the alarm", || {
            alarms().filter(|said| !said.contains("the old one counts"))
        });
    }
    // An engine that is defined elsewhere is known without a restart.
    let elsewhere = fleet.node.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let text = std::fs::read_to_string(fleet.node.root().join("engines.d/stub.toml"));
    let text = text.expect("a definition").replace("\"stub\"", "\"other\"");
    std::fs::write(elsewhere.join("other.toml"), text).expect("written");
    fleet.node.reload("engines.d\"", "elsewhere\"");
    wait_for("the new definitions", || {
        (fleet.scheduler.inventory()?.engines[0].name == "other").then_some(())
    });
    assert_eq!(fleet.until_ready(), address);
    assert!(process::is_alive(engine), "no replica is touched by any of it");
}

#[test]
fn an_agent_that_is_told_to_drain_ends_after_its_replicas_and_the_scheduler_knows() {
    let mut fleet = fleet("drain");
    fleet.node.start();
    fleet.scheduler.order(vec![run_with(run_order(1, "GPU-a"), &[])]);
    fleet.until_ready();
    let engine = fleet.node.record(1).and_then(|record| record.engine).expect("a record");
    fleet.node.reload("on_exit = \"stop\"", "on_exit = \"drain\"\nexit_drain_seconds = 4");
    wait_for("the new settings", || {
        fleet.node.status()?["notes"].to_string().contains("read again and counts").then_some(())
    });
    // An answer to what was told before the end is none to the end.
    fleet.scheduler.lag(Duration::from_secs(1));
    fleet.node.signal(Signal::TERM);
    wait_for("a notice of the agent itself", || {
        let notices = fleet.scheduler.last()?.notices;
        notices.iter().any(|notice| notice.source == NoticeSource::Agent).then_some(())
    });
    let status = fleet.node.until_ended();
    assert!(status.success(), "{status}");
    assert!(!process::is_alive(engine), "it takes its replica along");
    assert!(fleet.scheduler.gone().is_some(), "its last report has the proof");
}
