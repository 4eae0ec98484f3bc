//! Eight lanes of AVX2. One of the few places with `unsafe`: the loads, and the call of code
//! compiled for a processor that is known to be this one.

use std::arch::x86_64::*;

use super::lanes::{ROUND_CONSTANTS, hash_in_lanes};
use super::scalar::leading_bytes;
use super::{BLOCK_BYTES, Lanes, Message, OUTER_BITS, OUTER_PADDING, TAG_BYTES, Tail};

/// Packets that are hashed at once.
pub(super) const LANES: usize = 8;

type Vector = __m256i;

/// The tags of 1 to 8 messages of one length.
///
/// # Panics
/// When the processor has no AVX2.
pub(super) fn tags(messages: &[Message<'_>], tags: &mut [[u8; TAG_BYTES]]) {
    assert!(Lanes::Avx2.are_available());
    // SAFETY: the processor has the features that the function is compiled for.
    unsafe { tags_in_lanes(messages, tags) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> Vector {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn from_lanes(lane: impl Fn(usize) -> u32) -> Vector {
    let lanes: [u32; LANES] = std::array::from_fn(lane);
    // SAFETY: the array is as long as the register, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn to_lanes(vector: Vector) -> [u32; LANES] {
    let mut lanes = [0u32; LANES];
    // SAFETY: the array is as long as the register, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: Vector, b: Vector) -> Vector {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_1(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<1>(a), _mm256_srli_epi32::<31>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_5(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<5>(a), _mm256_srli_epi32::<27>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_30(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<30>(a), _mm256_srli_epi32::<2>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_xor_si256(_mm256_xor_si256(b, c), d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    let either = _mm256_or_si256(b, c);
    _mm256_or_si256(_mm256_and_si256(b, c), _mm256_and_si256(d, either))
}

/// One block of every lane as sixteen words of all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn load(blocks: [&[u8; BLOCK_BYTES]; LANES]) -> [Vector; 16] {
    let mut words = [splat(0); 16];
    let (first, second) = words.split_at_mut(8);
    first.copy_from_slice(&load_half(blocks, 0));
    second.copy_from_slice(&load_half(blocks, BLOCK_BYTES / 2));
    words
}

/// Half a block of every lane: a transposition of 8 x 8 words, in three rounds of interleaving, and
/// the bytes of each word turned.
#[inline]
#[target_feature(enable = "avx2")]
fn load_half(blocks: [&[u8; BLOCK_BYTES]; LANES], offset: usize) -> [Vector; 8] {
    let rows = blocks.map(|block| {
        let half: &[u8] = &block[offset..offset + BLOCK_BYTES / 2];
        // SAFETY: half a block is as long as the register, and the load needs no alignment.
        unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
    });
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm256_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm256_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    let mut fours = pairs;
    for at in (0..LANES).step_by(4) {
        fours[at] = _mm256_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm256_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm256_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm256_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    // Now `fours[4h + w]` holds, in its half `k`, word `4k + w` of lanes `4h` to `4h + 3`.
    let turn = _mm256_broadcastsi128_si256(_mm_set_epi8(
        12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
    ));
    let mut words = fours;
    for word in 0..4 {
        let (low, high) = (fours[word], fours[4 + word]);
        words[word] = _mm256_permute2x128_si256::<0x20>(low, high);
        words[4 + word] = _mm256_permute2x128_si256::<0x31>(low, high);
    }
    words.map(|word| _mm256_shuffle_epi8(word, turn))
}

hash_in_lanes!("avx2");
