//! How much a viewer's network carries, reckoned by the sender from transport-wide feedback, after
//! Google Congestion Control (draft-ietf-rmcat-gcc-02): the delay gradient by a trend line with an
//! adaptive threshold, loss, and multiplicative and additive increase. Three things differ, since
//! what is sent are whole frames at once, of an encoding that somebody else made:
//!
//! - A send (a frame, mostly one train) is one group. Its first packet tells how long the queue was
//!   before it; the rest of it only waits for itself and says nothing about the gradient.
//! - How far apart the packets of a train arrive tells what the narrowest link carries
//!   (`dispersion`): each frame is a probe, and so the estimate rises above what is sent without
//!   anything being sent for that.
//! - Loss that was there before, at lower rates too, is the link's, and is not taken for a sign of too
//!   much being sent.
//!
//! The shard feeds one [`Estimator`] for each viewer of a track with several encodings. It has no
//! clock and no socket, allocates nothing, and must bear whatever a viewer says: a liar only spoils
//! its own picture. [`choice`] is what the control plane makes of the estimate.

mod acknowledged;
pub mod choice;
mod dispersion;
mod gradient;
mod loss;
mod rate;
mod sends;
pub mod share;

use crate::packet::rtcp::TransportCc;

use acknowledged::RateMeter;
use dispersion::Dispersion;
use gradient::{Gradient, Usage};
use loss::LossBased;
use rate::DelayBased;
pub use sends::Send;
use sends::{Group, Part, Sends};

/// A bitrate told by REMB holds for so long: browsers repeat it, or tell another, once a second or so.
const REMB_HOLDS_US: u64 = 10_000_000;

/// A viewer whose feedback stays away for so long, while it is sent to, gets nothing through.
const SILENCE_US: u64 = 1_000_000;

/// What is left of the estimate after that.
const SILENCE_FACTOR: f64 = 0.5;

/// Nothing is estimated before so much time was reported on.
const LEAST_REPORTED_US: i64 = 200_000;

/// No estimate falls below this: sound alone needs as much.
const FLOOR_BPS: f64 = 30_000.0;

/// One of several sends of a large frame waits for the others: the next group begins so much later.
const GROUP_GAP_US: u32 = 5_000;

/// A send that is so much larger than others are (a keyframe) is still on its way when the next is
/// sent; until it has passed, the queue is of its making.
const LARGE_SEND: f64 = 2.0;
const LARGE_SEND_PASSES_US: u64 = 1_000_000;
/// So little of it is not noticed.
const PASSED_US: f64 = 4_000.0;

/// Without a train to learn from for so long, one is made.
const PROBE_AFTER_US: u64 = 2_000_000;
/// Pause after a probe that found nothing new, at first and at most.
const PROBE_PAUSE_US: u64 = 2_000_000;
const MAX_PROBE_PAUSE_US: u64 = 4_000_000;
/// An estimate that changed by less than this factor is nothing new.
const PROBE_NEWS: f64 = 1.2;
/// A probe fills the link, as it is known, for so long.
const PROBE_US: f64 = 60_000.0;
/// Packets of a probe; not so few that a token bucket lets most of them pass at once.
const PROBE_PACKETS: (usize, usize) = (7, 14);

