//! A GPU's place on the PCI bus, however NVML, the kernel and its log write it.
//!
//! The function is left out: a GPU is always the first of its device, and the log does not name it.

use std::fmt;

/// Domain, bus and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pci {
    domain: u32,
    bus: u8,
    device: u8,
}

impl Pci {
    /// Reads `0000:3b:00`, `00000000:3B:00.0` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split(':');
        let (domain, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (device, function) = device.split_once('.').unwrap_or((device, "0"));
        let hex = |text: &str, most: usize| {
            let good = (1..=most).contains(&text.len());
            let good = good && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            good.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        hex(function, 1)?;
        Some(Self {
            domain: hex(domain, 8)?,
            bus: hex(bus, 2)?.try_into().ok()?,
            device: hex(device, 2)?.try_into().ok()?,
        })
    }

    /// As NVML writes it, `00000000:3B:00.0`.
    pub fn nvml(self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }

    /// As the kernel's folders are named, `0000:3b:00.0`.
    pub fn kernel(self) -> String {
        format!("{self}.0")
    }
}

/// As the kernel's log names it, `0000:3b:00`.
impl fmt::Display for Pci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pci;
    use crate::testing::repeatable;

    #[test]
    fn one_place_is_the_same_however_it_is_written() {
        let place = Pci::parse("0000:3b:00").expect("a place");
        for text in ["00000000:3B:00.0", "0000:3b:00.0", " 0:3B:0\n"] {
            assert_eq!(Pci::parse(text), Some(place), "{text}");
        }
        assert_eq!(place.nvml(), "00000000:3B:00.0");
        assert_eq!(place.kernel(), "0000:3b:00.0");
        assert_eq!(Pci::parse("0001:3b:00.0").map(Pci::kernel).as_deref(), Some("0001:3b:00.0"));
    }

    #[test]
    fn a_place_that_makes_no_sense_is_no_place() {
        for text in [
            "",
            "unknown",
            "0000:1b",
            "0000:1b:00.0:1",
            "x:1b:00.0",
            "0000:1b:zz.0",
            "0000:1b:00.",
            "0000:1b:00.10",
            "0000:100:0.0",
            "+000:1b:00.0",
            "000000000:1b:00.0",
        ] {
            assert_eq!(Pci::parse(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn no_text_is_too_strange_and_a_place_reads_back(
            text in "[0-9a-fA-F]{0,9}:[0-9a-fA-F]{0,3}:[0-9a-fA-F]{0,3}(\\.[0-9a-f]{0,2})?",
            any in ".{0,40}",
        ) {
            for text in [text, any] {
                let Some(place) = Pci::parse(&text) else { continue };
                for written in [place.nvml(), place.kernel(), place.to_string()] {
                    prop_assert_eq!(Pci::parse(&written), Some(place), "{}", text);
                }
            }
        }
    }
}
