//! Chance that can be had again: the same numbers from the same seed.

/// A sequence of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Gives a seed nobody has chosen.
    pub fn any_seed() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |time| time.as_nanos() as u64) ^ u64::from(std::process::id()).rotate_left(40)
    }

    /// Gives the next number, from 0 to below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// Gives about so many bytes of text that does not compress to nothing, the same at every run.
pub fn noise(seed: u64, bytes: usize) -> String {
    let mut random = Random::new(seed);
    (0..bytes / 16).map(|_| format!("{:016x}", random.below(u64::MAX))).collect()
}
