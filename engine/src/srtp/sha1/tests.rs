//! Every kind of lane against the library's HMAC.

use aws_lc_rs::hmac;
use proptest::prelude::*;

use super::*;

/// What the library makes of a packet.
fn expected(key: &[u8], packet: &[u8], rollover_counter: [u8; 4]) -> [u8; TAG_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(packet);
    context.update(&rollover_counter);
    let tag = context.sign();
    *tag.as_ref()
        .first_chunk()
        .expect("an HMAC-SHA1 is 20 bytes")
}

fn check(keys: &[[u8; 20]], packets: &[Vec<u8>], rollover_counters: &[[u8; 4]]) {
    let mac_keys: Vec<_> = keys.iter().map(|key| MacKey::new(key)).collect();
    let messages: Vec<_> = packets
        .iter()
        .enumerate()
        .map(|(at, packet)| Message {
            key: &mac_keys[at],
            packet,
            rollover_counter: rollover_counters[at],
        })
        .collect();
    let wanted: Vec<_> = messages
        .iter()
        .zip(keys)
        .map(|(message, key)| expected(key, message.packet, message.rollover_counter))
        .collect();
    for lanes in Lanes::ALL.iter().filter(|lanes| lanes.are_available()) {
        let mut tags = vec![[0; TAG_BYTES]; messages.len()];
        lanes.tags(&messages, &mut tags);
        assert_eq!(tags, wanted, "{lanes:?}, {} bytes", packets[0].len());
    }
}

#[test]
fn every_length_around_the_block_boundaries_is_hashed_right() {
    for len in (0..200).chain(1190..1210) {
        let packets: Vec<Vec<u8>> = (0..MAX_LANES)
            .map(|lane| (0..len).map(|at| (at * 31 + lane * 7) as u8).collect())
            .collect();
        let keys: Vec<_> = (0..MAX_LANES).map(|lane| [lane as u8 + 1; 20]).collect();
        let counters: Vec<_> = (0..MAX_LANES as u32).map(u32::to_be_bytes).collect();
        check(&keys, &packets, &counters);
    }
}

#[test]
#[should_panic(expected = "one length")]
fn messages_of_different_lengths_are_refused() {
    let key = MacKey::new(&[1; 20]);
    let message = |packet| Message {
        key: &key,
        packet,
        rollover_counter: [0; 4],
    };
    let mut tags = [[0; TAG_BYTES]; 2];
    Lanes::detect().tags(&[message(b"one"), message(b"other")], &mut tags);
}

proptest! {
    #[test]
    fn any_number_of_any_messages_is_hashed_right(
        count in 1..=MAX_LANES,
        len in 12..1500usize,
        seed: u64,
    ) {
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let keys: Vec<[u8; 20]> = (0..count).map(|_| std::array::from_fn(|_| byte())).collect();
        let packets: Vec<Vec<u8>> = (0..count).map(|_| (0..len).map(|_| byte()).collect()).collect();
        let counters: Vec<[u8; 4]> = (0..count).map(|_| std::array::from_fn(|_| byte())).collect();
        check(&keys, &packets, &counters);
    }
}
