//! What was lost of a received stream: statistics for report blocks, and what to ask for again.
//!
//! The shard feeds both with every packet of an SSRC and polls them with its own clock. Memory is
//! fixed when they are made. They must never send anything, nor know about other streams.

use super::rtcp::{ReportBlock, SenderInfo};
use super::rtp::SequenceExtender;

mod nack;

pub use nack::{MAX_MISSING, NackCounters, NackTracker, PacketOutcome};

#[cfg(test)]
mod tests;

/// How far behind the highest sequence number a packet may be and still belong to the same run:
/// more than a second of retransmissions at 2000 packets per second.
const MAX_MISORDER: u16 = 3000;

/// Reception statistics of one SSRC (RFC 3550 A.1, A.3, A.8).
#[derive(Clone, Debug)]
pub struct ReceptionStatistics {
    clock_rate_hz: u32,
    extender: SequenceExtender,
    /// Extended sequence number of the first packet.
    base: u64,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Arrival less timestamp of the last packet, in timestamp units.
    transit: Option<u32>,
    /// In 1/16 of timestamp units.
    jitter_q4: u64,
    /// The number that would confirm that the sender began anew.
    restart_at: Option<u16>,
    /// NTP middle and arrival of the last sender report.
    last_sr: Option<(u32, u64)>,
}

impl ReceptionStatistics {
    /// Statistics of a stream nothing has come from yet, whose timestamps count `clock_rate_hz`.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            extender: SequenceExtender::new(),
            base: 0,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter_q4: 0,
            restart_at: None,
            last_sr: None,
        }
    }

    /// Counts a packet and returns its extended sequence number, which never wraps. `None` if it
    /// is so far behind that it belongs to no run: it is not counted, and only the packet that
    /// follows it confirms that the sender began anew.
    pub fn on_packet(&mut self, seq: u16, timestamp: u32, arrival_us: u64) -> Option<u64> {
        let extended = match self.extender.highest() {
            None => {
                let first = self.extender.extend(seq);
                self.base = first;
                first
            }
            Some(highest) if self.extender.peek(seq) + u64::from(MAX_MISORDER) < highest => {
                // RFC 3550 A.1: two packets in order after a jump are a restart.
                if self.restart_at != Some(seq) {
                    self.restart_at = Some(seq.wrapping_add(1));
                    return None;
                }
                self.restart(seq)
            }
            Some(_) => self.extender.extend(seq),
        };
        self.restart_at = None;
        self.received += 1;
        self.update_jitter(timestamp, arrival_us);
        Some(extended)
    }

    fn restart(&mut self, seq: u16) -> u64 {
        let extended = self.extender.restart(seq);
        self.base = extended;
        self.received = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.transit = None;
        extended
    }

    fn update_jitter(&mut self, timestamp: u32, arrival_us: u64) {
        // RFC 3550 A.8, with the arrival in timestamp units. Only differences matter, so that
        // it wraps does not.
        let arrival = u128::from(arrival_us) * u128::from(self.clock_rate_hz) / 1_000_000;
        let transit = (arrival as u32).wrapping_sub(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            let decay = (self.jitter_q4 + 8) >> 4;
            self.jitter_q4 = self.jitter_q4 + u64::from(difference) - decay;
        }
    }

    /// Notes a sender report of this SSRC, for the report blocks that answer it.
    pub fn on_sender_report(&mut self, info: &SenderInfo, arrival_us: u64) {
        self.last_sr = Some(((info.ntp_timestamp >> 16) as u32, arrival_us));
    }

    /// How many packets were counted since the sender began.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many packets of the current run did not come; negative with duplicates.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.expected().cast_signed() - self.received.cast_signed()
    }

    fn expected(&self) -> u64 {
        self.extender
            .highest()
            .map_or(0, |highest| (highest + 1).saturating_sub(self.base))
    }

    /// Interarrival jitter in timestamp units.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        u32::try_from(self.jitter_q4 >> 4).unwrap_or(u32::MAX)
    }

    /// The report block to send now about this stream, `ssrc`. Its fraction lost covers the time
    /// since the last one. `None` before the first packet.
    pub fn report_block(&mut self, ssrc: u32, now_us: u64) -> Option<ReportBlock> {
        let highest = self.extender.highest()?;
        let expected = self.expected();
        // RFC 3550 A.3.
        let expected_interval = expected - self.expected_prior;
        let received_interval = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction_lost = (lost_interval << 8)
            .checked_div(expected_interval)
            .map_or(0, |lost| lost.min(255));
        let (last_sr, delay_since_last_sr) = match self.last_sr {
            Some((middle, arrival_us)) => {
                let delay = u128::from(now_us.saturating_sub(arrival_us)) * 65_536 / 1_000_000;
                (middle, u32::try_from(delay).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction_lost as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            extended_highest_sequence_number: (highest - SequenceExtender::START) as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr,
        })
    }
}
