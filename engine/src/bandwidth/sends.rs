//! What was sent lately, by transport-wide number: one entry for each send, not for each packet, in a
//! ring that is made once.

use super::is_before;

/// Sends that are remembered: about two seconds of 30 frames.
const SENDS: usize = 64;

/// The fewest packets of a send whose spread tells anything.
const LEAST_SPREAD: u16 = 3;

/// The first packets of a send say nothing about the link's rate: a token bucket lets them pass at once.
const LET_PASS: u16 = 2;

/// What left in one go, and what had left since the send before: sound, retransmissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Send {
    /// Transport-wide number of its first packet.
    pub first: u16,
    /// Its packets.
    pub count: u16,
    /// Bytes of those, sealed.
    pub bytes: u32,
    /// Packets with the numbers just before, which left singly.
    pub before: u16,
    /// Bytes of those.
    pub before_bytes: u32,
}

/// Which part of a send a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Before,
    Train,
}

/// A send as it is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// Microseconds, wrapping.
    at_us: u32,
    bytes: u32,
    first: u16,
    count: u16,
    before: u16,
    before_bytes: u16,
}

impl Entry {
    /// Bytes of one of its packets, which are all taken to be alike.
    pub(super) fn packet_bytes(&self, part: Part) -> u32 {
        match part {
            Part::Before => u32::from(self.before_bytes) / u32::from(self.before.max(1)),
            Part::Train => self.bytes / u32::from(self.count.max(1)),
        }
    }

    fn end(&self) -> u16 {
        self.first.wrapping_add(self.count)
    }

    fn begin(&self) -> u16 {
        self.first.wrapping_sub(self.before)
    }

    fn holds(&self, number: u16) -> bool {
        number.wrapping_sub(self.begin()) < self.before + self.count
    }
}

/// The sends that a viewer may still report on.
#[derive(Debug)]
pub(super) struct Sends {
    ring: [Entry; SENDS],
    /// Where the next goes, and how many there are.
    next: usize,
    len: usize,
    /// Where the last packet was found: feedback goes in order.
    cursor: usize,
}

impl Default for Sends {
    fn default() -> Self {
        Self {
            ring: [Entry::default(); SENDS],
            next: 0,
            len: 0,
            cursor: 0,
        }
    }
}

impl Sends {
    pub(super) fn push(&mut self, send: &Send, now_us: u64) {
        self.ring[self.next] = Entry {
            at_us: now_us as u32,
            bytes: send.bytes,
            first: send.first,
            count: send.count.min(0x3fff),
            before: send.before.min(0x3fff),
            before_bytes: send.before_bytes.min(u32::from(u16::MAX)) as u16,
        };
        self.next = (self.next + 1) % SENDS;
        self.len = (self.len + 1).min(SENDS);
    }

    /// The number after the last that was sent.
    pub(super) fn next_number(&self) -> Option<u16> {
        let last = self.ring[(self.next + SENDS - 1) % SENDS];
        (self.len > 0).then_some(last.end())
    }

    /// The send that a number belongs to, if it is remembered. Quick if numbers are asked for in
    /// order.
    pub(super) fn find(&mut self, number: u16) -> Option<(Entry, Part)> {
        let oldest = self.ring[(self.next + SENDS - self.len) % SENDS];
        if self.len == 0
            || is_before(number, oldest.begin())
            || !is_before(number, self.next_number()?)
        {
            return None;
        }
        for step in 0..SENDS {
            let place = (self.cursor + step) % SENDS;
            let entry = self.ring[place];
            if entry.holds(number) {
                self.cursor = place;
                let part = match is_before(number, entry.first) {
                    true => Part::Before,
                    false => Part::Train,
                };
                return Some((entry, part));
            }
        }
        None
    }

    /// The whole time of a wrapped one that lies a little before `now_us`.
    pub(super) fn time_of(&self, at_us: u32, now_us: u64) -> u64 {
        now_us - u64::from((now_us as u32).wrapping_sub(at_us)).min(now_us)
    }
}

