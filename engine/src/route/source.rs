//! The home of a rendition: what comes from the publisher, put in order of number, without
//! duplicates, with losses asked for once.

use crate::command::{EncodingSpec, IncomingCodec};
use crate::counters::DropReason;
use crate::levels::LatestLevels;
use crate::limits::INACTIVE_AFTER_US;
use crate::packet::codec::{Codec, MediaKind, Resolution, is_keyframe_start, resolution};
use crate::packet::dependency::DependencyDescriptor;
use crate::packet::extension::Extension;
use crate::packet::layer::LayerMark;
use crate::packet::loss::{NackTracker, ReceptionStatistics};
use crate::packet::rtcp::{ReportBlock, SenderInfo};
use crate::packet::rtp::SequenceExtender;
use crate::pool::Slot;
use crate::route::clock::SenderClock;
use crate::route::duplicate::{DuplicateFilter, Verdict};
use crate::route::keyframe::KeyframeRequests;
use crate::route::layers::LayerReader;
use crate::route::stamp::Stamps;

/// How far ahead of what came a retransmission may be: a probe may repeat the last packets, lost
/// or not, before anything tells that they are missing.
const RETRANSMISSION_AHEAD: u64 = 16;

/// Over about so many seconds the mean bitrate goes: an encoder's second with a keyframe, or with nothing
/// to show, is nothing to choose by.
const MEAN_SECONDS: u64 = 4;

/// After this long a silence an SSRC that was given up for another may take over again.
const SSRC_SILENCE_US: u64 = 1_000_000;

/// One encoding of a publisher's track.
pub(crate) struct Source {
    pub(crate) spec: EncodingSpec,
    /// Place of its rendition in the shard's table.
    pub(crate) rendition: u32,
    /// The SSRC it was last received on.
    pub(crate) ssrc: Option<u32>,
    pub(crate) keyframes: KeyframeRequests,
    pub(crate) fir_sequence: u8,
    nacks: NackTracker,
    reception: ReceptionStatistics,
    clock_rate: u32,
    extender: SequenceExtender,
    duplicates: DuplicateFilter,
    layers: LayerReader,
    codec: Option<u8>,
    keyframe_timestamp: Option<u32>,
    /// As the publisher last reported it.
    clock: Option<SenderClock>,
    pub(crate) stamps: Stamps,
    last_packet_us: u64,
    active: bool,
    tally: Tally,
}

/// Plain counts, published once a second; the levels at each tick.
#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    bytes: u64,
    restored: u64,
    keyframes: u64,
    keyframe_requests: u64,
    published_bytes: u64,
    published_us: u64,
    mean_bps: u64,
    resolution: Option<Resolution>,
    levels: LatestLevels,
}

/// A change the control plane is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Packets came, after none or with another codec.
    Active(u8),
    /// No packets for a while.
    Inactive,
}

/// How a packet came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) sequence_number: u16,
    pub(crate) codec: u8,
    /// It came as a retransmission.
    pub(crate) restored: bool,
    /// When it came in.
    pub(crate) received_us: u64,
}

impl Source {
    /// A source whose timestamps count `clock_rate` Hz.
    pub(crate) fn new(spec: EncodingSpec, rendition: u32, clock_rate: u32, stamps: Stamps) -> Self {
        Self {
            ssrc: spec.ssrc,
            spec,
            rendition,
            keyframes: KeyframeRequests::default(),
            fir_sequence: 0,
            nacks: NackTracker::new(),
            reception: ReceptionStatistics::new(clock_rate),
            clock_rate,
            extender: SequenceExtender::new(),
            duplicates: DuplicateFilter::default(),
            layers: LayerReader::default(),
            codec: None,
            keyframe_timestamp: None,
            clock: None,
            stamps,
            last_packet_us: 0,
            active: false,
            tally: Tally::default(),
        }
    }

