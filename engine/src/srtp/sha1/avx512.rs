//! Sixteen lanes of AVX-512. One of the few places with `unsafe`: the loads, and the call of code
//! compiled for a processor that is known to be this one.

use std::arch::x86_64::*;

use super::lanes::{ROUND_CONSTANTS, hash_in_lanes};
use super::scalar::leading_bytes;
use super::{BLOCK_BYTES, Lanes, Message, OUTER_BITS, OUTER_PADDING, TAG_BYTES, Tail};

const LANES: usize = 16;

type Vector = __m512i;

/// The tags of 1 to 16 messages of one length.
///
/// # Panics
/// When the processor has no AVX-512.
pub(super) fn tags(messages: &[Message<'_>], tags: &mut [[u8; TAG_BYTES]]) {
    assert!(Lanes::Avx512.are_available());
    // SAFETY: the processor has the features that the function is compiled for.
    unsafe { tags_in_lanes(messages, tags) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(word: u32) -> Vector {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn from_lanes(lane: impl Fn(usize) -> u32) -> Vector {
    let lanes: [u32; LANES] = std::array::from_fn(lane);
    // SAFETY: the array is as long as the register, and the load needs no alignment.
    unsafe { _mm512_loadu_epi32(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn to_lanes(vector: Vector) -> [u32; LANES] {
    let mut lanes = [0u32; LANES];
    // SAFETY: the array is as long as the register, and the store needs no alignment.
    unsafe { _mm512_storeu_epi32(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor(a: Vector, b: Vector) -> Vector {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_1(a: Vector) -> Vector {
    _mm512_rol_epi32::<1>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_5(a: Vector) -> Vector {
    _mm512_rol_epi32::<5>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_30(a: Vector) -> Vector {
    _mm512_rol_epi32::<30>(a)
}

// The constants are truth tables: bit `4b + 2c + d` is the result for those three bits.

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe8>(b, c, d)
}

/// One block of every lane as sixteen words of all lanes: a transposition of 16 x 16 words, in four
/// rounds of interleaving, and the bytes of each word turned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(blocks: [&[u8; BLOCK_BYTES]; LANES]) -> [Vector; 16] {
    // SAFETY: a block is as long as the register, and the load needs no alignment.
    let rows = blocks.map(|block| unsafe { _mm512_loadu_si512(block.as_ptr().cast()) });
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    let mut fours = pairs;
    for at in (0..LANES).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    // Now `fours[4q + w]` holds, in its quarter `k`, word `4k + w` of lanes `4q` to `4q + 3`.
    let turn = _mm512_broadcast_i32x4(_mm_set_epi8(
        12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
    ));
    let mut words = fours;
    for word in 0..4 {
        let [q0, q1, q2, q3] = [0, 4, 8, 12].map(|at| fours[at + word]);
        let low = [
            _mm512_shuffle_i32x4::<0x44>(q0, q1),
            _mm512_shuffle_i32x4::<0x44>(q2, q3),
        ];
        let high = [
            _mm512_shuffle_i32x4::<0xee>(q0, q1),
            _mm512_shuffle_i32x4::<0xee>(q2, q3),
        ];
        words[word] = _mm512_shuffle_i32x4::<0x88>(low[0], low[1]);
        words[4 + word] = _mm512_shuffle_i32x4::<0xdd>(low[0], low[1]);
        words[8 + word] = _mm512_shuffle_i32x4::<0x88>(high[0], high[1]);
        words[12 + word] = _mm512_shuffle_i32x4::<0xdd>(high[0], high[1]);
    }
    words.map(|word| _mm512_shuffle_epi8(word, turn))
}

hash_in_lanes!("avx512f,avx512bw");
