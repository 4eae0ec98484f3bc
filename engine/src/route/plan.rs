//! What viewers that negotiated alike share of a burst: the outgoing headers, built once, and how
//! the packets are grouped into trains. A viewer then only patches its own numbers in.

use crate::command::PayloadMap;
use crate::io::{MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS};
use crate::packet::extension::{ExtensionMap, abs_send_time};
use crate::packet::header::{self, Fields, HeaderTemplate, MAX_TEMPLATE_BYTES, Target};
use crate::pool::Packet;
use crate::srtp::Profile;

/// The most that sealing adds to a packet.
const MAX_TAG_LEN: usize = Profile::AeadAes128Gcm.tag_len();

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
    runs: Vec<Run>,
    lowest_index: u64,
}

/// One packet of the burst under this layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    /// Place in the burst.
    pub(crate) packet: usize,
    header_start: usize,
    template: HeaderTemplate,
    plain_len: usize,
}

/// Consecutive packets that leave as one send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Place in the plan of its first packet.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Bytes of all its packets before sealing.
    pub(crate) plain_bytes: usize,
    /// Bytes before sealing of each packet but the last.
    pub(crate) segment_plain_bytes: usize,
}

impl Layout {
    /// A layout with room for bursts of `packets`.
    pub(crate) fn new(key: LayoutKey, packets: usize) -> Self {
        Self {
            key,
            users: 0,
            headers: Vec::with_capacity(packets * MAX_TEMPLATE_BYTES),
            planned: Vec::with_capacity(packets),
            runs: Vec::with_capacity(packets),
            lowest_index: u64::MAX,
        }
    }

    /// Builds the headers of a burst and groups it.
    pub(crate) fn prepare(&mut self, burst: &[Packet]) {
        self.headers.clear();
        self.planned.clear();
        self.runs.clear();
        self.lowest_index = u64::MAX;
        for (position, packet) in burst.iter().enumerate() {
            self.plan(position, packet);
        }
    }

    fn plan(&mut self, position: usize, packet: &Packet) {
        let start = self.headers.len();
        self.headers.resize(start + MAX_TEMPLATE_BYTES, 0);
        let built = self.key.build_header(packet, &mut self.headers[start..]);
        let Some(template) = built else {
            self.headers.truncate(start);
            return;
        };
        self.headers.truncate(start + template.len);
        let plain_len = template.len + usize::from(packet.info.payload_len);
        let entry = Planned {
            packet: position,
            header_start: start,
            template,
            plain_len,
        };
        self.lowest_index = self.lowest_index.min(packet.info.index);
        self.planned.push(entry);
        let extended = self
            .runs
            .last_mut()
            .is_some_and(|run| run.extend(plain_len));
        if !extended {
            self.runs.push(Run::new(self.planned.len() - 1, plain_len));
        }
    }

    /// The lowest source index of the burst that this layout sends.
    pub(crate) fn lowest_index(&self) -> u64 {
        self.lowest_index
    }

    /// The trains of the burst.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// One packet of a train, by its place in the plan.
    pub(crate) fn planned(&self, place: usize) -> Planned {
        self.planned[place]
    }

    /// A packet's header with one viewer's numbers in it.
    pub(crate) fn header(
        &mut self,
        planned: &Planned,
        index: u64,
        timestamp: u32,
        ssrc: u32,
        next_transport_cc: &mut u16,
    ) -> &[u8] {
        let header = &mut self.headers[planned.header_start..][..planned.template.len];
        header::patch(header, index as u16, timestamp, ssrc);
        if let Some(offset) = planned.template.transport_cc_offset {
            header::patch_transport_cc(header, offset, *next_transport_cc);
            *next_transport_cc = next_transport_cc.wrapping_add(1);
        }
        header
    }
}

impl Planned {
    /// Bytes of the packet before sealing.
    pub(crate) fn plain_len(&self) -> usize {
        self.plain_len
    }
}

impl LayoutKey {
    /// The header of a packet for viewers of this layout, or `None` if they cannot decode it.
    pub(crate) fn build_header(&self, packet: &Packet, out: &mut [u8]) -> Option<HeaderTemplate> {
        let payload = (*self.payloads.get(usize::from(packet.info.codec))?)?;
        self.build(packet, payload.payload_type, out)
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

impl Run {
    fn new(first: usize, plain_len: usize) -> Self {
        Self {
            first,
            count: 1,
            plain_bytes: plain_len,
            segment_plain_bytes: plain_len,
        }
    }

    /// Takes one more packet if it fits the train: every segment but the last is of one size, and
    /// the last is not longer.
    fn extend(&mut self, plain_len: usize) -> bool {
        let closed = self.plain_bytes != self.count * self.segment_plain_bytes;
        let sealed = self.plain_bytes + plain_len + (self.count + 1) * MAX_TAG_LEN;
        if closed
            || plain_len > self.segment_plain_bytes
            || self.count == MAX_TRAIN_SEGMENTS
            || sealed > MAX_TRAIN_BYTES
        {
            return false;
        }
        self.count += 1;
        self.plain_bytes += plain_len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(sizes: &[usize]) -> Vec<usize> {
        let mut runs: Vec<Run> = Vec::new();
        for (position, size) in sizes.iter().enumerate() {
            if !runs.last_mut().is_some_and(|run| run.extend(*size)) {
                runs.push(Run::new(position, *size));
            }
        }
        runs.iter().map(|run| run.count).collect()
    }

    #[test]
    fn a_train_is_equal_segments_and_one_shorter_at_the_end() {
        assert_eq!(grouped(&[1200, 1200, 700, 1200]), [3, 1]);
        assert_eq!(grouped(&[700, 1200, 1200]), [1, 2]);
        assert_eq!(grouped(&[1199, 1200, 1199]), [1, 2]);
        assert_eq!(grouped(&[]), []);
    }

    #[test]
    fn a_train_ends_at_what_the_kernel_takes() {
        assert_eq!(grouped(&[100; 70]), [MAX_TRAIN_SEGMENTS, 6]);
        let most = grouped(&[1400; 60])[0];
        assert!(most * (1400 + MAX_TAG_LEN) <= MAX_TRAIN_BYTES);
        assert!((most + 1) * (1400 + MAX_TAG_LEN) > MAX_TRAIN_BYTES);
    }
}
