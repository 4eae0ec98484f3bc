//! The floor under a fan-out: for each viewer and packet copy the header, patch it and seal from a
//! shared payload into the send buffer, and nothing else; side by side where the seal is cheaper so.
//! What the engine takes beyond it is what the engine adds.

use std::hint::black_box;
use std::time::Duration;

use fanmill_engine::packet::header;
use fanmill_engine::srtp::{MAX_TOGETHER, MasterKey, Profile, Sealer, ShortTag, Untagged, tags};

use crate::cpu_time::cpu_time;
use crate::frames::Frame;
use crate::packets::Master;
use crate::sink::ARENA_BYTES;

/// The fixed header, and mid, send time and transport-wide number: what the
/// [`Studio`](crate::Studio)'s viewers negotiate.
const HEADER_BYTES: usize = 28;
/// Where the transport-wide number is.
const TRANSPORT_CC_AT: u16 = 19;

/// One payload for each packet of the longest frame.
const MAX_PACKETS: usize = 64;
const MAX_PAYLOAD_BYTES: usize = 1200;

/// Room for the longest frame of as many viewers as are sealed together.
const SIDE_BY_SIDE_BYTES: usize =
    MAX_TOGETHER * MAX_PACKETS * (MAX_PAYLOAD_BYTES + 2 * HEADER_BYTES);

/// A bare loop over viewers and packets.
pub struct Floor {
    sealers: Vec<Sealer>,
    payloads: Vec<Vec<u8>>,
    arena: Box<[u8]>,
    index: u64,
}

impl Floor {
    /// A floor for as many `viewers`, each with a key of its own.
    ///
    /// # Panics
    /// Never: the keys are the profile's.
    #[must_use]
    pub fn new(viewers: usize, profile: Profile) -> Self {
        let sealer = |number: usize| {
            let master = Master::new(profile, number);
            let key = MasterKey::new(profile, &master.key, &master.salt);
            Sealer::new(profile, &key.expect("lengths of the profile")).expect("the same profile")
        };
        let payload = |number: usize| vec![number as u8; MAX_PAYLOAD_BYTES];
        Self {
            sealers: (0..viewers).map(sealer).collect(),
            payloads: (0..MAX_PACKETS).map(payload).collect(),
            arena: vec![0; ARENA_BYTES.max(SIDE_BY_SIDE_BYTES)].into(),
            index: 1,
        }
    }

    /// Copies, patches and seals one frame for every viewer; how much CPU time that took.
    ///
    /// # Panics
    /// When the frame has more than 64 packets.
    pub fn burst(&mut self, frame: &Frame) -> Duration {
        let mut headers = [[0; HEADER_BYTES]; MAX_PACKETS];
        for header in &mut headers {
            header[..2].copy_from_slice(&[0x90, 96]);
            header[12..16].copy_from_slice(&[0xbe, 0xde, 0, 3]);
        }
        let together = self.sealers.first().and_then(Sealer::prefers_company_of);
        let elapsed = cpu_time(|| {
            match together {
                Some(_) => self.side_by_side(frame, &mut headers),
                None => self.one_by_one(frame, &mut headers),
            }
            black_box(&self.arena);
        });
        self.index += frame.len() as u64;
        elapsed
    }

    fn one_by_one(&mut self, frame: &Frame, headers: &mut [[u8; HEADER_BYTES]]) {
        let mut used = 0;
        for (number, sealer) in self.sealers.iter().enumerate() {
            for (position, size) in frame.iter().enumerate() {
                let index = self.index + position as u64;
                let header = patched(&mut headers[position], index, number);
                if used + HEADER_BYTES + size + sealer.overhead() > ARENA_BYTES {
                    used = 0;
                }
                let payload = &self.payloads[position][..*size];
                let sealed = sealer.seal(index, header, payload, &mut self.arena[used..]);
                used += sealed.expect("the arena has room");
            }
        }
    }

    fn side_by_side(&mut self, frame: &Frame, headers: &mut [[u8; HEADER_BYTES]]) {
        for (group, sealers) in self.sealers.chunks(MAX_TOGETHER).enumerate() {
            let grown = HEADER_BYTES + sealers[0].overhead();
            let step: usize = frame.iter().map(|size| size + grown).sum();
            for (lane, sealer) in sealers.iter().enumerate() {
                let mut used = lane * step;
                for (position, size) in frame.iter().enumerate() {
                    let index = self.index + position as u64;
                    let number = group * MAX_TOGETHER + lane;
                    let header = patched(&mut headers[position], index, number);
                    let payload = &self.payloads[position][..*size];
                    let out = &mut self.arena[used..];
                    let len = sealer.encrypt(index, header, payload, out);
                    used += len.expect("the arena has room");
                }
            }
            let mut start = 0;
            for (position, size) in frame.iter().enumerate() {
                let end = start + HEADER_BYTES + size;
                let untagged = |lane: usize| Untagged {
                    sealer: &sealers[lane],
                    index: self.index + position as u64,
                    packet: &self.arena[lane * step + start..lane * step + end],
                };
                let mut made = [ShortTag::default(); MAX_TOGETHER];
                let mut packets = [untagged(0); MAX_TOGETHER];
                for (lane, packet) in packets.iter_mut().enumerate().take(sealers.len()) {
                    *packet = untagged(lane);
                }
                tags(&packets[..sealers.len()], &mut made).expect("packets of one length");
                for (lane, tag) in made.iter().enumerate().take(sealers.len()) {
                    self.arena[lane * step + end..][..tag.len()].copy_from_slice(tag);
                }
                start = end + sealers[0].overhead();
            }
        }
    }
}

/// A header with one viewer's numbers in it.
fn patched(header: &mut [u8; HEADER_BYTES], index: u64, viewer: usize) -> &[u8] {
    header::patch(header, index as u16, 90_000, viewer as u32);
    header::patch_transport_cc(header, TRANSPORT_CC_AT, index as u16);
    header
}
