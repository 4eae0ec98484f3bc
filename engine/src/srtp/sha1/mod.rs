//! HMAC-SHA1 of many packets at once, one packet in each lane of the processor's vector registers.
//!
//! A packet that goes to many viewers is authenticated under each one's key: messages of one
//! length, which is what lanes want. Sixteen of them in AVX-512, or eight in AVX2, cost about as
//! much as two by themselves. Called by [`super::cm_sha1`], which has the one-by-one way for
//! processors without either, and for what is left over. It never sees plaintext and compares no
//! tags: it only makes them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
mod scalar;

#[cfg(test)]
mod tests;

/// Bytes that are hashed at once.
const BLOCK_BYTES: usize = 64;

/// Bytes of an HMAC-SHA1-80 tag (RFC 3711 4.2.1).
pub(super) const TAG_BYTES: usize = 10;

/// What is hashed behind the packet: its rollover counter (RFC 3711 4.2).
const SUFFIX_BYTES: usize = 4;

/// Most lanes of any processor.
pub(super) const MAX_LANES: usize = 16;

/// A SHA-1 state (FIPS 180-4 5.3.1).
type State = [u32; 5];

const INITIAL: State = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// An HMAC key as two hash states: after the inner and after the outer padded key (RFC 2104 4).
pub(super) struct MacKey {
    inner: State,
    outer: State,
}

impl MacKey {
    /// Hashes a key of at most one block.
    pub(super) fn new(key: &[u8]) -> Self {
        let state = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = INITIAL;
            scalar::compress(&mut state, &block);
            state
        };
        Self {
            inner: state(0x36),
            outer: state(0x5c),
        }
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        self.inner = INITIAL;
        self.outer = INITIAL;
        // Seen as a use, so that the overwriting is not optimised away.
        std::hint::black_box(&*self);
    }
}

/// A packet to authenticate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) key: &'a MacKey,
    /// Header and encrypted payload.
    pub(super) packet: &'a [u8],
    pub(super) rollover_counter: [u8; SUFFIX_BYTES],
}

/// The widest registers this processor has for the purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// None: one by one is as good.
    One,
}

impl Lanes {
    /// The widest first.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        Self::One,
    ];

    /// The widest that this processor has.
    pub(super) fn detect() -> Self {
        let available = Self::ALL.iter().find(|lanes| lanes.are_available());
        *available.unwrap_or(&Self::One)
    }

    /// Whether this processor has them; it is asked only once.
    fn are_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                std::is_x86_feature_detected!("avx512f")
                    && std::is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
            Self::One => true,
        }
    }

    /// How many packets are worth hashing together at least, if that is ever worth it.
    pub(super) fn worthwhile(self) -> Option<usize> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => Some(3),
            Self::One => None,
        }
    }

    /// The tags of `messages`, which have one length; as many are made as there are messages.
    ///
    /// # Panics
    /// When there are more than [`MAX_LANES`] messages, fewer tags than messages, or lengths differ.
    pub(super) fn tags(self, messages: &[Message<'_>], tags: &mut [[u8; TAG_BYTES]]) {
        let tags = &mut tags[..messages.len()];
        let equal = |pair: &[Message<'_>]| pair[0].packet.len() == pair[1].packet.len();
        assert!(
            messages.len() <= MAX_LANES && messages.windows(2).all(equal),
            "messages side by side are of one length"
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::tags(messages, tags),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                let width = avx2::LANES;
                for (messages, tags) in messages.chunks(width).zip(tags.chunks_mut(width)) {
                    avx2::tags(messages, tags);
                }
            }
            Self::One => {
                for (message, tag) in messages.iter().zip(tags) {
                    *tag = scalar::tag(message);
                }
            }
        }
    }
}

/// The end of a message as it is hashed: the bytes behind its last whole block, the rollover
/// counter, and the padding (FIPS 180-4 5.1.1), which counts the padded key before the message.
struct Tail {
    bytes: [u8; 2 * BLOCK_BYTES],
    blocks: usize,
}

impl Tail {
    fn new(message: &Message<'_>) -> Self {
        let packet = message.packet;
        let rest = &packet[packet.len() - packet.len() % BLOCK_BYTES..];
        let mut bytes = [0; 2 * BLOCK_BYTES];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()..][..SUFFIX_BYTES].copy_from_slice(&message.rollover_counter);
        bytes[rest.len() + SUFFIX_BYTES] = 0x80;
        let blocks = (rest.len() + SUFFIX_BYTES + 1 + 8).div_ceil(BLOCK_BYTES);
        let bits = 8 * (BLOCK_BYTES + packet.len() + SUFFIX_BYTES) as u64;
        bytes[blocks * BLOCK_BYTES - 8..][..8].copy_from_slice(&bits.to_be_bytes());
        Self { bytes, blocks }
    }
}

/// The inner digest is one block of the outer hash: these words follow it there.
const OUTER_PADDING: u32 = 0x8000_0000;
const OUTER_BITS: u32 = 8 * (BLOCK_BYTES as u32 + 20);
