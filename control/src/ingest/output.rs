//! Where an ingest's packets go: into a stream that this process produces.

use std::time::Duration;

use fanmill_engine::producer::{ProduceError, ProducedPacket};

use crate::model::Producer;

/// How long the packets of one unit wait for a shard that has not taken those before.
const PATIENCE: u32 = 40;
const PAUSE: Duration = Duration::from_millis(1);

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// The shard is behind.
    Dropped,
    /// The stream has ended.
    Closed,
}

/// Takes packets. Called on the ingest threads.
pub(super) trait Output: Send {
    /// Sends a packet of a track.
    fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Sent;

    /// Says which moment an RTP timestamp of a track is.
    fn set_clock(&mut self, track: usize, ntp: u64, timestamp: u32);

    /// Whether a viewer waits for a keyframe of a track since this was last called.
    fn take_keyframe_request(&mut self, track: usize) -> bool;
}

impl Output for Producer {
    fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Sent {
        for _ in 0..PATIENCE {
            match Producer::send(self, track, packet) {
                Ok(()) => return Sent::Yes,
                Err(ProduceError::Closed) => return Sent::Closed,
                Err(ProduceError::Full) => {
                    // A picture of many packets: the shard takes them within a millisecond.
                    self.flush();
                    std::thread::sleep(PAUSE);
                }
                Err(_) => return Sent::Dropped,
            }
        }
        Sent::Dropped
    }

    fn set_clock(&mut self, track: usize, ntp: u64, timestamp: u32) {
        // Lost, it is said again in a second.
        let _ = Producer::set_clock(self, track, ntp, timestamp);
    }

    fn take_keyframe_request(&mut self, track: usize) -> bool {
        Producer::take_keyframe_request(self, track)
    }
}
