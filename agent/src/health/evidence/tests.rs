//! What looks say of hosts that are well, that are not, and that cannot tell.

use proptest::prelude::*;

use super::*;
use crate::journal::desired::DesiredFile;
use crate::testing::{Folder, repeatable};
use wharfage_shared::order::{Desired, Order};
use wharfage_shared::replica::HookKind;

pub(super) fn context(folder: &Folder) -> Context {
    let text = format!(
        "node = \"node-1\"\nstate_dir = \"{0}\"\ncache_dir = \"{0}/cache\"\nhooks_dir = \
         \"{0}/hooks.d\"\nrequire_root_owned = false\n[health]\nleast_disk_percent = 0\nproc = \
         \"{0}/proc\"\nsystemd_runs = \"{0}/systemd\"\n",
        folder.path().display()
    );
    let config = toml::from_str(&text).expect("a configuration");
    Context { config, shutdown_delay: None, ears: BTreeMap::new(), stuck: Arc::default() }
}

fn saw(looks: &[Evidence], gate: &str) -> Saw {
    let look = looks.iter().find(|look| look.gate.to_string() == gate);
    look.unwrap_or_else(|| panic!("{gate} was not looked at: {looks:?}")).saw
}

#[test]
fn a_full_disk_fails_and_a_folder_that_is_not_there_is_unknown() {
    let folder = Folder::new("gate-disk");
    let mut context = context(&folder);
    std::fs::create_dir(folder.path().join("cache")).expect("made");
    assert_eq!(saw(&disk::look(&context), "G16"), Saw::Pass);
    context.config.health.least_disk_percent = 101;
    assert_eq!(saw(&disk::look(&context), "G16"), Saw::Fail);
    context.config.state_dir = folder.path().join("nowhere");
    context.config.cache_dir = folder.path().join("nowhere");
    assert_eq!(saw(&disk::look(&context), "G16"), Saw::Unknown);
}

#[test]
fn a_cache_on_another_filesystem_than_declared_fails() {
    let folder = Folder::new("gate-cache");
    let mut context = context(&folder);
    assert_eq!(saw(&files::look(&context), "G20"), Saw::Pass, "it is made where it is not there");
    std::fs::create_dir_all(folder.path().join("proc/self")).expect("made");
    let place = std::fs::canonicalize(folder.path()).expect("a path");
    let mounts = format!(
        "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {} rw shared:1 - xfs b rw\n",
        place.display()
    );
    std::fs::write(folder.path().join("proc/self/mountinfo"), mounts).expect("written");
    for (declared, expected) in [("xfs", Saw::Pass), ("ext4", Saw::Fail)] {
        context.config.health.cache_filesystem = Some(declared.to_owned());
        assert_eq!(saw(&files::look(&context), "G20"), expected, "{declared}");
    }
}

#[test]
fn a_hook_file_that_is_refused_fails_and_a_host_without_hooks_has_nothing_to_look_at() {
    let folder = Folder::new("gate-hooks");
    let context = context(&folder);
    let hooks = folder.path().join("hooks.d");
    std::fs::create_dir(&hooks).expect("made");
    assert_eq!(saw(&files::look(&context), "G19"), Saw::NotApplicable);
    std::fs::write(hooks.join("save.toml"), "colour = 1\n").expect("written");
    assert_eq!(saw(&files::look(&context), "G19"), Saw::Fail);
}

#[test]
fn a_hook_that_a_replica_names_and_the_host_has_not_fails() {
    let folder = Folder::new("gate-named-hook");
    let context = context(&folder);
    let hooks = folder.path().join("hooks.d");
    std::fs::create_dir(&hooks).expect("made");
    let named = |hook: &str| {
        let mut order = crate::testing::order(1);
        order.hooks = [(HookKind::Drain, hook.into())].into();
        let desired = Desired { orders: vec![Order::Run(Box::new(order))], ..Desired::default() };
        DesiredFile::of(folder.path()).store(&desired).expect("written");
        files::look(&context)
    };
    assert_ne!(saw(&named("builtin-sigterm"), "G19"), Saw::Fail, "that needs no file");
    let look = named("save");
    assert_eq!(saw(&look, "G19"), Saw::Fail);
    assert!(look[0].evidence.contains("names the hook `save`"), "{}", look[0].evidence);
    std::fs::write(hooks.join("save.toml"), "command = [\"/bin/true\"]\ntimeout_seconds = 1\n")
        .expect("written");
    let look = files::look(&context);
    assert_eq!(saw(&look, "G19"), Saw::Pass, "{look:?}");
}

#[test]
fn an_address_that_is_not_this_hosts_has_no_port_for_a_guard() {
    let folder = Folder::new("gate-ports");
    let mut context = context(&folder);
    context.config.guard_listen_ip = [127, 0, 0, 1].into();
    assert_eq!(saw(&files::look(&context), "G21"), Saw::Pass);
    // Kept for documentation: nobody has it.
    context.config.guard_listen_ip = [192, 0, 2, 1].into();
    assert_eq!(saw(&files::look(&context), "G21"), Saw::Fail);
}