/// The bandwidth of the way to one viewer.
#[derive(Debug)]
pub struct Estimator {
    sends: Sends,
    group: Option<Group>,
    /// The group before, which the gradient is measured from.
    previous: Option<(u32, i64)>,
    gradient: Gradient,
    dispersion: Dispersion,
    acknowledged: RateMeter,
    sent: RateMeter,
    delay_based: DelayBased,
    loss_based: LossBased,
    /// Next transport-wide number that was not reported on.
    reported: Option<u16>,
    /// The viewer's clock: as last told, in 64 ms, and carried on over its wraps.
    reference: Option<(i32, i64)>,
    first_arrival_us: Option<i64>,
    mean_send_bytes: f64,
    /// How long what was sent would take the link, as far as it is known.
    backlog_us: f64,
    /// When the large one was sent that others may wait behind, and the last of those.
    large_us: Option<u64>,
    behind_large_us: u64,
    last_feedback_us: Option<u64>,
    last_sent_us: u64,
    remb: Option<(u64, u64)>,
    estimate_bps: f64,
    /// When a probe was last sent, and the estimate then.
    probed_us: u64,
    probed_bps: f64,
    probe_pause_us: u64,
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimator {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sends: Sends::default(),
            group: None,
            previous: None,
            gradient: Gradient::default(),
            dispersion: Dispersion::default(),
            acknowledged: RateMeter::default(),
            sent: RateMeter::default(),
            delay_based: DelayBased::default(),
            loss_based: LossBased::default(),
            reported: None,
            reference: None,
            first_arrival_us: None,
            mean_send_bytes: 0.0,
            backlog_us: 0.0,
            large_us: None,
            behind_large_us: 0,
            last_feedback_us: None,
            last_sent_us: 0,
            remb: None,
            estimate_bps: 0.0,
            probed_us: 0,
            probed_bps: 0.0,
            probe_pause_us: PROBE_PAUSE_US,
        }
    }

    /// What the way to the viewer carries, in bits per second of what is sent; 0: not known.
    #[must_use]
    pub fn estimate_bps(&self) -> u64 {
        self.estimate_bps as u64
    }

    /// What was sent lately, in bits per second.
    #[must_use]
    pub fn sent_bps(&self) -> u64 {
        self.sent.bps() as u64
    }

    /// Notes what was sent in one go.
    pub fn sent(&mut self, send: &Send, now_us: u64) {
        self.sends.push(send, now_us);
        let bytes = send.bytes + send.before_bytes;
        self.sent.add(now_us.cast_signed(), bytes);
        self.queue(send, now_us);
        self.last_sent_us = now_us;
    }

    /// Reckons which sends wait behind a large one.
    fn queue(&mut self, send: &Send, now_us: u64) {
        let since_us = now_us.saturating_sub(self.last_sent_us);
        self.backlog_us = (self.backlog_us - since_us as f64).max(0.0);
        if let Some(large_us) = self.large_us {
            if self.backlog_us > PASSED_US && now_us < large_us + LARGE_SEND_PASSES_US {
                self.behind_large_us = now_us;
            } else {
                self.large_us = None;
            }
        }
        let bytes = f64::from(send.bytes);
        let whole = bytes + f64::from(send.before_bytes);
        let mean = &mut self.mean_send_bytes;
        // A frame waits for what is sent again just before it, too.
        if *mean > 0.0 && whole > LARGE_SEND * *mean {
            self.large_us = Some(now_us);
            self.behind_large_us = now_us;
        }
        if send.count > 0 {
            *mean += (bytes - *mean) * if *mean > 0.0 { 0.1 } else { 1.0 };
        }
        let known_bps = self.dispersion.capacity_bps();
        let bps = known_bps.unwrap_or(self.estimate_bps.max(self.acknowledged.bps()));
        self.backlog_us = (self.backlog_us + whole * 8e6 / bps.max(FLOOR_BPS)).min(1e6);
    }

    /// Takes in what the viewer says about packets that it received.
    pub fn feedback(&mut self, feedback: &TransportCc<'_>, now_us: u64) {
        let Some(next) = self.sends.next_number() else {
            return;
        };
        let first = feedback.base_sequence_number;
        let first = match self.reported {
            // What was reported on before, and what was never sent, is not counted.
            Some(reported) if is_before(first, reported) => reported,
            _ => first,
        };
        let end = feedback
            .base_sequence_number
            .wrapping_add(feedback.packet_status_count);
        let end = if is_before(next, end) { next } else { end };
        let mut arrival_us = self.arrival_base(feedback.reference_time);
        let mut received = 0;
        let mut overused = false;
        for (number, delta_us) in feedback.received() {
            arrival_us = arrival_us.wrapping_add(i64::from(delta_us));
            received += u32::from(!is_before(number, first) && is_before(number, end));
            overused |= self.received(number, arrival_us, now_us);
        }
        if is_before(first, end) {
            let covered = u32::from(end.wrapping_sub(first));
            let lost = covered - received.min(covered);
            self.loss_based.reported(covered, lost);
            self.reported = Some(end);
        }
        self.last_feedback_us = Some(now_us);
        self.update(overused, now_us);
    }

    /// The viewer tells what it can take by REMB.
    pub fn remb(&mut self, bitrate_bps: u64, now_us: u64) {
        self.remb = Some((bitrate_bps, now_us));
        if self.last_feedback_us.is_none() {
            self.estimate_bps = bitrate_bps as f64;
        }
    }

    /// Looks, now and then, whether the viewer still reports.
    pub fn tick(&mut self, now_us: u64) {
        let Some(last_us) = self.last_feedback_us else {
            return;
        };
        if self.last_sent_us > last_us && now_us > last_us + SILENCE_US && self.estimate_bps > 0.0 {
            self.last_feedback_us = Some(now_us);
            let bps = (self.estimate_bps * SILENCE_FACTOR).max(FLOOR_BPS);
            self.delay_based.fall_to(bps, now_us);
            self.estimate_bps = bps;
        }
    }

    /// How many packets to send again, in one go, only to learn how far apart they arrive; 0: none.
    /// To be asked now and then.
    pub fn probe_packets(&mut self, packet_bytes: u32, now_us: u64) -> usize {
        let quiet = self.dispersion.last_us().max(self.probed_us);
        let knows = self.estimate_bps > 0.0 && self.last_feedback_us.is_some();
        let pause_us = match self.probed_us {
            0 => PROBE_AFTER_US,
            _ => self.probe_pause_us,
        };
        if !knows || now_us < quiet + pause_us || self.gradient.usage() == Usage::Over {
            return 0;
        }
        let news = self.estimate_bps / self.probed_bps.max(1.0);
        self.probed_bps = self.estimate_bps;
        self.probe_pause_us = match !(1.0 / PROBE_NEWS..PROBE_NEWS).contains(&news) {
            true => PROBE_PAUSE_US,
            false => (self.probe_pause_us * 2).min(MAX_PROBE_PAUSE_US),
        };
        self.probed_us = now_us;
        let packets = self.estimate_bps * PROBE_US / 8e6 / f64::from(packet_bytes.max(1));
        (packets as usize).clamp(PROBE_PACKETS.0, PROBE_PACKETS.1)
    }

    /// The reference time of a feedback in microseconds of the viewer's clock, which wraps.
    fn arrival_base(&mut self, told: i32) -> i64 {
        let carried = match self.reference {
            None => i64::from(told),
            Some((before, carried)) => {
                let step = told.wrapping_sub(before) << 8 >> 8;
                carried.wrapping_add(i64::from(step))
            }
        };
        self.reference = Some((told, carried));
        carried.wrapping_mul(64_000)
    }

    /// One packet arrived, by the viewer's clock; whether it shows that the link is overused.
    fn received(&mut self, number: u16, arrival_us: i64, now_us: u64) -> bool {
        let Some((send, part)) = self.sends.find(number) else {
            return false;
        };
        self.first_arrival_us.get_or_insert(arrival_us);
        self.acknowledged.add(arrival_us, send.packet_bytes(part));
        if part == Part::Before {
            return false;
        }
        let mut overused = false;
        if self.group.as_ref().is_some_and(|group| !group.is_of(&send)) {
            overused |= self.end_group(now_us);
        }
        let group = self.group.get_or_insert_with(|| Group::new(&send));
        group.add(number, arrival_us);
        if group.is_complete() {
            overused |= self.end_group(now_us);
        }
        overused
    }

    fn end_group(&mut self, now_us: u64) -> bool {
        let Some(group) = self.group.take() else {
            return false;
        };
        if let Some((bits, span_us)) = group.spread() {
            self.dispersion.train(bits, span_us, now_us);
        }
        let Some((first_us, whole)) = group.first_arrival() else {
            return false;
        };
        // What was sent while a large frame passed waited for that one alone.
        let sent_us = self.sends.time_of(group.sent_us(), now_us);
        let (since_send_us, since_arrival_us) = match self.previous {
            None => {
                self.previous = Some((group.sent_us(), first_us));
                return false;
            }
            Some((sent, arrived)) => (
                group.sent_us().wrapping_sub(sent),
                first_us.saturating_sub(arrived),
            ),
        };
        if !whole || since_send_us < GROUP_GAP_US || sent_us <= self.behind_large_us {
            return false;
        }
        self.previous = Some((group.sent_us(), first_us));
        self.gradient.group(since_send_us, since_arrival_us, now_us) == Usage::Over
    }

    /// Brings the estimate up to date after a feedback.
    fn update(&mut self, overused: bool, now_us: u64) {
        let acknowledged_bps = self.acknowledged.bps();
        let reported_us = match (self.first_arrival_us, self.acknowledged.latest_us()) {
            (Some(first), Some(latest)) => latest.saturating_sub(first),
            _ => 0,
        };
        if reported_us < LEAST_REPORTED_US {
            return;
        }
        let usage = if overused {
            Usage::Over
        } else {
            self.gradient.usage()
        };
        let capacity_bps = self.dispersion.capacity_bps();
        let delay_bps = self
            .delay_based
            .update(usage, acknowledged_bps, capacity_bps, now_us);
        let sent_bps = self.sent.bps();
        let loss_bps = self
            .loss_based
            .update(sent_bps, acknowledged_bps, delay_bps, now_us);
        let mut bps = delay_bps.min(loss_bps) * self.loss_based.first_share();
        if let Some((remb_bps, at_us)) = self.remb
            && now_us < at_us + REMB_HOLDS_US
        {
            bps = bps.min(remb_bps as f64);
        }
        self.estimate_bps = bps.max(FLOOR_BPS);
    }
}

/// Whether a transport-wide number comes before another.
fn is_before(number: u16, other: u16) -> bool {
    number.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests;
