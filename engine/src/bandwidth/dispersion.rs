//! What the narrowest link carries, from how far apart the packets of a train arrive that left
//! together (packet train dispersion).
//!
//! It does not see what others send, nor a limit that drops instead of delaying: the delay gradient
//! and loss do.

/// Trains that are looked at.
const TRAINS: usize = 8;

/// Trains older than this say nothing about now.
const FRESH_US: u64 = 2_000_000;

/// Arrivals are told in 250 us: what is closer is not told apart.
const LEAST_SPAN_US: f64 = 250.0;

/// The last trains, newest first.
#[derive(Debug, Default)]
pub(super) struct Dispersion {
    trains: [Train; TRAINS],
    len: usize,
    next: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Train {
    bits: f32,
    span_us: f32,
    at_us: u64,
}

impl Dispersion {
    /// A train of so many bits, the first packet's not counted, took so long to arrive.
    pub(super) fn train(&mut self, bits: f64, span_us: i64, now_us: u64) {
        self.trains[self.next] = Train {
            bits: bits as f32,
            span_us: (span_us.max(0) as f64).max(LEAST_SPAN_US) as f32,
            at_us: now_us,
        };
        self.next = (self.next + 1) % TRAINS;
        self.len = (self.len + 1).min(TRAINS);
    }

    /// When the last train was reported.
    pub(super) fn last_us(&self) -> u64 {
        match self.len {
            0 => 0,
            _ => self.trains[(self.next + TRAINS - 1) % TRAINS].at_us,
        }
    }

    /// Bits per second that the link carries; `None` if no train told lately. All bits by all of
    /// the time: so the slow trains count for more.
    pub(super) fn capacity_bps(&self) -> Option<f64> {
        let newest_us = self.last_us();
        let fresh = self.trains[..self.len]
            .iter()
            .filter(|train| newest_us - train.at_us.min(newest_us) <= FRESH_US);
        let (bits, span_us) = fresh.fold((0.0, 0.0), |(bits, span_us), train| {
            (
                bits + f64::from(train.bits),
                span_us + f64::from(train.span_us),
            )
        });
        (span_us > 0.0).then(|| bits * 1e6 / span_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_trains_tell_and_slow_ones_count_for_more() {
        let mut dispersion = Dispersion::default();
        assert_eq!(dispersion.capacity_bps(), None);
        for at_us in 0..8 {
            dispersion.train(80_000.0, 26_667, at_us * 33_000);
        }
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 3e6).abs() < 1e4, "{bps}");
        for at_us in 8..10 {
            dispersion.train(80_000.0, 133_333, at_us * 33_000);
        }
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((1.4e6..1.6e6).contains(&bps), "{bps}");
        dispersion.train(80_000.0, 10_000, 9_000_000);
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 8e6).abs() < 1e4, "the old ones are forgotten: {bps}");
    }
}
