//! One subscription: how one viewer's copy of a rendition is numbered.
//!
//! The viewer sees one RTP stream whose sequence numbers and timestamps run on whatever it is
//! attached to. Its packet index (roll-over counter and sequence number) is the source's plus an
//! offset that is fixed when it starts to receive a source; so no index is used twice, which the
//! seal requires, and a NACK is mapped back by subtraction.

use crate::pool::PacketInfo;
use crate::route::clock::ticks;
use crate::route::squeeze::Squeeze;

/// A larger jump in a source's index is no loss but a new beginning; passed on, it would throw
/// the viewers' roll-over counters out of step.
pub(crate) const MAX_INDEX_GAP: u64 = 10_000;

/// What the sweep over all viewers touches: kept small, the rest is in the outgoing track.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// Place of the outgoing track in the shard's table.
    pub(crate) outgoing: u32,
    /// Place of the peer in the shard's table.
    pub(crate) peer: u32,
    /// Place of the layout in the rendition.
    pub(crate) layout: u32,
    pub(crate) ssrc: u32,
    pub(crate) stage: Stage,
    /// What it last reported to have lost, in 1/256 (RFC 3550 6.4.1).
    pub(crate) fraction_lost: u8,
    numbering: Numbering,
    pub(crate) packets: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) codec_mismatch: u64,
    pub(crate) awaiting_keyframe: u64,
}

/// How far a viewer is with what it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Receives nothing until a keyframe (or, for audio, any packet) starts it.
    Waiting,
    /// Receives nothing because video is withheld from it, until it is let have it again.
    Withheld,
    /// Receives what came since the latest keyframe, up to but without this index.
    CatchingUp(u64),
    /// Receives nothing until the packet with this place at the source, from which on it is live.
    Crossing(u64),
    /// Receives what comes.
    Live,
}

impl Stage {
    /// Whether it receives nothing.
    pub(crate) fn is_idle(self) -> bool {
        matches!(self, Self::Waiting | Self::Withheld | Self::Crossing(_))
    }
}

/// Packets of a source that were passed on to a viewer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passed {
    packets: u64,
    payload_bytes: u64,
    /// Highest index at the source, and what else is known of that packet.
    last_index: u64,
    last_timestamp: u32,
    last_arrival_us: u64,
}

impl Passed {
    /// One packet.
    pub(crate) fn one(packet: &PacketInfo) -> Self {
        let mut passed = Self::default();
        passed.add(packet);
        passed
    }

    /// One packet more.
    pub(crate) fn add(&mut self, packet: &PacketInfo) {
        if self.packets == 0 || packet.index > self.last_index {
            self.last_index = packet.index;
            self.last_timestamp = packet.timestamp;
            self.last_arrival_us = packet.arrival_us;
        }
        self.packets += 1;
        self.payload_bytes += u64::from(packet.payload_len);
    }

    /// So many bytes that it bore besides.
    pub(crate) fn add_redundancy(&mut self, bytes: u64) {
        self.payload_bytes += bytes;
    }
}

/// The mapping from a source's numbers to the viewer's.
#[derive(Debug)]
struct Numbering {
    index_offset: u64,
    timestamp_offset: u32,
    /// What else is done to the timestamps of packets that may still be sent, or sent again.
    squeeze: Option<Box<Squeeze>>,
    /// First source index that belongs to this mapping: an earlier packet that comes late would
    /// fall on an index already used.
    floor: u64,
    /// Highest index sent, and what went with it.
    last_index: u64,
    last_timestamp: u32,
    last_sent_us: Option<u64>,
}

impl Viewer {
    /// A viewer whose first packet will bear this sequence number, below 2^15 so that its
    /// roll-over counter starts at zero on both sides (RFC 3711 3.3.1).
    pub(crate) fn new(outgoing: u32, peer: u32, ssrc: u32, first: u16, timestamp: u32) -> Self {
        Self {
            outgoing,
            peer,
            layout: 0,
            ssrc,
            stage: Stage::Waiting,
            fraction_lost: 0,
            numbering: Numbering {
                index_offset: 0,
                timestamp_offset: 0,
                squeeze: None,
                floor: u64::MAX,
                last_index: u64::from(first & 0x7fff).wrapping_sub(1),
                last_timestamp: timestamp,
                last_sent_us: None,
            },
            packets: 0,
            payload_bytes: 0,
            codec_mismatch: 0,
            awaiting_keyframe: 0,
        }
    }

    /// Begins to receive a source with this packet: the next sequence number, and the timestamp
    /// that the time since the last packet asks for.
    pub(crate) fn start(&mut self, first: &PacketInfo, clock_rate: u32) {
        self.begin(first, first.arrival_us, clock_rate);
        self.numbering.squeeze = None;
        self.stage = Stage::Live;
    }

    /// Goes on with this packet, of another rendition of the same source: the next sequence number, and
    /// timestamps as they were.
    pub(crate) fn go_on(&mut self, first: &PacketInfo) {
        let numbers = &mut self.numbering;
        numbers.index_offset = numbers.last_index.wrapping_add(1).wrapping_sub(first.index);
        numbers.floor = first.index;
        self.stage = Stage::Live;
    }