/// The packets of one send that arrived.
#[derive(Debug)]
pub(super) struct Group {
    send: Entry,
    first: Option<(u16, i64)>,
    /// What the spread is measured from.
    from: (u16, i64),
    last: (u16, i64),
    disordered: bool,
}

impl Group {
    pub(super) fn new(send: &Entry) -> Self {
        Self {
            send: *send,
            first: None,
            from: (0, 0),
            last: (0, 0),
            disordered: false,
        }
    }

    pub(super) fn is_of(&self, send: &Entry) -> bool {
        self.send.first == send.first && self.send.at_us == send.at_us
    }

    pub(super) fn add(&mut self, number: u16, arrival_us: i64) {
        match self.first {
            None => {
                self.first = Some((number, arrival_us));
                self.from = (number, arrival_us);
            }
            Some(_) => {
                let place = number.wrapping_sub(self.send.first);
                if place <= LET_PASS {
                    self.from = (number, arrival_us);
                }
                let (last, at_us) = self.last;
                self.disordered |= !is_before(last, number) || arrival_us < at_us;
            }
        }
        self.last = (number, arrival_us);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.last.0.wrapping_add(1) == self.send.end()
    }

    pub(super) fn sent_us(&self) -> u32 {
        self.send.at_us
    }

    /// When the first packet came, and whether it was the first of the send.
    pub(super) fn first_arrival(&self) -> Option<(i64, bool)> {
        let (number, at_us) = self.first?;
        Some((at_us, number == self.send.first))
    }

    /// The bits that came after the first packet, or the first few, and how long they took.
    pub(super) fn spread(&self) -> Option<(f64, i64)> {
        self.first?;
        let (from, from_us) = self.from;
        let packets = self.last.0.wrapping_sub(from);
        if self.disordered || packets < LEAST_SPREAD || packets >= self.send.count {
            return None;
        }
        let bits = f64::from(self.send.packet_bytes(Part::Train)) * 8.0 * f64::from(packets);
        Some((bits, self.last.1.saturating_sub(from_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_its_send_across_the_wrap_until_the_ring_forgets_it() {
        let mut sends = Sends::default();
        assert!(sends.find(0).is_none());
        let mut number = 65_500u16;
        for turn in 0..70u32 {
            let send = Send {
                first: number.wrapping_add(2),
                count: 5,
                bytes: 5_000 + turn,
                before: 2,
                before_bytes: 200,
            };
            sends.push(&send, u64::from(turn) * 33_000);
            number = number.wrapping_add(7);
        }
        assert_eq!(sends.next_number(), Some(number));
        assert!(sends.find(number).is_none(), "was not sent");
        assert!(sends.find(65_500).is_none(), "forgotten");
        let (entry, part) = sends.find(number.wrapping_sub(1)).expect("the last one");
        assert_eq!((entry.bytes, part), (5_069, Part::Train));
        let (entry, part) = sends.find(number.wrapping_sub(14)).expect("one before");
        assert_eq!((entry.bytes, part), (5_068, Part::Before));
        assert_eq!(entry.packet_bytes(Part::Before), 100);
    }

    #[test]
    fn the_ring_takes_a_kilobyte() {
        assert_eq!(size_of::<Sends>(), SENDS * 16 + 24);
    }

    #[test]
    fn a_group_tells_how_far_apart_its_packets_came() {
        let send = Entry {
            first: 65_534,
            count: 5,
            bytes: 5_000,
            ..Entry::default()
        };
        let mut group = Group::new(&send);
        for (number, at_us) in [(65_534, 10), (65_535, 4_010), (1, 12_010), (2, 16_010)] {
            group.add(number, at_us);
        }
        assert!(group.is_complete());
        assert_eq!(group.spread(), Some((24_000.0, 12_000)));
        let long = Entry { count: 8, ..send };
        let mut bucket = Group::new(&long);
        for place in 0..8u16 {
            let at_us = i64::from(place.saturating_sub(2)) * 4_000;
            bucket.add(long.first.wrapping_add(place), at_us);
        }
        assert_eq!(bucket.spread(), Some((25_000.0, 20_000)));
        group.add(0, 17_000);
        assert_eq!(group.spread(), None, "out of order");
    }
}
