//! SRTP: sealing and opening RTP packets, and SRTCP for the control packets beside them.
//!
//! A shard owns one [`Sealer`] per viewer, one [`Opener`] and one [`ReplayWindow`] per received
//! SSRC, and one [`RtcpSession`] per transport; all are made from the [`KeyMaterial`] that a DTLS
//! handshake exported. Sealing and opening RTP move a packet from one buffer to another and
//! encrypt it on the way; they keep no per-packet state and allocate nothing. Neither parses RTP:
//! the caller says where the header ends.
//!
//! With AES_CM_128_HMAC_SHA1_80 the hash costs most, and it is cheaper for many packets at once: see
//! [`Sealer::encrypt`] and [`tags`].
//!
//! This module must never trust a length or an index that came from the network, and must never
//! let a packet that fails authentication change anything that outlives the call.

mod cipher;
mod cm_sha1;
mod gcm;
mod keys;
mod profile;
mod replay;
mod rtcp;
mod rtcp_cipher;
mod sha1;

#[cfg(test)]
mod tests;

use cipher::Cipher;
pub use keys::{KeyMaterial, MasterKey};
pub use profile::Profile;
pub use replay::{REPLAY_WINDOW_LEN, ReplayWindow};
pub use rtcp::{MAX_RTCP_SOURCES, RtcpSession};
use sha1::Lanes;

// All of a transport's SRTP state moves to the transport's shard.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<(KeyMaterial, Sealer, Opener, ReplayWindow, RtcpSession)>();
};

/// The first packet index that does not exist: an SRTP key protects at most 2^48 packets.
// RFC 3711 9.2: the key must be replaced before the 48-bit index wraps.
pub const PACKET_INDEX_END: u64 = 1 << 48;

/// Length of an RTP header without CSRCs or extensions, in bytes (RFC 3550 5.1).
const RTP_FIXED_HEADER_LEN: usize = 12;

/// Why a packet was not sealed or opened, or keys were not accepted.
///
/// Every variant but [`SrtpError::BadKeyLength`] concerns one packet: drop it, count it and carry
/// on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// The authentication tag is not the one the key gives: the packet was altered, forged, or
    /// sealed with other keys or another rollover counter.
    #[error("SRTP authentication failed; drop the packet and check that both ends share keys")]
    AuthenticationFailed,
    /// The packet ends before its header, index or authentication tag does.
    #[error("SRTP packet is {len} bytes, at least {min} are needed; drop it")]
    TooShort {
        /// Length of what was given, in bytes.
        len: usize,
        /// Shortest length that could have been valid, in bytes.
        min: usize,
    },
    /// The output buffer cannot hold the result.
    #[error("output buffer is {len} bytes, {needed} are needed; pass a larger buffer")]
    BufferTooSmall {
        /// Length of the output buffer, in bytes.
        len: usize,
        /// Length of the result, in bytes.
        needed: usize,
    },
    /// A packet with this index was already accepted.
    #[error("packet index was already received; drop the replayed packet")]
    Replayed,
    /// The packet lies behind the replay window, so a replay could not be told from it.
    #[error("packet index is behind the replay window; drop the packet")]
    TooOld,
    /// The index given does not end in the sequence number the RTP header carries.
    #[error("packet index {index:#x} does not match the header's sequence number; fix the caller")]
    IndexMismatch {
        /// The 48-bit packet index given.
        index: u64,
    },
    /// The key has protected all the packets it may; the session needs new keys.
    #[error("packet index space of this key is used up; end the session or re-key it")]
    IndexExhausted,
    /// The packet is not an RTCP packet of version 2, or not encrypted where it must be.
    #[error("not an encrypted SRTCP packet of RTP version 2; drop it")]
    MalformedRtcp,
    /// More distinct authenticated SRTCP senders than a session keeps replay state for.
    #[error("peer sends RTCP from more SSRCs than are kept ({MAX_RTCP_SOURCES}); drop the packet")]
    TooManySources,
    /// Key material does not have the length its profile fixes.
    #[error("key material is {len} bytes, the profile needs {needed}; export the profile's length")]
    BadKeyLength {
        /// Length given, in bytes.
        len: usize,
        /// Length the profile needs, in bytes.
        needed: usize,
    },
    /// The cryptographic library refused an operation that should always succeed.
    #[error("cryptographic library refused the operation; end the session")]
    CryptoFailure,
}

/// Encrypts and authenticates the RTP packets of one SRTP session in one direction.
///
/// It serves every SSRC of the session, holds only session keys, and may be shared.
#[derive(Debug)]
pub struct Sealer(Cipher);

impl Sealer {
    /// Derives the session keys of `profile` from the local master key.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`] when `key` was made for another profile.
    pub fn new(profile: Profile, key: &MasterKey) -> Result<Self, SrtpError> {
        Cipher::new(profile, key).map(Self)
    }

    /// Bytes a sealed packet is longer than its plaintext.
    pub fn overhead(&self) -> usize {
        self.0.tag_len()
    }

