//! The sources of one stream, poured into a [`Recording`].

use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;

use super::{EngineClock, Item, Source};
use crate::media::recording::Recording;

/// How often a keyframe is wished for.
const KEYFRAME_WISH: Duration = Duration::from_millis(500);

/// Items taken from one source in a turn: the others get theirs.
const ITEMS_A_TURN: usize = 4096;

/// See the module.
#[derive(Default)]
pub(crate) struct Feeds {
    /// Each with its track in the recording.
    sources: Vec<(usize, Box<dyn Source>)>,
    wished: Option<Instant>,
}

impl Feeds {
    /// The publisher's tracks in place of those before; none: it left.
    pub(crate) fn attach(
        &mut self,
        recording: &mut Recording,
        sources: Vec<Box<dyn Source>>,
        now_us: u64,
    ) {
        let kinds: Vec<MediaKind> = sources.iter().map(|source| source.kind()).collect();
        let numbers = recording.attach(&kinds, now_us);
        self.sources = numbers.into_iter().zip(sources).collect();
        self.wished = None;
    }

    /// Takes what the sources have.
    pub(crate) fn listen(&mut self, recording: &mut Recording, clock: &mut EngineClock) {
        for (track, source) in &mut self.sources {
            for _ in 0..ITEMS_A_TURN {
                match source.pop() {
                    Some(Item::Packet(packet, clock_rate_hz)) => {
                        clock.arrived(packet.arrival_us);
                        recording.push(*track, packet, clock_rate_hz);
                    }
                    Some(Item::Report(ntp, timestamp)) => {
                        recording.reported(*track, ntp, timestamp);
                    }
                    Some(Item::Captured(ntp, timestamp)) => {
                        recording.captured(*track, ntp, timestamp);
                    }
                    Some(Item::Restarted) => recording.restart(*track, clock.now_us()),
                    None => break,
                }
            }
        }
    }

    /// Wishes for keyframes of what the recording cannot go on with otherwise, and of all video if
    /// they are `wanted`: that is asked now and then only.
    pub(crate) fn wish_for_keyframes(
        &mut self,
        recording: &Recording,
        wanted: impl FnOnce() -> bool,
    ) {
        if self.wished.is_some_and(|at| at.elapsed() < KEYFRAME_WISH) {
            return;
        }
        let wanted = wanted();
        for (track, source) in &mut self.sources {
            let video = source.kind() == MediaKind::Video;
            if video && (wanted || recording.wants_keyframe(*track)) {
                source.want_keyframe();
                self.wished = Some(Instant::now());
            }
        }
    }

    /// Whether there is anybody to listen to.
    pub(crate) fn is_live(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Listens to nobody any more.
    pub(crate) fn clear(&mut self) {
        self.sources.clear();
    }
}
