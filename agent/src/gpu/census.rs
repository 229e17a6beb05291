//! Who sees which GPU: NVML, the kernel driver and the PCI bus, compared by PCI address.
//!
//! A GPU that one of them has lost is named with who still sees it. A witness that sees none at
//! all (a container, a host without that folder) says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use wharfage_agent_sys::nvml::Board;
use wharfage_shared::ids::GpuUuid;

use crate::pci::Pci;

/// How often the folders are read.
const INTERVAL: Duration = Duration::from_secs(5);

/// The PCI vendor NVIDIA.
const NVIDIA: &str = "0x10de";

/// PCI classes of GPUs: VGA controller and 3D controller, whatever their programming interface.
const CLASSES: [&str; 2] = ["0x0300", "0x0302"];

/// Where the witnesses' folders are.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The kernel driver's list.
    pub driver: PathBuf,
    /// The PCI bus.
    pub pci: PathBuf,
}

/// Who can see a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// NVML lists it.
    Nvml,
    /// The kernel driver lists it.
    Driver,
    /// It answers on the PCI bus.
    Pci,
}

/// A GPU that not everybody sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its PCI address, where it is known.
    pub pci: Option<String>,
    /// Its UUID, where it is known.
    pub uuid: Option<GpuUuid>,
    /// Who sees it.
    pub seen_by: Vec<Witness>,
    /// Who does not.
    pub not_seen_by: Vec<Witness>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (&self.uuid, &self.pci) {
            (Some(uuid), Some(pci)) => format!("{uuid} at {pci}"),
            (Some(uuid), None) => uuid.to_string(),
            (None, Some(pci)) => format!("the GPU at {pci}"),
            (None, None) => "a GPU".to_owned(),
        };
        let list = |witnesses: &[Witness]| {
            let words = witnesses.iter().map(|witness| match witness {
                Witness::Nvml => "NVML",
                Witness::Driver => "the kernel driver",
                Witness::Pci => "the PCI bus",
            });
            words.collect::<Vec<_>>().join(" and ")
        };
        let (not, yes) = (list(&self.not_seen_by), list(&self.seen_by));
        match self.seen_by.as_slice() {
            [] => write!(f, "{name} is not seen any more by {not}"),
            _ => write!(f, "{name} is not seen by {not} but by {yes}"),
        }
    }
}

/// What the folders say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// The kernel driver's GPUs by place, with the UUIDs that it knows.
    driver: BTreeMap<Pci, Option<GpuUuid>>,
    /// Places of NVIDIA's GPUs on the bus.
    pci: BTreeSet<Pci>,
}

impl Sightings {
    /// So many GPUs answer on the bus.
    pub fn on_the_bus(&self) -> usize {
        self.pci.len()
    }
}

/// Reads the folders again and again in a thread of its own: a broken driver may hold it up.
pub fn watch(roots: Roots) -> watch::Receiver<Sightings> {
    let (sender, receiver) = watch::channel(Sightings::default());
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let now = look(&roots);
            sender.send_if_modified(|last| {
                let changed = *last != now;
                *last = now;
                changed
            });
            std::thread::sleep(INTERVAL);
        }
    });
    receiver
}

/// Reads the folders once.
pub fn look(roots: &Roots) -> Sightings {
    let driver = folders(&roots.driver).into_iter().map(|(place, folder)| {
        let information = fs::read_to_string(folder.join("information")).unwrap_or_default();
        (place, uuid_in(&information))
    });
    let on_bus = folders(&roots.pci).into_iter().filter(|(_, folder)| is_gpu(folder));
    Sightings { driver: driver.collect(), pci: on_bus.map(|(place, _)| place).collect() }
}

/// Sub-folders that are named by a place.
fn folders(root: &Path) -> Vec<(Pci, PathBuf)> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| {
        let place = Pci::parse(entry.file_name().to_str()?)?;
        Some((place, entry.path()))
    });
    named.collect()
}

/// `GPU UUID:   GPU-...` of the driver's own page; a GPU that is not initialised shows `?`s.
fn uuid_in(information: &str) -> Option<GpuUuid> {
    let line = information.lines().find(|line| line.starts_with("GPU UUID:"))?;
    let uuid = line.split_once(':')?.1.trim();
    (!uuid.is_empty() && !uuid.contains('?')).then(|| GpuUuid::from(uuid))
}

/// A GPU of NVIDIA's that is not handed to another driver (passed through to a guest).
fn is_gpu(folder: &Path) -> bool {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    if read("vendor").trim() != NVIDIA || !CLASSES.iter().any(|c| read("class").starts_with(c)) {
        return false;
    }
    match fs::read_link(folder.join("driver")) {
        Ok(driver) => driver.file_name().is_some_and(|name| name == "nvidia"),
        Err(_) => true,
    }
}

