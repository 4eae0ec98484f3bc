//! One played name: its publisher's tracks tapped once, made into tags, given to all readers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::Codec;
use fanmill_engine::tap::{Tap, TapItem, TapSpec};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::sound::AacSound;
use super::tags::{Tag, TagKind, Tagger};
use super::{Hubs, Wants};
use crate::broadcast::{Follower, Live};
use crate::media::audio::HAS_AAC_ENCODER;
use crate::media::clock::{StreamClock, TrackClock};
use crate::media::depacketize::{Depacketizer, Unit};
use crate::media::reorder::{Ordered, Packet, Reorder};
use crate::model::TapSignal;
use crate::output::sound_format;

/// How long a missing packet is waited for.
const WAIT_US: u64 = 200_000;

/// How often what waits is looked at, and a keyframe wished for.
const TURN: Duration = Duration::from_millis(100);

/// Without a keyframe for so long one is wished for, where somebody wants them; and again after the next.
const KEYFRAME_EVERY: Duration = Duration::from_millis(1900);
const WISH_AGAIN: Duration = Duration::from_millis(500);

/// How long readers wait for a publisher to return.
const LINGER: Duration = Duration::from_secs(10);

/// What is kept for readers who come: the latest keyframe, and what came since.
const MAX_KEPT_TAGS: usize = 2000;
const MAX_KEPT_BYTES: usize = 8 << 20;

/// Between the last of one publisher and the first of the next.
const GAP_MS: i64 = 40;

/// A reader on its way to the hub.
pub(super) struct NewReader {
    pub(super) tags: mpsc::Sender<Tag>,
    pub(super) is_slow: Arc<AtomicBool>,
    pub(super) wants: Wants,
}

/// One track of the publisher.
struct Line {
    tap: Tap,
    reorder: Reorder,
    depacketizer: Depacketizer,
    clock: Option<TrackClock>,
    early_report: Option<(u64, u32)>,
}

/// The latest keyframe and what came since, with the configurations in force.
#[derive(Default)]
struct Kept {
    configurations: Vec<Tag>,
    tags: VecDeque<Tag>,
    bytes: usize,
    is_whole: bool,
}

/// See the module.
pub(super) struct Hub {
    name: String,
    follower: Follower,
    inbox: mpsc::UnboundedReceiver<NewReader>,
    hubs: Hubs,
    readers: Vec<NewReader>,
    lines: Vec<Line>,
    stream: StreamClock,
    tagger: Tagger,
    kept: Kept,
    /// When a keyframe came, and when one was wished for.
    keyframe_at: Instant,
    wished_at: Instant,
    /// The codec of the publisher's sound, once some has come.
    sound: Option<Codec>,
    /// Sound as AAC, while somebody is given it.
    aac: Option<AacSound>,
    /// What is added to the publisher's times, in milliseconds; `None`: its first unit says.
    shift_ms: Option<i64>,
    last_ms: i64,
    /// Our clock against the packets' times of arrival.
    arrived: Option<(u64, Instant)>,
    gone: Option<Instant>,
}

impl Hub {
    pub(super) fn new(
        name: String,
        follower: Follower,
        inbox: mpsc::UnboundedReceiver<NewReader>,
        hubs: Hubs,
    ) -> Self {
        Self {
            name,
            follower,
            inbox,
            hubs,
            readers: Vec::new(),
            lines: Vec::new(),
            stream: StreamClock::default(),
            tagger: Tagger::default(),
            kept: Kept::default(),
            keyframe_at: Instant::now(),
            wished_at: Instant::now(),
            sound: None,
            aac: None,
            shift_ms: None,
            last_ms: 0,
            arrived: None,
            gone: None,
        }
    }

