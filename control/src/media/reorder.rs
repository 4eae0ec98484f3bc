//! Puts the packets of one rendition in order, waiting a bounded time for late and retransmitted
//! ones.
//!
//! A track of a recorder pushes packets as they arrive and takes them in order; where one does not
//! come in time it is told of a gap. It must never hold more than [`MAX_HELD_PACKETS`], whatever the
//! indices say.

use std::collections::BTreeMap;

use fanmill_engine::packet::codec::Codec;

/// Packets held at most: two seconds at 20 Mbit/s. Beyond, the oldest gap is given up.
pub const MAX_HELD_PACKETS: usize = 4096;

/// One RTP packet, without header and padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<C = Codec> {
    /// Extended sequence number: continuous, without wrapping.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit: the last packet of a picture.
    pub marker: bool,
    /// What the payload is: the codec, or by which the caller knows it.
    pub codec: C,
    /// The payload.
    pub payload: Vec<u8>,
    /// When it arrived, in microseconds of a clock that never steps.
    pub arrival_us: u64,
}

/// What comes next in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered<C = Codec> {
    /// The next packet.
    Packet(Packet<C>),
    /// So many packets did not come in time.
    Gap(u64),
}

/// The packets of one rendition, in order.
#[derive(Debug)]
pub struct Reorder<C = Codec> {
    wait_us: u64,
    next: Option<u64>,
    held: BTreeMap<u64, Packet<C>>,
    late: u64,
}

impl<C> Reorder<C> {
    /// Waits up to `wait_us` for a packet that others have overtaken.
    #[must_use]
    pub fn new(wait_us: u64) -> Self {
        Self {
            wait_us,
            next: None,
            held: BTreeMap::new(),
            late: 0,
        }
    }

    /// Takes a packet as it arrives. One whose place was given up, or is taken, is dropped.
    pub fn push(&mut self, packet: Packet<C>) {
        let next = *self.next.get_or_insert(packet.index);
        if packet.index < next {
            self.late += 1;
        } else {
            self.held.entry(packet.index).or_insert(packet);
        }
    }

    /// The next packet or gap, if it is known at `now_us`.
    pub fn pop(&mut self, now_us: u64) -> Option<Ordered<C>> {
        let first = self.held.first_entry()?;
        let next = self.next?;
        let index = *first.key();
        if index == next {
            self.next = Some(next + 1);
            return Some(Ordered::Packet(first.remove()));
        }
        let waited_us = now_us.saturating_sub(first.get().arrival_us);
        if waited_us < self.wait_us && self.held.len() <= MAX_HELD_PACKETS {
            return None;
        }
        self.next = Some(index);
        Some(Ordered::Gap(index - next))
    }

    /// What is held, without waiting any longer: the source ends or begins anew. The next packet
    /// pushed may have any index.
    pub fn drain(&mut self) -> Vec<Ordered<C>> {
        let mut all = Vec::new();
        while let Some(ordered) = self.pop(u64::MAX) {
            all.push(ordered);
        }
        self.next = None;
        all
    }

    /// Packets that came too late.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(index: u64, arrival_us: u64) -> Packet {
        Packet {
            index,
            timestamp: 0,
            marker: true,
            codec: Codec::Opus,
            payload: vec![0],
            arrival_us,
        }
    }

    fn indices(all: &[Ordered]) -> Vec<u64> {
        let index = |one: &Ordered| match one {
            Ordered::Packet(packet) => Some(packet.index),
            Ordered::Gap(_) => None,
        };
        all.iter().filter_map(index).collect()
    }

    #[test]
    fn a_retransmission_within_the_bound_fills_its_place() {
        let mut reorder = Reorder::new(500_000);
        reorder.push(packet(10, 0));
        reorder.push(packet(12, 1000));
        assert_eq!(reorder.pop(1000), Some(Ordered::Packet(packet(10, 0))));
        assert_eq!(reorder.pop(400_000), None);
        reorder.push(packet(11, 400_000));
        let rest = [reorder.pop(400_000), reorder.pop(400_000)];
        assert_eq!(rest[0], Some(Ordered::Packet(packet(11, 400_000))));
        assert_eq!(rest[1], Some(Ordered::Packet(packet(12, 1000))));
    }

    #[test]
    fn what_does_not_come_is_a_gap_and_too_late_afterwards() {
        let mut reorder = Reorder::new(500_000);
        reorder.push(packet(10, 0));
        reorder.push(packet(13, 0));
        assert!(matches!(reorder.pop(0), Some(Ordered::Packet(_))));
        assert_eq!(reorder.pop(499_999), None);
        assert_eq!(reorder.pop(500_000), Some(Ordered::Gap(2)));
        reorder.push(packet(12, 500_001));
        assert_eq!(reorder.late(), 1);
        assert_eq!(reorder.pop(500_001), Some(Ordered::Packet(packet(13, 0))));
    }

    #[test]
    fn a_gap_is_given_up_early_rather_than_holding_without_bound() {
        let mut reorder = Reorder::new(u64::MAX);
        reorder.push(packet(0, 0));
        assert!(reorder.pop(0).is_some());
        for index in 0..=MAX_HELD_PACKETS as u64 {
            reorder.push(packet(2 + index, 0));
        }
        assert_eq!(reorder.pop(0), Some(Ordered::Gap(1)));
    }

    proptest! {
        #[test]
        fn packets_leave_in_order_and_once(
            order in Just((0..200u64).collect::<Vec<_>>()).prop_shuffle(),
            missing in proptest::collection::hash_set(1..200u64, 0..20),
        ) {
            let mut reorder = Reorder::new(1000);
            reorder.push(packet(0, 0));
            let mut out = Vec::new();
            for index in order.into_iter().filter(|index| !missing.contains(index)) {
                reorder.push(packet(index, 0));
                out.extend(std::iter::from_fn(|| reorder.pop(0)));
            }
            out.extend(reorder.drain());
            let expected: Vec<_> = (0..200).filter(|index| !missing.contains(index)).collect();
            prop_assert_eq!(indices(&out), expected);
            let gaps: u64 = out.iter().map(|one| match one {
                Ordered::Gap(count) => *count,
                Ordered::Packet(_) => 0,
            }).sum();
            let last = (0..200).rev().find(|index| !missing.contains(index)).unwrap_or(0);
            prop_assert_eq!(gaps, missing.iter().filter(|&&index| index < last).count() as u64);
        }
    }
}
