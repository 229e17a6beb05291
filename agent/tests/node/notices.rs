//! Notices of the clouds, heard by the real agent from their metadata services as the emulator
//! plays them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;

use wharfage_fake_notices::{Cloud, Emulator, Script};
use wharfage_shared::notice::{Certainty, Notice, NoticeKind, NoticeSource};
use wharfage_shared::replica::HookKind;

use crate::common::node::{run_order, run_with};
use crate::common::wait_for;
use crate::journeys::{Fleet, fleet};

/// A host whose agent listens to these clouds, with further lines below `[notices]`.
struct Noticed {
    // Dropped first: the agent ends before what it listens to does.
    fleet: Fleet,
    emulator: Emulator,
}

impl Noticed {
    fn start(name: &str, clouds: &[Cloud], settings: &str) -> Self {
        let mut fleet = fleet(name);
        let script = Script::parse("", name, clouds).expect("nothing");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let emulator = fleet.scheduler.block_on(Emulator::start(address, clouds, script, false));
        let emulator = emulator.expect("a port");
        let dmi = fleet.node.root().join("dmi");
        std::fs::create_dir(&dmi).expect("made");
        fleet.node.notices = format!(
            "metadata_url = \"{}\"\ndmi = \"{}\"\npoll_milliseconds = 100\n{settings}",
            emulator.url(),
            dmi.display()
        );
        Self { fleet, emulator }
    }

    /// The machine's board says whose it is.
    fn board(&self, vendor: &str) {
        let path = self.fleet.node.root().join("dmi/sys_vendor");
        std::fs::write(path, format!("{vendor}\n")).expect("written");
    }

    /// A replica is ready, with a checkpoint hook.
    fn with_replica(&mut self) {
        self.fleet.node.hook("save", "true", 5, 0o644);
        self.fleet.node.start();
        let order = run_with(run_order(1, "GPU-a"), &[(HookKind::Checkpoint, "save")]);
        self.fleet.scheduler.order(vec![order]);
        self.fleet.until_ready();
    }

    fn tell(&self, statement: &str) {
        self.emulator.tell(statement).expect("understood");
    }

    fn notices(&self) -> Vec<Notice> {
        self.fleet.scheduler.last().map(|report| report.notices).unwrap_or_default()
    }

    /// The notice of a source, once the scheduler knows of it.
    fn hears(&self, source: NoticeSource) -> Notice {
        wait_for("a notice", || self.notices().into_iter().find(|one| one.source == source))
    }

    fn until_withdrawn(&self) {
        wait_for("its withdrawal", || self.notices().is_empty().then_some(()));
    }

    fn until_heard(&self, question: &str) {
        wait_for("the metadata service", || {
            let status = self.fleet.node.status()?;
            let all = status["hearing"].as_array()?.clone();
            let line = all.into_iter().find(|line| line["question"] == question)?;
            line["last_heard_ago"].is_u64().then_some(())
        });
    }

    fn alarms(&self) -> Option<String> {
        Some(self.fleet.node.status()?["alarms"].to_string())
    }

    fn timeline(&self) -> Option<String> {
        Some(self.fleet.node.status()?["evacuation"]["timeline"].to_string())
    }
}

#[test]
fn a_node_whose_board_is_amazons_hears_amazon_only_and_acts_and_takes_it_back() {
    let mut host = Noticed::start("aws", &[Cloud::Aws, Cloud::Gcp, Cloud::Azure], "");
    host.board("Amazon EC2");
    host.with_replica();
    host.until_heard("spot/instance-action");
    host.tell("aws.rebalance");
    let hint = host.hears(NoticeSource::Aws);
    assert_eq!(hint.certainty, Certainty::Likely, "it may happen");
    assert!(host.timeline().is_none_or(|said| said == "null"), "a hint starts nothing here");

    host.tell("expire token; shift times; aws.spot terminate in 120s");
    let notice = wait_for("a certain notice", || {
        host.notices().into_iter().find(|one| one.certainty == Certainty::Certain)
    });
    assert_eq!((notice.kind, notice.can_acknowledge), (NoticeKind::Preempt, false));
    let window = notice.gone_at.since(notice.heard_at).0;
    assert!((110_000..=120_000).contains(&window), "{window}");
    wait_for("its checkpoint", || host.timeline()?.contains("`save` started").then_some(()));
    let page = host.fleet.node.page("/metrics").expect("numbers");
    let age = "wharfage_agent_notice_source_age_seconds{source=\"aws\",question=\"spot/instance";
    assert!(page.contains(age), "{page}");

    host.tell("cancel");
    host.until_withdrawn();
    assert!(host.fleet.scheduler.gone().is_none(), "the replica serves on");
    let asked = host.emulator.asked();
    let foreign = asked.iter().find(|asked| !asked.contains(" /latest/"));
    assert_eq!(foreign, None, "no other cloud is asked");
}