    /// Serves readers until there is none, or nothing for them.
    pub(super) async fn run(mut self, live: Live) {
        let signal = match TapSignal::new() {
            Ok(signal) => signal,
            Err(error) => {
                tracing::warn!(stream = self.name, %error, "cannot be played over RTMP");
                self.hubs.end(&self.name, &mut self.inbox);
                return;
            }
        };
        self.attach(&live, &signal);
        loop {
            while let Ok(new) = self.inbox.try_recv() {
                self.welcome(new);
            }
            self.listen();
            if self.aac.is_some() && !self.wants_aac() {
                self.aac = None;
            }
            let is_over = self.gone.is_some_and(|since| since.elapsed() > LINGER);
            if is_over {
                self.readers.clear();
            }
            if self.readers.is_empty() && self.hubs.end(&self.name, &mut self.inbox) {
                return;
            }
            tokio::select! {
                () = signal.rung() => {}
                made = made(&mut self.aac) => self.give_aac(&made),
                live = self.follower.changed() => match live {
                    Some(live) => self.attach(&live, &signal),
                    None => {
                        self.lines.clear();
                        self.gone = Some(Instant::now());
                    }
                },
                new = self.inbox.recv() => {
                    if let Some(new) = new {
                        self.welcome(new);
                    }
                }
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// Taps a publisher: a picture at once, if the shard keeps one.
    fn attach(&mut self, live: &Live, signal: &TapSignal) {
        self.gone = None;
        self.stream = StreamClock::default();
        self.tagger = Tagger::default();
        self.kept = Kept::default();
        self.sound = None;
        self.aac = None;
        self.shift_ms = None;
        self.lines.clear();
        for track in live.incoming.tracks() {
            let best = track.best_to_be_had();
            let spec = TapSpec {
                // What is cached of a paused one is long past.
                from_cache: !best.is_paused(),
                ..TapSpec::new(signal.signal())
            };
            match best.create_tap(spec) {
                Ok(tap) => self.lines.push(Line::new(tap)),
                Err(error) => tracing::warn!(stream = self.name, %error, "a track is not played"),
            }
        }
    }

    fn welcome(&mut self, new: NewReader) {
        let kept = self.kept.configurations.iter().chain(&self.kept.tags);
        for tag in kept.filter(|tag| new.takes(tag, self.sound)) {
            if new.tags.try_send(tag.clone()).is_err() {
                return;
            }
        }
        self.readers.push(new);
    }

    /// Takes what the taps have, and gives it to all.
    fn listen(&mut self) {
        let mut units = Vec::new();
        let mut lines = std::mem::take(&mut self.lines);
        for line in &mut lines {
            line.listen(&mut self.stream, &mut self.arrived, &mut units);
        }
        self.lines = lines;
        self.wish_for_keyframes();
        // Those of both tracks in the order of their times, as far as they came together.
        units.sort_by_key(|(us, _)| *us);
        for (us, unit) in units {
            let ms = us / 1000;
            let shift_ms = *self
                .shift_ms
                .get_or_insert_with(|| self.last_ms + GAP_MS - ms);
            let ms = (ms + shift_ms).max(0);
            self.last_ms = self.last_ms.max(ms);
            if sound_format(unit.codec).is_some() {
                self.hear(us, &unit);
            }
            for tag in self.tagger.tags(&unit, ms) {
                if tag.is_keyframe {
                    self.keyframe_at = Instant::now();
                }
                self.kept.add(&tag);
                self.give(&tag);
            }
        }
    }

    fn wish_for_keyframes(&mut self) {
        let is_late = self.keyframe_at.elapsed() >= KEYFRAME_EVERY;
        let wanted = self.readers.iter().any(|reader| reader.wants.keyframes);
        if wanted && is_late && self.wished_at.elapsed() >= WISH_AGAIN {
            self.wished_at = Instant::now();
            let lines = self.lines.iter_mut();
            for line in lines.filter(|line| line.tap.is_video()) {
                line.tap.want_keyframe();
            }
        }
    }

    /// Has sound made AAC, if somebody is to be given it.
    fn hear(&mut self, us: i64, unit: &Unit) {
        self.sound = Some(unit.codec);
        if !self.wants_aac() {
            return;
        }
        if self.aac.is_none() {
            match AacSound::new(unit.codec) {
                Ok(aac) => self.aac = Some(aac),
                Err(error) => {
                    tracing::debug!(stream = self.name, %error, "sound is not made AAC");
                    return;
                }
            }
        }
        if let Some(aac) = &mut self.aac {
            aac.push(us, &unit.data);
        }
    }

    fn wants_aac(&self) -> bool {
        let wants = |reader: &NewReader| !reader.takes_as_it_is(self.sound);
        HAS_AAC_ENCODER && self.readers.iter().any(wants)
    }

    fn give_aac(&mut self, made: &[(i64, Vec<u8>)]) {
        let (Some(aac), Some(shift_ms)) = (&self.aac, self.shift_ms) else {
            return;
        };
        let config = aac.config().to_vec();
        for (us, packet) in made {
            let ms = (us / 1000 + shift_ms).max(0);
            for tag in self.tagger.aac(&config, packet, ms) {
                self.kept.add(&tag);
                self.give(&tag);
            }
        }
    }

    fn give(&mut self, tag: &Tag) {
        let sound = self.sound;
        self.readers.retain(|reader| {
            if !reader.takes(tag, sound) {
                return !reader.tags.is_closed();
            }
            match reader.tags.try_send(tag.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    reader.is_slow.store(true, Ordering::Relaxed);
                    false
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }
}

/// What was made of the sound meanwhile; never, if nothing is made.
async fn made(aac: &mut Option<AacSound>) -> Vec<(i64, Vec<u8>)> {
    match aac {
        Some(aac) => aac.made().await,
        None => std::future::pending().await,
    }
}

impl NewReader {
    /// Whether it is given the publisher's sound as it is. Without an encoder that is all there is: what
    /// it does not hear is left out on its connection, which says so.
    fn takes_as_it_is(&self, sound: Option<Codec>) -> bool {
        !HAS_AAC_ENCODER || sound.is_none_or(|codec| codec == Codec::Opus && self.wants.opus)
    }

    fn takes(&self, tag: &Tag, sound: Option<Codec>) -> bool {
        match tag.kind {
            TagKind::Video(_) => true,
            TagKind::Opus => self.takes_as_it_is(sound),
            TagKind::Aac => !self.takes_as_it_is(sound),
        }
    }
}

impl Line {
    fn new(tap: Tap) -> Self {
        Self {
            tap,
            reorder: Reorder::new(WAIT_US),
            depacketizer: Depacketizer::new(),
            clock: None,
            early_report: None,
        }
    }

    fn listen(
        &mut self,
        stream: &mut StreamClock,
        arrived: &mut Option<(u64, Instant)>,
        units: &mut Vec<(i64, Unit)>,
    ) {
        while let Some(item) = self.tap.pop() {
            match item {
                TapItem::Packet(packet) => {
                    let codec = packet.codec();
                    let (rate_hz, arrival_us) = (codec.clock_rate, packet.arrival_us());
                    let packet = Packet {
                        index: packet.index(),
                        timestamp: packet.timestamp(),
                        marker: packet.marker(),
                        codec: codec.codec,
                        payload: packet.payload().to_vec(),
                        arrival_us,
                    };
                    if arrived.is_none_or(|(latest_us, _)| arrival_us > latest_us) {
                        *arrived = Some((arrival_us, Instant::now()));
                    }
                    let clock = self.clock.get_or_insert_with(|| TrackClock::new(rate_hz));
                    clock.arrived(packet.timestamp, arrival_us);
                    if let Some((ntp, timestamp)) = self.early_report.take() {
                        clock.reported(stream, ntp, timestamp);
                    }
                    self.reorder.push(packet);
                }
                TapItem::Clock(report) => match &mut self.clock {
                    Some(clock) => clock.reported(stream, report.ntp, report.rtp),
                    None => self.early_report = Some((report.ntp, report.rtp)),
                },
                TapItem::Lost(_) => {}
                TapItem::Restarted => {
                    self.reorder = Reorder::new(WAIT_US);
                    self.depacketizer = Depacketizer::new();
                    self.clock = None;
                    self.early_report = None;
                }
            }
        }
        let now_us = arrived.map_or(0, |(latest_us, at)| {
            latest_us.saturating_add(at.elapsed().as_micros() as u64)
        });
        while let Some(ordered) = self.reorder.pop(now_us) {
            match ordered {
                Ordered::Gap(_) => self.depacketizer.gap(),
                Ordered::Packet(packet) => {
                    for unit in self.depacketizer.push(&packet) {
                        if let Some(clock) = &mut self.clock {
                            units.push((clock.time_us(unit.timestamp), unit));
                        }
                    }
                }
            }
        }
        if self.tap.is_video() && self.depacketizer.is_awaiting_keyframe() {
            self.tap.want_keyframe();
        }
    }
}

impl Kept {
    fn add(&mut self, tag: &Tag) {
        if tag.is_configuration {
            self.configurations
                .retain(|known| !known.kind.is_like(tag.kind));
            self.configurations.push(tag.clone());
            return;
        }
        if tag.is_keyframe {
            self.tags.clear();
            self.bytes = 0;
            self.is_whole = true;
        }
        if !self.is_whole {
            return;
        }
        self.bytes += tag.payload.len();
        self.tags.push_back(tag.clone());
        // More would come too late: who joins waits for the next keyframe.
        if self.tags.len() > MAX_KEPT_TAGS || self.bytes > MAX_KEPT_BYTES {
            self.tags.clear();
            self.bytes = 0;
            self.is_whole = false;
        }
    }
}
