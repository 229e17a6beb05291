//! The stories once more, inside a machine with systemd, where each replica is a unit.

use std::path::Path;

use wharfage_tests::machine::Machine;

use crate::bench::{INSIDE, OWNERS_ENGINES};

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
             > /etc/systemd/system/$unit; done; \
             printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /etc/systemd/system/sleepy.service; \
             systemctl daemon-reload; \
             mkdir -m 0700 /var/lib/wharfage-agent"
        ))
        .expect("the units are installed");
    let inside = own.strip_prefix(build).expect("tests lie in the build's folder");
    let test = format!("{BUILD}/{}", inside.display());
    // One after the other: the template knows one state folder.
    let done = machine
        .command(&["/usr/bin/env", &format!("{INSIDE}=/var/lib"), &test, "--test-threads=1"])
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
    without_root(&machine, &test);
    let left = machine
        .sh("systemctl list-units --all --no-legend 'wharfage-replica@r-*'; \
             ls /run/systemd/system.control 2>/dev/null || true")
        .expect("a list");
    assert_eq!(left.trim(), "", "every unit is forgotten");
}

/// A host whose agent has a user of its own: state and stories are that user's, engines are root's.
const OWN_USER: &str = r"
cp /opt/wharfage/systemd/wharfage.sysusers.conf /etc/sysusers.d/wharfage.conf; systemd-sysusers
mkdir -p /etc/polkit-1/rules.d; chmod 755 /etc/polkit-1 /etc/polkit-1/rules.d
cp /opt/wharfage/systemd/wharfage.rules /etc/polkit-1/rules.d/50-wharfage.rules
chmod 644 /etc/polkit-1/rules.d/50-wharfage.rules
systemctl restart polkit
rm -rf /var/lib/wharfage-agent
install -d -m 0700 -o wharfage-agent /var/lib/wharfage-agent
install -d -o wharfage-agent /var/lib/stories
mkdir /var/lib/engines.d
at='/etc/systemd/system/wharfage-replica@r-7.service.d'
mkdir $at; printf '[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n' > $at/sleep.conf
systemctl daemon-reload
cat > /var/lib/engines.d/script.toml <<END
name = 'script'
versions = ['1']
command = ['/bin/sh', '-c', 'exec sleep 1000']
END
";

/// Runs what follows as that user.
const AS_USER: [&str; 7] =
    ["setpriv", "--reuid", "wharfage-agent", "--regid", "wharfage-agent", "--clear-groups", "--"];

/// The one story of an agent that is not root, and what its user may not do.
fn without_root(machine: &Machine, test: &str) {
    if machine.sh("test -x /usr/lib/polkit-1/polkitd").is_err() {
        println!("SKIPPED: an agent that is not root was not seen: apt-get install polkitd");
        return;
    }
    machine.sh(&format!("mkdir -p /etc/sysusers.d; {OWN_USER}")).expect("a user of its own");
    let (inside, engines) =
        (format!("{INSIDE}=/var/lib/stories"), format!("{OWNERS_ENGINES}=/var/lib/engines.d"));
    let story = [test, "--exact", "starts::an_agent_that_is_not_root_does_all_by_polkit"];
    let environment = ["/usr/bin/env", &inside, &engines];
    let done = machine.run(&[&AS_USER[..], &environment, &story].concat()).expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        machine.sh("journalctl --no-pager -n 60").unwrap_or_default()
    );
    let needed = ["StartUnit", "KillUnit", "SetUnitProperties", "ResetFailedUnit"];
    assert_eq!(allowed(machine, "wharfage-replica@r-7.service"), needed);
    machine.sh("systemctl start sleepy.service").expect("a unit of somebody else's");
    for other in ["sleepy.service", "wharfage-replica@x.service", "xwharfage-replica@r-7.service"] {
        assert_eq!(allowed(machine, other), Vec::<&str>::new(), "{other}");
    }
    machine.sh("systemctl stop sleepy.service wharfage-replica@r-7").expect("ended");
}

/// Which of these systemd does for the agent's user, one after the other.
fn allowed(machine: &Machine, unit: &str) -> Vec<&'static str> {
    let weight = ["sba(sv)", unit, "true", "1", "CPUWeight", "t", "100"];
    let questions: [(&str, &[&str]); 7] = [
        ("StartUnit", &["ss", unit, "fail"]),
        ("KillUnit", &["ssi", unit, "all", "18"]),
        ("SetUnitProperties", &weight),
        ("ResetFailedUnit", &["s", unit]),
        ("StopUnit", &["ss", unit, "fail"]),
        ("RestartUnit", &["ss", unit, "fail"]),
        ("RevertUnitFiles", &["as", "1", unit]),
    ];
    let manager = "org.freedesktop.systemd1";
    let is_allowed = |(method, arguments): &(&str, &[&str])| {
        let interface = "org.freedesktop.systemd1.Manager";
        let question = ["busctl", "call", manager, "/org/freedesktop/systemd1", interface, method];
        let line = [&AS_USER[..], &question, arguments].concat();
        machine.run(&line).expect("busctl runs").status.success()
    };
    questions.into_iter().filter(is_allowed).map(|(method, _)| method).collect()
}
