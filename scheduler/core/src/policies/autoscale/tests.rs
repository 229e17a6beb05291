//! Stories and properties of the autoscaling rule.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::words::deployment::{Bounds, Scaling};

fn settings(min: u32, max: u32, concurrency: u32, delay: u32) -> Scaling {
    let bounds = Bounds::new(min, max).expect("the stories' bounds are good");
    Scaling { bounds, concurrency, scale_down_delay_seconds: delay, ..Scaling::baseten() }
}

fn load(requests: Mean) -> Load {
    Load { requests, tokens: None, is_there_now: false }
}

/// One deployment that is decided about at each reading.
struct Scaled {
    settings: Scaling,
    window: Window,
    current: u32,
    below_since: Option<Timestamp>,
}

impl Scaled {
    fn new(settings: Scaling) -> Self {
        let current = settings.bounds.min();
        Self { settings, window: Window::default(), current, below_since: None }
    }

    fn sees(&mut self, seconds: i64, in_flight: u64) -> Decision {
        let now = Timestamp(seconds * 1000);
        self.window.push(now, in_flight, 1);
        self.window.forget(now, Millis::from_seconds(u64::from(self.settings.window_seconds)));
        let seen = load(self.window.mean().expect("a sample was just taken"));
        self.decides(Some(wish(&self.settings, &seen)), seconds)
    }

    fn decides(&mut self, wish: Option<Wish>, seconds: i64) -> Decision {
        let now = Timestamp(seconds * 1000);
        let decision = decide(&self.settings, wish, self.current, self.below_since, now);
        self.below_since = decision.below_since;
        self.current = decision.desired;
        decision
    }
}

fn story(settings: Scaling, readings: &[(i64, u64)]) -> String {
    let mut scaled = Scaled::new(settings);
    let mut text = String::new();
    for (seconds, in_flight) in readings {
        let before = scaled.current;
        let Decision { desired, because, left, .. } = scaled.sees(*seconds, *in_flight);
        let left = left.map_or(String::new(), |left| format!(", {}s left", left.0 / 1000));
        let _ = writeln!(text, "{seconds}s {in_flight}: {before} -> {desired} {because:?}{left}");
    }
    text
}

#[test]
fn a_burst_scales_up_at_once_and_down_in_halves_after_the_delay() {
    let readings = [(0, 1), (30, 9), (60, 0), (120, 0), (180, 0), (240, 0), (300, 0)];
    let told = story(Scaling { window_seconds: 10, ..settings(1, 20, 1, 120) }, &readings);
    assert_eq!(
        told,
        "0s 1: 1 -> 2 DemandAboveTarget\n\
         30s 9: 2 -> 13 DemandAboveTarget\n\
         60s 0: 13 -> 13 WaitingForScaleDownDelay, 120s left\n\
         120s 0: 13 -> 13 WaitingForScaleDownDelay, 60s left\n\
         180s 0: 13 -> 7 DemandBelowTarget, 120s left\n\
         240s 0: 7 -> 7 WaitingForScaleDownDelay, 60s left\n\
         300s 0: 7 -> 4 DemandBelowTarget, 120s left\n"
    );
}

#[test]
fn eight_in_excess_go_by_halves_down_to_none_and_none_is_asleep() {
    let mut scaled = Scaled::new(settings(0, 8, 1, 60));
    scaled.current = 8;
    let counts: Vec<u32> = (0..=5).map(|minute| scaled.sees(minute * 60, 0).desired).collect();
    assert_eq!(counts, [8, 4, 2, 1, 0, 0]);
}

#[test]
fn a_fifth_of_the_excess_goes_where_the_rate_says_so() {
    let rate = Scaling { max_scale_down_percent: 20, ..settings(0, 20, 1, 0) };
    let mut scaled = Scaled::new(rate);
    scaled.current = 10;
    assert_eq!(scaled.sees(0, 0).desired, 8, "no delay: the first lower wish removes, stepwise");
    assert_eq!(scaled.sees(5, 0).desired, 6, "a fifth of eight, rounded up");
}

#[test]
fn a_recovery_within_the_delay_starts_it_anew() {
    let readings = [(0, 7), (60, 0), (100, 7), (170, 0), (280, 0), (290, 0)];
    let told = story(Scaling { window_seconds: 10, ..settings(0, 20, 10, 120) }, &readings);
    assert_eq!(
        told,
        "0s 7: 0 -> 1 Woken\n\
         60s 0: 1 -> 1 WaitingForScaleDownDelay, 120s left\n\
         100s 7: 1 -> 1 WithinTarget\n\
         170s 0: 1 -> 1 WaitingForScaleDownDelay, 120s left\n\
         280s 0: 1 -> 1 WaitingForScaleDownDelay, 10s left\n\
         290s 0: 1 -> 0 DemandBelowTarget\n"
    );
}