#[test]
fn a_preemption_of_googles_is_told_at_once_is_final_and_ends_within_its_window() {
    let settings = "cloud = \"gcp\"\nunstated_seconds = 12\n";
    let mut host = Noticed::start("gcp", &[Cloud::Gcp], settings);
    host.with_replica();
    host.until_heard("preempted");
    host.until_heard("maintenance-event");
    host.tell("gcp.maintenance migrate");
    assert_eq!(host.hears(NoticeSource::Gcp).certainty, Certainty::Likely);
    host.tell("cancel");
    host.until_withdrawn();
    host.tell("gcp.preempted");
    let notice = host.hears(NoticeSource::Gcp);
    assert_eq!(notice.gone_at.since(notice.heard_at).0, 12_000);
    assert!(!notice.can_be_withdrawn);
    host.tell("cancel");
    let gone = host.fleet.until_gone();
    assert!(gone.processes_gone_at < notice.gone_at, "{gone:?}");
    assert_eq!(host.hears(NoticeSource::Gcp).id, notice.id, "it is final");
}

#[test]
fn an_event_of_azure_is_approved_when_the_node_is_empty_and_others_events_are_not_its_own() {
    let mut host = Noticed::start("azure", &[Cloud::Azure], "cloud = \"azure\"\n");
    host.with_replica();
    host.until_heard("scheduledevents");
    host.tell("azure.preempt in 30s id OTHER on vm-7; azure.reboot in 20s id OWN");
    let notice = host.hears(NoticeSource::Azure);
    assert_eq!(notice.id.as_str(), "azure-OWN");
    let approval = "POST /metadata/scheduledevents {\"StartRequests\":[{\"EventId\":\"OWN\"}]}";
    let is_approved = || host.emulator.asked().iter().any(|asked| asked == approval);
    assert!(!is_approved(), "a replica stands here");
    host.fleet.until_gone();
    wait_for("its approval", || is_approved().then_some(()));
    let all = host.emulator.asked();
    assert!(!all.iter().any(|asked| asked.contains("OTHER")), "another machine's is left alone");
    host.tell("cancel OWN");
    host.until_withdrawn();
}

#[test]
fn the_clouds_with_one_key_are_heard_in_their_own_time() {
    for (cloud, name, source) in [
        (Cloud::Alibaba, "alibaba", NoticeSource::Alibaba),
        (Cloud::Tencent, "tencent", NoticeSource::Tencent),
    ] {
        let settings = format!("cloud = \"{name}\"\n");
        let mut host = Noticed::start(name, &[cloud], &settings);
        host.fleet.node.start();
        wait_for("a report", || host.fleet.scheduler.last());
        host.tell(&format!("{name}.spot in 120s"));
        let notice = host.hears(source);
        let window = notice.gone_at.since(notice.heard_at).0;
        assert!((110_000..=120_000).contains(&window), "{name}: {window}");
        host.tell("cancel");
        host.until_withdrawn();
    }
}

