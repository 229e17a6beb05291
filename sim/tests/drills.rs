//! Drills in virtual time: every window against every habit of a hook, each classified.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_scheduler_core::words::drill::Outcome;
use wharfage_shared::replica::HookOutcome;
use wharfage_shared::time::Millis;
use wharfage_sim::drills::{HookHabit, Practised, practise};

const DRILLS: u64 = 500;
const WINDOWS: [u64; 5] = [420, 120, 30, 5, 0];

/// What is said of the hook.
fn class(of: &Practised) -> String {
    let detail = of.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    match of.hook {
        Some(HookOutcome::Done) => "done".to_owned(),
        Some(HookOutcome::Failed) => format!("failed{detail}"),
        Some(HookOutcome::CutOff) => "cut off".to_owned(),
        Some(HookOutcome::Skipped) | None => "no time".to_owned(),
        Some(HookOutcome::Running) => "unknown".to_owned(),
    }
}

fn expected(habit: HookHabit) -> &'static str {
    match habit {
        HookHabit::Finishes | HookHabit::Forks => "done",
        HookHabit::Hangs => "cut off",
        HookHabit::Floods => "failed: it printed more than 16 MiB",
        HookHabit::Fails => "failed: it exited with 1",
        HookHabit::Killed => "failed: it exited with 137",
    }
}

#[test]
fn five_hundred_drills_end_with_an_open_node_and_every_hook_is_classified() {
    let mut found: BTreeMap<(u64, HookHabit), BTreeSet<String>> = BTreeMap::new();
    for number in 0..DRILLS {
        let window = WINDOWS[(number % 5) as usize];
        let habit = HookHabit::ALL[(number / 5 % 6) as usize];
        // Half a second to twenty.
        let alone = Millis(500 + number * 7_919 % 19_500);
        let of = practise(number, Millis::from_seconds(window), habit, alone);
        let told = format!("drill {number}: {window} s, {habit:?} in {alone}: {of:?}");
        assert!(of.violations.is_empty(), "{told}");
        assert_eq!(of.outcome, Some(Outcome::Completed), "{told}");
        assert!(of.is_open && of.serves, "{told}");
        let done = usize::from(of.hook == Some(HookOutcome::Done));
        assert_eq!(of.checkpoints, Some((done, 1)), "{told}");
        found.entry((window, habit)).or_default().insert(class(&of));
    }
    assert_eq!(found.len(), WINDOWS.len() * HookHabit::ALL.len());
    for ((window, habit), classes) in found {
        let whole = expected(habit);
        let accepted: &[&str] = match window {
            30.. => &[whole],
            1..30 => &[whole, "cut off", "no time"],
            0 => &["cut off", "no time"],
        };
        for class in &classes {
            assert!(accepted.contains(&class.as_str()), "{window} s, {habit:?}: {classes:?}");
        }
    }
}
