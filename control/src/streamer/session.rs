//! A session that receives: datagrams from its sockets through its sources into an ingest.
//!
//! One task, which the registry starts and stops. What comes goes on to an [`Inflow`], which begins the
//! stream, and keeps it while senders pause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fanmill_engine::packet::Kind;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::inflow::Inflow;
use super::medium::{Datagram, Medium, ReceiverInfo, SharedInfo};
use super::reader::Read;
use crate::clock::now_us;
use crate::ingest::{IngestSpec, Ingests};
use crate::media::clock::StreamClock;

/// What lists show as the source of the stream.
const SOURCE: &str = "rtp";

/// Datagrams that may wait for the task: half a second at 50 Mbit/s.
const MAX_WAITING: usize = 2048;

/// How often missing packets, reports and keyframes are looked after.
const TICK: Duration = Duration::from_millis(10);

/// How often the numbers in lists are renewed.
const INFO_US: u64 = 250_000;

/// See the module.
pub(super) struct Session {
    stream: String,
    media: Vec<Medium>,
    clock: StreamClock,
    inflow: Inflow,
    overrun: u64,
    shared: SharedInfo,
    info_us: u64,
    out: Vec<Read>,
}

/// Why a session ends by itself.
enum End {
    Stopped,
    Requested,
}

impl Session {
    pub(super) fn new(
        stream: String,
        ingests: Ingests,
        media: Vec<Medium>,
        shared: SharedInfo,
    ) -> Self {
        let spec = IngestSpec {
            stream: stream.clone(),
            source: SOURCE,
            remote: String::new(),
        };
        let mut session = Self {
            stream,
            inflow: Inflow::new(ingests, spec, media.len()),
            media,
            clock: StreamClock::default(),
            overrun: 0,
            shared,
            info_us: 0,
            out: Vec::new(),
        };
        session.tell(0);
        session
    }

    /// Runs until it is told to stop, or somebody stops its stream.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (sender, mut datagrams) = mpsc::channel(MAX_WAITING);
        let overrun = Arc::new(AtomicU64::new(0));
        let media = self.media.iter().enumerate();
        let readers = media.map(|(media, medium)| medium.listen(media, &sender, &overrun));
        let _readers: Vec<_> = readers.collect();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                Some(datagram) = datagrams.recv() => {
                    self.take(&datagram);
                    for _ in 0..datagrams.len() {
                        if let Ok(datagram) = datagrams.try_recv() {
                            self.take(&datagram);
                        }
                    }
                    None
                }
                _ = tick.tick() => {
                    self.overrun = overrun.load(Ordering::Relaxed);
                    None
                }
                reason = self.inflow.closed() => {
                    self.inflow.ended(&reason).then_some(End::Requested)
                }
                () = stop.cancelled() => Some(End::Stopped),
            };
            if let Some(end) = end {
                if matches!(end, End::Requested) {
                    tracing::info!(
                        stream = self.stream,
                        "plain RTP ends: its stream was stopped"
                    );
                }
                break;
            }
            self.poll().await;
        }
        self.inflow.stop().await;
    }

    fn take(&mut self, datagram: &Datagram) {
        let Some(medium) = self.media.get_mut(datagram.media) else {
            return;
        };
        let (from, bytes, at_us) = (datagram.from, &datagram.bytes, datagram.arrival_us);
        let is_rtcp = match Kind::of(bytes) {
            Kind::Rtcp => datagram.on_rtcp || medium.is_muxed(),
            Kind::Rtp => false,
            _ => return,
        };
        match is_rtcp {
            true => medium.source.rtcp(from, bytes, &mut self.clock, at_us),
            false => medium.source.rtp(from, bytes, at_us, &mut self.out),
        }
        self.read_all(datagram.media);
        self.media[datagram.media]
            .source
            .poll(&mut self.clock, at_us, &mut self.out);
        self.read_all(datagram.media);
    }

    /// What is due with time.
    async fn poll(&mut self) {
        let now_us = clock_us();
        if !self.inflow.is_running() {
            let sender = self.media.iter().find_map(|medium| medium.source.sender());
            let remote = sender.map(|(from, _)| from.to_string());
            self.inflow.set_remote(remote.unwrap_or_default());
            if self.inflow.poll(now_us).await {
                self.tell(now_us);
            }
        }
        let wanted = self.inflow.take_keyframe_request();
        for media in 0..self.media.len() {
            let medium = &mut self.media[media];
            medium.source.poll(&mut self.clock, now_us, &mut self.out);
            if wanted {
                medium.source.want_keyframe();
            }
            let muxed = medium.is_muxed();
            if let Some((packet, to)) = medium.source.feedback(now_us, muxed) {
                medium.answer(&packet, to);
            }
            self.read_all(media);
        }
        if now_us.saturating_sub(self.info_us) >= INFO_US {
            self.tell(now_us);
        }
    }

    /// Hands on what a source came to.
    fn read_all(&mut self, media: usize) {
        self.inflow.take(media, self.out.drain(..));
    }

    /// Renews what lists say.
    fn tell(&mut self, now_us: u64) {
        self.info_us = now_us;
        let is_alive = self.media.iter().any(|m| m.source.is_alive(now_us));
        let state = match (self.inflow.is_running(), self.inflow.error()) {
            (true, _) if is_alive => "live",
            (true, _) => "silent",
            (false, Some(_)) => "refused",
            (false, None) => "waiting",
        };
        let info = ReceiverInfo {
            state,
            error: self.inflow.error().cloned(),
            media: self.media.iter().map(Medium::info).collect(),
            overrun: self.overrun,
        };
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }
}

fn clock_us() -> u64 {
    now_us().unsigned_abs()
}
