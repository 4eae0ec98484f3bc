//! How loud a publisher's sound is, as its packets say (RFC 6464): the latest levels, kept where the
//! control plane reads them.
//!
//! A source writes each packet's level down in a word of its own, and its shard copies that here at
//! most every tick. Whoever reads remembers how far it came; there may be any number of readers, and
//! none has to be told or waited for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Levels that are kept: 140 ms of packets of 20 ms each.
pub const LEVELS_KEPT: usize = 7;

/// A level of silence, in -dBov; 0 is the loudest.
pub const SILENCE: u8 = 127;

/// The count of levels goes round from here to 1: 0 stands for none ever.
const LAST_COUNT: u8 = u8::MAX;

/// The latest levels of one incoming rendition.
#[derive(Debug, Default)]
pub struct AudioLevels(AtomicU64);

/// The latest levels at a moment: the newest in the lowest byte, their count in the highest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatestLevels(u64);

impl AudioLevels {
    /// What was last published.
    pub fn latest(&self) -> LatestLevels {
        LatestLevels(self.0.load(Ordering::Relaxed))
    }

    /// Publishes what a source has noted.
    pub(crate) fn publish(&self, levels: LatestLevels) {
        self.0.store(levels.0, Ordering::Relaxed);
    }
}

impl LatestLevels {
    /// Notes one more level, in -dBov.
    pub fn note(&mut self, level: u8) {
        let [count, kept @ ..] = self.0.to_be_bytes();
        let count = if count == LAST_COUNT { 1 } else { count + 1 };
        let [_, kept @ ..] = kept;
        let [a, b, c, d, e, f] = kept;
        self.0 = u64::from_be_bytes([count, a, b, c, d, e, f, level.min(SILENCE)]);
    }

    /// Whether there ever was any.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.0 != 0
    }

    /// The levels that came after `earlier`, oldest first, in -dBov: the latest [`LEVELS_KEPT`] of
    /// them. Of a reader who stays away for longer than 255 packets nobody knows how many it missed.
    pub fn since(self, earlier: Self) -> impl ExactSizeIterator<Item = u8> {
        let [count, kept @ ..] = self.0.to_be_bytes();
        let [before, ..] = earlier.0.to_be_bytes();
        let new = match (count, before) {
            (count, before) if count >= before => count - before,
            // Round the end, where 0 is left out.
            (count, before) => LAST_COUNT - before + count,
        };
        let new = usize::from(new).min(LEVELS_KEPT);
        kept.into_iter().skip(LEVELS_KEPT - new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reader_gets_each_level_once_and_in_order() {
        let mut levels = LatestLevels::default();
        assert!(!levels.is_any());
        let start = levels;
        for level in [10, 20, 30] {
            levels.note(level);
        }
        assert!(levels.is_any());
        assert_eq!(levels.since(start).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(levels.since(levels).len(), 0);
        let seen = levels;
        levels.note(200);
        assert_eq!(levels.since(seen).collect::<Vec<_>>(), [SILENCE]);
    }

    proptest! {
        /// Over any number of packets, with a look now and then.
        #[test]
        fn the_latest_are_got_however_often_one_looks(steps in prop::collection::vec(0_usize..20, 1..200)) {
            let mut levels = LatestLevels::default();
            let mut next = 0_u8;
            for packets in steps {
                let seen = levels;
                let mut noted = Vec::new();
                for _ in 0..packets {
                    next = (next + 1) % SILENCE;
                    levels.note(next);
                    noted.push(next);
                }
                let expected = &noted[noted.len().saturating_sub(LEVELS_KEPT)..];
                prop_assert_eq!(levels.since(seen).collect::<Vec<_>>(), expected);
            }
        }
    }
}
