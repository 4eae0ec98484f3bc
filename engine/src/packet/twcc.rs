//! Records when a publisher's packets arrived and reports it to the publisher as transport-wide
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! The shard records every packet that carries a transport-wide sequence number and builds
//! feedback some ten times a second. Its memory is fixed when it is made; what falls out of the
//! window before it was reported is lost to the report. It must never judge bandwidth: the sender
//! does.

use super::rtcp::{PT_RTPFB, RTPFB_TRANSPORT_CC};
use super::rtp::SequenceExtender;

#[cfg(test)]
mod tests;

/// How many packets back arrivals are remembered: a second at 10 Mbit/s.
pub const WINDOW: usize = 1024;

/// Least buffer [`TwccRecorder::build`] works with: a whole window of lost packets and one that
/// arrived.
pub const MIN_FEEDBACK_BYTES: usize =
    (FIXED_BYTES + 2 * WINDOW.div_ceil(TWO_BIT_SYMBOLS) + 2).next_multiple_of(4);

/// Header and fixed fields of a feedback packet.
const FIXED_BYTES: usize = 20;

const ONE_BIT_SYMBOLS: usize = 14;
const TWO_BIT_SYMBOLS: usize = 7;
const MAX_RUN: usize = 0x1fff;

/// Arrival deltas count 250 us, the reference time 64 ms.
const TICK_US: u64 = 250;
const TICKS_PER_REFERENCE: u64 = 64_000 / TICK_US;

/// After this many packets in a row far behind the window, the sender has begun anew.
const RESTART_AFTER: u8 = 16;

/// Never arrived.
const NEVER: u64 = u64::MAX;

/// What arrived on one transport, and what of it is still to be reported.
#[derive(Debug)]
pub struct TwccRecorder {
    extender: SequenceExtender,
    /// Arrival in ticks of the last `WINDOW` sequence numbers below `end`, by number modulo
    /// `WINDOW`.
    arrivals: Box<[u64; WINDOW]>,
    /// First extended sequence number to report.
    begin: u64,
    /// One past the highest extended sequence number that arrived.
    end: u64,
    /// Packets in a row that were too old for the window.
    stale: u8,
    feedback_packet_count: u8,
}

impl Default for TwccRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl TwccRecorder {
    /// A recorder that has seen nothing. The only allocation it makes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            extender: SequenceExtender::new(),
            arrivals: Box::new([NEVER; WINDOW]),
            begin: 0,
            end: 0,
            stale: 0,
            feedback_packet_count: 0,
        }
    }

    fn slot(&mut self, extended: u64) -> &mut u64 {
        &mut self.arrivals[(extended % WINDOW as u64) as usize]
    }

    /// Notes that the packet with this transport-wide sequence number arrived. Of a packet that
    /// comes twice the first arrival stands; one that comes after it was reported lost is
    /// reported again, with what follows it.
    pub fn record(&mut self, seq: u16, arrival_us: u64) {
        let mut extended = self.extender.peek(seq);
        if self.end == 0 {
            self.begin = extended;
            self.end = extended;
        } else if extended + (WINDOW as u64) < self.end {
            self.stale += 1;
            if self.stale < RESTART_AFTER {
                return;
            }
            extended = self.extender.restart(seq);
            self.begin = extended;
        }
        self.stale = 0;
        self.extender.extend(seq);
        if extended >= self.end {
            // What lies between is missing until it comes.
            let first = self.end.max((extended + 1).saturating_sub(WINDOW as u64));
            for missing in first..extended {
                *self.slot(missing) = NEVER;
            }
            *self.slot(extended) = NEVER;
            self.end = extended + 1;
            self.begin = self.begin.max(self.end.saturating_sub(WINDOW as u64));
        }
        let slot = self.slot(extended);
        if *slot == NEVER {
            *slot = arrival_us / TICK_US;
            self.begin = self.begin.min(extended);
        }
    }

    /// Whether there is anything to report.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.begin < self.end
    }

    /// Writes one feedback packet to the start of `out`, and returns its length. It covers what
    /// was not reported yet, as far as buffer and deltas allow; call again while
    /// [`Self::has_pending`]. `None` if there is nothing to report, or `out` is shorter than
    /// [`MIN_FEEDBACK_BYTES`].
    pub fn build(&mut self, out: &mut [u8], sender_ssrc: u32, media_ssrc: u32) -> Option<usize> {
        if !self.has_pending() || out.len() < MIN_FEEDBACK_BYTES {
            return None;
        }
        let report = self.collect(out.len());
        let len = report.write(out, sender_ssrc, media_ssrc, self.feedback_packet_count)?;
        self.feedback_packet_count = self.feedback_packet_count.wrapping_add(1);
        self.begin += report.count as u64;
        Some(len)
    }

    /// Gathers as many packets as one feedback of at most `max_len` bytes can hold.
    fn collect(&self, max_len: usize) -> Report {
        let mut report = Report {
            base: self.begin as u16,
            count: 0,
            reference: 0,
            delta_bytes: 0,
            deltas: [None; WINDOW],
        };
        let mut last: Option<u64> = None;
        for extended in self.begin..self.end {
            let arrival = self.arrivals[(extended % WINDOW as u64) as usize];
            let mut delta = None;
            if arrival != NEVER {
                // 3.1: deltas count from the reference time, the start of the 64 ms in which
                // the first listed packet arrived.
                let previous = last.unwrap_or_else(|| {
                    report.reference = arrival / TICKS_PER_REFERENCE;
                    report.reference * TICKS_PER_REFERENCE
                });
                let Ok(ticks) = i16::try_from(arrival.wrapping_sub(previous).cast_signed()) else {
                    break;
                };
                last = Some(arrival);
                delta = Some(ticks);
            }
            // No chunk but the last holds fewer than seven symbols.
            let chunk_bytes = 2 * (report.count + 1).div_ceil(TWO_BIT_SYMBOLS);
            let delta_bytes = report.delta_bytes + usize::from(symbol(delta));
            if (FIXED_BYTES + chunk_bytes + delta_bytes).next_multiple_of(4) > max_len {
                break;
            }
            report.deltas[report.count] = delta;
            report.delta_bytes = delta_bytes;
            report.count += 1;
        }
        report
    }
}

