//! What a receiver reports of the packets of one source (RFC 3550 6.4.1, A.3, A.8).

use fanmill_engine::packet::rtcp::ReportBlock;

/// Counts of one source.
#[derive(Debug, Default)]
pub(super) struct Reception {
    clock_rate_hz: u32,
    /// Extended sequence numbers, the first and the highest.
    numbers: Option<(u64, u64)>,
    received: u64,
    /// At the last report.
    reported: (u64, u64),
    /// Arrival minus timestamp of the last packet, in ticks.
    transit: Option<u32>,
    /// In sixteenths of a tick.
    jitter: u64,
    /// The middle of the last sender report's time, and when it came.
    last_report: Option<(u32, u64)>,
}

impl Reception {
    pub(super) fn new(clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            ..Self::default()
        }
    }

    pub(super) fn packet(&mut self, index: u64, timestamp: u32, arrival_us: u64) {
        let (first, highest) = self.numbers.unwrap_or((index, index));
        self.numbers = Some((first.min(index), highest.max(index)));
        self.received += 1;
        let ticks = u128::from(arrival_us) * u128::from(self.clock_rate_hz) / 1_000_000;
        let transit = (ticks as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let apart = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // RFC 3550 A.8.
            self.jitter = self.jitter + u64::from(apart) - ((self.jitter + 8) >> 4);
        }
    }

    pub(super) fn sender_report(&mut self, ntp: u64, arrival_us: u64) {
        self.last_report = Some(((ntp >> 16) as u32, arrival_us));
    }

    /// Packets missing so far.
    pub(super) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Jitter in microseconds.
    pub(super) fn jitter_us(&self) -> u64 {
        (self.jitter >> 4) * 1_000_000 / u64::from(self.clock_rate_hz.max(1))
    }

    fn expected(&self) -> u64 {
        self.numbers
            .map_or(0, |(first, highest)| highest - first + 1)
    }

    /// The block about this source, whose next fraction counts from now.
    pub(super) fn report(&mut self, ssrc: u32, now_us: u64) -> ReportBlock {
        let expected = self.expected();
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, self.received);
        let expected_since = expected.saturating_sub(expected_before);
        let received_since = self.received - received_before;
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        let (last_sr, since_us) = self.last_report.map_or((0, 0), |(middle, at_us)| {
            (middle, now_us.saturating_sub(at_us))
        });
        let highest = self.numbers.map_or(0, |(_, highest)| highest);
        ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(self.lost())
                .unwrap_or(i32::MAX)
                .min(0x7f_ffff),
            extended_highest_sequence_number: highest as u32,
            jitter: u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX),
            last_sr,
            delay_since_last_sr: u32::try_from(since_us * 65_536 / 1_000_000).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_jitter_are_reported() {
        let mut reception = Reception::new(8_000);
        for number in (0..100_u64).filter(|number| number % 4 != 3) {
            let late_us = number % 2 * 1_000;
            let timestamp = (number * 160) as u32;
            reception.packet(65_536 + number, timestamp, number * 20_000 + late_us);
        }
        reception.sender_report(0x0123_4567_89ab_cdef, 1_000_000);
        let block = reception.report(7, 1_500_000);
        // Of the hundred the last one is not known to be missing.
        assert_eq!(block.cumulative_lost, 24);
        assert_eq!(block.fraction_lost, (24 * 256 / 99) as u8);
        assert_eq!(block.extended_highest_sequence_number, 65_536 + 98);
        assert_eq!(block.last_sr, 0x4567_89ab);
        assert_eq!(block.delay_since_last_sr, 32_768);
        assert!((3..=8).contains(&block.jitter), "{}", block.jitter);
        reception.packet(65_536 + 99, 99 * 160, 99 * 20_000);
        assert_eq!(reception.report(7, 2_000_000).fraction_lost, 0);
    }
}