    /// Seals one packet into `out` and returns its length,
    /// `header.len() + payload.len() + self.overhead()`.
    ///
    /// `index` is the 48-bit packet index, rollover counter above sequence number. `header` is the
    /// whole RTP header with its CSRCs and extensions, and is authenticated but not encrypted.
    /// With AES-GCM the payload is encrypted from where it lies into `out` in one pass. What
    /// follows the packet in `out` is left alone; after an error the contents of `out` are
    /// unspecified.
    ///
    /// No two different packets may ever be sealed with the same SSRC and index.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`] for a header under 12 bytes, [`SrtpError::IndexMismatch`],
    /// [`SrtpError::IndexExhausted`], [`SrtpError::BufferTooSmall`].
    pub fn seal(
        &self,
        index: u64,
        header: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let packet = self.lay_out(index, header, payload.len(), out)?;
        self.0.seal(packet, payload)
    }

    /// Seals one packet whose payload lies in several pieces, as that of a retransmission
    /// (original sequence number, then payload) or of a padded packet does.
    ///
    /// The pieces are gathered in `out` and encrypted there: a copy more than
    /// [`seal`](Self::seal), otherwise the same packet, result and errors.
    ///
    /// # Errors
    /// Those of [`seal`](Self::seal).
    pub fn seal_parts(
        &self,
        index: u64,
        header: &[u8],
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let payload_len = parts.iter().map(|part| part.len()).sum();
        let packet = self.lay_out(index, header, payload_len, out)?;
        self.0.seal_parts(packet, parts)
    }

    /// Whether packets of this sealer are sealed cheaper beside those of others, by
    /// [`encrypt`](Self::encrypt) and [`tags`], and if so, how many it takes at least.
    pub fn prefers_company_of(&self) -> Option<usize> {
        match self.0 {
            Cipher::CmSha1(_) => Lanes::detect().worthwhile(),
            Cipher::Gcm(_) => None,
        }
    }

    /// The first half of [`seal`](Self::seal), for sealers that
    /// [prefer company](Self::prefers_company_of): leaves out the tag, which is to be made by
    /// [`tags`] and written to the last [`overhead`](Self::overhead) bytes of the packet.
    ///
    /// # Errors
    /// Those of [`seal`](Self::seal).
    pub fn encrypt(
        &self,
        index: u64,
        header: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let packet = self.lay_out(index, header, payload.len(), out)?;
        self.0.encrypt(packet, payload)
    }

    /// Checks what a packet is made of, writes its header and cuts `out` to its length.
    fn lay_out<'a>(
        &self,
        index: u64,
        header: &[u8],
        payload_len: usize,
        out: &'a mut [u8],
    ) -> Result<Outgoing<'a>, SrtpError> {
        let id = PacketId::new(index, header)?;
        let needed = header
            .len()
            .saturating_add(payload_len)
            .saturating_add(self.overhead());
        let len = out.len();
        let out = out
            .get_mut(..needed)
            .ok_or(SrtpError::BufferTooSmall { len, needed })?;
        let (head, rest) = out.split_at_mut(header.len());
        head.copy_from_slice(header);
        let (body, tag) = rest.split_at_mut(payload_len);
        Ok(Outgoing {
            id,
            header: head,
            body,
            tag,
        })
    }
}

/// Most packets whose tags are made at once.
pub const MAX_TOGETHER: usize = sha1::MAX_LANES;

/// An authentication tag of AES_CM_128_HMAC_SHA1_80.
pub type ShortTag = [u8; Profile::Aes128CmSha1_80.tag_len()];

/// A packet that [`Sealer::encrypt`] has left without its tag.
#[derive(Debug, Clone, Copy)]
pub struct Untagged<'a> {
    /// What encrypted it.
    pub sealer: &'a Sealer,
    /// Its 48-bit packet index.
    pub index: u64,
    /// Header and encrypted payload.
    pub packet: &'a [u8],
}

/// Makes the tags of packets that have one length: the second half of sealing each of them.
///
/// # Errors
/// [`SrtpError::CryptoFailure`] when a sealer is not one that prefers company, when there are more
/// packets than [`MAX_TOGETHER`] or than tags, or when their lengths differ.
pub fn tags(packets: &[Untagged<'_>], tags: &mut [ShortTag]) -> Result<(), SrtpError> {
    let Some(first) = packets.first() else {
        return Ok(());
    };
    let len = first.packet.len();
    let alike = packets.iter().all(|packet| packet.packet.len() == len);
    if !alike || packets.len() > MAX_TOGETHER || packets.len() > tags.len() {
        return Err(SrtpError::CryptoFailure);
    }
    // Lanes without a packet are not looked at.
    let mut messages = [first.message()?; MAX_TOGETHER];
    for (message, packet) in messages.iter_mut().zip(packets) {
        *message = packet.message()?;
    }
    Lanes::detect().tags(&messages[..packets.len()], tags);
    Ok(())
}

impl Untagged<'_> {
    fn message(&self) -> Result<sha1::Message<'_>, SrtpError> {
        let Cipher::CmSha1(cipher) = &self.sealer.0 else {
            return Err(SrtpError::CryptoFailure);
        };
        let [_, _, r0, r1, r2, r3, _, _] = self.index.to_be_bytes();
        Ok(sha1::Message {
            key: cipher.mac_key(),
            packet: self.packet,
            rollover_counter: [r0, r1, r2, r3],
        })
    }
}