    /// Begins likewise, at `now_us`, with a keyframe of the past.
    pub(crate) fn start_cached(
        &mut self,
        first: &PacketInfo,
        squeeze: Squeeze,
        clock_rate: u32,
        now_us: u64,
    ) {
        self.begin(first, now_us, clock_rate);
        let numbers = &mut self.numbering;
        numbers.timestamp_offset = numbers
            .timestamp_offset
            .wrapping_sub(squeeze.shortened_ticks());
        numbers.squeeze = Some(Box::new(squeeze));
        self.stage = Stage::CatchingUp(first.index);
    }

    fn begin(&mut self, first: &PacketInfo, now_us: u64, clock_rate: u32) {
        let numbers = &mut self.numbering;
        let timestamp = match numbers.last_sent_us {
            None => numbers.last_timestamp,
            Some(last_us) => {
                let elapsed = ticks(now_us.saturating_sub(last_us), clock_rate);
                numbers.last_timestamp.wrapping_add(elapsed.max(1))
            }
        };
        numbers.index_offset = numbers.last_index.wrapping_add(1).wrapping_sub(first.index);
        numbers.timestamp_offset = timestamp.wrapping_sub(first.timestamp);
        numbers.floor = first.index;
    }

    /// When a packet that came at this time is due, to a viewer who catches up.
    pub(crate) fn due_us(&self, arrival_us: u64) -> u64 {
        let squeeze = self.numbering.squeeze.as_ref();
        squeeze.map_or(arrival_us, |squeeze| squeeze.due_us(arrival_us))
    }

    /// Forgets how it caught up once that lies before `kept_since_us`. If packets may be resent as
    /// they were, none of those sent until now is: their timestamps could come out otherwise, and
    /// one nonce would have sealed two texts.
    pub(crate) fn forget_squeeze(&mut self, kept_since_us: u64, resent_as_was: bool) {
        let numbers = &mut self.numbering;
        let over = |squeeze: &Squeeze| squeeze.knee_us() < kept_since_us;
        if self.stage != Stage::Live || !numbers.squeeze.as_deref().is_some_and(over) {
            return;
        }
        numbers.squeeze = None;
        if resent_as_was {
            let last = numbers.last_index.wrapping_sub(numbers.index_offset);
            numbers.floor = numbers.floor.max(last.wrapping_add(1));
        }
    }

    /// Whether a packet that comes now belongs to what the viewer receives; to one who catches up,
    /// only what comes late.
    pub(crate) fn wants(&self, index: u64) -> bool {
        let until = match self.stage {
            Stage::Waiting | Stage::Withheld | Stage::Crossing(_) => return false,
            Stage::CatchingUp(next) => next,
            Stage::Live => u64::MAX,
        };
        index >= self.numbering.floor && index < until
    }

    /// Whether this packet would lie so far ahead of the last one that the viewer's roll-over
    /// counter could fall out of step (RFC 3711 3.3.1).
    pub(crate) fn would_jump(&self, index: u64) -> bool {
        let numbers = &self.numbering;
        let next = numbers.last_index.wrapping_add(1);
        let ahead = index.wrapping_add(numbers.index_offset).wrapping_sub(next);
        self.wants(index) && ahead.cast_signed() > MAX_INDEX_GAP.cast_signed()
    }

    /// The viewer's index and timestamp of a source's packet.
    pub(crate) fn map(&self, info: &PacketInfo) -> (u64, u32) {
        (
            info.index.wrapping_add(self.numbering.index_offset),
            self.map_timestamp(info.timestamp),
        )
    }

    /// The viewer's timestamp of a moment of the source's clock.
    pub(crate) fn map_timestamp(&self, timestamp: u32) -> u32 {
        let shifted = timestamp.wrapping_add(self.numbering.timestamp_offset);
        match &self.numbering.squeeze {
            None => shifted,
            Some(squeeze) => shifted.wrapping_add(squeeze.shift(timestamp)),
        }
    }

    /// Notes what went out.
    pub(crate) fn sent(&mut self, packets: &Passed) {
        if packets.packets == 0 {
            return;
        }
        let index = packets.last_index.wrapping_add(self.numbering.index_offset);
        if self.numbering.last_index.wrapping_add(1) <= index {
            self.numbering.last_timestamp = self.map_timestamp(packets.last_timestamp);
            self.numbering.last_sent_us = Some(self.due_us(packets.last_arrival_us));
            self.numbering.last_index = index;
        }
        self.packets += packets.packets;
        self.payload_bytes += packets.payload_bytes;
    }

    /// Whether the packet with this index of the source it receives now was sent to it.
    pub(crate) fn was_sent(&self, index: u64) -> bool {
        let numbers = &self.numbering;
        if self.stage.is_idle() || numbers.last_sent_us.is_none() || index < numbers.floor {
            return false;
        }
        let next = numbers.last_index.wrapping_add(1);
        let behind = next.wrapping_sub(index.wrapping_add(numbers.index_offset));
        (1..=next).contains(&behind)
    }

