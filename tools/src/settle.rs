//! What publishers send when nothing disturbs them, and how to wait for it.
//!
//! Who joins wants a keyframe. Its excess is saved on the frames that follow, so after many joins
//! the load stays below what was asked for, for as long as it takes to save so much. Servers differ
//! in how many keyframes they ask for: measured too early, they would not carry the same load.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::media::source::{Shape, Source};
use crate::publisher::Publishers;

/// Settled is what stays this close to the bit rate that was asked for.
pub const SETTLED_SHARE: f64 = 0.95;
/// Each look at the publishers takes so long; what joining caused dies down meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// A server that never stops asking for keyframes is measured nevertheless.
const MAX_SETTLE: Duration = Duration::from_secs(90);
/// RTP header and SRTP tag.
const OVERHEAD_BYTES: usize = 12 + 16;

/// Bytes per second of one publisher whom nobody asks for keyframes, SRTP included.
#[must_use]
pub fn undisturbed_bytes_per_second(shape: Shape) -> f64 {
    const SKIPPED_NS: u64 = 2_000_000_000;
    const SECONDS: u64 = 20;
    let mut source = Source::new(shape, 1, 0);
    let mut bytes = 0;
    while source.deadline_ns() < SKIPPED_NS + SECONDS * 1_000_000_000 {
        let now_ns = source.deadline_ns();
        let frame = source.poll(now_ns);
        // The first frame is a keyframe that nobody asked for.
        let payloads = frame.filter(|_| now_ns >= SKIPPED_NS);
        let payloads = payloads.iter().flat_map(|frame| &frame.payloads);
        bytes += payloads
            .map(|p| p.bytes.len() + OVERHEAD_BYTES)
            .sum::<usize>();
    }
    bytes as f64 / SECONDS as f64
}

/// Waits until the publishers send `bytes_per_second` all together, but not for ever.
pub async fn settle(publishers: &Publishers, bytes_per_second: f64) {
    let look = || {
        let counters = publishers.counters();
        let bytes = counters.bytes.load(Ordering::Relaxed);
        (
            Instant::now(),
            bytes,
            counters.keyframes.load(Ordering::Relaxed),
        )
    };
    let deadline = Instant::now() + MAX_SETTLE;
    while Instant::now() < deadline {
        let (from, bytes_before, keyframes_before) = look();
        sleep(LOOK).await;
        let (to, bytes, keyframes) = look();
        let rate = (bytes - bytes_before) as f64 / (to - from).as_secs_f64();
        // A keyframe makes up for what is saved about it.
        if keyframes == keyframes_before && rate >= SETTLED_SHARE * bytes_per_second {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sdp::VideoCodec;

    #[test]
    fn an_undisturbed_publisher_sends_its_bit_rate_and_what_carries_it() {
        let shape = |keyframe_interval_ns| Shape {
            codec: VideoCodec::Vp8,
            bitrate_bps: 2_500_000,
            fps: 30,
            audio: true,
            keyframe_interval_ns,
        };
        for interval_ns in [0, 2_000_000_000] {
            let bps = 8.0 * undisturbed_bytes_per_second(shape(interval_ns));
            // Opus at about 32 kbit/s; 320 packets of 28 bytes more.
            let expected = 2_500_000.0 + 32_000.0 + 320.0 * 28.0 * 8.0;
            assert!(
                (bps / expected - 1.0).abs() < 0.05,
                "{bps} is not {expected}"
            );
        }
    }
}
