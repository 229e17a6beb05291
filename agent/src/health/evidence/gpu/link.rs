//! G10 and G13: the GPU's links to the host and to the other GPUs, held against what the node's
//! owner declares.

use wharfage_agent_core::health::Saw;
use wharfage_agent_sys::nvml::Pcie;

use super::{Look, One, known, worst};

/// So many packets sent again within a minute are too many.
const REPLAYS_A_MINUTE: u32 = 8;

/// A GPU that is this busy has no reason to save power on its link.
const BUSY_PERCENT: u8 = 10;

impl One<'_> {
    pub(super) fn pcie(&self) -> Look {
        match self.section(|sections| sections.pcie.as_ref()) {
            Ok(pcie) => worst([self.replays(pcie), self.width(pcie), self.generation(pcie)]),
            Err(unknown) => unknown,
        }
    }

    fn replays(&self, pcie: &Pcie) -> Look {
        if let Err(look) = known(&pcie.replays, "of packets sent again over PCIe") {
            return look;
        }
        match self.past.map_or(0, |past| past.replays(self.now)) {
            count if count >= REPLAYS_A_MINUTE => {
                let said = format!(
                    "{count} packets were sent again over PCIe within a minute; fewer than \
                     {REPLAYS_A_MINUTE} are well"
                );
                (Saw::Fail, said)
            }
            _ => {
                let said = format!(
                    "fewer than {REPLAYS_A_MINUTE} packets a minute are sent again over PCIe"
                );
                (Saw::Pass, said)
            }
        }
    }

    /// Lanes are not switched off to save power: fewer are a fault also while idle.
    fn width(&self, pcie: &Pcie) -> Look {
        let Some(declared) = self.declared.pcie_width else {
            return (Saw::NotApplicable, "no width of PCIe is declared".to_owned());
        };
        match known(&pcie.width, "how wide its PCIe link is") {
            Ok(width) if *width < declared => {
                (Saw::Fail, format!("its PCIe link has {width} lanes; {declared} are declared"))
            }
            Ok(_) => (Saw::Pass, format!("its PCIe link has the declared {declared} lanes")),
            Err(look) => look,
        }
    }

    fn generation(&self, pcie: &Pcie) -> Look {
        let Some(declared) = self.declared.pcie_generation else {
            return (Saw::NotApplicable, "no generation of PCIe is declared".to_owned());
        };
        let (is, most) = match known(&pcie.generation, "its PCIe generation") {
            Ok(is) => (*is, pcie.max_generation.get().unwrap_or(u32::MAX)),
            Err(look) => return look,
        };
        let busy = self.last.and_then(|last| last.reading.utilization);
        let is_busy = busy.is_some_and(|percent| percent >= BUSY_PERCENT);
        if most < declared {
            let said = format!("GPU and slot can PCIe generation {most}; {declared} is declared");
            return (Saw::Fail, said);
        }
        match is {
            is if is >= declared => (Saw::Pass, format!("PCIe runs at generation {declared}")),
            is if is_busy => {
                let said =
                    format!("PCIe runs at generation {is} under load; {declared} is declared");
                (Saw::Fail, said)
            }
            // An idle link saves power; under load it is looked at again.
            is => (Saw::Pass, format!("PCIe runs at generation {is} while idle")),
        }
    }

    /// As many links up as declared.
    pub(super) fn nvlinks(&self) -> Look {
        let Some(declared) = self.declared.nvlinks else {
            return (Saw::NotApplicable, "no NVLink is declared".to_owned());
        };
        let nvlink = match self.section(|sections| sections.nvlink.as_ref()) {
            Ok(nvlink) => nvlink,
            Err(unknown) => return unknown,
        };
        let links = match known(&nvlink.links, "of NVLinks") {
            Ok(links) => links,
            Err(look) => return look,
        };
        if let Some(link) = links.iter().find(|link| link.is_up.get() == Some(false)) {
            return (Saw::Fail, format!("NVLink {} is down; {declared} are declared", link.link));
        }
        let unread =
            links.iter().filter_map(|link| known(&link.is_up, "of an NVLink").err()).next();
        match (links.len(), unread) {
            (_, Some(look)) => look,
            (up, None) if up < declared as usize => {
                (Saw::Fail, format!("{up} NVLinks are up; {declared} are declared"))
            }
            (up, None) => (Saw::Pass, format!("{up} NVLinks are up")),
        }
    }
}
