//! Which deployment and which replica take a request. Pure: the same question gets the same answer.

/// Turns consecutive tickets into points that fill [0, 2^64) evenly (the golden ratio's sequence),
/// so that shares hold over any run of requests and not only on average.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The index that ticket number `ticket` falls to when each index has its weight as its share.
///
/// Weights that are all zero share evenly: a lone deployment of weight 0 gets everything.
pub fn share(weights: &[u32], ticket: u64) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let even = total == 0;
    let total = if even { u64::try_from(weights.len()).ok()? } else { total };
    if total == 0 {
        return None;
    }
    let point = (u128::from(ticket.wrapping_mul(GOLDEN)) * u128::from(total)) >> 64;
    let mut passed = 0u128;
    weights.iter().position(|weight| {
        passed += if even { 1 } else { u128::from(*weight) };
        point < passed
    })
}

/// The index of the least loaded: fewest requests in flight for each that it should have. Among
/// equals the first, which keeps few replicas busy and their caches warm.
pub fn least_loaded(loads: impl Iterator<Item = Load>) -> Option<usize> {
    let mut best: Option<(usize, Load)> = None;
    for (index, load) in loads.enumerate() {
        if best.is_none_or(|(_, least)| load.is_below(least)) {
            best = Some((index, load));
        }
    }
    best.map(|(index, _)| index)
}

/// How busy one replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests there now.
    pub in_flight: u32,
    /// Requests that it should have.
    pub concurrency: u32,
}

impl Load {
    /// Whether `in_flight / concurrency` is smaller, without division.
    fn is_below(self, other: Self) -> bool {
        u64::from(self.in_flight) * u64::from(other.concurrency.max(1))
            < u64::from(other.in_flight) * u64::from(self.concurrency.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32], tickets: u64) -> Vec<u64> {
        let mut counts = vec![0; weights.len()];
        for ticket in 0..tickets {
            counts[share(weights, ticket).expect("somebody")] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_closely_over_a_hundred_requests() {
        for (weights, expected) in
            [(vec![900, 100], vec![90, 10]), (vec![1, 1, 2], vec![25, 25, 50])]
        {
            for (got, want) in shares(&weights, 100).into_iter().zip(expected) {
                assert!(got.abs_diff(want) <= 2, "{weights:?} gave {got} where {want} was due");
            }
        }
    }

    #[test]
    fn weight_zero_gets_nothing_beside_others_and_everything_alone() {
        assert_eq!(shares(&[0, 5], 50), [0, 50]);
        assert_eq!(shares(&[0], 50), [50]);
        let even = shares(&[0, 0], 100);
        assert!(even[0].abs_diff(50) <= 1, "{even:?}");
        assert_eq!(share(&[], 7), None);
    }

    #[test]
    fn the_least_loaded_is_measured_by_its_concurrency_and_ties_go_to_the_first() {
        let pick = |loads: &[(u32, u32)]| {
            least_loaded(loads.iter().map(|(in_flight, concurrency)| Load {
                in_flight: *in_flight,
                concurrency: *concurrency,
            }))
        };
        assert_eq!(pick(&[(0, 8), (0, 8)]), Some(0));
        assert_eq!(pick(&[(1, 8), (0, 8), (0, 8)]), Some(1));
        assert_eq!(pick(&[(4, 8), (5, 16)]), Some(1));
        assert_eq!(pick(&[(1, 0), (1, 8)]), Some(1));
        assert_eq!(pick(&[]), None);
    }
}
