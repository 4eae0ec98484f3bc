//! Which packets of a stream to ask for again, and when.

use std::collections::VecDeque;

/// Most packets that are waited for at once: half a second at 1000 packets per second.
pub const MAX_MISSING: usize = 512;

/// How long a packet may be overtaken before it counts as lost.
const REORDER_TOLERANCE_US: u64 = 5_000;

/// Least time between two requests for the same packet.
const MIN_RETRY_US: u64 = 20_000;

/// Assumed until the round trip is known.
const DEFAULT_RTT_US: u64 = 100_000;

/// Most requests for one packet.
const MAX_TRIES: u8 = 10;

/// When a packet that is still missing has come too late to be played.
const MAX_AGE_US: u64 = 1_000_000;

/// What a packet was to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketOutcome {
    /// The next one, or beyond a gap.
    New,
    /// It was missing.
    Recovered,
    /// It came already, was given up, or is older than the stream is known.
    Unexpected,
}

/// What a tracker has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NackCounters {
    /// Sequence numbers listed for a NACK, repetitions included.
    pub requested: u64,
    /// Missing packets that came before any request: merely out of order.
    pub reordered: u64,
    /// Missing packets that came after a request.
    pub recovered: u64,
    /// Missing packets that were no longer waited for.
    pub given_up: u64,
    /// Jumps too big to ask for what they left out.
    pub resets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    extended: u64,
    noticed_us: u64,
    due_us: u64,
    tries: u8,
}

/// Finds the gaps in one received stream and lists what to ask for again.
///
/// Sequence numbers are the extended ones of
/// [`super::ReceptionStatistics::on_packet`]; times are those of one monotonic clock.
#[derive(Debug)]
pub struct NackTracker {
    highest: Option<u64>,
    /// In order of sequence number; never more than [`MAX_MISSING`].
    missing: VecDeque<Missing>,
    /// No entry is due before this.
    next_due_us: u64,
    rtt_us: u64,
    counters: NackCounters,
}

impl Default for NackTracker {
    fn default() -> Self {
        Self::new()
    }
}

impl NackTracker {
    /// A tracker that has seen nothing. The only allocation it makes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            highest: None,
            missing: VecDeque::with_capacity(MAX_MISSING),
            next_due_us: u64::MAX,
            rtt_us: DEFAULT_RTT_US,
            counters: NackCounters::default(),
        }
    }

    /// Sets the round trip to the sender, which spaces the requests.
    pub fn set_rtt_us(&mut self, rtt_us: u32) {
        self.rtt_us = u64::from(rtt_us);
    }

    /// Notes a packet, received as sent or as retransmission.
    pub fn on_packet(&mut self, extended: u64, now_us: u64) -> PacketOutcome {
        let Some(highest) = self.highest else {
            self.highest = Some(extended);
            return PacketOutcome::New;
        };
        if extended <= highest {
            return self.fill_gap(extended);
        }
        self.highest = Some(extended);
        let gap = extended - highest - 1;
        if gap > MAX_MISSING as u64 {
            self.counters.resets += 1;
            self.give_up(self.missing.len());
        } else {
            for lost in highest + 1..extended {
                self.await_packet(lost, now_us);
            }
        }
        PacketOutcome::New
    }

    fn fill_gap(&mut self, extended: u64) -> PacketOutcome {
        let Ok(index) = self
            .missing
            .binary_search_by_key(&extended, |entry| entry.extended)
        else {
            return PacketOutcome::Unexpected;
        };
        match self.missing.remove(index) {
            Some(Missing { tries: 0, .. }) => self.counters.reordered += 1,
            _ => self.counters.recovered += 1,
        }
        PacketOutcome::Recovered
    }

    fn await_packet(&mut self, extended: u64, now_us: u64) {
        if self.missing.len() == MAX_MISSING {
            self.give_up(1);
        }
        let due_us = now_us.saturating_add(REORDER_TOLERANCE_US);
        self.missing.push_back(Missing {
            extended,
            noticed_us: now_us,
            due_us,
            tries: 0,
        });
        self.next_due_us = self.next_due_us.min(due_us);
    }

    /// Forgets the oldest `count`.
    fn give_up(&mut self, count: usize) {
        self.missing.drain(..count);
        self.counters.given_up += count as u64;
    }

    /// Lists the packets to ask for now, in order, and schedules their next turn. What does not
    /// fit in `out` stays due.
    pub fn poll<'a>(&mut self, now_us: u64, out: &'a mut [u16]) -> &'a [u16] {
        if now_us < self.next_due_us {
            return &out[..0];
        }
        let spacing_us = self.rtt_us.max(MIN_RETRY_US);
        let before = self.missing.len();
        let mut listed = 0;
        let mut next_due_us = u64::MAX;
        self.missing.retain_mut(|entry| {
            if entry.due_us <= now_us {
                let age_us = now_us.saturating_sub(entry.noticed_us);
                if age_us >= MAX_AGE_US || entry.tries >= MAX_TRIES {
                    return false;
                }
                if let Some(slot) = out.get_mut(listed) {
                    *slot = entry.extended as u16;
                    listed += 1;
                    entry.tries += 1;
                    // Each request waits longer than the one before.
                    entry.due_us = now_us.saturating_add(spacing_us * u64::from(entry.tries));
                }
            }
            next_due_us = next_due_us.min(entry.due_us);
            true
        });
        self.next_due_us = next_due_us;
        self.counters.given_up += (before - self.missing.len()) as u64;
        self.counters.requested += listed as u64;
        &out[..listed]
    }

    /// When [`Self::poll`] next has something to do, at the earliest.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        (!self.missing.is_empty()).then_some(self.next_due_us)
    }

    /// Whether this packet is waited for.
    #[must_use]
    pub fn awaits(&self, extended: u64) -> bool {
        self.missing
            .binary_search_by_key(&extended, |entry| entry.extended)
            .is_ok()
    }

    /// How many packets are waited for.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> NackCounters {
        self.counters
    }
}
