//! Which GPUs of the host reach each other over NVLinks.

use std::collections::BTreeMap;

use wharfage_agent_sys::nvml::{Board, End};

/// The number of each GPU's group in the order of the list: the lowest place of a member. GPUs
/// without a link have none.
pub(super) fn groups(boards: &[Board]) -> Vec<Option<u32>> {
    let mut group: Vec<usize> = (0..boards.len()).collect();
    let mut join = |a: usize, b: usize| {
        let (from, to) = (group[a].max(group[b]), group[a].min(group[b]));
        for member in group.iter_mut().filter(|member| **member == from) {
            *member = to;
        }
    };
    let places: BTreeMap<&str, usize> =
        boards.iter().enumerate().map(|(at, board)| (pci(board), at)).collect();
    let mut switched: Option<usize> = None;
    for (at, board) in boards.iter().enumerate() {
        for end in &board.nvlink_ends {
            let other = match end {
                End::Switch => Some(*switched.get_or_insert(at)),
                End::Gpu(pci) => places.get(pci.as_str()).copied(),
            };
            if let Some(other) = other {
                join(at, other);
            }
        }
    }
    let number = |(at, board): (usize, &Board)| {
        let linked = !board.nvlink_ends.is_empty();
        linked.then(|| u32::try_from(group[at]).unwrap_or(u32::MAX))
    };
    boards.iter().enumerate().map(number).collect()
}

fn pci(board: &Board) -> &str {
    board.pci.known().map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::board;
    use super::*;

    fn of(ends: &[&[&str]]) -> Vec<Option<u32>> {
        let end = |text: &&str| match *text {
            "switch" => End::Switch,
            pci => End::Gpu(pci.to_owned()),
        };
        let boards: Vec<Board> = (0u32..)
            .zip(ends)
            .map(|(at, ends)| Board {
                nvlink_ends: ends.iter().map(end).collect(),
                ..board(&format!("GPU-{at}"), at, &format!("pci-{at}"))
            })
            .collect();
        groups(&boards)
    }

    #[test]
    fn a_switch_joins_all_and_a_bridge_joins_two() {
        assert_eq!(of(&[&[], &[]]), [None, None]);
        assert_eq!(of(&[&["switch"], &["switch"], &[]]), [Some(0), Some(0), None]);
        let bridges: [&[&str]; 4] = [&["pci-2"], &["pci-3"], &["pci-0"], &["pci-1"]];
        assert_eq!(of(&bridges), [Some(0), Some(1), Some(0), Some(1)]);
        let chain: [&[&str]; 3] = [&["pci-1"], &["pci-0", "pci-2"], &["pci-1"]];
        assert_eq!(of(&chain), [Some(0), Some(0), Some(0)], "what is reached through another");
        assert_eq!(of(&[&["pci-9"], &[]]), [Some(0), None], "a GPU that is not listed");
    }
}
