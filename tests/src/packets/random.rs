//! Numbers that look random.

use std::fmt::Debug;

/// Marsaglia's xorshift: packets that look random, and the same again for the same seed.
#[derive(Debug)]
pub struct Xorshift(u64);

impl Xorshift {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number.
    pub fn number(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).expect("32 bits are left")
    }

    /// A number below `end`, which is not 0.
    pub fn below<N>(&mut self, end: N) -> N
    where
        N: TryInto<u32, Error: Debug> + TryFrom<u32, Error: Debug>,
    {
        let below = self.number() % end.try_into().expect("32 bits");
        N::try_from(below).expect("invariant: less than one of them")
    }
}