    /// Numbers a packet whose payload and timestamp are already known, or says why it is dropped.
    ///
    /// # Errors
    /// The reason to count.
    pub(crate) fn admit(
        &mut self,
        slot: &mut Slot,
        codec: &IncomingCodec,
        received: Received,
    ) -> Result<Option<Activity>, DropReason> {
        if received.restored {
            self.expect(received.sequence_number)?;
        }
        let index = self.extender.extend(received.sequence_number);
        match self.duplicates.admit(index) {
            Verdict::New => {}
            Verdict::Duplicate => return Err(DropReason::Duplicate),
            Verdict::TooLate => return Err(DropReason::TooLate),
        }
        self.nacks.on_packet(index, received.received_us);
        if received.restored {
            self.tally.restored += 1;
        } else {
            let timestamp = slot.info.timestamp;
            self.reception
                .on_packet(received.sequence_number, timestamp, received.received_us);
            if let Some((_, level)) = slot.info.extensions.audio_level(slot.bytes()) {
                self.tally.levels.note(level);
            }
        }
        slot.info.index = index;
        slot.info.origin = index;
        slot.info.arrival_us = received.received_us;
        slot.info.codec = received.codec;
        slot.info.keyframe_start = can_begin_with(codec, slot);
        slot.info.layer = LayerMark::NONE;
        if codec.codec.kind() == MediaKind::Video {
            if let Some(mark) = self.layers.read(codec.codec, slot) {
                self.layers.measure(&mark, slot.payload().len());
                slot.info.layer = mark;
            }
            if slot.info.keyframe_start {
                self.keyframe(codec, slot);
            }
        }
        self.stamps.stamp(
            slot,
            self.clock.as_ref(),
            codec.clock_rate,
            received.restored,
        );
        if self.tally.packets == 0 {
            self.tally.published_us = received.received_us;
        }
        self.tally.packets += 1;
        self.tally.bytes += slot.redundant_payload().len() as u64;
        Ok(self.note_activity(received))
    }

    /// Refuses a retransmission of what is not missing. Such a one may belong to an SSRC that was
    /// given up for another, whose numbers mean something else.
    fn expect(&self, sequence_number: u16) -> Result<(), DropReason> {
        let index = self.extender.peek(sequence_number);
        let next = self.extender.highest().ok_or(DropReason::TooLate)? + 1;
        if self.nacks.awaits(index) || (next..next + RETRANSMISSION_AHEAD).contains(&index) {
            return Ok(());
        }
        Err(match self.duplicates.contains(index) {
            true => DropReason::Duplicate,
            false => DropReason::TooLate,
        })
    }

    /// Judges a packet of an SSRC that is known to send this: the present one is right, one that
    /// was given up for it is late, or takes over again after a silence.
    pub(crate) fn resume(
        &mut self,
        ssrc: u32,
        sequence_number: u16,
        now_us: u64,
    ) -> Result<(), DropReason> {
        if self.ssrc == Some(ssrc) {
            return Ok(());
        }
        if now_us < self.last_packet_us + SSRC_SILENCE_US {
            return Err(DropReason::TooLate);
        }
        self.rebind(ssrc, sequence_number);
        Ok(())
    }

    fn keyframe(&mut self, codec: &IncomingCodec, slot: &Slot) {
        self.keyframes.came(slot.info.arrival_us);
        // Several packets of one picture may each be a start.
        if self.keyframe_timestamp.replace(slot.info.timestamp) != Some(slot.info.timestamp) {
            self.tally.keyframes += 1;
        }
        if let Some(found) = resolution(codec.codec, slot.payload()) {
            self.tally.resolution = Some(found);
        }
    }

    /// What a packet says of its layer that came before it could be understood.
    pub(crate) fn layer_of(&mut self, codec: Codec, slot: &Slot) -> LayerMark {
        self.layers.read(codec, slot).unwrap_or_default()
    }

    fn note_activity(&mut self, received: Received) -> Option<Activity> {
        self.last_packet_us = received.received_us;
        let changed = !self.active || self.codec != Some(received.codec);
        self.active = true;
        self.codec = Some(received.codec);
        changed.then_some(Activity::Active(received.codec))
    }

    /// Whether packets of it come.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// The control plane could not be told: with the next packet there is news again.
    pub(crate) fn tell_activity_again(&mut self) {
        self.active = false;
    }

    /// The control plane could not be told: the silence is noticed once more.
    pub(crate) fn tell_silence_again(&mut self) {
        self.active = true;
    }

    /// Says once when the rendition has fallen silent.
    pub(crate) fn check_silence(&mut self, now_us: u64) -> Option<Activity> {
        let silent = self.active && now_us >= self.last_packet_us + INACTIVE_AFTER_US;
        if silent {
            self.active = false;
        }
        silent.then_some(Activity::Inactive)
    }

