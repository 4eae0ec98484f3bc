//! Grouping the packets of a burst into trains.
//!
//! A train leaves as one send that the kernel or the device cuts up (`UDP_SEGMENT`), at a fraction
//! of what its packets would cost singly. All segments but the last must be of one size, and a
//! publisher's packets differ by some bytes: RTP padding (RFC 3550 5.1) makes them equal where
//! that costs little. Padding is decided here, once for all viewers that negotiated alike.

use crate::io::{MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS};
use crate::srtp::Profile;

/// The most that sealing adds to a packet.
const MAX_TAG_LEN: usize = Profile::AeadAes128Gcm.tag_len();

/// RTP padding is counted in one byte.
const MAX_PADDING: usize = 255;

/// Padding may add this fraction of a train's bytes, or so many bytes a packet where that is more. A
/// send saved is worth far more CPU than the bytes; the bound is for the viewers' links, which small
/// packets do not burden.
const PADDING_SHARE: usize = 16;
const PADDING_BYTES: usize = 64;

/// Consecutive packets that leave as one send. Sizes are before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Train {
    /// Place of its first packet.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Size in bytes that every packet but the last is padded to.
    pub(crate) segment_bytes: usize,
    /// Size of the last packet, which is not padded.
    pub(crate) last_bytes: usize,
    /// How many of its packets are padded, and with how many bytes in all; known once they were.
    pub(crate) packets_padded: usize,
    pub(crate) padding_bytes: usize,
    /// Of all packets but the last, unpadded: their sum and the smallest.
    sum: usize,
    smallest: usize,
}

impl Train {
    /// A train of one packet.
    pub(crate) fn new(first: usize, bytes: usize) -> Self {
        Self {
            first,
            count: 1,
            segment_bytes: bytes,
            last_bytes: bytes,
            packets_padded: 0,
            padding_bytes: 0,
            sum: 0,
            smallest: bytes,
        }
    }

    /// Bytes of all its packets, padded.
    pub(crate) fn bytes(&self) -> usize {
        self.segment_bytes * (self.count - 1) + self.last_bytes
    }

    /// Bytes of all its packets once each has grown by `overhead`.
    pub(crate) fn sealed_bytes(&self, overhead: usize) -> usize {
        self.bytes() + self.count * overhead
    }

    /// The segment size to send it with; `None` for a single packet.
    pub(crate) fn sealed_segment_bytes(&self, overhead: usize) -> Option<u16> {
        (self.count > 1).then_some((self.segment_bytes + overhead) as u16)
    }

    /// The train as several of at most `most` packets, whose padding the first one accounts for.
    pub(crate) fn parts(self, most: usize) -> impl Iterator<Item = Self> {
        let end = self.first + self.count;
        (self.first..end).step_by(most).map(move |first| {
            let mut part = self;
            part.first = first;
            part.count = most.min(end - first);
            if first + part.count < end {
                part.last_bytes = self.segment_bytes;
            }
            if first > self.first {
                (part.packets_padded, part.padding_bytes) = (0, 0);
            }
            part
        })
    }

    /// Takes the next packet if the train stays one the kernel accepts, and if the padding that
    /// takes is allowed and small.
    fn extend(&mut self, bytes: usize, may_pad: bool) -> bool {
        let sum = self.sum + self.last_bytes;
        let smallest = self.smallest.min(self.last_bytes);
        let segment_bytes = self.segment_bytes.max(bytes);
        let padding = segment_bytes * self.count - sum;
        let allowed = match may_pad {
            true => (sum / PADDING_SHARE).max(PADDING_BYTES * self.count),
            false => 0,
        };
        let sealed = segment_bytes * self.count + bytes + (self.count + 1) * MAX_TAG_LEN;
        if padding > allowed
            || segment_bytes - smallest > MAX_PADDING
            || self.count == MAX_TRAIN_SEGMENTS
            || sealed > MAX_TRAIN_BYTES
        {
            return false;
        }
        *self = Self {
            first: self.first,
            count: self.count + 1,
            segment_bytes,
            last_bytes: bytes,
            packets_padded: 0,
            padding_bytes: 0,
            sum,
            smallest,
        };
        true
    }

    /// Puts the burst's next packet into the last of its trains, or into a new one.
    pub(crate) fn join(trains: &mut Vec<Self>, place: usize, bytes: usize, may_pad: bool) {
        let extended = trains
            .last_mut()
            .is_some_and(|train| train.extend(bytes, may_pad));
        if !extended {
            trains.push(Self::new(place, bytes));
        }
    }

    /// Padding for the packet at a place of the train that is this long.
    pub(crate) fn padding(&self, place: usize, bytes: usize) -> usize {
        if place + 1 == self.first + self.count {
            0
        } else {
            self.segment_bytes - bytes
        }
    }
}

