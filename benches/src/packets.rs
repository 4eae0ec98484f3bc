//! Packets like those a browser sends, and keys for many viewers.

use fanmill_engine::srtp::{KeyMaterial, Profile};

/// Viewers whose keys are used in turn, as a fan-out does: enough that their key schedules do not
/// stay in the first-level cache.
pub const VIEWERS: usize = 1000;

/// RTP packets before sealing: a video packet, and an Opus packet.
pub const PACKET_BYTES: [usize; 2] = [1200, 120];

/// Length of the RTP header of [`packet`], in bytes.
pub const HEADER_BYTES: usize = 12;

/// An RTP packet of `len` bytes with sequence number `sequence_number`.
#[must_use]
pub fn packet(sequence_number: u16, len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    packet[8..HEADER_BYTES].copy_from_slice(&[0, 0, 0x12, 0x34]);
    packet
}

/// What DTLS exported for viewer `number`: different for each.
#[must_use]
pub fn exported(profile: Profile, number: usize) -> Vec<u8> {
    (0..KeyMaterial::exporter_len(profile))
        .map(|at| (at * 31 + number * 17 + (number >> 8)) as u8)
        .collect()
}

/// The keys of viewer `number`, seen from the server.
///
/// # Panics
/// Never: the exported length is the profile's.
#[must_use]
pub fn keys(profile: Profile, number: usize) -> KeyMaterial {
    KeyMaterial::from_dtls_exporter(profile, &exported(profile, number), true)
        .expect("the length is the profile's")
}
