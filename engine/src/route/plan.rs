//! What viewers that negotiated alike share of a burst: the outgoing headers, built once, and how
//! the packets are grouped into trains. A viewer then only patches its own numbers in.

use std::num::NonZeroU64;

use crate::command::{OutgoingPayload, PayloadMap};
use crate::limits::SLOT_BYTES;
use crate::packet::extension::{ExtensionMap, abs_send_time};
use crate::packet::header::{self, Fields, HeaderTemplate, MAX_TEMPLATE_BYTES, Target};
use crate::packet::red;
use crate::pool::Packet;
use crate::route::train::Train;
use crate::route::viewer::Passed;

/// A header with every extension that browsers send. More room is made once it is needed: each
/// layout has its own, and every viewer may ask for one of its own.
const TYPICAL_HEADER_BYTES: usize = 72;

/// Everything two viewers must have in common to share headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayoutKey {
    pub(crate) extensions: ExtensionMap,
    pub(crate) mid: String,
    pub(crate) allow_two_byte: bool,
    pub(crate) payloads: PayloadMap,
}

/// One way of sending a rendition, with the headers of the burst at hand.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) key: LayoutKey,
    /// Viewers that use it.
    pub(crate) users: u32,
    headers: Vec<u8>,
    planned: Vec<Planned>,
    trains: Vec<Train>,
    /// Room for the trains while some are broken up.
    spare: Vec<Train>,
    /// Payloads that were padded, or whose redundancy is described anew.
    padded: Vec<u8>,
    lowest_index: u64,
    /// The packets of the burst that this layout sends.
    passed: Passed,
}

/// One packet of the burst under this layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    /// Place in the burst.
    pub(crate) packet: usize,
    header_start: usize,
    template: HeaderTemplate,
    plain_len: usize,
    padding_bytes: usize,
    /// Where its payload is, if it is not the packet's own.
    padded_start: Option<usize>,
}

impl Layout {
    /// A layout with room for bursts of `packets`.
    pub(crate) fn new(key: LayoutKey, packets: usize) -> Self {
        Self {
            key,
            users: 0,
            headers: Vec::with_capacity(packets * TYPICAL_HEADER_BYTES + MAX_TEMPLATE_BYTES),
            planned: Vec::with_capacity(packets),
            trains: Vec::with_capacity(packets),
            spare: Vec::with_capacity(packets),
            padded: Vec::with_capacity(packets * SLOT_BYTES),
            lowest_index: u64::MAX,
            passed: Passed::default(),
        }
    }

    /// Builds the headers of a burst and groups it, in trains of at least `least` packets; with
    /// `may_pad`, equalising sizes.
    pub(crate) fn prepare(&mut self, burst: &[Packet], may_pad: bool, least: usize) {
        self.headers.clear();
        self.planned.clear();
        self.trains.clear();
        self.padded.clear();
        self.lowest_index = u64::MAX;
        self.passed = Passed::default();
        for (position, packet) in burst.iter().enumerate() {
            self.plan(position, packet, may_pad);
        }
        self.break_up(least);
        for train in 0..self.trains.len() {
            self.pad(train, burst);
        }
    }

    fn plan(&mut self, position: usize, packet: &Packet, may_pad: bool) {
        let start = self.headers.len();
        self.headers.resize(start + MAX_TEMPLATE_BYTES, 0);
        let built = self.key.build_header(packet, &mut self.headers[start..]);
        let Some(template) = built else {
            self.headers.truncate(start);
            return;
        };
        self.headers.truncate(start + template.len);
        let (padded_start, payload_len) = match self.key.redundancy(packet) {
            None => (None, usize::from(packet.info.payload_len)),
            Some(redundant) => {
                let start = self.padded.len();
                self.padded.extend_from_slice(redundant.headers());
                self.padded.extend_from_slice(redundant.blocks);
                (Some(start), self.padded.len() - start)
            }
        };
        let plain_len = template.len + payload_len;
        let entry = Planned {
            packet: position,
            header_start: start,
            template,
            plain_len,
            padding_bytes: 0,
            padded_start,
        };
        self.lowest_index = self.lowest_index.min(packet.info.index);
        self.passed.add(&packet.info);
        let redundancy = payload_len - usize::from(packet.info.payload_len);
        self.passed.add_redundancy(redundancy as u64);
        self.planned.push(entry);
        let place = self.planned.len() - 1;
        Train::join(&mut self.trains, place, plain_len, may_pad);
    }

