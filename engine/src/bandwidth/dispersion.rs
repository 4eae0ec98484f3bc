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

/// One train that took so many times as long as the next slowest was held up on its way.
const HELD_UP: f32 = 3.0;

/// So many trains, without the slowest of them, show that the link became slow.
const LAST: usize = 3;

/// The last trains, in a ring.
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

impl Train {
    fn slowness(&self) -> f32 {
        self.span_us / self.bits.max(1.0)
    }
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

    /// Bits per second that the link carries; `None` if no train told lately. It is what all trains
    /// tell together, or the last few if that is less: a link that became slow shows at once.
    pub(super) fn capacity_bps(&self) -> Option<f64> {
        let all = capacity_bps(self.fresh(), HELD_UP)?;
        let last = capacity_bps(self.fresh().take(LAST), 1.0);
        Some(last.map_or(all, |last| last.min(all)))
    }

    /// The trains that still tell something, newest first.
    fn fresh(&self) -> impl Iterator<Item = &Train> {
        let newest_us = self.last_us();
        let places = (1..=self.len).map(|back| (self.next + TRAINS - back) % TRAINS);
        let trains = places.map(|place| &self.trains[place]);
        trains.take_while(move |train| newest_us - train.at_us.min(newest_us) <= FRESH_US)
    }
}

/// All bits by all of the time, so that slow trains count for more; without the slowest, if it took
/// more than so many times as long as the next slowest.
fn capacity_bps<'a>(trains: impl Iterator<Item = &'a Train>, held_up: f32) -> Option<f64> {
    let (mut bits, mut span_us) = (0.0, 0.0);
    let (mut slowest, mut next) = (Train::default(), Train::default());
    for train in trains {
        bits += f64::from(train.bits);
        span_us += f64::from(train.span_us);
        if train.slowness() > slowest.slowness() {
            next = std::mem::replace(&mut slowest, *train);
        } else if train.slowness() > next.slowness() {
            next = *train;
        }
    }
    if next.bits > 0.0 && slowest.slowness() > held_up * next.slowness() {
        bits -= f64::from(slowest.bits);
        span_us -= f64::from(slowest.span_us);
    }
    (span_us > 0.0).then(|| bits * 1e6 / span_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_trains_tell_but_for_one_that_was_held_up() {
        let mut dispersion = Dispersion::default();
        assert_eq!(dispersion.capacity_bps(), None);
        for at_us in 0..8 {
            dispersion.train(80_000.0, 26_667, at_us * 33_000);
        }
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 3e6).abs() < 1e4, "{bps}");
        dispersion.train(80_000.0, 500_000, 300_000);
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 3e6).abs() < 1e4, "one was held up: {bps}");
        for at_us in 10..13 {
            dispersion.train(80_000.0, 133_333, at_us * 33_000);
        }
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 6e5).abs() < 1e4, "it became slow: {bps}");
        dispersion.train(80_000.0, 10_000, 9_000_000);
        let bps = dispersion.capacity_bps().unwrap_or_default();
        assert!((bps - 8e6).abs() < 1e4, "the old ones are forgotten: {bps}");
    }
}
