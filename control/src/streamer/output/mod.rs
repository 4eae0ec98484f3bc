//! A session that sends: the packets of a stream, as they are, to an address.
//!
//! One task, which the registry starts and stops. Payloads are passed on untouched; numbers and
//! timestamps are the session's own, and go on when another publisher comes. What it cannot send it
//! drops, and its taps are bounded: the stream's viewers do not notice it.

mod sdp;
mod track;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use fanmill_engine::signal::Signal;
use fanmill_engine::tap::TapSpec;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::sdp::describe;
use self::track::{Tapped, Track};
use super::{SendSpec, StreamerError};
use crate::broadcast::{Follower, Live};
use crate::model::{IncomingTrack, TapSignal};

/// Ports between tracks: one for RTP, one for RTCP.
const PORTS_A_TRACK: u16 = 2;

/// The highest port that leaves room for them.
const HIGHEST_PORT: u16 = 65_520;

/// How often receivers are told the time (RFC 3550 6.2 allows what is needed to play in step).
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Packets sent in one go: a receiver's socket holds that many. The frame cache gives more at once.
const BURST_PACKETS: usize = 32;

/// Between such bursts.
const BURST_PAUSE: Duration = Duration::from_millis(1);

/// A session that sends, in a list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SenderState {
    /// `waiting` for the stream to be live, or `sending`.
    pub state: &'static str,
    /// Its tracks.
    pub tracks: Vec<SentTrack>,
}

/// A track that is sent, in a list.
#[derive(Debug, Clone, Serialize)]
pub struct SentTrack {
    /// Its codec.
    pub codec: &'static str,
    /// Where to.
    pub to: SocketAddr,
    /// Its SSRC.
    pub ssrc: u32,
    /// Packets sent.
    pub packets: u64,
    /// Packets that were not sent: the session was behind, or the network did not take them.
    pub dropped: u64,
    /// Share of packets that the receiver said it lost, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_loss_percent: Option<f64>,
}

/// What lists and [`sdp`](Shared::sdp) read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<(SenderState, Option<String>)>,
    /// Rung when the description changed.
    described: Notify,
}

impl Shared {
    pub(super) fn state(&self) -> SenderState {
        self.lock().0.clone()
    }

    /// The description of what is sent, once it is known.
    pub(super) fn sdp(&self) -> Option<String> {
        self.lock().1.clone()
    }

    /// Waits for the description at most so long.
    pub(super) async fn wait_for_sdp(&self, limit: Duration) -> Option<String> {
        let known = async {
            loop {
                let changed = self.described.notified();
                if let Some(sdp) = self.sdp() {
                    return sdp;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, known).await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (SenderState, Option<String>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct Output {
    spec: SendSpec,
    session: u64,
    tracks: Vec<Track>,
    shared: Arc<Shared>,
    sdp: Option<String>,
}

impl Output {
    /// Pictures to the first port, sound to that two above.
    ///
    /// # Errors
    /// [`StreamerError`].
    pub(super) fn new(
        spec: SendSpec,
        session: u64,
        open: impl Fn() -> std::io::Result<UdpSocket>,
        shared: Arc<Shared>,
    ) -> Result<Self, StreamerError> {
        if spec.to.port() == 0 || spec.to.port() > HIGHEST_PORT {
            return Err(StreamerError::Port(spec.to.port()));
        }
        let to = spec.to;
        let track = |(place, kind)| {
            let port = to.port() + PORTS_A_TRACK * place;
            let rtcp_port = if spec.rtcp_mux { port } else { port + 1 };
            let socket = open().map_err(|source| StreamerError::Send { to, source })?;
            let at = |port| SocketAddr::new(to.ip(), port);
            let ports = (at(port), at(rtcp_port));
            Ok(Track::new(kind, ports, socket, spec.key.as_ref())?)
        };
        let kinds = [(0, MediaKind::Video), (1, MediaKind::Audio)];
        let tracks: Result<_, StreamerError> = kinds.into_iter().map(track).collect();
        let mut output = Self {
            tracks: tracks?,
            session,
            shared,
            sdp: None,
            spec,
        };
        output.tell();
        Ok(output)
    }

    /// Follows the stream until it is told to stop.
    pub(super) async fn run(mut self, mut follower: Follower, stop: CancellationToken) {
        let signal = match TapSignal::new() {
            Ok(signal) => signal,
            Err(error) => {
                tracing::error!(%error, stream = self.spec.stream, "plain RTP cannot be sent");
                return;
            }
        };
        let mut tick = tokio::time::interval(REPORT_EVERY);
        self.attach(follower.current(), &signal).await;
        loop {
            while self.pump() {
                tokio::time::sleep(BURST_PAUSE).await;
            }
            tokio::select! {
                () = signal.rung() => {}
                live = follower.changed() => self.attach(live, &signal).await,
                _ = tick.tick() => self.tell(),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Taps the tracks of whoever publishes now.
    async fn attach(&mut self, live: Option<Live>, signal: &TapSignal) {
        let wanted = self.tracks.iter().map(|track| {
            let kind = match track.kind {
                MediaKind::Video => crate::sdp::MediaKind::Video,
                MediaKind::Audio => crate::sdp::MediaKind::Audio,
            };
            live.as_ref()?.incoming.track(kind, 0).cloned()
        });
        let wanted: Vec<_> = wanted.collect();
        let signal = signal.signal();
        // Making taps may wait for the data plane.
        let tapped = tokio::task::spawn_blocking(move || {
            let tapped = wanted.into_iter().map(|track| tap(track?, &signal));
            tapped.collect::<Vec<_>>()
        });
        let mut tapped = tapped.await.unwrap_or_default().into_iter();
        for track in &mut self.tracks {
            track.attach(tapped.next().flatten());
        }
        self.tell();
    }

    /// Sends what there is, up to a burst; whether there may be more.
    fn pump(&mut self) -> bool {
        let now = Instant::now();
        let mut left = BURST_PACKETS;
        let mut changed = false;
        for track in &mut self.tracks {
            changed |= track.pump(&mut left, now);
        }
        if changed {
            self.tell();
        }
        left == 0
    }

    /// Renews what lists and the description say.
    fn tell(&mut self) {
        let live = self.tracks.iter().filter(|track| track.is_live());
        let described: Option<Vec<_>> = live.map(Track::described).collect();
        if let Some(tracks) = described.filter(|tracks| !tracks.is_empty()) {
            self.sdp = Some(describe(&self.spec, self.session, &tracks));
        }
        let sending = self.tracks.iter().any(Track::is_live);
        let state = SenderState {
            state: if sending { "sending" } else { "waiting" },
            tracks: self.tracks.iter().filter_map(Track::sent).collect(),
        };
        *self.shared.lock() = (state, self.sdp.clone());
        self.shared.described.notify_waiters();
    }
}

fn tap(track: Arc<IncomingTrack>, signal: &Signal) -> Option<Tapped> {
    let spec = TapSpec {
        from_cache: true,
        ..TapSpec::new(signal.clone())
    };
    match track.best_encoding().create_tap(spec) {
        Ok(tap) => Some(Tapped::new(tap, track)),
        Err(error) => {
            tracing::error!(%error, "no tap for plain RTP");
            None
        }
    }
}
