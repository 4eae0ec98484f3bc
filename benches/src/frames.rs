//! How the packets of a frame are sized: the bursts that a fan-out is measured with.

/// A frame as a publisher sends it: the RTP payload size of each of its packets, in bytes.
pub type Frame = Vec<usize>;

/// What Chromium sent in 12 seconds of VP8 at 2.5 Mbit/s; `fixtures/README.md` says how it was
/// recorded.
const CHROMIUM: &str = include_str!("../fixtures/chromium-vp8-2500k.csv");

/// Packets of a frame of the made-up patterns: about as many as Chromium sends.
const PACKETS: usize = 10;

/// Payload bytes of the made-up patterns.
const PAYLOAD_BYTES: usize = 1150;

/// How the packets of a burst are sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramePattern {
    /// Ten packets, all of one size.
    Equal,
    /// Ten packets whose sizes differ by a byte or two: some must be padded to leave as one send.
    Uneven,
    /// The frames of a recorded stream, one after the other.
    Chromium,
}

impl FramePattern {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Equal, Self::Uneven, Self::Chromium];

    /// The pattern's frames, to be sent over and over.
    ///
    /// # Panics
    /// Never: the recording is part of the source.
    #[must_use]
    pub fn frames(self) -> Vec<Frame> {
        match self {
            Self::Equal => vec![vec![PAYLOAD_BYTES; PACKETS]],
            Self::Uneven => (0..3)
                .map(|shift| {
                    let size = |at: usize| PAYLOAD_BYTES - (at + shift) % 3;
                    (0..PACKETS).map(size).collect()
                })
                .collect(),
            Self::Chromium => recorded(CHROMIUM),
        }
    }
}

/// The video frames of a recording: each ends with its marker.
fn recorded(csv: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut frame = Frame::new();
    for line in csv.lines() {
        let [_, kind, marker, bytes] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}");
        };
        if kind == "video" {
            frame.push(bytes.parse().expect("a size"));
            if marker == "1" {
                frames.push(std::mem::take(&mut frame));
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_frames_are_those_of_twelve_seconds_at_thirty_a_second() {
        let frames = FramePattern::Chromium.frames();
        assert!((350..=370).contains(&frames.len()), "{}", frames.len());
        let bytes: usize = frames.iter().flatten().sum();
        let bitrate_bps = bytes * 8 / 12;
        assert!(
            (2_300_000..2_700_000).contains(&bitrate_bps),
            "{bitrate_bps}"
        );
        for frame in frames {
            assert!(!frame.is_empty() && frame.iter().all(|size| *size <= 1200));
        }
    }
}