    /// Starts afresh on a new SSRC: the numbers of the old one mean nothing any more, so the new
    /// ones go on above them.
    pub(crate) fn rebind(&mut self, ssrc: u32, sequence_number: u16) {
        if self.ssrc == Some(ssrc) {
            return;
        }
        if self.codec.is_some() {
            self.extender.restart(sequence_number);
            self.clock = None;
            self.nacks = NackTracker::new();
            self.reception = ReceptionStatistics::new(self.clock_rate);
        }
        self.ssrc = Some(ssrc);
    }

    /// What to ask the publisher for again now.
    pub(crate) fn missing<'a>(
        &mut self,
        now_us: u64,
        rtt_us: u64,
        out: &'a mut [u16],
    ) -> &'a [u16] {
        if rtt_us > 0 {
            self.nacks
                .set_rtt_us(rtt_us.min(u64::from(u32::MAX)) as u32);
        }
        self.nacks.poll(now_us, out)
    }

    /// Takes in the publisher's own report.
    pub(crate) fn sender_report(&mut self, info: &SenderInfo, now_us: u64) -> SenderClock {
        self.reception.on_sender_report(info, now_us);
        let clock = SenderClock {
            ntp: info.ntp_timestamp,
            rtp: info.rtp_timestamp,
            at_us: now_us,
        };
        self.clock = Some(clock);
        clock
    }

    /// What to report to the publisher; `None` before its first packet.
    pub(crate) fn report_block(&mut self, now_us: u64) -> Option<ReportBlock> {
        self.reception.report_block(self.ssrc?, now_us)
    }

    pub(crate) fn count_keyframe_request(&mut self) {
        self.tally.keyframe_requests += 1;
    }

    /// Copies the levels of sound to where the control plane reads them.
    pub(crate) fn publish_levels(&self) {
        let levels = self.tally.levels;
        let to = &self.spec.counters.levels;
        if to.latest() != levels {
            to.publish(levels);
        }
    }

    /// Copies the counts to where the control plane reads them.
    pub(crate) fn publish(&mut self, now_us: u64) {
        let tally = &mut self.tally;
        let to = &self.spec.counters;
        to.packets.set(tally.packets);
        to.bytes.set(tally.bytes);
        to.packets_restored.set(tally.restored);
        to.packets_given_up.set(self.nacks.counters().given_up);
        to.packets_lost
            .set(self.reception.lost().max(0).cast_unsigned());
        let jitter = u64::from(self.reception.jitter());
        to.jitter_us
            .set(jitter * 1_000_000 / u64::from(self.clock_rate.max(1)));
        to.keyframes.set(tally.keyframes);
        to.keyframe_requests.set(tally.keyframe_requests);
        to.codec_position
            .set(self.codec.map_or(0, |codec| u64::from(codec) + 1));
        let (width, height) = tally.resolution.map_or((0, 0), |r| (r.width, r.height));
        to.width.set(u64::from(width));
        to.height.set(u64::from(height));
        let elapsed_us = now_us.saturating_sub(tally.published_us);
        let bits = (tally.bytes - tally.published_bytes) * 8;
        if let Some(bitrate_bps) = bits.saturating_mul(1_000_000).checked_div(elapsed_us) {
            to.bitrate_bps.set(bitrate_bps);
            tally.mean_bps = match (tally.mean_bps, bitrate_bps) {
                // It begins, or has ended.
                (0, bps) | (_, bps @ 0) => bps,
                (mean, bps) => (mean * (MEAN_SECONDS - 1) + bps) / MEAN_SECONDS,
            };
            to.mean_bitrate_bps.set(tally.mean_bps);
        }
        self.layers.publish(&to.layers, elapsed_us);
        tally.published_bytes = tally.bytes;
        tally.published_us = now_us;
    }
}

/// Whether a receiver can begin with a packet: by what its publisher says of the frame, and where it
/// says nothing by the payload.
fn can_begin_with(codec: &IncomingCodec, slot: &Slot) -> bool {
    let descriptor = slot
        .info
        .extensions
        .get(slot.bytes(), Extension::DependencyDescriptor)
        .and_then(DependencyDescriptor::parse);
    descriptor.map_or_else(
        || is_keyframe_start(codec.codec, slot.payload()),
        |descriptor| descriptor.starts_keyframe(),
    )
}
