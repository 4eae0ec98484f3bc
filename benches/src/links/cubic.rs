//! A download by TCP, as far as it matters to others on the link: a window of packets, CUBIC's growth
//! (RFC 9438) and its fall by three tenths when packets are lost.

use std::collections::VecDeque;

const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// Acknowledgements after a gap that tell a loss (RFC 5681 3.2).
const DUPLICATES: u64 = 3;
const FIRST_WINDOW: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    largest: f64,
    /// When the window last fell.
    fallen_ms: u64,
    next: u64,
    /// Sent and not acknowledged.
    in_flight: VecDeque<u64>,
    acks: VecDeque<(u64, u64)>,
    /// Losses of what was sent before this are of the same fall.
    recovers_at: u64,
    progressed_ms: u64,
    bytes: u64,
    taken_bytes: u64,
}

impl Default for Cubic {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            threshold: f64::MAX,
            largest: 0.0,
            fallen_ms: 0,
            next: 0,
            in_flight: VecDeque::new(),
            acks: VecDeque::new(),
            recovers_at: 0,
            progressed_ms: 0,
            bytes: 0,
            taken_bytes: 0,
        }
    }
}

impl Cubic {
    /// A packet has arrived, and is acknowledged.
    pub(super) fn delivered(&mut self, number: u64, at_us: u64) {
        self.bytes += super::bottleneck::WIRE_BYTES;
        self.acks.push_back((at_us / 1_000, number));
    }

    /// One millisecond: takes the acknowledgements that are back, and sends what the window allows.
    pub(super) fn step(
        &mut self,
        ms: u64,
        one_way_ms: u64,
        sends: bool,
        mut send: impl FnMut(u64),
    ) {
        while let Some((at_ms, number)) = self.acks.front().copied() {
            if at_ms + one_way_ms > ms {
                break;
            }
            self.acks.pop_front();
            self.acknowledged(number, ms);
        }
        // Everything was lost.
        if !self.in_flight.is_empty() && ms > self.progressed_ms + 1_000 {
            self.in_flight.clear();
            self.threshold = (self.window * BETA).max(2.0);
            self.window = 1.0;
            self.progressed_ms = ms;
        }
        while sends && (self.in_flight.len() as f64) < self.window {
            if self.in_flight.is_empty() {
                self.progressed_ms = ms;
            }
            self.in_flight.push_back(self.next);
            send(self.next);
            self.next += 1;
        }
    }

    fn acknowledged(&mut self, number: u64, ms: u64) {
        self.progressed_ms = ms;
        self.in_flight.retain(|sent| *sent != number);
        let lost = self
            .in_flight
            .iter()
            .take_while(|sent| **sent + DUPLICATES <= number);
        let lost = lost.count();
        for sent in self.in_flight.drain(..lost) {
            if sent >= self.recovers_at {
                self.recovers_at = self.next;
                self.largest = self.window;
                self.window = (self.window * BETA).max(2.0);
                self.threshold = self.window;
                self.fallen_ms = ms;
            }
        }
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let seconds = ms.saturating_sub(self.fallen_ms) as f64 / 1_000.0;
        let k = (self.largest * (1.0 - BETA) / C).cbrt();
        let aim = C * (seconds - k).powi(3) + self.largest;
        let step = (aim - self.window).clamp(0.01, 0.5 * self.window);
        self.window += step / self.window;
    }

    /// Bytes delivered since this was last asked.
    pub(super) fn take_bytes(&mut self) -> u64 {
        let since = self.bytes - self.taken_bytes;
        self.taken_bytes = self.bytes;
        since
    }

    /// Bytes delivered in all.
    pub(super) fn all_bytes(&self) -> u64 {
        self.bytes
    }
}