    /// Makes single packets of trains of fewer than `least`.
    fn break_up(&mut self, least: usize) {
        let too_short = |train: &Train| train.count > 1 && train.count < least;
        if !self.trains.iter().any(too_short) {
            return;
        }
        std::mem::swap(&mut self.trains, &mut self.spare);
        self.trains.clear();
        for train in self.spare.drain(..) {
            if too_short(&train) {
                let packets = train.first..train.first + train.count;
                let planned = &self.planned;
                let singles = packets.map(|at| Train::new(at, planned[at].plain_len));
                self.trains.extend(singles);
            } else {
                self.trains.push(train);
            }
        }
    }

    /// Pads the packets of a train that need it, on a copy: the slots are shared.
    fn pad(&mut self, train: usize, burst: &[Packet]) {
        let train = &mut self.trains[train];
        for place in train.first..train.first + train.count {
            let planned = &mut self.planned[place];
            let padding = train.padding(place, planned.plain_len);
            if padding == 0 {
                continue;
            }
            let start = self.padded.len();
            match planned.padded_start {
                Some(first) => {
                    let payload_len = planned.plain_len - planned.template.len;
                    self.padded.extend_from_within(first..first + payload_len);
                }
                None => self
                    .padded
                    .extend_from_slice(burst[planned.packet].payload()),
            }
            planned.padded_start = Some(start);
            planned.plain_len += padding;
            planned.padding_bytes = padding;
            train.packets_padded += 1;
            train.padding_bytes += padding;
            // RFC 3550 5.1: the P bit, and the count as the last byte of the padding.
            self.headers[planned.header_start] |= 0x20;
            self.padded.resize(self.padded.len() + padding - 1, 0);
            self.padded.push(padding as u8);
        }
    }

    /// The lowest source index of the burst that this layout sends.
    pub(crate) fn lowest_index(&self) -> u64 {
        self.lowest_index
    }

    /// The packets of the burst that this layout sends, for those who receive all of them.
    pub(crate) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// The trains of the burst.
    pub(crate) fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// How many packets of the burst this layout sends.
    pub(crate) fn planned_count(&self) -> usize {
        self.planned.len()
    }

    /// One packet of a train, by its place in the plan.
    pub(crate) fn planned(&self, place: usize) -> Planned {
        self.planned[place]
    }

    /// A packet's header with one viewer's numbers in it, and its payload.
    pub(crate) fn parts<'a>(
        &'a mut self,
        planned: &Planned,
        packet: &'a Packet,
        (index, timestamp, ssrc): (u64, u32, u32),
        next_transport_cc: &mut u16,
    ) -> (&'a [u8], &'a [u8]) {
        let header = &mut self.headers[planned.header_start..][..planned.template.len];
        header::patch(header, index as u16, timestamp, ssrc);
        if let Some(offset) = planned.template.transport_cc_offset {
            header::patch_transport_cc(header, offset, *next_transport_cc);
            *next_transport_cc = next_transport_cc.wrapping_add(1);
        }
        let payload = match planned.padded_start {
            Some(start) => &self.padded[start..][..planned.plain_len - header.len()],
            None => packet.payload(),
        };
        (header, payload)
    }
}

impl Planned {
    /// Bytes of the packet before sealing.
    pub(crate) fn plain_len(&self) -> usize {
        self.plain_len
    }

    /// Bytes of padding in it.
    pub(crate) fn padding_bytes(&self) -> usize {
        self.padding_bytes
    }
}

