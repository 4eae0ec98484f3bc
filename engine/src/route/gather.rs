//! When a burst leaves: at once, or when the rest of its frame has come.
//!
//! A publisher hands a frame to its network packet by packet, tens of microseconds apart. Sent on
//! as it comes, the first packet would be a send of its own to every viewer, and cost as much as
//! the whole rest in a train. So a packet waits for the one that ends its frame (the marker bit,
//! RFC 3550 5.1), but no longer than a fixed time from its arrival: the packet may be lost, or the
//! publisher may pause in the middle of a large frame.

use crate::pool::PacketInfo;

/// Decides for one rendition.
#[derive(Debug)]
pub(crate) struct Gathering {
    wait_us: u64,
    /// When the burst at hand is to leave.
    due_us: u64,
}

impl Gathering {
    /// Bursts that wait for at most `wait_us` from the arrival of their first packet.
    pub(crate) fn new(wait_us: u64) -> Self {
        Self { wait_us, due_us: 0 }
    }

    /// A packet joins the burst, of which it may be the first. `urgent` when there is nothing to
    /// wait for: it ends a frame, or comes after what follows it.
    pub(crate) fn joins(&mut self, packet: &PacketInfo, first: bool, urgent: bool) {
        if first {
            self.due_us = packet.arrival_us.saturating_add(self.wait_us);
        }
        if urgent {
            self.due_us = 0;
        }
    }

    /// When the burst at hand is to leave; in the past: now.
    pub(crate) fn due_us(&self) -> u64 {
        self.due_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(arrival_us: u64) -> PacketInfo {
        PacketInfo {
            arrival_us,
            ..PacketInfo::default()
        }
    }

    #[test]
    fn a_frame_waits_for_its_last_packet_but_not_for_ever() {
        let mut gathering = Gathering::new(1000);
        gathering.joins(&packet(5_000), true, false);
        gathering.joins(&packet(5_060), false, false);
        assert_eq!(gathering.due_us(), 6_000, "from the first arrival");
        gathering.joins(&packet(5_080), false, true);
        assert_eq!(gathering.due_us(), 0);
        gathering.joins(&packet(38_000), true, false);
        assert_eq!(gathering.due_us(), 39_000, "the next burst is another");
    }

    #[test]
    fn what_comes_behind_the_end_of_a_frame_does_not_hold_it_back() {
        let mut gathering = Gathering::new(1000);
        gathering.joins(&packet(5_000), true, true);
        gathering.joins(&packet(5_010), false, false);
        assert_eq!(gathering.due_us(), 0);
    }
}
