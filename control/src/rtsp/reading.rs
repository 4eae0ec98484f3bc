//! What a reader is sent next: at first what its feed keeps, then what comes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::play::{Out, Reader};

/// Packets that are written in one go.
const BATCH: usize = 64;

/// Datagrams in one go, and the time to the next: what a keyframe and all since is sent at, about
/// 150 Mbit/s, so that a receive buffer of the usual size holds it.
const UDP_BURST: usize = 16;
const UDP_PACE: Duration = Duration::from_millis(1);

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// Packets, in order.
    Packets(Vec<Out>),
    /// The reader was behind and lost its place.
    TooSlow,
    /// The stream ended, or is something else now.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reading {
    burst: VecDeque<Out>,
    pace: Option<Interval>,
    queue: mpsc::Receiver<Out>,
    too_slow: CancellationToken,
}

impl Reading {
    /// For a reader that has just joined. `paced`: the burst goes out bit by bit.
    pub(super) fn new(reader: Reader, paced: bool) -> Self {
        Self {
            burst: reader.burst.into(),
            pace: paced.then(|| {
                let mut pace = tokio::time::interval(UDP_PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                pace
            }),
            queue: reader.queue,
            too_slow: reader.too_slow,
        }
    }

    /// Cancelled when the reader lost its place.
    pub(super) fn too_slow(&self) -> CancellationToken {
        self.too_slow.clone()
    }

    /// Waits for what comes next. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Next {
        if !self.burst.is_empty() {
            let most = match &mut self.pace {
                Some(pace) => {
                    pace.tick().await;
                    UDP_BURST
                }
                None => self.burst.len(),
            };
            let most = most.min(self.burst.len());
            return Next::Packets(self.burst.drain(..most).collect());
        }
        let mut packets = Vec::new();
        tokio::select! {
            biased;
            () = self.too_slow.cancelled() => Next::TooSlow,
            count = self.queue.recv_many(&mut packets, BATCH) => match count {
                0 => Next::Ended,
                _ => Next::Packets(packets),
            },
        }
    }
}
