//! The part of the lanes that does not depend on their width: written once, made for each kind of
//! register by a macro, since functions that use registers of one kind must all be compiled for it.

/// FIPS 180-4 4.2.1.
pub(super) const ROUND_CONSTANTS: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Makes `tags` from the operations of one kind of register, which must be in scope: the type
/// `Vector`, `LANES`, and `splat`, `from_lanes`, `to_lanes`, `add`, `xor`, `rotate_1`, `rotate_5`,
/// `rotate_30`, `choose`, `parity`, `majority`, `load`.
macro_rules! hash_in_lanes {
    ($features:literal) => {
        /// One step: `$e` takes the next value, `$b` is turned.
        macro_rules! step {
            ($words:ident, $mix:ident, $constant:ident, $round:expr,
             $a:ident $b:ident $c:ident $d:ident $e:ident) => {
                let at = $round & 15;
                if $round >= 16 {
                    let early = xor($words[($round + 13) & 15], $words[($round + 8) & 15]);
                    let mixed = parity(early, $words[($round + 2) & 15], $words[at]);
                    $words[at] = rotate_1(mixed);
                }
                let sum = add(add($e, $constant), $words[at]);
                $e = add(add(rotate_5($a), $mix($b, $c, $d)), sum);
                $b = rotate_30($b);
            };
        }

        /// Five steps: after them every variable has its old role again.
        macro_rules! five_steps {
            ($words:ident, $mix:ident, $constant:ident, $round:expr,
             $a:ident $b:ident $c:ident $d:ident $e:ident) => {
                step!($words, $mix, $constant, $round, $a $b $c $d $e);
                step!($words, $mix, $constant, $round + 1, $e $a $b $c $d);
                step!($words, $mix, $constant, $round + 2, $d $e $a $b $c);
                step!($words, $mix, $constant, $round + 3, $c $d $e $a $b);
                step!($words, $mix, $constant, $round + 4, $b $c $d $e $a);
            };
        }

        /// Hashes one block of every lane (FIPS 180-4 6.1.2).
        #[target_feature(enable = $features)]
        fn compress(state: &mut [Vector; 5], mut words: [Vector; 16]) {
            let [mut a, mut b, mut c, mut d, mut e] = *state;
            macro_rules! twenty_steps {
                ($mix:ident, $part:literal) => {
                    let constant = splat(ROUND_CONSTANTS[$part]);
                    five_steps!(words, $mix, constant, 20 * $part, a b c d e);
                    five_steps!(words, $mix, constant, 20 * $part + 5, a b c d e);
                    five_steps!(words, $mix, constant, 20 * $part + 10, a b c d e);
                    five_steps!(words, $mix, constant, 20 * $part + 15, a b c d e);
                };
            }
            twenty_steps!(choose, 0);
            twenty_steps!(parity, 1);
            twenty_steps!(majority, 2);
            twenty_steps!(parity, 3);
            for (word, value) in state.iter_mut().zip([a, b, c, d, e]) {
                *word = add(*word, value);
            }
        }

        /// The tags of 1 to `LANES` messages of one length. A lane without a message repeats the
        /// first one's.
        #[target_feature(enable = $features)]
        fn tags_in_lanes(messages: &[Message<'_>], tags: &mut [[u8; TAG_BYTES]]) {
            let lane = |lane: usize| messages.get(lane).unwrap_or(&messages[0]);
            let tails: [Tail; LANES] = std::array::from_fn(|at| Tail::new(lane(at)));
            let packets: [&[[u8; BLOCK_BYTES]]; LANES] =
                std::array::from_fn(|at| lane(at).packet.as_chunks().0);
            let mut state: [Vector; 5] =
                std::array::from_fn(|word| from_lanes(|at| lane(at).key.inner[word]));
            for block in 0..packets[0].len() {
                compress(&mut state, load(std::array::from_fn(|at| &packets[at][block])));
            }
            for block in 0..tails[0].blocks {
                let blocks = std::array::from_fn(|at| {
                    let (blocks, _) = tails[at].bytes.as_chunks();
                    &blocks[block]
                });
                compress(&mut state, load(blocks));
            }
            let mut words = [splat(0); 16];
            words[..5].copy_from_slice(&state);
            words[5] = splat(OUTER_PADDING);
            words[15] = splat(OUTER_BITS);
            let mut outer: [Vector; 5] =
                std::array::from_fn(|word| from_lanes(|at| lane(at).key.outer[word]));
            compress(&mut outer, words);
            let digests = [to_lanes(outer[0]), to_lanes(outer[1]), to_lanes(outer[2])];
            for (at, tag) in tags.iter_mut().enumerate() {
                *tag = leading_bytes(digests[0][at], digests[1][at], digests[2][at]);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use hash_in_lanes;
