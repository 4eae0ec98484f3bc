//! SHA-1 of one message: what lanes are compared with, and how keys are made ready.

use super::lanes::ROUND_CONSTANTS;
use super::{BLOCK_BYTES, Message, OUTER_BITS, OUTER_PADDING, State, TAG_BYTES, Tail};

/// Hashes one block (FIPS 180-4 6.1.2).
pub(super) fn compress(state: &mut State, block: &[u8; BLOCK_BYTES]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    compress_words(state, words);
}

fn compress_words(state: &mut State, mut words: [u32; 16]) {
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for round in 0..80 {
        if round >= 16 {
            let mixed = words[(round + 13) & 15]
                ^ words[(round + 8) & 15]
                ^ words[(round + 2) & 15]
                ^ words[round & 15];
            words[round & 15] = mixed.rotate_left(1);
        }
        let mixed = match round / 20 {
            0 => (b & c) | (!b & d),
            2 => (b & c) | (b & d) | (c & d),
            _ => b ^ c ^ d,
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(mixed)
            .wrapping_add(e)
            .wrapping_add(ROUND_CONSTANTS[round / 20])
            .wrapping_add(words[round & 15]);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e]) {
        *word = word.wrapping_add(add);
    }
}

/// The tag of one message.
pub(super) fn tag(message: &Message<'_>) -> [u8; TAG_BYTES] {
    let mut state = message.key.inner;
    let tail = Tail::new(message);
    let (blocks, _) = message.packet.as_chunks();
    let (tail_blocks, _) = tail.bytes.as_chunks();
    for block in blocks.iter().chain(&tail_blocks[..tail.blocks]) {
        compress(&mut state, block);
    }
    let mut words = [0; 16];
    words[..5].copy_from_slice(&state);
    words[5] = OUTER_PADDING;
    words[15] = OUTER_BITS;
    let mut outer = message.key.outer;
    compress_words(&mut outer, words);
    leading_bytes(outer[0], outer[1], outer[2])
}

/// The leftmost 80 bits of a digest.
pub(super) fn leading_bytes(first: u32, second: u32, third: u32) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    tag[..4].copy_from_slice(&first.to_be_bytes());
    tag[4..8].copy_from_slice(&second.to_be_bytes());
    tag[8..].copy_from_slice(&third.to_be_bytes()[..2]);
    tag
}
