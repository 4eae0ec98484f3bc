//! How long packets were in the server: a histogram that costs a shard two additions per packet and
//! some dozen viewers, one for the shard and one for the rendition, and that anybody may read.

use crate::counters::Gauge;

/// Four buckets for each doubling: a quantile is right to a quarter.
const PER_DOUBLING: u32 = 4;

/// Doublings that are told apart: up to 2^25 microseconds, half a minute.
const DOUBLINGS: u32 = 25;

const BUCKETS: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    if us < u64::from(PER_DOUBLING) {
        return us as usize;
    }
    let doublings = us.ilog2();
    let part = (us >> (doublings - 2)) as u32 & (PER_DOUBLING - 1);
    (((doublings - 1) * PER_DOUBLING + part) as usize).min(BUCKETS - 1)
}

/// The first time, in microseconds, that falls into a bucket.
fn start_us(bucket: usize) -> u64 {
    let bucket = bucket as u32;
    if bucket < PER_DOUBLING {
        return u64::from(bucket);
    }
    let (doublings, part) = (bucket / PER_DOUBLING + 1, bucket % PER_DOUBLING);
    u64::from(PER_DOUBLING + part) << (doublings - 2)
}

/// A time, as far as the histogram tells it from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket(usize);

impl Bucket {
    pub(crate) fn of(us: u64) -> Self {
        Self(bucket(us))
    }
}

/// What a shard counts.
#[derive(Debug)]
pub(crate) struct TransitTally([u64; BUCKETS]);

impl Default for TransitTally {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl TransitTally {
    /// So many packets were in the server for so long.
    pub(crate) fn add(&mut self, time: Bucket, packets: u64) {
        self.0[time.0] += packets;
    }

    /// Adds what was counted since the last time to what others, too, add to.
    pub(crate) fn hand_over(&mut self, to: &Transit) {
        for (count, gauge) in self.0.iter_mut().zip(&to.0) {
            if *count > 0 {
                gauge.add(std::mem::take(count));
            }
        }
    }

    pub(crate) fn publish(&self, to: &Transit) {
        for (count, gauge) in self.0.iter().zip(&to.0) {
            gauge.set(*count);
        }
    }
}

/// Times that packets took through a shard, or those of a rendition through all shards, from their
/// arrival at the socket to their being sealed for a viewer, as last published.
#[derive(Debug)]
pub struct Transit([Gauge; BUCKETS]);

impl Default for Transit {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Gauge::default()))
    }
}

impl Transit {
    /// The counts now, to compare with others.
    pub fn snapshot(&self) -> TransitCounts {
        TransitCounts(self.0.iter().map(Gauge::get).collect())
    }
}

/// Counts of a [`Transit`] at one moment, or between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitCounts(Vec<u64>);

impl TransitCounts {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect())
    }

    /// How many packets were counted, one for each viewer.
    pub fn packets(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts that are not zero, each with the longest time that falls under it, in
    /// microseconds; in order of time.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.0.iter().enumerate();
        let counted = counts.filter(|(_, count)| **count > 0);
        counted.map(|(place, count)| (start_us(place + 1) - 1, *count))
    }

    /// The time that this share of the packets (0 to 1) did not exceed, in microseconds, rounded up
    /// by a quarter at most; `None` when there were no packets.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let packets = self.packets();
        let wanted = (packets as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.0.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return Some(start_us(place + 1) - 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_told_from_the_counts() {
        let (mut tally, transit) = (TransitTally::default(), Transit::default());
        assert_eq!(transit.snapshot().quantile_us(0.5), None);
        tally.add(Bucket::of(100), 90);
        tally.add(Bucket::of(5_000), 10);
        tally.publish(&transit);
        let first = transit.snapshot();
        assert_eq!(first.packets(), 100);
        assert_eq!(first.quantile_us(0.5), Some(111));
        assert_eq!(first.quantile_us(0.9), Some(111));
        assert_eq!(first.quantile_us(0.99), Some(5_119));
        tally.add(Bucket::of(20), 1);
        tally.publish(&transit);
        let second = transit.snapshot().since(&first);
        assert_eq!((second.packets(), second.quantile_us(1.0)), (1, Some(23)));
        assert_eq!(second.plus(&first), transit.snapshot());
    }

    #[test]
    fn several_may_count_into_one_histogram() {
        let transit = Transit::default();
        let (mut one, mut other) = (TransitTally::default(), TransitTally::default());
        one.add(Bucket::of(100), 3);
        other.add(Bucket::of(100), 4);
        other.add(Bucket::of(2), 1);
        for _ in 0..2 {
            one.hand_over(&transit);
            other.hand_over(&transit);
        }
        let counts = transit.snapshot();
        assert_eq!(counts.buckets().collect::<Vec<_>>(), [(2, 1), (111, 7)]);
    }

    proptest! {
        #[test]
        fn every_time_lies_in_its_bucket(us in 0..1u64 << 25) {
            let place = bucket(us);
            prop_assert!(start_us(place) <= us);
            prop_assert!(us < start_us(place + 1) || place == BUCKETS - 1);
            prop_assert!(start_us(place + 1) - start_us(place) <= 1 + us / 4);
        }

        #[test]
        fn no_time_is_too_long(us: u64) {
            prop_assert!(bucket(us) < BUCKETS);
        }
    }
}