#[test]
fn a_program_of_the_host_announces_and_takes_back_over_the_socket() {
    let mut host = Noticed::start("socket", &[Cloud::Aws], "cloud = \"none\"\n");
    let path = host.fleet.node.root().join("notices/notices.sock");
    let table = format!("[notices.socket]\npath = \"{}\"\n", path.display());
    host.fleet.node.notices.push_str(&table);
    host.with_replica();
    let socket = wait_for("the socket", || UnixStream::connect(&path).ok());
    let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
    let mut say = |text: &str| {
        writeln!(&socket, "{text}").expect("sent");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("answered");
        answer
    };
    let heard = say(r#"{"id":"x","kind":"preempt","in_seconds":120}"#);
    assert_eq!(heard, "{\"heard\":\"socket-x\"}\n");
    let notice = host.hears(NoticeSource::Socket);
    assert_eq!(notice.gone_at.since(notice.heard_at).0, 120_000);
    wait_for("its checkpoint", || host.timeline()?.contains("`save` started").then_some(()));
    assert!(say("now").contains("refused"), "nonsense changes nothing");
    assert_eq!(say(r#"{"withdraw":"x"}"#), "{\"withdrawn\":\"socket-x\"}\n");
    host.until_withdrawn();
    assert!(host.fleet.scheduler.gone().is_none(), "the replica serves on");
}

#[test]
fn a_node_that_hears_nothing_is_blind_says_so_and_is_not_fit_for_spot_until_it_hears_again() {
    let mut host = Noticed::start("blind", &[Cloud::Aws], "cloud = \"aws\"\n");
    host.fleet.node.start();
    host.until_heard("spot/instance-action");
    // Why no spot replica may come here; nothing when one may.
    let no_spot = || {
        let health = host.fleet.node.status()?["health"].clone();
        let is_judged = health["gates"].to_string().contains("\"G18\"");
        is_judged.then(|| health["no_spot"]["because"].as_str().map(str::to_owned))
    };
    wait_for("gate G18 to pass", || no_spot().filter(Option::is_none));
    // What is heard before stays in force while nothing right is heard.
    host.tell("aws.spot in 600s");
    let notice = host.hears(NoticeSource::Aws);
    host.tell("redirect");
    wait_for("the alarm", || host.alarms().filter(|said| said.contains("blind to preemption")));
    let evidence = wait_for("gate G18 to fail", || no_spot().flatten());
    assert!(evidence.contains("a redirect (302), which is not followed"), "{evidence}");
    assert_eq!(host.hears(NoticeSource::Aws).id, notice.id);
    let asked = host.emulator.asked();
    assert!(!asked.iter().any(|asked| asked.contains("/elsewhere")), "nobody is led astray");
    host.tell("heal");
    wait_for("the end of the alarm", || host.alarms().filter(|said| !said.contains("blind")));
}

#[test]
fn whatever_a_service_fails_with_leaves_in_force_what_was_heard_and_is_said() {
    let failures = [
        ("inject 500", "500"),
        ("hang", "no answer within"),
        ("html", "blind"),
        ("truncate", "blind"),
        ("oversize", "blind"),
        ("reset connections", "blind"),
        ("answer /latest/meta-data/spot/instance-action 200 soon", "blind"),
    ];
    let mut number = 0;
    let hosts = failures.map(|(statement, said)| {
        number += 1;
        let name = format!("failing-{number}");
        let mut host = Noticed::start(&name, &[Cloud::Aws], "cloud = \"aws\"\n");
        host.fleet.node.start();
        (host, statement, said)
    });
    let heard = hosts.each_ref().map(|(host, ..)| {
        host.until_heard("spot/instance-action");
        host.tell("aws.spot in 600s");
        host.hears(NoticeSource::Aws)
    });
    for (host, statement, _) in &hosts {
        host.tell(statement);
    }
    for ((host, statement, said), heard) in hosts.iter().zip(heard) {
        let alarms = wait_for("the alarm", || {
            host.alarms().filter(|said| said.contains("blind to preemption"))
        });
        assert!(alarms.contains(said), "{statement}: {alarms}");
        let now = host.hears(NoticeSource::Aws);
        assert_eq!((now.id, now.gone_at), (heard.id, heard.gone_at), "{statement}");
    }
}

#[test]
fn a_deadline_that_cannot_be_is_now_or_the_usual_and_an_hours_error_of_a_clock_moves_none() {
    for (name, statement, window, alarm) in [
        ("past", "aws.spot in -60s", 0..=0, "states a deadline that passed"),
        ("far", "aws.spot in 365d", 120_000..=120_000, "which this source never gives"),
        ("ahead", "clock 1h; aws.spot in 120s", 110_000..=120_000, "clock"),
        ("behind", "clock -1h; aws.spot in 120s", 110_000..=120_000, "clock"),
    ] {
        let mut host = Noticed::start(name, &[Cloud::Aws], "cloud = \"aws\"\n");
        host.fleet.node.start();
        host.until_heard("spot/instance-action");
        host.tell(statement);
        let notice = host.hears(NoticeSource::Aws);
        let length = notice.gone_at.since(notice.heard_at).0;
        assert!(window.contains(&length), "{statement}: {length}");
        assert_eq!(notice.certainty, Certainty::Certain, "{statement}");
        wait_for("the alarm", || host.alarms().filter(|said| said.contains(alarm)));
    }
}

#[test]
fn the_doctor_asks_the_metadata_service_and_names_the_fix() {
    let host = Noticed::start("doctor", &[Cloud::Gcp], "cloud = \"gcp\"\n");
    let examined = || {
        let config = host.fleet.node.config(&host.fleet.node.settings);
        let config = config.display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharfage-agent"));
        let done = command.args(["--config", &config, "doctor", "-o", "json"]).output();
        let page: serde_json::Value =
            serde_json::from_slice(&done.expect("it runs").stdout).expect("a page");
        let findings = page["findings"].as_array().expect("a list").clone();
        let about = |row: &serde_json::Value| row["detail"].to_string().contains("`preempted`");
        findings.into_iter().find(about).expect("a line for the source")
    };
    let row = examined();
    assert_eq!(row["state"], "works", "{row}");
    host.tell("inject 503");
    let row = examined();
    assert!(row["state"] == "broken" && row["detail"].to_string().contains("503"), "{row}");
    assert!(row["fix"].to_string().contains(&host.emulator.url()), "{row}");
}