#[test]
fn the_documented_figures_come_out() {
    let ten = Scaling { concurrency: 10, ..settings(0, 20, 10, 0) };
    let wish_of = |amount, weight| wish(&ten, &load(Mean { amount, weight })).replicas;
    assert_eq!(wish_of(25, 1), 4, "25 in flight, 10 x 70 %");
    assert_eq!(wish_of(0, 1), 0);
    assert_eq!(wish_of(7, 1), 1, "exactly the target is enough");
    assert_eq!(wish_of(7001, 1000), 2, "and not a thousandth more");
    assert_eq!(wish_of(60, 60), 1, "a second's spike of 60 in a window of a minute");
}

#[test]
fn of_several_targets_the_largest_wish_wins_and_is_named() {
    let both = Scaling { in_flight_tokens: Some(40_000), ..settings(0, 20, 10, 0) };
    let seen = |tokens| Load { tokens, ..load(Mean::of(14)) };
    let named = |tokens| wish(&both, &seen(tokens));
    let requests = Wish { replicas: 2, target: Target::Requests };
    assert_eq!(named(Some(Mean::of(80_001))), Wish { replicas: 3, target: Target::Tokens });
    assert_eq!(named(Some(Mean::of(80_000))), requests);
    assert_eq!(named(None), requests, "tokens that nobody counts want nothing");
}

#[test]
fn without_a_reading_nothing_goes_and_the_delay_does_not_run() {
    let mut scaled = Scaled::new(settings(0, 8, 1, 60));
    scaled.current = 5;
    assert_eq!(scaled.sees(0, 0).below_since, Some(Timestamp(0)));
    let blind = scaled.decides(None, 600);
    assert_eq!((blind.desired, blind.because), (5, DesiredBecause::NoReading));
    assert_eq!(scaled.sees(601, 0).desired, 5, "the delay began anew");
    scaled.settings.bounds = Bounds::new(6, 8).expect("good bounds");
    assert_eq!(scaled.decides(None, 700).desired, 6, "the bounds hold all the same");
}

#[test]
fn a_single_request_wakes_what_sleeps_however_short_it_has_been_there() {
    let asleep = settings(0, 8, 1, 60);
    let seen = Load { is_there_now: true, ..load(Mean { amount: 0, weight: 60_000 }) };
    let decision = decide(&asleep, Some(wish(&asleep, &seen)), 0, None, Timestamp(0));
    assert_eq!((decision.desired, decision.because), (1, DesiredBecause::Woken));
}

proptest! {
    #[test]
    fn the_count_stays_in_bounds_rises_to_the_wish_and_falls_only_after_the_delay(
        min in 0_u32..5, more in 0_u32..20, concurrency in 1_u32..9, delay in 0_u32..200,
        percent in 1_u8..=100, rate in 1_u8..=50,
        readings in prop::collection::vec((1_i64..40, 0_u64..60), 1..60),
    ) {
        let rule = Scaling {
            utilization_percent: percent,
            max_scale_down_percent: rate,
            ..settings(min, (min + more).max(1), concurrency, delay)
        };
        let mut scaled = Scaled::new(rule.clone());
        let (mut now, mut last_fall): (i64, Option<i64>) = (0, None);
        for (gap, in_flight) in readings {
            now += gap;
            let before = scaled.current;
            let Decision { desired, wish, .. } = scaled.sees(now, in_flight);
            let wanted = rule.bounds.clamp(wish.expect("it was seen").replicas);
            prop_assert!(rule.bounds.clamp(desired) == desired);
            prop_assert!(desired >= wanted);
            if desired > before {
                prop_assert_eq!(desired, wanted, "it rises to the wish at once");
            }
            if desired < before {
                prop_assert!((before - desired) <= (before - wanted).div_ceil(2));
                if let Some(last) = last_fall {
                    prop_assert!(now - last >= i64::from(delay), "one step a delay");
                }
                last_fall = Some(now);
            }
        }
    }

    #[test]
    fn a_constant_load_is_settled_in_a_bounded_number_of_changes(
        start in 0_u32..=64, in_flight in 0_u64..80, concurrency in 1_u32..9, rate in 1_u8..=50,
    ) {
        let rule = Scaling { max_scale_down_percent: rate, ..settings(0, 64, concurrency, 30) };
        let mut scaled = Scaled::new(rule);
        scaled.current = start;
        let mut changes = 0;
        let mut last = 0;
        for round in 0..2_000 {
            let before = scaled.current;
            if scaled.sees(round * 10, in_flight).desired != before {
                changes += 1;
                last = round;
            }
        }
        prop_assert!(changes <= 65, "{changes} changes");
        prop_assert!(last < 300, "it still changed in round {last}");
    }
}
