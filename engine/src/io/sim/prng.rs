//! The source of chance: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
//! generators, OOPSLA 2014). Small, and the same on every platform for ever, which a seed printed
//! by a failed test relies on.

/// A stream of numbers that depends on the seed alone.
#[derive(Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True with `probability`. Always draws, so that conditions can change without changing
    /// every later draw.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // 53 bits fill the mantissa: uniform in [0, 1).
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        uniform < probability
    }

    /// Uniform in `0..=most`.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        let drawn = u128::from(self.next()) * (u128::from(most) + 1);
        (drawn >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_reference_implementation() {
        let mut stream = SplitMix64::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| stream.next()).collect();
        let reference = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, reference);
    }

    #[test]
    fn bounds_are_reached_and_kept() {
        let mut stream = SplitMix64::new(1);
        let drawn: Vec<u64> = (0..200).map(|_| stream.up_to(3)).collect();
        assert!((0..=3).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|&value| value <= 3));
        assert!((0..100).all(|_| stream.chance(1.0) && !stream.chance(0.0)));
    }
}
