//! Recognises packets that came before, whichever SSRC they came on: a retransmission and its
//! delayed original are two valid SRTP packets but one packet of the rendition. Forwarding both
//! would seal two packets under one nonce.

const WORDS: usize = 32;
/// How far back, in packets, a copy is recognised.
const WINDOW: u64 = WORDS as u64 * 64;

/// What the filter says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen before.
    New,
    /// Seen before.
    Duplicate,
    /// So old that it cannot be told; to be dropped.
    TooLate,
}

/// A window over the indices of one rendition.
#[derive(Debug, Default)]
pub(crate) struct DuplicateFilter {
    /// One past the highest index seen; 0 before the first.
    next: u64,
    seen: [u64; WORDS],
}

impl DuplicateFilter {
    /// Whether the packet with this index was seen before, as far as can be told.
    pub(crate) fn contains(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        let in_window = index < self.next && self.next - index <= WINDOW;
        in_window && self.seen[word] & bit != 0
    }

    /// Judges the packet with this index and remembers it.
    pub(crate) fn admit(&mut self, index: u64) -> Verdict {
        if index >= self.next {
            self.advance(index);
        } else if self.next - index > WINDOW {
            return Verdict::TooLate;
        }
        let (word, bit) = place(index);
        if self.seen[word] & bit != 0 {
            return Verdict::Duplicate;
        }
        self.seen[word] |= bit;
        Verdict::New
    }

    fn advance(&mut self, index: u64) {
        if index - self.next >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for skipped in self.next..=index {
                let (word, bit) = place(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.next = index + 1;
    }
}

fn place(index: u64) -> (usize, u64) {
    (((index / 64) % WORDS as u64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_copy_is_a_duplicate_and_a_late_first_copy_is_not() {
        let mut filter = DuplicateFilter::default();
        assert_eq!(filter.admit(70_000), Verdict::New);
        assert_eq!(filter.admit(70_002), Verdict::New);
        assert_eq!(filter.admit(70_001), Verdict::New);
        assert_eq!(filter.admit(70_001), Verdict::Duplicate);
    }

    #[test]
    fn what_the_window_has_left_behind_is_too_late() {
        let mut filter = DuplicateFilter::default();
        filter.admit(10_000);
        filter.admit(10_000 + WINDOW);
        assert_eq!(filter.admit(10_000), Verdict::TooLate);
        assert_eq!(filter.admit(10_001), Verdict::New);
    }

    proptest! {
        #[test]
        fn no_index_is_admitted_twice(indices in prop::collection::vec(0u64..6000, 1..400)) {
            let mut filter = DuplicateFilter::default();
            let mut admitted = std::collections::HashSet::new();
            let mut highest = 0;
            for index in indices {
                highest = highest.max(index);
                match filter.admit(index) {
                    Verdict::New => prop_assert!(admitted.insert(index)),
                    Verdict::Duplicate => prop_assert!(admitted.contains(&index)),
                    Verdict::TooLate => prop_assert!(highest + 1 - index > WINDOW),
                }
            }
        }
    }
}
