//! The narrowest link of the way: a queue, or a policer, and what is lost behind it.

use std::collections::VecDeque;

use super::Scenario;
use super::sender::What;

/// IP and UDP.
const HEADER_BYTES: u64 = 28;

/// A packet of somebody else.
const OTHERS_BYTES: u32 = 1_150;

/// The same on the wire.
pub(super) const WIRE_BYTES: u64 = OTHERS_BYTES as u64 + HEADER_BYTES;

/// What a policer lets pass at once.
const POLICER_BYTES: u64 = 15_000;

/// A sequence of chances that depends on nothing but its seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next, from 0 to 1.
    pub fn next_share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    /// Whose; `None`: others'.
    pub(super) viewer: Option<usize>,
    pub(super) is_download: bool,
    /// Transport-wide, or the download's.
    pub(super) number: u64,
    pub(super) bytes: u32,
    pub(super) what: What,
}

impl Packet {
    pub(super) fn of_viewer(viewer: usize, number: u64, bytes: u32, what: What) -> Self {
        Self {
            viewer: Some(viewer),
            is_download: false,
            number,
            bytes,
            what,
        }
    }

    pub(super) fn of_another() -> Self {
        Self {
            viewer: None,
            is_download: false,
            number: 0,
            bytes: OTHERS_BYTES,
            what: What::Sound,
        }
    }

    pub(super) fn of_download(number: u64) -> Self {
        Self {
            is_download: true,
            number,
            ..Self::of_another()
        }
    }

    fn wire_bits(&self) -> u64 {
        (u64::from(self.bytes) + HEADER_BYTES) * 8_000
    }
}

pub(super) struct Bottleneck {
    queue: VecDeque<Packet>,
    queued_bytes: u64,
    queue_limit: u64,
    polices: bool,
    one_way_us: u64,
    loss: f64,
    loss_run: f64,
    losing: bool,
    /// Bits that may pass now, in thousandths.
    credit: u64,
    on_the_way: VecDeque<(u64, Packet)>,
    chance: Chance,
}

impl Bottleneck {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_limit: scenario.queue_bytes,
            polices: scenario.polices,
            one_way_us: scenario.one_way_ms * 1_000,
            loss: scenario.loss_percent / 100.0,
            loss_run: scenario.loss_run,
            losing: false,
            credit: 0,
            on_the_way: VecDeque::new(),
            chance: Chance::new(scenario.seed),
        }
    }

    pub(super) fn offer(&mut self, packet: Packet) {
        if self.polices {
            if self.credit >= packet.wire_bits() {
                self.credit -= packet.wire_bits();
                self.queue.push_back(packet);
            }
        } else if self.queued_bytes + u64::from(packet.bytes) <= self.queue_limit {
            self.queued_bytes += u64::from(packet.bytes);
            self.queue.push_back(packet);
        }
    }

    /// Lets pass what does in this millisecond.
    pub(super) fn pass(&mut self, capacity_bps: u64, ms: u64) {
        let most = match self.polices {
            true => POLICER_BYTES * 8_000,
            false => u64::MAX,
        };
        self.credit = (self.credit + capacity_bps).min(most);
        while let Some(packet) = self.queue.front().copied() {
            let mut late_us = 0;
            if !self.polices {
                if self.credit < packet.wire_bits() {
                    break;
                }
                self.credit -= packet.wire_bits();
                self.queued_bytes -= u64::from(packet.bytes);
                // Within the millisecond: when the bits had passed.
                late_us = (self.credit / capacity_bps).min(1_000);
            }
            self.queue.pop_front();
            if !self.loses() {
                let at_us = (ms + 1) * 1_000 - late_us + self.one_way_us;
                self.on_the_way.push_back((at_us, packet));
            }
        }
        if self.queue.is_empty() && !self.polices {
            self.credit = 0;
        }
    }

    /// What has arrived by now.
    pub(super) fn arrived(&mut self, ms: u64) -> Option<(u64, Packet)> {
        let (at_us, _) = self.on_the_way.front()?;
        (*at_us <= ms * 1_000).then(|| self.on_the_way.pop_front())?
    }

    /// How long what comes now would wait.
    pub(super) fn queue_ms(&self, capacity_bps: u64) -> f64 {
        match self.polices {
            true => 0.0,
            false => self.queued_bytes as f64 * 8_000.0 / capacity_bps as f64,
        }
    }

    fn loses(&mut self) -> bool {
        if self.loss == 0.0 {
            return false;
        }
        let change = match self.losing {
            true => 1.0 / self.loss_run,
            false => self.loss / (1.0 - self.loss) / self.loss_run,
        };
        if self.chance.next_share() < change {
            self.losing = !self.losing;
        }
        self.losing
    }
}
