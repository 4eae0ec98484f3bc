#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use super::*;

fn aac(config: &[u8]) -> Result<Transcoder, AudioError> {
    let format = SoundFormat::Aac {
        config: config.to_vec(),
    };
    Transcoder::new(&format, AudioOptions::default())
}

#[test]
fn aac_of_more_than_two_channels_is_refused_with_what_to_do() {
    // AudioSpecificConfig: AAC-LC, 48 kHz, 5.1.
    let Err(error) = aac(&[0x11, 0xb0]) else {
        panic!("5.1 was accepted");
    };
    assert!(error.to_string().contains("-ac 2"), "{error}");
}

#[test]
fn no_configuration_panics() {
    for first in 0..=255_u8 {
        for second in 0..=255 {
            let _ = aac(&[first, second]);
        }
        let _ = aac(&[first]);
    }
    let _ = aac(&[]);
}

#[test]
fn a_damaged_packet_is_silence_and_time_goes_on() {
    // AAC-LC, 44.1 kHz, stereo.
    let mut transcoder = aac(&[0x12, 0x10]).unwrap();
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
    // The source's microseconds are rounded down.
    let steps = || times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps().all(|step| (19_998..=20_002).contains(&step)));
}

/// A minute of sound whose samples come 1000 ppm faster than its times say.
#[test]
fn sound_that_drifts_against_its_times_follows_them_without_a_leap() {
    let options = AudioOptions::default();
    let mut transcoder = Transcoder::new(&SoundFormat::Pcmu, options).unwrap();
    let packet = [0xff; 160];
    let mut before = None;
    for index in 0..3_000_i64 {
        let pts_us = index * 20_000 - index * 20;
        transcoder
            .push(pts_us, &packet, |us, _| {
                if let Some(before) = before.replace(us) {
                    assert!((19_900..=20_100).contains(&(us - before)));
                }
                // What is in the resampler comes later.
                assert!((us - pts_us).abs() < 40_000, "{} us off", us - pts_us);
            })
            .unwrap();
    }
    let last = before.unwrap();
    assert!((last - 2_999 * 19_980).abs() < 40_000, "{last}");
}

#[test]
fn missing_sound_is_a_gap() {
    let options = AudioOptions::default();
    let mut transcoder = Transcoder::new(&SoundFormat::G722, options).unwrap();
    let mut times = Vec::new();
    for index in 0..100_i64 {
        let lost_us = if index < 50 { 0 } else { 200_000 };
        let packet = [0x55; 160];
        transcoder
            .push(index * 20_000 + lost_us, &packet, |us, _| times.push(us))
            .unwrap();
    }
    let gaps = times.windows(2).filter(|pair| pair[1] - pair[0] > 21_000);
    assert_eq!(gaps.count(), 1);
    let total_us = times[times.len() - 1] - times[0];
    assert!((2_100_000..2_200_000).contains(&total_us), "{total_us}");
}

#[cfg(not(feature = "fdk-aac"))]
#[test]
fn without_an_encoder_it_is_said_how_to_have_one() {
    let refused = Transcoder::to_aac(&SoundFormat::Opus).err();
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(why.contains("--features fdk-aac"), "{why}");
}

/// Opus of a tone that begins after a second, made AAC and decoded again.
#[cfg(feature = "fdk-aac")]
#[test]
fn opus_becomes_aac_that_is_heard_when_it_was() {
    const HZ: f32 = 440.0;
    let mut opus = OpusEncoder::new(2, 128_000).unwrap();
    let mut to_aac = Transcoder::to_aac(&SoundFormat::Opus).unwrap();
    let config = to_aac.aac_config().unwrap().to_vec();
    let said = crate::media::aac::AacConfig::parse(&config).unwrap();
    assert_eq!(
        (said.object_type, said.rate_hz, said.channels),
        (2, 48_000, 2)
    );
    let mut decoder = AacDecoder::new(&config).unwrap();
    let (mut heard, mut pcm, mut bytes) = (Vec::new(), Vec::new(), 0);
    for packet in 0..150_i64 {
        let sample = |at: i64| match at {
            ..48_000 => 0.0,
            _ => (at as f32 / 48_000.0 * HZ * std::f32::consts::TAU).sin() * 0.5,
        };
        let tone: Vec<f32> = (packet * 960..(packet + 1) * 960)
            .flat_map(|at| [sample(at), sample(at)])
            .collect();
        let packet_bytes = opus.encode(&tone).unwrap().to_vec();
        let made = to_aac.push(packet * 20_000, &packet_bytes, |us, aac| {
            bytes += aac.len();
            decoder.decode(aac, &mut pcm);
            heard.push((us, pcm.iter().map(|value| value.abs()).fold(0.0, f32::max)));
        });
        made.unwrap();
    }
    let steps = || heard.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(steps().all(|step| (21_330..=21_336).contains(&step)));
    // 128 kbit/s, of nearly three seconds.
    assert!((20_000..60_000).contains(&bytes), "{bytes} bytes");
    let loud = heard.iter().find(|(_, loudest)| *loudest > 0.25).unwrap();
    // A packet of AAC holds 21 ms, and Opus comes 6.5 ms late.
    assert!(
        (970_000..1_010_000).contains(&loud.0),
        "heard at {} us",
        loud.0
    );
    let last = heard[heard.len() - 1].1;
    assert!((0.4..0.6).contains(&last), "{last}");
}
