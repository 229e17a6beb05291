//! The stories once more, inside a machine with systemd, where each replica is a unit.

use std::path::Path;

use wharfage_tests::machine::Machine;

use crate::bench::INSIDE;

/// Where the build lies inside.
const BUILD: &str = "/opt/wharfage/build";

#[test]
fn the_same_stories_hold_where_replicas_are_units() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    if let Some(why) = Machine::impossible() {
        println!("SKIPPED: the driver `systemd` was not tested: {why}");
        return;
    }
    let own = std::env::current_exe().expect("its own path");
    let build = Path::new(env!("CARGO_BIN_EXE_wharfage-agent")).parent().expect("a folder");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let machine =
        Machine::boot(&[(build, BUILD), (&units, "/opt/wharfage/systemd")]).expect("it boots");
    machine
        .sh(&format!(
            "for unit in 'wharfage-replica@.service' wharfage.slice; do \
             sed 's|/usr/bin/wharfage|{BUILD}/wharfage|' /opt/wharfage/systemd/$unit \
             > /etc/systemd/system/$unit; done; systemctl daemon-reload; \
             mkdir -m 0700 /var/lib/wharfage-agent"
        ))
        .expect("the units are installed");
    let inside = own.strip_prefix(build).expect("tests lie in the build's folder");
    let test = format!("{BUILD}/{}", inside.display());
    // One after the other: the template knows one state folder.
    let done = machine
        .command(&["/usr/bin/env", &format!("{INSIDE}=1"), &test, "--test-threads=1"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&done.stderr),
        machine.sh("journalctl --no-pager -n 60").unwrap_or_default()
    );
    println!("{said}");
    let left = machine
        .sh("systemctl list-units --all --no-legend 'wharfage-replica@r-*'; \
             ls /run/systemd/system.control 2>/dev/null || true")
        .expect("a list");
    assert_eq!(left.trim(), "", "every unit is forgotten");
}
