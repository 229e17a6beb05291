//! One line of the driver about an XID: `NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=a, ...`.
//!
//! Total: any text is either such a line or none. Everything behind the number may hold words of
//! programs, so only what stands before it is believed.

use wharfage_agent_sys::nvml::MigPlace;

use crate::pci::Pci;

/// An XID line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XidLine {
    /// The GPU's address.
    pub pci: Option<Pci>,
    /// The MIG instance of it, if one is named.
    pub place: Option<MigPlace>,
    /// The number.
    pub xid: u32,
    /// Everything from the number on, bounded.
    pub text: String,
}

/// The longest text that is kept of a line, in characters.
const TEXT_KEPT: usize = 200;

/// How every line about an XID begins.
pub const XID_LINE: &str = "NVRM: Xid (";

/// The XID of a GPU that has fallen off the bus: the driver also says so without a number.
const OFF_THE_BUS: u32 = 79;

/// The XID of a message, if it is about one.
pub fn parse(message: &str) -> Option<XidLine> {
    numbered(message).or_else(|| fallen(message))
}

/// Whether a message begins as a line about an XID; it may be cut inside its first words.
pub fn begins(message: &str) -> bool {
    let is_cut = !message.is_empty() && XID_LINE.starts_with(message);
    is_cut || is_own(message)
}

/// Whether a message is such a line by its own words, whatever came before it.
pub fn is_own(message: &str) -> bool {
    message.starts_with(XID_LINE) || fallen(message).is_some()
}

/// `NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.`, `NVRM: GPU at 0000:3b:00.0 has fallen off
/// the bus.`, and in three lines of one record `NVRM: The NVIDIA GPU 0000:3b:00.0 (PCI ID: ...)
/// installed in this system has fallen off the bus and is not responding to commands.`
fn fallen(message: &str) -> Option<XidLine> {
    const SAID: [&str; 3] = [
        "GPU has fallen off the bus.",
        "has fallen off the bus.",
        "installed in this system has fallen off the bus and is not responding to commands.",
    ];
    let rest = message.strip_prefix("NVRM: ")?;
    let begin = ["The NVIDIA GPU ", "GPU at ", "GPU "];
    let rest = begin.iter().find_map(|begin| rest.strip_prefix(begin))?;
    let (address, said) = rest.split_once(char::is_whitespace)?;
    let address = address.trim_end_matches(':');
    let pci = Pci::parse(address.strip_prefix("PCI:").unwrap_or(address))?;
    let words = said.split_whitespace().filter(|word| *word != "NVRM:");
    let said = words.collect::<Vec<_>>().join(" ");
    let tail = said.strip_prefix("(PCI ID: ").and_then(|rest| rest.split_once(") "));
    let said = tail.map_or(said.as_str(), |(_, said)| said);
    let text = format!("{OFF_THE_BUS}, {said} (told without a number)");
    SAID.contains(&said).then_some(XidLine { pci: Some(pci), place: None, xid: OFF_THE_BUS, text })
}

fn numbered(message: &str) -> Option<XidLine> {
    let rest = message.strip_prefix(XID_LINE)?;
    let (place, rest) = rest.split_once(')')?;
    let rest = rest.strip_prefix(':')?.trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // Numbers of the catalogue have at most four digits; a longer one is no XID.
    if digits == 0 || digits > 5 {
        return None;
    }
    let (number, after) = rest.split_at(digits);
    if !after.is_empty() && !after.starts_with([',', ' ', ':', '(']) {
        return None;
    }
    // `PCI:0000:3b:00`, `0000:3b:00`, `PCI:0000:3b:00 GPU-I:05 GPU-CI:00`.
    let place = place.strip_prefix("PCI:").unwrap_or(place);
    let mut words = place.split_whitespace();
    let address = words.next().unwrap_or("");
    let named = |name| words.clone().find_map(|word| word.strip_prefix(name)?.parse().ok());
    let compute_instance = named("GPU-CI:");
    let place = named("GPU-I:").map(|gpu_instance| MigPlace { gpu_instance, compute_instance });
    let text: String = rest.chars().filter(|c| !c.is_control()).take(TEXT_KEPT).collect();
    Some(XidLine { pci: Pci::parse(address), place, xid: number.parse().ok()?, text })
}

/// What marks a line that an operator injected, with the nonce of this very start of the agent.
const MARK: &str = "wharfage-injected=";

/// The line of an injected XID.
pub fn injected(pci: Option<Pci>, xid: u32, nonce: &str) -> String {
    let place = pci.map_or_else(|| "unknown".to_owned(), |pci| format!("PCI:{pci}"));
    format!("NVRM: Xid ({place}): {xid}, {MARK}{nonce}")
}

