//! The sound of a played name as AAC: once for all who hear nothing else.
//!
//! The hub is a task of the control plane, which must not encode: packets that come while a thread that
//! may take its time is at work are its next work. It must never hold more than [`MAX_WAITING`] of them.

use std::collections::VecDeque;
use std::future::pending;

use fanmill_engine::packet::codec::Codec;
use tokio::task::JoinHandle;

use crate::media::audio::{AudioError, SoundFormat, Transcoder};
use crate::output::sound_format;

/// Ten seconds of usual packets: the machine does not keep up, and what is oldest is left out.
const MAX_WAITING: usize = 500;

/// Packets with the time they are heard at, in microseconds.
type Packets = Vec<(i64, Vec<u8>)>;

/// See the module.
pub(super) struct AacSound {
    config: Vec<u8>,
    waiting: VecDeque<(i64, Vec<u8>)>,
    /// While nobody is at work.
    idle: Option<Box<Transcoder>>,
    work: Option<JoinHandle<(Box<Transcoder>, Packets)>>,
}

impl AacSound {
    /// For sound of this codec.
    pub(super) fn new(codec: Codec) -> Result<Self, AudioError> {
        let format = sound_format(codec).unwrap_or(SoundFormat::Opus);
        let transcoder = Box::new(Transcoder::to_aac(&format)?);
        Ok(Self {
            config: transcoder.aac_config().unwrap_or_default().to_vec(),
            waiting: VecDeque::new(),
            idle: Some(transcoder),
            work: None,
        })
    }

    /// AudioSpecificConfig.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// The next packet.
    pub(super) fn push(&mut self, us: i64, packet: &[u8]) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((us, packet.to_vec()));
        self.begin();
    }

    /// What was made of packets meanwhile. Waits for it if something is being made, else for ever; what
    /// is not waited for to its end is there the next time.
    pub(super) async fn made(&mut self) -> Packets {
        let Some(work) = &mut self.work else {
            return pending().await;
        };
        let done = work.await;
        self.work = None;
        match done {
            Ok((transcoder, made)) => {
                self.idle = Some(transcoder);
                self.begin();
                made
            }
            // The runtime is ending.
            Err(_) => pending().await,
        }
    }

    fn begin(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(mut transcoder) = self.idle.take() else {
            return;
        };
        let packets = std::mem::take(&mut self.waiting);
        self.work = Some(tokio::task::spawn_blocking(move || {
            let mut made = Vec::new();
            for (us, packet) in packets {
                let add = |us, packet: &[u8]| made.push((us, packet.to_vec()));
                if let Err(error) = transcoder.push(us, &packet, add) {
                    tracing::debug!(%error, "a packet of sound is left out");
                }
            }
            (transcoder, made)
        }));
    }
}
