//! What the recorder itself adds to the distance of sound and picture: flashes and beeps of known
//! times of capture, that arrive at different delays, measured in the file.

use std::path::Path;
use std::process::Command;

use fanmill_engine::packet::codec::Codec;

use super::capture::{Heard, SECONDS, capture_scene};
use super::{OPUS, VP8, decode, record, spec, times};
use crate::taps::Item;

/// A flash and a beep at each whole second, of a tenth of it.
const PICTURE: &str = "color=black:size=160x90:rate=30:duration=3,\
                       drawbox=color=white:t=fill:enable='lt(mod(t,1),0.1)'";
const TONE: &str = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000:d=3";

/// The most that the recorder may add: the encoder's ramp, and the window in which it is measured.
const MOST_APART_S: f64 = 0.005;

/// How a publisher tells when its samples were captured.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Reports,
    /// Times of capture, beside reports that are wrong.
    CaptureTimes,
}

/// NTP time of the first sample of the scene.
const BEGAN_NTP: u64 = 3_900_000_000 << 32;

/// Lets what was heard arrive `delay_us` after its capture, and has that told each half second.
fn arriving(mut heard: Heard, delay_us: u64, told: Told) -> Heard {
    let rate = u64::from(heard.codec.clock_rate_hz());
    heard.items.retain(|item| matches!(item, Item::Packet(..)));
    let first = heard
        .packets()
        .map(|packet| packet.timestamp)
        .next()
        .unwrap();
    // ffmpeg's sound begins with what its encoder looks ahead (RFC 7845 4.2: pre-skip).
    let ahead = if heard.codec == Codec::Opus { 312 } else { 0 };
    let mut items = Vec::new();
    let mut next_report = 0;
    for item in heard.items {
        let Item::Packet(mut packet, clock_rate) = item else {
            unreachable!("the others were left out");
        };
        let ticks = u64::from(packet.timestamp.wrapping_sub(first));
        let noise_us = ticks % 7 * 1_000;
        packet.arrival_us = 1_000_000 + ticks * 1_000_000 / rate + delay_us + noise_us;
        let timestamp = packet.timestamp;
        let ntp = |ticks: u64| BEGAN_NTP + (ticks << 32) / rate - (ahead << 32) / rate;
        items.push(Item::Packet(packet, clock_rate));
        if ticks >= next_report {
            next_report += rate / 2;
            match told {
                Told::Reports => items.push(Item::Report(ntp(ticks), timestamp)),
                Told::CaptureTimes => {
                    items.push(Item::Report(
                        ntp(ticks + rate * delay_us / 1_000_000),
                        timestamp,
                    ));
                    items.push(Item::Captured(ntp(ticks), timestamp));
                }
            }
        }
    }
    Heard {
        codec: heard.codec,
        items,
    }
}

fn raw(file: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(arguments.split(' '))
        .arg("-")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// When it becomes light in the file, in seconds.
fn flashes(file: &Path) -> Vec<f64> {
    let arguments =
        "-map 0:v -vf scale=1:1,format=gray -fps_mode passthrough -enc_time_base:v -1 -f rawvideo";
    let light = raw(file, arguments);
    let shown = times(file, "v:0");
    assert_eq!(light.len(), shown.len());
    let begins = |at: &usize| light[*at] > 128 && light[at - 1] <= 128;
    (1..light.len())
        .filter(begins)
        .map(|at| shown[at])
        .collect()
}

/// When it becomes loud in the file, in seconds.
fn beeps(file: &Path) -> Vec<f64> {
    let arguments = "-map 0:a -af aresample=async=1:first_pts=0 -ac 1 -ar 48000 -f s16le";
    let samples: Vec<i16> = raw(file, arguments)
        .as_chunks::<2>()
        .0
        .iter()
        .map(|bytes| i16::from_le_bytes(*bytes))
        .collect();
    let loud = |at: usize| samples[at].unsigned_abs() > 6_000;
    let mut quiet_since = 0;
    let mut begins = Vec::new();
    for at in (0..samples.len()).filter(|at| loud(*at)) {
        if at - quiet_since > 24_000 {
            begins.push(at as f64 / 48_000.0);
        }
        quiet_since = at;
    }
    begins
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_stay_together_however_late_each_arrives() {
    let [picture, sound] = capture_scene([PICTURE, TONE], VP8, OPUS);
    assert_eq!(picture.units(), SECONDS as usize * 30);
    for told in [Told::Reports, Told::CaptureTimes] {
        let heard = [
            arriving(picture.clone(), 160_000, told),
            arriving(sound.clone(), 10_000, told),
        ];
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), spec("x.mp4"), heard).await;
        let file = dir.path().join("x.mp4");
        decode(&file);
        let (flashes, beeps) = (flashes(&file), beeps(&file));
        assert_eq!(
            (flashes.len(), beeps.len()),
            (2, 2),
            "{flashes:?} {beeps:?}"
        );
        for (flash, beep) in flashes.iter().zip(&beeps) {
            let behind = beep - flash;
            println!("{told:?}: sound is {behind:.4} s behind the picture");
            assert!(
                behind.abs() < MOST_APART_S,
                "{told:?}: {flashes:?} {beeps:?}"
            );
        }
    }
}