/// The XID of a line that was injected under this nonce.
pub fn parse_injected(message: &str, nonce: &str) -> Option<XidLine> {
    let line = parse(message)?;
    let shown = message.rsplit_once(MARK).map(|(_, shown)| shown);
    let text = format!("{}, injected", line.xid);
    (!nonce.is_empty() && shown == Some(nonce)).then_some(XidLine { text, ..line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_of_line_is_understood() {
        for (message, pci, xid) in [
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen \
                 off the bus.",
                Some("0000:3b:00"),
                79,
            ),
            (
                "NVRM: Xid (PCI:0000:03:00): 31, pid=2239, name=python3, Ch 00000008",
                Some("0000:03:00"),
                31,
            ),
            ("NVRM: Xid (0000:03:00): 13, 0003 00000000 00009097", Some("0000:03:00"), 13),
            (
                "NVRM: Xid (PCI:0008:01:00): 119, Timeout after 6s of waiting for RPC",
                Some("0008:01:00"),
                119,
            ),
            (
                "NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 13, pid=1, name=a, Graphics SM Warp",
                Some("0000:3b:00"),
                13,
            ),
            ("NVRM: Xid (PCI:00000000:C1:00.0): 154, GPU recovery action", Some("0000:c1:00"), 154),
            ("NVRM: Xid (PCI:0000:3b:00): 45", Some("0000:3b:00"), 45),
            ("NVRM: Xid (somewhere): 48, an address of no known form", None, 48),
        ] {
            let line = parse(message).expect(message);
            assert_eq!(line.pci.map(|pci| pci.to_string()).as_deref(), pci, "{message}");
            assert_eq!(line.xid, xid, "{message}");
        }
    }

    #[test]
    fn the_instance_of_a_split_gpu_is_understood() {
        let place = |named: &str| {
            let line = format!("NVRM: Xid (PCI:0000:3b:00{named}): 13, pid=1, name=GPU-I:07, x");
            parse(&line)
                .expect("a line")
                .place
                .map(|place| (place.gpu_instance, place.compute_instance))
        };
        assert_eq!(place(" GPU-I:05 GPU-CI:00"), Some((5, Some(0))));
        assert_eq!(place(" GPU-I:11"), Some((11, None)));
        assert_eq!(place(""), None, "words of programs name none");
        assert_eq!(place(" GPU-CI:01"), None);
        assert_eq!(place(" GPU-I:-1"), None);
    }

    #[test]
    fn a_gpu_off_the_bus_is_understood_without_its_number() {
        for message in [
            "NVRM: GPU 0000:b3:00.0: GPU has fallen off the bus.",
            "NVRM: GPU at 0000:b3:00.0 has fallen off the bus.",
            "NVRM: GPU at PCI:0000:b3:00: has fallen off the bus.",
            "NVRM: The NVIDIA GPU 0000:b3:00.0\n               NVRM: (PCI ID: 10de:26b5) installed \
             in this system has\n               NVRM: fallen off the bus and is not responding to \
             commands.",
            "NVRM: The NVIDIA GPU 0000:b3:00.0\nNVRM: installed in this system has\nNVRM: fallen off \
             the bus and is not responding to commands.\n",
        ] {
            let line = parse(message).expect(message);
            assert_eq!((line.xid, line.pci), (79, Pci::parse("0000:b3:00")), "{message}");
            assert!(is_own(message) && begins(message), "{message}");
        }
        for message in [
            "NVRM: GPU 0000:b3:00.0: GPU has fallen off the bus. Or has it?",
            "NVRM: GPU 0000:b3:00.0: name=GPU has fallen off the bus.",
            "NVRM: GPU nobody: GPU has fallen off the bus.",
            "NVRM: The NVIDIA GPU 0000:b3:00.0",
            "kernel: NVRM: GPU 0000:b3:00.0: GPU has fallen off the bus.",
        ] {
            assert_eq!(parse(message), None, "{message}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for message in [
            "",
            "NVRM: Xid",
            "NVRM: Xid (PCI:0000:3b:00)",
            "NVRM: Xid (PCI:0000:3b:00): ",
            "NVRM: Xid (PCI:0000:3b:00): seventy-nine",
            "NVRM: Xid (PCI:0000:3b:00): 99999999, too long",
            "NVRM: Xid (PCI:0000:3b:00): 79abc",
            "audit: comm=\"NVRM: Xid (PCI:0000:3b:00): 79, \"",
            " NVRM: Xid (PCI:0000:3b:00): 79, indented",
            "nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 12028, Non-fatal, Link 32",
            "NVRM: GPU at PCI:0000:3b:00: GPU-1a2b",
        ] {
            assert_eq!(parse(message), None, "{message}");
        }
    }

    #[test]
    fn an_injected_line_counts_only_under_this_starts_nonce() {
        let pci = Pci::parse("0000:3b:00");
        let line = injected(pci, 79, "n-1");
        let seen = parse_injected(&line, "n-1").expect("ours");
        assert_eq!((seen.xid, seen.pci), (79, pci));
        assert_eq!(parse_injected(&line, "n-2"), None);
        assert_eq!(parse_injected("NVRM: Xid (PCI:0000:3b:00): 79, GPU", "n-1"), None);
        assert_eq!(parse_injected(&injected(pci, 79, ""), ""), None);
    }
}
