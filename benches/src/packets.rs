//! Packets like those a browser sends, and keys for many viewers.

use fanmill_engine::srtp::Profile;

/// Viewers whose keys are used in turn, as a fan-out does: enough that their key schedules do not
/// stay in the first-level cache.
pub const VIEWERS: usize = 1000;

/// RTP packets before sealing: a video packet, and an Opus packet.
pub const PACKET_BYTES: [usize; 2] = [1200, 120];

/// Length of the RTP header of [`packet`], in bytes.
pub const HEADER_BYTES: usize = 12;

/// Room for what sealing adds to a packet, in bytes.
pub const OVERHEAD_BYTES: usize = 16;

/// An RTP packet of `len` bytes with sequence number `sequence_number`.
#[must_use]
pub fn packet(sequence_number: u16, len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    packet[8..HEADER_BYTES].copy_from_slice(&[0, 0, 0x12, 0x34]);
    packet
}

/// The master key and salt of one direction, as bytes.
#[derive(Debug, Clone)]
pub struct Master {
    /// Key of the profile's length.
    pub key: Vec<u8>,
    /// Salt of the profile's length.
    pub salt: Vec<u8>,
}

impl Master {
    /// The keys of viewer `number`: different for each.
    #[must_use]
    pub fn new(profile: Profile, number: usize) -> Self {
        let number = number.to_le_bytes();
        let byte = |at: usize| (at * 31) as u8 ^ number[at % number.len()];
        Self {
            key: (0..profile.key_len()).map(byte).collect(),
            salt: (100..100 + profile.salt_len()).map(byte).collect(),
        }
    }
}
