//! A pseudo-random source of our own: the same seed gives the same world on every machine and with
//! every release of every library.

/// SplitMix64 (Steele, Lea and Flood 2014): one word of state, passes the usual batteries.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The source of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high);
        let span = u128::from(high - low) + 1;
        low + ((u128::from(self.bits()) * span) >> 64) as u64
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.between(0, 999) < u64::from(permille)
    }

    /// One of them; `None` of an empty list.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let last = list.len().checked_sub(1)?;
        list.get(self.between(0, last as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_sequence_for_ever() {
        let mut rng = Rng::new(1);
        assert_eq!(rng.bits(), 0x910a_2dec_8902_5cc1);
        assert_eq!(rng.bits(), 0xbeeb_8da1_658e_ec67);
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_both() {
        let mut rng = Rng::new(7);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| rng.between(3, 6)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(rng.between(u64::MAX, u64::MAX), u64::MAX);
        assert!(rng.pick::<u8>(&[]).is_none());
    }
}