/// The status symbol of a packet, which is also the size of its delta in bytes.
fn symbol(delta: Option<i16>) -> u8 {
    match delta {
        None => 0,
        Some(0..=255) => 1,
        Some(_) => 2,
    }
}

/// What one feedback packet says.
struct Report {
    base: u16,
    count: usize,
    /// In 64 ms.
    reference: u64,
    delta_bytes: usize,
    /// For each packet that arrived: ticks since the one before.
    deltas: [Option<i16>; WINDOW],
}

impl Report {
    fn write(
        &self,
        out: &mut [u8],
        sender_ssrc: u32,
        media_ssrc: u32,
        feedback_packet_count: u8,
    ) -> Option<usize> {
        let deltas = &self.deltas[..self.count];
        let mut fixed = [0; FIXED_BYTES];
        fixed[1] = PT_RTPFB;
        fixed[4..8].copy_from_slice(&sender_ssrc.to_be_bytes());
        fixed[8..12].copy_from_slice(&media_ssrc.to_be_bytes());
        fixed[12..14].copy_from_slice(&self.base.to_be_bytes());
        fixed[14..16].copy_from_slice(&(self.count as u16).to_be_bytes());
        let reference = (self.reference as u32) << 8 | u32::from(feedback_packet_count);
        fixed[16..20].copy_from_slice(&reference.to_be_bytes());

        let mut at = FIXED_BYTES;
        for chunk in (Chunks { rest: deltas }) {
            out.get_mut(at..at + 2)?
                .copy_from_slice(&chunk.to_be_bytes());
            at += 2;
        }
        for delta in deltas.iter().flatten() {
            let bytes = delta.to_be_bytes();
            let bytes = if symbol(Some(*delta)) == 1 {
                &bytes[1..]
            } else {
                &bytes[..]
            };
            out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
            at += bytes.len();
        }
        let len = at.next_multiple_of(4);
        let padding = out.get_mut(at..len)?;
        padding.fill(0);
        let padded = !padding.is_empty();
        if let Some(last) = padding.last_mut() {
            *last = (len - at) as u8;
        }
        fixed[0] = 0x80 | u8::from(padded) << 5 | RTPFB_TRANSPORT_CC;
        fixed[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        out.get_mut(..FIXED_BYTES)?.copy_from_slice(&fixed);
        Some(len)
    }
}

/// Packs status symbols into packet chunks (3.1.3, 3.1.4), longest reach first.
struct Chunks<'a> {
    rest: &'a [Option<i16>],
}

impl Iterator for Chunks<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let first = symbol(*self.rest.first()?);
        let run = self
            .rest
            .iter()
            .take(MAX_RUN)
            .take_while(|&&d| symbol(d) == first)
            .count();
        let one_bit = self.rest.len().min(ONE_BIT_SYMBOLS);
        let one_bit = if self.rest[..one_bit].iter().all(|&d| symbol(d) <= 1) {
            one_bit
        } else {
            0
        };
        let two_bit = self.rest.len().min(TWO_BIT_SYMBOLS);
        let (taken, chunk) = if run >= one_bit.max(two_bit) {
            (run, u16::from(first) << 13 | run as u16)
        } else if one_bit > 0 {
            (
                one_bit,
                0x8000 | pack(&self.rest[..one_bit], 1, ONE_BIT_SYMBOLS),
            )
        } else {
            (
                two_bit,
                0xc000 | pack(&self.rest[..two_bit], 2, TWO_BIT_SYMBOLS),
            )
        };
        self.rest = &self.rest[taken..];
        Some(chunk)
    }
}

/// A symbol list of `symbols` places of `bits` bits, the first one highest.
fn pack(deltas: &[Option<i16>], bits: u16, symbols: usize) -> u16 {
    let packed = deltas
        .iter()
        .fold(0, |list, &delta| list << bits | u16::from(symbol(delta)));
    packed << (bits * (symbols - deltas.len()) as u16)
}