/// Compares: `boards` are those that NVML lists, `gone` those that it listed before.
pub fn compare(boards: &[Board], gone: &[Board], sightings: &Sightings) -> Vec<Missing> {
    let place = |board: &Board| board.pci.known().and_then(|pci| Pci::parse(pci));
    let nvml: BTreeMap<Pci, &Board> =
        boards.iter().filter_map(|board| Some((place(board)?, board))).collect();
    let before: BTreeMap<Pci, &Board> =
        gone.iter().filter_map(|board| Some((place(board)?, board))).collect();
    let everywhere = nvml.keys().chain(before.keys()).chain(sightings.driver.keys());
    let places: BTreeSet<Pci> = everywhere.chain(&sightings.pci).copied().collect();
    let mut missing = Vec::new();
    for at in places {
        let mut seen_by = Vec::new();
        let mut not_seen_by = Vec::new();
        for (witness, sees, speaks) in [
            (Witness::Nvml, nvml.contains_key(&at), true),
            (Witness::Driver, sightings.driver.contains_key(&at), !sightings.driver.is_empty()),
            (Witness::Pci, sightings.pci.contains(&at), !sightings.pci.is_empty()),
        ] {
            match (speaks, sees) {
                (false, _) => {}
                (true, true) => seen_by.push(witness),
                (true, false) => not_seen_by.push(witness),
            }
        }
        if !not_seen_by.is_empty() {
            let listed = nvml.get(&at).or(before.get(&at)).map(|board| board.uuid.clone());
            let uuid = listed.or_else(|| sightings.driver.get(&at).cloned().flatten());
            missing.push(Missing { pci: Some(at.nvml()), uuid, seen_by, not_seen_by });
        }
    }
    // What has no place (NVML does not tell it) can only be missed by NVML itself.
    for board in gone.iter().filter(|board| place(board).is_none()) {
        let uuid = Some(board.uuid.clone());
        let not_seen_by = vec![Witness::Nvml];
        missing.push(Missing { pci: None, uuid, seen_by: Vec::new(), not_seen_by });
    }
    missing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gpu::state::tests::board;
    use crate::testing::{Folder, repeatable};

    /// A host with these places in the two lists.
    fn host(name: &str, driver: &[&str], pci: &[&str]) -> (Folder, Roots) {
        let folder = Folder::new(&format!("census-{name}"));
        let roots = Roots { driver: folder.path().join("driver"), pci: folder.path().join("pci") };
        for place in driver {
            let at = roots.driver.join(place);
            fs::create_dir_all(&at).expect("folder");
            let information = format!("Model: \t H100\nGPU UUID: \t GPU-{place}\n");
            fs::write(at.join("information"), information).expect("written");
        }
        for place in pci {
            let at = roots.pci.join(place);
            fs::create_dir_all(&at).expect("folder");
            fs::write(at.join("vendor"), "0x10de\n").expect("written");
            fs::write(at.join("class"), "0x030200\n").expect("written");
        }
        (folder, roots)
    }

    fn said(boards: &[Board], gone: &[Board], roots: &Roots) -> Vec<String> {
        compare(boards, gone, &look(roots)).iter().map(ToString::to_string).collect()
    }

    const BOTH: [&str; 2] = ["0000:1b:00.0", "0000:43:00.0"];

    #[test]
    fn what_everybody_sees_is_not_missing() {
        let (_folder, roots) = host("all", &BOTH, &BOTH);
        let boards = [board("GPU-a", 0, "00000000:1B:00.0"), board("GPU-b", 1, "00000000:43:00.0")];
        assert_eq!(said(&boards, &[], &roots), Vec::<String>::new());
    }

    #[test]
    fn a_gpu_that_one_of_them_lost_is_named_with_who_still_sees_it() {
        let (_folder, roots) = host("nvml", &BOTH, &BOTH);
        let boards = [board("GPU-a", 0, "00000000:1B:00.0")];
        assert_eq!(
            said(&boards, &[], &roots),
            ["GPU-0000:43:00.0 at 00000000:43:00.0 is not seen by NVML but by the kernel driver \
              and the PCI bus"]
        );
        let (_folder, roots) = host("bus", &BOTH, &BOTH[..1]);
        let boards = [board("GPU-a", 0, "00000000:1B:00.0"), board("GPU-b", 1, "00000000:43:00.0")];
        assert_eq!(
            said(&boards, &[], &roots),
            ["GPU-b at 00000000:43:00.0 is not seen by the PCI bus but by NVML and the kernel \
              driver"]
        );
        let (_folder, roots) = host("none", &BOTH[..1], &BOTH[..1]);
        assert_eq!(
            said(&boards[..1], &boards[1..], &roots),
            ["GPU-b at 00000000:43:00.0 is not seen any more by NVML and the kernel driver and \
              the PCI bus"]
        );
    }

    #[test]
    fn a_witness_without_any_gpu_says_nothing() {
        let (_folder, roots) = host("silent", &[], &[]);
        let boards = [board("GPU-a", 0, "00000000:1B:00.0")];
        assert_eq!(said(&boards, &[], &roots), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_gpu_of_this_driver_is_not_counted() {
        let (_folder, roots) = host("other", &[], &BOTH);
        let other = roots.pci.join("0000:43:00.0");
        fs::write(other.join("class"), "0x068000\n").expect("written");
        fs::write(roots.pci.join("0000:1b:00.0/vendor"), "0x8086\n").expect("written");
        assert_eq!(look(&roots), Sightings::default());
        fs::write(other.join("class"), "0x030000\n").expect("written");
        assert_eq!(look(&roots).pci.len(), 1);
        std::os::unix::fs::symlink("/drivers/vfio-pci", other.join("driver")).expect("a link");
        assert_eq!(look(&roots), Sightings::default(), "it is passed through to a guest");
    }

    #[test]
    fn a_gpu_that_is_not_initialised_has_no_name() {
        assert_eq!(uuid_in("GPU UUID: \t GPU-????????-????\n"), None);
    }

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn no_page_of_the_driver_is_too_strange(
            page in "(GPU UUID:[ -~]{0,40}|[ -~]{0,40}|\n){0,4}",
        ) {
            prop_assert!(uuid_in(&page).is_none_or(|uuid| !uuid.text().contains('?')));
        }
    }
}
