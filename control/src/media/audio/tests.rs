#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use super::*;

#[test]
fn aac_of_more_than_two_channels_is_refused_with_what_to_do() {
    // AudioSpecificConfig: AAC-LC, 48 kHz, 5.1.
    let Err(error) = Transcoder::new(&[0x11, 0xb0]) else {
        panic!("5.1 was accepted");
    };
    assert!(error.to_string().contains("-ac 2"), "{error}");
}

#[test]
fn no_configuration_panics() {
    for first in 0..=255_u8 {
        for second in 0..=255 {
            let _ = Transcoder::new(&[first, second]);
        }
        let _ = Transcoder::new(&[first]);
    }
    let _ = Transcoder::new(&[]);
}

#[test]
fn a_damaged_packet_is_silence_and_time_goes_on() {
    // AAC-LC, 44.1 kHz, stereo.
    let mut transcoder = Transcoder::new(&[0x12, 0x10]).unwrap();
    let mut times = Vec::new();
    for index in 0..100 {
        let pts_us = index * 1024 * 1_000_000 / 44_100;
        let packet = [0xff; 40];
        transcoder
            .push(pts_us, &packet, |us, opus| {
                assert!(!opus.is_empty());
                times.push(us);
            })
            .unwrap();
    }
    // 100 packets are 2.32 s.
    assert!(times.len() >= 113, "{} packets", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 20_000));
}
