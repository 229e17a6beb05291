//! G11: nothing slows the GPU down to save it, and one that nobody holds is cool.

use wharfage_agent_core::health::Saw;

use super::history::WINDOW;
use super::{Look, One, known, worst};

impl One<'_> {
    pub(super) fn heat(&self) -> Look {
        let last = match self.fresh() {
            Ok(last) => last,
            Err(unknown) => return unknown,
        };
        let reasons = match &last.fast {
            Some(fast) => known(&fast.throttle_reasons, "what holds its clocks down"),
            None => Err((Saw::Unknown, "it was not read yet".to_owned())),
        };
        let seconds = WINDOW.0 / 1000;
        let slowed = match (self.past.and_then(|past| past.slowed(self.now)), reasons) {
            (Some(reason), _) => {
                (Saw::Fail, format!("{reason} held its clocks down in the last {seconds} s"))
            }
            (None, Ok(_)) => (Saw::Pass, "nothing slows it down to save it".to_owned()),
            (None, Err(look)) => look,
        };
        worst([slowed, self.heat_held_down(seconds), self.temperature(last.reading.temperature_c)])
    }

    fn heat_held_down(&self, seconds: u64) -> Look {
        let power = match self.section(|sections| sections.power.as_ref()) {
            Ok(power) => power,
            Err(unknown) => return unknown,
        };
        match known(&power.held_down.thermal_ns, "how long heat held its clocks down") {
            Ok(_) if self.past.is_some_and(|past| past.was_hot(self.now)) => {
                (Saw::Fail, format!("heat held its clocks down in the last {seconds} s"))
            }
            Ok(_) => (Saw::Pass, "heat does not hold its clocks down".to_owned()),
            Err(look) => look,
        }
    }

    fn temperature(&self, read: Option<u16>) -> Look {
        let most = self.settings.hottest_idle_c;
        match (read, self.holder) {
            (None, _) => (Saw::NotApplicable, "it does not say how warm it is".to_owned()),
            (Some(_), Some(holder)) => (Saw::NotApplicable, format!("{holder} warms it")),
            (Some(is), None) if is >= most => {
                (Saw::Fail, format!("{is} C while idle; below {most} C is well"))
            }
            (Some(_), None) => (Saw::Pass, format!("below {most} C while idle")),
        }
    }
}