/// The grouping alone, for benchmarks.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Trains(Vec<Train>);

impl Trains {
    /// Groups a burst of packets of these sizes; how many sends it is then.
    pub fn group(&mut self, plain_bytes: &[usize], may_pad: bool) -> usize {
        self.0.clear();
        for (place, bytes) in plain_bytes.iter().enumerate() {
            Train::join(&mut self.0, place, *bytes, may_pad);
        }
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grouped(sizes: &[usize], may_pad: bool) -> Vec<Train> {
        let mut trains: Vec<Train> = Vec::new();
        for (place, bytes) in sizes.iter().enumerate() {
            Train::join(&mut trains, place, *bytes, may_pad);
        }
        trains
    }

    fn counts(sizes: &[usize], may_pad: bool) -> Vec<usize> {
        grouped(sizes, may_pad)
            .iter()
            .map(|train| train.count)
            .collect()
    }

    #[test]
    fn without_padding_a_train_is_equal_segments_and_one_shorter_at_the_end() {
        assert_eq!(counts(&[1200, 1200, 700, 1200], false), [3, 1]);
        assert_eq!(counts(&[700, 1200, 1200], false), [1, 2]);
        assert_eq!(counts(&[1199, 1200, 1199], false), [1, 2]);
        assert_eq!(counts(&[], false), []);
    }

    #[test]
    fn a_frame_whose_packets_differ_by_some_bytes_is_one_train() {
        let frame = [1197, 1200, 1198, 1199, 1200, 1197, 1198, 1200, 1199, 640];
        let trains = grouped(&frame, true);
        assert_eq!(trains.len(), 1);
        let padding: usize = frame
            .iter()
            .enumerate()
            .map(|(place, b)| trains[0].padding(place, *b))
            .sum();
        assert_eq!(padding, 3 + 2 + 1 + 3 + 2 + 1);
        assert_eq!(trains[0].bytes(), 9 * 1200 + 640);
    }

    #[test]
    fn padding_never_makes_a_small_packet_large() {
        assert_eq!(counts(&[100, 1200, 1200], true), [1, 2]);
        assert_eq!(counts(&[900, 1200], true), [1, 1], "more than 255 bytes");
        assert_eq!(counts(&[1000, 1200], true), [1, 1], "more than its share");
        assert_eq!(counts(&[90, 150, 120, 80], true), [4], "small packets");
    }

    #[test]
    fn a_train_ends_at_what_the_kernel_takes() {
        assert_eq!(counts(&[100; 70], true), [MAX_TRAIN_SEGMENTS, 6]);
        let most = counts(&[1400; 60], true)[0];
        assert!(most * (1400 + MAX_TAG_LEN) <= MAX_TRAIN_BYTES);
        assert!((most + 1) * (1400 + MAX_TAG_LEN) > MAX_TRAIN_BYTES);
    }

    #[test]
    fn parts_of_a_train_are_the_train() {
        let frame = [1200, 1200, 1200, 1200, 640];
        let mut train = grouped(&frame, true)[0];
        (train.packets_padded, train.padding_bytes) = (2, 3);
        let parts: Vec<_> = train.parts(2).collect();
        let counts: Vec<_> = parts.iter().map(|part| (part.first, part.count)).collect();
        assert_eq!(counts, [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(parts.iter().map(Train::bytes).sum::<usize>(), train.bytes());
        assert_eq!(
            parts.iter().map(|part| part.padding_bytes).sum::<usize>(),
            3
        );
        let segments: Vec<_> = parts.iter().map(|p| p.sealed_segment_bytes(10)).collect();
        assert_eq!(segments, [Some(1210), Some(1210), None]);
        assert_eq!(train.parts(9).collect::<Vec<_>>(), [train]);
    }

    proptest! {
        #[test]
        fn every_packet_is_in_one_train_that_is_legal(
            sizes in prop::collection::vec(12usize..1500, 0..100),
            may_pad: bool,
        ) {
            let trains = grouped(&sizes, may_pad);
            let mut next = 0;
            for train in &trains {
                prop_assert_eq!(train.first, next);
                next += train.count;
                let last = next - 1;
                prop_assert_eq!(sizes[last], train.last_bytes);
                prop_assert!(train.last_bytes <= train.segment_bytes);
                let mut added = 0;
                for (place, bytes) in sizes.iter().enumerate().take(last).skip(train.first) {
                    let padding = train.padding(place, *bytes);
                    prop_assert_eq!(bytes + padding, train.segment_bytes);
                    prop_assert!(padding <= MAX_PADDING);
                    added += padding;
                }
                let most = (train.sum / PADDING_SHARE).max(PADDING_BYTES * (train.count - 1));
                prop_assert!(added <= most);
                prop_assert!(may_pad || added == 0);
            }
            prop_assert_eq!(next, sizes.len());
        }
    }
}
