//! The task of a feed: from the taps of whoever publishes to the queues of the readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::track::{OtherCodec, Track};
use super::{Shared, lock};
use crate::broadcast::{Follower, Live};
use crate::media::clock::StreamClock;
use crate::model::TapSignal;
use crate::rtsp::limits::MAX_TRACKS;
use crate::rtsp::random;
use crate::taps::{Item, Source, tap_sources_ringing};

/// Beside what wakes it: how often missing packets are given up and keyframes asked for.
const TICK: Duration = Duration::from_millis(50);

/// How often the clocks are reported to readers.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Keyframes are asked for no more often, whatever readers wish.
const KEYFRAME_WISH: Duration = Duration::from_millis(500);

struct Task {
    shared: Arc<Shared>,
    signal: TapSignal,
    /// How long it waits for the next publisher.
    linger: Duration,
    /// Each with the track that it is sent as.
    sources: Vec<(usize, Box<dyn Source>)>,
    clock: StreamClock,
    /// The latest time that is known of the engine's clock, and when it was.
    now: Option<(u64, Instant)>,
    reported: Option<Instant>,
    wished: Option<Instant>,
}

/// Begins to feed; ends when told to, or with the stream.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    follower: Follower,
    live: Live,
    linger: Duration,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let task = Task {
        shared: Arc::clone(shared),
        signal: TapSignal::new()?,
        linger,
        sources: Vec::new(),
        clock: StreamClock::default(),
        now: None,
        reported: None,
        wished: None,
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = task.run(follower, live) => {}
        }
        lock(&shared.state).end(&shared.dropped);
        shared.changes.send_modify(|changes| *changes += 1);
    });
    Ok(())
}

impl Task {
    async fn run(mut self, mut follower: Follower, live: Live) {
        let mut live = Some(live);
        loop {
            match live.take() {
                Some(now) => self.attach(now).await,
                None => self.sources.clear(),
            }
            live = if self.sources.is_empty() {
                match tokio::time::timeout(self.linger, follower.changed()).await {
                    Ok(live) => live,
                    Err(_) => return,
                }
            } else {
                match self.feed(&mut follower).await {
                    Ok(live) => live,
                    Err(OtherCodec) => return,
                }
            };
        }
    }

    /// Taps a publisher's tracks. The first video track goes on where that of the last publisher was.
    async fn attach(&mut self, live: Live) {
        let signal = self.signal.signal();
        let open = move || tap_sources_ringing(&live.incoming, &signal);
        // Making taps may wait for the data plane.
        let sources = tokio::task::spawn_blocking(open).await.unwrap_or_default();
        self.clock = StreamClock::default();
        let mut state = lock(&self.shared.state);
        let first = state.tracks.is_empty();
        let (mut taken, mut out) = (0u64, Vec::new());
        self.sources = sources
            .into_iter()
            .take(MAX_TRACKS)
            .filter_map(|source| {
                let kind = source.kind();
                let free = (0..state.tracks.len())
                    .find(|&place| taken & 1 << place == 0 && state.tracks[place].kind() == kind);
                let place = match free {
                    Some(place) => place,
                    None if first => {
                        let place = state.tracks.len();
                        state.tracks.push(Track::new(place, kind, random()));
                        place
                    }
                    // It was not described to the readers.
                    None => return None,
                };
                taken |= 1 << place;
                Some((place, source))
            })
            .collect();
        for track in &mut state.tracks {
            // What is left of the last publisher: another codec shows with the next one's packets.
            let _ = track.restart(&mut out);
        }
        state.deliver(&out, &self.shared.dropped);
    }

    /// Feeds until there is another publisher, or none.
    async fn feed(&mut self, follower: &mut Follower) -> Result<Option<Live>, OtherCodec> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.turn()?;
            tokio::select! {
                () = self.signal.rung() => {}
                _ = tick.tick() => self.look_after(),
                live = follower.changed() => return Ok(live),
            }
        }
    }

    /// Takes all that came, and hands on what is in order.
    fn turn(&mut self) -> Result<(), OtherCodec> {
        let mut out = Vec::new();
        let mut state = lock(&self.shared.state);
        let described = |tracks: &[Track]| tracks.iter().filter(|t| t.is_described()).count();
        let before = described(&state.tracks);
        for (place, source) in &mut self.sources {
            let track = &mut state.tracks[*place];
            while let Some(item) = source.pop() {
                match item {
                    Item::Packet(packet, clock_rate) => {
                        let newest = self.now.map_or(0, |(now_us, _)| now_us);
                        if packet.arrival_us >= newest {
                            self.now = Some((packet.arrival_us, Instant::now()));
                        }
                        track.push(&mut self.clock, packet, clock_rate);
                    }
                    Item::Report(ntp, timestamp) => {
                        track.reported(&mut self.clock, ntp, timestamp);
                    }
                    Item::Captured(ntp, timestamp) => {
                        track.captured(&mut self.clock, ntp, timestamp);
                    }
                    Item::Restarted => track.restart(&mut out)?,
                }
            }
        }
        let Some((latest_us, at)) = self.now else {
            return Ok(());
        };
        let now_us = latest_us + at.elapsed().as_micros() as u64;
        for track in &mut state.tracks {
            track.poll(now_us, &mut out)?;
        }
        let wall_us = *state.wall_us.get_or_insert_with(|| wall_us(now_us));
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            let reports = state.tracks.iter();
            out.extend(reports.filter_map(|track| track.report(wall_us, &self.shared.cname)));
        }
        state.deliver(&out, &self.shared.dropped);
        let after = described(&state.tracks);
        drop(state);
        if after != before {
            self.shared.changes.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// What is to be done now and then.
    fn look_after(&mut self) {
        let may = self.wished.is_none_or(|at| at.elapsed() >= KEYFRAME_WISH);
        if may && self.shared.keyframe_wanted.swap(false, Ordering::Relaxed) {
            self.wished = Some(Instant::now());
            for (_, source) in &mut self.sources {
                source.want_keyframe();
            }
        }
    }
}

/// The wall clock, in microseconds since 1970, at the zero of a clock that stands at `now_us`.
fn wall_us(now_us: u64) -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_us = since_1970.map_or(0, |passed| passed.as_micros() as i64);
    unix_us.saturating_sub(now_us.cast_signed())
}
