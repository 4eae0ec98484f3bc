//! A publisher's track as a recorder or an output hears it: a tap of the encoding that is wanted.
//!
//! Of several encodings it is the chosen one, or the best that comes in: it changes to a better one at
//! that one's next keyframe. Used on the threads of its consumer only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use fanmill_engine::signal::Signal;
use fanmill_engine::tap::{Tap, TapItem, TapPacket, TapSpec};

use super::{Item, Source};
use crate::media::reorder::Packet;
use crate::model::{Encoding, IncomingStream, IncomingTrack};

/// How often the choice among encodings is made anew.
const RESELECT_EVERY: Duration = Duration::from_secs(1);

/// See the module.
struct TapSource {
    track: Arc<IncomingTrack>,
    rid: Option<String>,
    signal: Signal,
    tap: Option<Tap>,
    /// Of a better encoding, until it has a keyframe.
    next: Option<Tap>,
    selected: Option<Instant>,
    /// What is given before what the tap has, the last first.
    first: Vec<Item>,
}

/// The sources of all tracks of a publisher, from what comes next. `rid` chooses a simulcast encoding
/// where there is one of this name.
///
/// # Errors
/// The process has no descriptor left.
pub fn tap_sources(
    incoming: &IncomingStream,
    rid: Option<&str>,
) -> std::io::Result<Vec<Box<dyn Source>>> {
    // The threads look at their taps at their own pace: nobody waits for it.
    Ok(sources(incoming, rid, false, &Signal::new()?))
}

/// The sources of all tracks of a publisher; pictures from the latest keyframe on, as far as the shard
/// keeps it.
///
/// # Errors
/// The process has no descriptor left.
pub fn tap_sources_from_cache(incoming: &IncomingStream) -> std::io::Result<Vec<Box<dyn Source>>> {
    Ok(tap_sources_ringing(incoming, &Signal::new()?))
}

/// The same, for a consumer that waits for its taps: they ring `signal`.
pub fn tap_sources_ringing(incoming: &IncomingStream, signal: &Signal) -> Vec<Box<dyn Source>> {
    sources(incoming, None, true, signal)
}

fn sources(
    incoming: &IncomingStream,
    rid: Option<&str>,
    from_cache: bool,
    signal: &Signal,
) -> Vec<Box<dyn Source>> {
    let source = |track: &Arc<IncomingTrack>| {
        let mut source = TapSource {
            track: Arc::clone(track),
            rid: rid.map(str::to_owned),
            signal: signal.clone(),
            tap: None,
            next: None,
            selected: None,
            first: Vec::new(),
        };
        source.tap = source.open(source.wanted(), from_cache);
        source.selected = Some(Instant::now());
        Box::new(source) as Box<dyn Source>
    };
    incoming.tracks().iter().map(source).collect()
}

impl TapSource {
    fn wanted(&self) -> &Encoding {
        let named = |encoding: &&Encoding| encoding.rid() == self.rid.as_deref();
        let chosen = match self.rid {
            Some(_) => self.track.encodings().iter().find(named),
            None => None,
        };
        chosen.unwrap_or_else(|| self.track.ask_for_best())
    }

    fn open(&self, encoding: &Encoding, from_cache: bool) -> Option<Tap> {
        let spec = TapSpec {
            from_cache,
            ..TapSpec::new(self.signal.clone())
        };
        match encoding.create_tap(spec) {
            Ok(tap) => Some(tap),
            Err(error) => {
                tracing::warn!(%error, "no tap for a recorder or output; it tries again");
                None
            }
        }
    }

    /// Taps a better encoding, if there is one now.
    fn reselect(&mut self) {
        if self
            .selected
            .is_some_and(|at| at.elapsed() < RESELECT_EVERY)
        {
            return;
        }
        self.selected = Some(Instant::now());
        let wanted = self.wanted().rendition();
        let has = |tap: &Option<Tap>| tap.as_ref().is_some_and(|tap| tap.rendition() == wanted);
        if self.tap.is_none() {
            self.tap = self.open(self.wanted(), false);
        } else if has(&self.tap) {
            self.next = None;
        } else if !has(&self.next) && self.wanted().is_active() {
            self.next = self.open(self.wanted(), false);
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
                    // Taken from the end.
                    self.first = Vec::from_iter(captured(&packet));
                    self.first.push(item(&packet));
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

impl Source for TapSource {
    fn kind(&self) -> MediaKind {
        match self.track.kind() {
            crate::sdp::MediaKind::Video => MediaKind::Video,
            // Negotiated are only the two.
            _ => MediaKind::Audio,
        }
    }

    fn pop(&mut self) -> Option<Item> {
        if self.track.encodings().len() > 1 || self.tap.is_none() {
            self.reselect();
            self.change_over();
        }
        if let Some(first) = self.first.pop() {
            return Some(first);
        }
        let tap = self.tap.as_mut()?;
        loop {
            return match tap.pop()? {
                TapItem::Packet(packet) => {
                    self.first.extend(captured(&packet));
                    Some(item(&packet))
                }
                TapItem::Clock(clock) => Some(Item::Report(clock.ntp, clock.rtp)),
                // The indices say so too.
                TapItem::Lost(packets) => {
                    tracing::debug!(packets, "the thread of a recorder or output was behind");
                    continue;
                }
                TapItem::Restarted => Some(Item::Restarted),
            };
        }
    }

    fn want_keyframe(&mut self) {
        if let Some(tap) = &self.tap {
            tap.want_keyframe();
        }
    }
}

fn captured(packet: &TapPacket<'_>) -> Option<Item> {
    Some(Item::Captured(packet.capture_ntp()?, packet.timestamp()))
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
