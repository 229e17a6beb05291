//! G12: the GPU is set up as the node's owner declares.

use wharfage_agent_core::health::Saw;
use wharfage_agent_sys::nvml::Value;

use super::{Look, One, known, worst};

impl One<'_> {
    pub(super) fn modes(&self) -> Look {
        if !self.declared.has_modes() {
            return (Saw::NotApplicable, "nothing is declared of its modes".to_owned());
        }
        self.compare_modes().unwrap_or_else(|unknown| unknown)
    }

    fn compare_modes(&self) -> Result<Look, Look> {
        let modes = self.section(|sections| sections.modes.as_ref())?;
        let ecc = self.section(|sections| sections.ecc.as_ref())?;
        let declared = &self.declared;
        let switched = [
            ("ECC", declared.ecc, &ecc.is_enabled),
            ("MIG", declared.mig, &modes.is_mig),
            ("persistence mode", declared.persistence, &modes.is_persistent),
        ];
        let switched = switched.into_iter().filter_map(|(what, declared, is)| {
            Some(compare(what, on_off(declared?), &is.clone().map(on_off)))
        });
        let compute = declared.compute_mode.as_deref();
        let compute =
            compute.map(|declared| compare("its compute mode", declared, &modes.compute_mode));
        Ok(worst(switched.chain(compute).chain(self.mig_layout())))
    }

    /// The profiles of its instances, whatever their order.
    fn mig_layout(&self) -> Option<Look> {
        let mut declared = self.declared.mig_layout.clone()?;
        let slots = self.board.map_or(&[][..], |board| &board.slots);
        let mut is: Vec<String> =
            slots.iter().filter_map(|slot| Some(slot.mig.as_ref()?.profile.clone())).collect();
        declared.sort();
        is.sort();
        let (declared, is) = (declared.join(", "), is.join(", "));
        Some(compare("its MIG layout", &format!("[{declared}]"), &Value::Value(format!("[{is}]"))))
    }
}

fn on_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn compare(what: &str, declared: &str, is: &Value<impl AsRef<str>>) -> Look {
    match known(is, &format!("of {what}")).map(AsRef::as_ref) {
        Ok(is) if is == declared => (Saw::Pass, format!("{what} is {declared} as declared")),
        Ok(is) => (Saw::Fail, format!("{what} is {is}; {declared} is declared")),
        Err(look) => look,
    }
}