/// Authenticates and decrypts the RTP packets of one SRTP session in one direction.
///
/// It serves every SSRC of the session and holds only session keys; replays are the business of
/// the [`ReplayWindow`] of each SSRC.
#[derive(Debug)]
pub struct Opener(Cipher);

impl Opener {
    /// Derives the session keys of `profile` from the remote master key.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`] when `key` was made for another profile.
    pub fn new(profile: Profile, key: &MasterKey) -> Result<Self, SrtpError> {
        Cipher::new(profile, key).map(Self)
    }

    /// Bytes a sealed packet is longer than its plaintext.
    pub fn overhead(&self) -> usize {
        self.0.tag_len()
    }

    /// Opens `packet` into `out` and returns the length of the plaintext packet,
    /// `packet.len() - self.overhead()`.
    ///
    /// `index` is the 48-bit packet index that the SSRC's [`ReplayWindow`] estimated, `header_len`
    /// the length of the RTP header with its CSRCs and extensions. The header is copied, the rest
    /// decrypted from where it lies into `out`. What follows the packet in `out` is left alone;
    /// after an error the contents of `out` are unspecified and must not be read as media.
    ///
    /// # Errors
    /// [`SrtpError::AuthenticationFailed`]; [`SrtpError::TooShort`] when header and tag do not fit
    /// in the packet or `header_len` is under 12; [`SrtpError::IndexMismatch`],
    /// [`SrtpError::IndexExhausted`], [`SrtpError::BufferTooSmall`].
    pub fn open(
        &self,
        index: u64,
        header_len: usize,
        packet: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let min = header_len
            .max(RTP_FIXED_HEADER_LEN)
            .saturating_add(self.overhead());
        if packet.len() < min || header_len < RTP_FIXED_HEADER_LEN {
            return Err(SrtpError::TooShort {
                len: packet.len(),
                min,
            });
        }
        let (header, rest) = packet.split_at(header_len);
        let (body, tag) = rest.split_at(rest.len() - self.overhead());
        let id = PacketId::new(index, header)?;
        let len = out.len();
        let needed = header.len() + body.len();
        let out = out
            .get_mut(..needed)
            .ok_or(SrtpError::BufferTooSmall { len, needed })?;
        let (head, plain) = out.split_at_mut(header.len());
        self.0.open(
            &Incoming {
                id,
                header,
                body,
                tag,
            },
            plain,
        )?;
        head.copy_from_slice(header);
        Ok(needed)
    }
}

/// What tells one packet of a session from every other: its SSRC and 48-bit index.
#[derive(Debug, Clone, Copy)]
struct PacketId {
    ssrc: [u8; 4],
    /// Big-endian rollover counter (4 bytes) and sequence number (2 bytes).
    index: [u8; 6],
}

impl PacketId {
    /// Takes the SSRC from `header` and holds `index` against its sequence number: an index that
    /// does not belong to the header could repeat a nonce.
    fn new(index: u64, header: &[u8]) -> Result<Self, SrtpError> {
        let Some(fixed) = header.first_chunk::<RTP_FIXED_HEADER_LEN>() else {
            return Err(SrtpError::TooShort {
                len: header.len(),
                min: RTP_FIXED_HEADER_LEN,
            });
        };
        if index >= PACKET_INDEX_END {
            return Err(SrtpError::IndexExhausted);
        }
        let [_, _, i0, i1, i2, i3, i4, i5] = index.to_be_bytes();
        if [i4, i5] != [fixed[2], fixed[3]] {
            return Err(SrtpError::IndexMismatch { index });
        }
        let ssrc = [fixed[8], fixed[9], fixed[10], fixed[11]];
        Ok(Self {
            ssrc,
            index: [i0, i1, i2, i3, i4, i5],
        })
    }

    fn rollover_counter(&self) -> [u8; 4] {
        let [r0, r1, r2, r3, _, _] = self.index;
        [r0, r1, r2, r3]
    }
}

/// A packet being sealed: header written, body and tag still to be filled.
struct Outgoing<'a> {
    id: PacketId,
    header: &'a [u8],
    body: &'a mut [u8],
    tag: &'a mut [u8],
}

impl Outgoing<'_> {
    fn len(&self) -> usize {
        self.header.len() + self.body.len() + self.tag.len()
    }

    /// Writes the pieces of the payload one after the other; together they fill the body.
    fn gather(&mut self, parts: &[&[u8]]) {
        let mut rest = &mut *self.body;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
    }
}

/// A received packet cut into its three parts.
struct Incoming<'a> {
    id: PacketId,
    header: &'a [u8],
    body: &'a [u8],
    tag: &'a [u8],
}