#[test]
fn a_host_whose_memory_is_used_up_fails_and_one_that_does_not_say_is_unknown() {
    let folder = Folder::new("gate-memory");
    let context = context(&folder);
    assert_eq!(saw(&processes::look(&context), "G17"), Saw::Unknown);
    std::fs::create_dir_all(folder.path().join("proc/driver/nvidia-nvswitch/devices/a"))
        .expect("made");
    for (left, expected) in [("100", Saw::Fail), ("50000", Saw::Pass)] {
        let text = format!("MemTotal: 100000 kB\nMemAvailable: {left} kB\n");
        std::fs::write(folder.path().join("proc/meminfo"), text).expect("written");
        assert_eq!(saw(&processes::look(&context), "G17"), expected, "{left}");
    }
    assert_eq!(saw(&processes::look(&context), "G14"), Saw::Fail, "switches without a manager");
}

#[test]
fn a_shutdown_that_waits_less_than_the_hooks_fails_and_one_that_nobody_holds_back_is_unknown() {
    let folder = Folder::new("gate-inhibitor");
    let mut context = context(&folder);
    let mut look = |seconds: Option<u64>| {
        context.shutdown_delay = seconds.map(Millis::from_seconds);
        saw(&inhibitor::look(&context), "G18")
    };
    assert_eq!(look(Some(60)), Saw::NotApplicable, "systemd does not run");
    std::fs::create_dir(folder.path().join("systemd")).expect("made");
    assert_eq!(look(None), Saw::Unknown, "logind has not answered");
    assert_eq!(look(Some(5)), Saw::Fail, "ten seconds are left after the longest hook");
    assert_eq!(look(Some(10)), Saw::Pass);
    std::fs::create_dir(folder.path().join("hooks.d")).expect("made");
    let hook = "command = [\"/bin/true\"]\ntimeout_seconds = 60\n";
    std::fs::write(folder.path().join("hooks.d/save.toml"), hook).expect("written");
    assert_eq!(look(Some(69)), Saw::Fail);
    assert_eq!(look(Some(70)), Saw::Pass);
    context.config.notices.logind = Some(false);
    assert_eq!(saw(&inhibitor::look(&context), "G18"), Saw::NotApplicable);
}

#[test]
fn a_node_that_does_not_hear_its_cloud_is_not_fit_for_spot() {
    let folder = Folder::new("gate-blind");
    let mut context = context(&folder);
    let mut look = |ear: Ear| {
        context.ears.insert(NoticeSource::Aws, ear);
        let looks = inhibitor::look(&context);
        (saw(&looks, "G18"), looks[0].evidence.clone())
    };
    let said = "aws's metadata service has not been heard yet".to_owned();
    assert_eq!(look(Ear::Waiting), (Saw::Unknown, said));
    let said = "aws's metadata service is heard".to_owned();
    assert_eq!(look(Ear::Heard), (Saw::Pass, said));
    assert_eq!(look(Ear::Blind("silent".to_owned())), (Saw::Fail, "silent".to_owned()));
    // A shutdown that waits long enough does not make up for it.
    std::fs::create_dir(folder.path().join("systemd")).expect("made");
    context.shutdown_delay = Some(Millis::from_seconds(600));
    assert_eq!(saw(&inhibitor::look(&context), "G18"), Saw::Fail);
    context.ears.insert(NoticeSource::Aws, Ear::Heard);
    context.shutdown_delay = Some(Millis::from_seconds(1));
    assert_eq!(saw(&inhibitor::look(&context), "G18"), Saw::Fail, "nor the other way round");
}

/// Lines of a file of `/proc`, some as the kernel writes them and some not.
fn lines(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    let line = prop_oneof![
        prop::sample::select(good).prop_map(str::to_owned),
        "[ -~]{0,60}",
        "(MemTotal:|MemAvailable:|[0-9]+ [0-9]+ [0-9:]+ / /) ?[0-9]{0,25} ?(- [a-z]* )?",
    ];
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn no_words_of_the_kernel_are_too_strange_to_look_at(
        memory in lines(&["MemTotal: 100000 kB", "MemAvailable: 50000 kB", "MemAvailable:"]),
        mounts in lines(&["1 0 0:1 / / rw - ext4 a rw", "2 1 0:2 / /tmp rw shared:1 - xfs b rw"]),
    ) {
        let folder = Folder::new("gate-strange");
        let mut context = context(&folder);
        context.config.health.cache_filesystem = Some("xfs".to_owned());
        std::fs::create_dir_all(folder.path().join("proc/self")).expect("made");
        std::fs::write(folder.path().join("proc/meminfo"), &memory).expect("written");
        std::fs::write(folder.path().join("proc/self/mountinfo"), &mounts).expect("written");
        let host = processes::look(&context);
        let says = memory.contains("MemTotal:") && memory.contains("MemAvailable:");
        prop_assert!(says || saw(&host, "G17") != Saw::Pass, "{}", memory);
        let cache = saw(&files::look(&context), "G20");
        prop_assert!(cache != Saw::Pass || mounts.contains("- xfs "), "{}", mounts);
        prop_assert!(cache != Saw::NotApplicable);
    }
}