/// A payload of RFC 2198 whose blocks are named by a viewer's payload type.
pub(crate) struct Redundant<'a> {
    headers: [u8; red::MAX_HEADERS_BYTES],
    headers_len: usize,
    /// What follows the headers.
    pub(crate) blocks: &'a [u8],
}

impl Redundant<'_> {
    /// The headers of all blocks.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers[..self.headers_len]
    }
}

impl LayoutKey {
    /// Whether packets may be padded under this layout. One that may be resent as it was first sent
    /// must not depend on the burst it was in.
    pub(crate) fn may_pad(&self) -> bool {
        let mut payloads = self.payloads.iter().flatten();
        !payloads.any(OutgoingPayload::resent_as_was)
    }

    /// Whether a packet of the codec at this position of the list is sent again if asked for.
    pub(crate) fn resends(&self, codec: u8) -> bool {
        let payload = self.payloads.get(usize::from(codec));
        let payload = payload.and_then(Option::as_ref);
        payload.is_some_and(|payload| payload.nack || payload.rtx_payload_type.is_some())
    }

    /// Whether viewers of this layout can decode the codec at this position of the list.
    pub(crate) fn plays(&self, codec: u8) -> bool {
        matches!(self.payloads.get(usize::from(codec)), Some(Some(_)))
    }

    /// The header of a packet for viewers of this layout, or `None` if they cannot decode it.
    pub(crate) fn build_header(&self, packet: &Packet, out: &mut [u8]) -> Option<HeaderTemplate> {
        let payload = (*self.payloads.get(usize::from(packet.info.codec))?)?;
        let redundant = payload.red_payload_type;
        let redundant = redundant.filter(|_| packet.info.redundancy_len > 0);
        self.build(packet, redundant.unwrap_or(payload.payload_type), out)
    }

    /// The redundant form of a packet that came in it, for viewers who take it.
    pub(crate) fn redundancy<'a>(&self, packet: &'a Packet) -> Option<Redundant<'a>> {
        let payload = (*self.payloads.get(usize::from(packet.info.codec))?)?;
        if packet.info.redundancy_len == 0 || payload.red_payload_type.is_none() {
            return None;
        }
        let whole = packet.redundant_payload();
        let (headers, blocks) = whole.split_at(red::headers_len(whole));
        let mut redundant = Redundant {
            headers: [0; red::MAX_HEADERS_BYTES],
            headers_len: headers.len(),
            blocks,
        };
        let ours = redundant.headers.get_mut(..headers.len())?;
        ours.copy_from_slice(headers);
        red::rename_blocks(ours, payload.payload_type);
        Some(redundant)
    }

    /// The header of a packet's retransmission (RFC 4588), or `None` without RTX.
    pub(crate) fn build_rtx_header(
        &self,
        packet: &Packet,
        out: &mut [u8],
    ) -> Option<HeaderTemplate> {
        let payload = (*self.payloads.get(usize::from(packet.info.codec))?)?;
        self.build(packet, payload.rtx_payload_type?, out)
    }

    fn build(&self, packet: &Packet, payload_type: u8, out: &mut [u8]) -> Option<HeaderTemplate> {
        // The time of arrival, not of sending: a packet resent under the same index must be the
        // same to the last byte, or one nonce would have sealed two texts.
        let fields = Fields {
            payload_type,
            marker: packet.info.marker,
            abs_send_time: Some(abs_send_time(packet.info.arrival_us)),
            playout_delay: packet.info.playout_delay,
            abs_capture_time: packet.info.capture_time.map(NonZeroU64::get),
            ..Fields::default()
        };
        let target = Target {
            extensions: &self.extensions,
            mid: self.mid.as_bytes(),
            allow_two_byte: self.allow_two_byte,
        };
        HeaderTemplate::build(
            out,
            &fields,
            packet.bytes(),
            &packet.info.extensions,
            &target,
        )
        .ok()
    }
}