    /// The source's index of a sequence number the viewer asks for, if it belongs to what the
    /// viewer receives now.
    pub(crate) fn source_index(&self, sequence_number: u16) -> Option<u64> {
        let numbers = &self.numbering;
        if self.stage.is_idle() || numbers.last_sent_us.is_none() {
            return None;
        }
        let back = (numbers.last_index as u16).wrapping_sub(sequence_number);
        let index = numbers.last_index.checked_sub(u64::from(back))?;
        let source = index.wrapping_sub(numbers.index_offset);
        (source >= numbers.floor && back < 0x8000).then_some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(index: u64, timestamp: u32, arrival_us: u64) -> PacketInfo {
        PacketInfo {
            index,
            timestamp,
            arrival_us,
            ..PacketInfo::default()
        }
    }

    fn send(viewer: &mut Viewer, info: &PacketInfo) -> (u64, u32) {
        viewer.sent(&Passed::one(info));
        viewer.map(info)
    }

    #[test]
    fn numbers_run_on_when_the_source_changes() {
        let mut viewer = Viewer::new(0, 0, 1, 500, 9_000);
        let first = info(70_000, 1_000_000, 0);
        viewer.start(&first, 90_000);
        assert_eq!(send(&mut viewer, &first), (500, 9_000));
        assert_eq!(
            send(&mut viewer, &info(70_001, 1_003_000, 33_333)),
            (501, 12_000)
        );

        let other = info(3, 77, 1_033_333);
        viewer.start(&other, 90_000);
        assert_eq!(send(&mut viewer, &other), (502, 12_000 + 90_000));
    }

    #[test]
    fn among_renditions_of_one_source_the_timestamps_stay_as_they_are() {
        let mut viewer = Viewer::new(0, 0, 1, 500, 9_000);
        let first = info(70_000, 1_000_000, 0);
        viewer.start(&first, 90_000);
        send(&mut viewer, &first);
        let other = info(69_123, 1_003_000, 99_999);
        viewer.stage = Stage::Crossing(70_001);
        assert!(!viewer.wants(69_123));
        viewer.go_on(&other);
        assert!(viewer.wants(69_123) && !viewer.wants(69_122));
        assert_eq!(send(&mut viewer, &other), (501, 12_000));
        assert_eq!(viewer.source_index(500), None);
    }

    #[test]
    fn a_late_packet_from_before_the_start_is_not_wanted() {
        let mut viewer = Viewer::new(0, 0, 1, 0, 0);
        assert!(!viewer.wants(10));
        viewer.start(&info(10, 0, 0), 90_000);
        assert!(viewer.wants(10));
        assert!(!viewer.wants(9));
    }

    #[test]
    fn a_burst_of_which_nothing_was_passed_on_changes_nothing() {
        let mut viewer = Viewer::new(0, 0, 1, 5, 0);
        let first = info(70_000, 0, 0);
        viewer.start(&first, 90_000);
        send(&mut viewer, &first);
        viewer.sent(&Passed::default());
        assert!(!viewer.would_jump(70_001));
        assert_eq!(viewer.source_index(5), Some(70_000));
    }

    #[test]
    fn a_nack_is_mapped_back_across_the_sequence_wrap() {
        let mut viewer = Viewer::new(0, 0, 1, 0x7fff, 0);
        viewer.start(&info(100, 0, 0), 90_000);
        for index in 100..100 + 0x9000 {
            send(&mut viewer, &info(index, 0, index));
        }
        let last = 100 + 0x9000 - 1;
        let (out, _) = viewer.map(&info(last, 0, 0));
        assert!(out > 0xffff, "the roll-over counter is in use");
        assert_eq!(viewer.source_index(out as u16), Some(last));
        assert_eq!(
            viewer.source_index((out as u16).wrapping_sub(10)),
            Some(last - 10)
        );
        assert_eq!(viewer.source_index((out as u16).wrapping_add(1)), None);
    }

    #[test]
    fn what_was_sent_is_known_from_the_first_packet_of_a_source_to_the_last() {
        let mut viewer = Viewer::new(0, 0, 1, 0, 0);
        assert!(!viewer.was_sent(70_000));
        let first = info(70_000, 0, 0);
        viewer.start(&first, 90_000);
        assert!(!viewer.was_sent(70_000));
        send(&mut viewer, &first);
        send(&mut viewer, &info(70_003, 0, 0));
        let sent = |index: &u64| viewer.was_sent(*index);
        let sent: Vec<u64> = (69_990..70_010).filter(sent).collect();
        assert_eq!(sent, [70_000, 70_001, 70_002, 70_003]);
    }

    #[test]
    fn what_was_sent_of_an_earlier_source_cannot_be_asked_for() {
        let mut viewer = Viewer::new(0, 0, 1, 10, 0);
        let first = info(100, 0, 0);
        viewer.start(&first, 90_000);
        send(&mut viewer, &first);
        let other = info(900, 0, 20_000);
        viewer.start(&other, 90_000);
        send(&mut viewer, &other);
        assert_eq!(viewer.source_index(11), Some(900));
        assert_eq!(viewer.source_index(10), None);
    }
}
