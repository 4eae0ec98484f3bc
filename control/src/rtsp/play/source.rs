//! The publisher's tracks as a feed hears them: a tap of each, of the best encoding that comes in.
//!
//! It changes to a better encoding at that one's next keyframe. Used by the feed's task only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use fanmill_engine::signal::Signal;
use fanmill_engine::tap::{Tap, TapItem, TapPacket, TapSpec};

use crate::media::reorder::Packet;
use crate::model::{Encoding, IncomingTrack};

/// How often the choice among encodings is made anew.
const RESELECT_EVERY: Duration = Duration::from_secs(1);

/// What comes of a track.
#[derive(Debug)]
pub(super) enum Item {
    /// A packet, with its clock rate.
    Packet(Packet, u32),
    /// The publisher's clock: NTP time of an RTP timestamp.
    Report(u64, u32),
    /// What follows has nothing to do with what was before.
    Restarted,
}

/// See the module.
pub(super) struct Source {
    track: Arc<IncomingTrack>,
    signal: Signal,
    tap: Option<Tap>,
    /// Of a better encoding, until it has a keyframe.
    next: Option<Tap>,
    selected: Instant,
    /// What the new tap gave with its keyframe, the latest first.
    first: Vec<Item>,
}

impl Source {
    /// Begins at the latest keyframe. It may wait for the data plane.
    pub(super) fn open(track: &Arc<IncomingTrack>, signal: &Signal) -> Self {
        let mut source = Self {
            track: Arc::clone(track),
            signal: signal.clone(),
            tap: None,
            next: None,
            selected: Instant::now(),
            first: Vec::new(),
        };
        source.tap = source.tap(track.best_encoding(), true);
        source
    }

    pub(super) fn kind(&self) -> MediaKind {
        match self.track.kind() {
            crate::sdp::MediaKind::Video => MediaKind::Video,
            // Negotiated are only the two.
            _ => MediaKind::Audio,
        }
    }

    pub(super) fn want_keyframe(&self) {
        if let Some(tap) = &self.tap {
            tap.want_keyframe();
        }
    }

    /// Whether it is time to look for a better encoding.
    pub(super) fn is_to_reselect(&self) -> bool {
        let chooses = self.tap.is_none() || self.track.encodings().len() > 1;
        chooses && self.selected.elapsed() >= RESELECT_EVERY
    }

    /// Taps a better encoding, if there is one now. It may wait for the data plane.
    pub(super) fn reselect(&mut self) {
        self.selected = Instant::now();
        let wanted = self.track.best_encoding();
        let has = |tap: &Option<Tap>| {
            let tapped = tap.as_ref().map(Tap::rendition);
            tapped == Some(wanted.rendition())
        };
        if self.tap.is_none() {
            self.tap = self.tap(wanted, true);
        } else if has(&self.tap) {
            self.next = None;
        } else if !has(&self.next) && wanted.is_active() {
            self.next = self.tap(wanted, false);
        }
    }

    /// The next of what came.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.change_over();
        if let Some(first) = self.first.pop() {
            return Some(first);
        }
        loop {
            return match self.tap.as_mut()?.pop()? {
                TapItem::Packet(packet) => Some(item(&packet)),
                TapItem::Clock(clock) => Some(Item::Report(clock.ntp, clock.rtp)),
                // The indices say so too.
                TapItem::Lost(packets) => {
                    tracing::debug!(packets, "an RTSP feed was behind");
                    continue;
                }
                TapItem::Restarted => Some(Item::Restarted),
            };
        }
    }

    fn tap(&self, encoding: &Encoding, from_cache: bool) -> Option<Tap> {
        let spec = TapSpec {
            from_cache,
            ..TapSpec::new(self.signal.clone())
        };
        match encoding.create_tap(spec) {
            Ok(tap) => Some(tap),
            Err(error) => {
                tracing::debug!(%error, "no tap for an RTSP feed; it tries again");
                None
            }
        }
    }

    /// Changes over if the better encoding has a keyframe.
    fn change_over(&mut self) {
        let Some(next) = &mut self.next else {
            return;
        };
        next.want_keyframe();
        let mut report = None;
        loop {
            match next.pop() {
                Some(TapItem::Packet(packet)) if packet.is_keyframe_start() => {
                    self.first = vec![item(&packet)];
                    self.first.extend(report);
                    self.first.push(Item::Restarted);
                    self.tap = self.next.take();
                    return;
                }
                Some(TapItem::Clock(clock)) => report = Some(Item::Report(clock.ntp, clock.rtp)),
                Some(_) => {}
                None => return,
            }
        }
    }
}

fn item(packet: &TapPacket<'_>) -> Item {
    let codec = packet.codec();
    let owned = Packet {
        index: packet.index(),
        timestamp: packet.timestamp(),
        marker: packet.marker(),
        codec: codec.codec,
        payload: packet.payload().to_vec(),
        arrival_us: packet.arrival_us(),
    };
    Item::Packet(owned, codec.clock_rate)
}
