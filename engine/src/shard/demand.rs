//! The shard's part in what publishers of several encodings are asked for: it sees who watches them.

use crate::packet::codec::MediaKind;
use crate::route::demand::Seen;
use crate::route::source::Source;
use crate::shard::core::Core;
use crate::shard::transport::{IncomingTrack, Transport};

/// What sound is left beside pictures that are held down, above what it takes: for headers, and for a codec
/// that takes more when somebody speaks.
const SOUND_BPS: u64 = 60_000;

impl Core {
    /// Looks whether the encodings of a publisher are watched; whether it is to be asked for more or less
    /// than before.
    pub(super) fn tend_demand(&mut self, place: u32) -> bool {
        let (now_us, pause_after_us) = (self.now_us, self.forwarding.pause_unwatched_us);
        let Some(transport) = self.transports.get_mut(place) else {
            return false;
        };
        let mut changed = false;
        for track in &mut transport.tracks {
            // Without REMB there is no means to ask for less.
            if pause_after_us == 0 || track.sources.len() < 2 || !track.spec.feedback.remb {
                continue;
            }
            let (sources, targets_bps) = (&track.sources, track.targets_bps);
            let seen = sources.iter().enumerate().map(|(position, source)| {
                let rendition = self.renditions.get(source.rendition);
                let counters = &source.spec.counters;
                let wanted = counters.wanted.get() > 0;
                if wanted {
                    counters.wanted.set(0);
                }
                Seen {
                    watched: wanted || rendition.is_some_and(|rendition| rendition.is_watched()),
                    comes: source.is_active(),
                    bitrate_bps: counters.bitrate_bps.get(),
                    target_bps: targets_bps.get(position).copied().unwrap_or(0),
                    pixels: counters.width.get() * counters.height.get(),
                }
            });
            changed |= track.demand.look(seen, pause_after_us, now_us);
            for (position, source) in track.sources.iter().enumerate() {
                track.demand.publish(position, &source.spec.counters);
            }
        }
        changed
    }
}

impl Transport {
    /// What all that it shares takes while some of it is not asked for; `None`: as much as it likes. A
    /// bitrate is for the whole transport: a second track of pictures that comes and is not held down would
    /// get what the first one is to leave.
    pub(super) fn wanted_bps(&self) -> Option<u64> {
        let each = self.tracks.iter().map(IncomingTrack::wanted_bps);
        each.sum()
    }
}

impl IncomingTrack {
    fn wanted_bps(&self) -> Option<u64> {
        let codec = self.spec.codecs.first()?;
        if codec.codec.kind() == MediaKind::Video {
            let comes = self.sources.iter().any(Source::is_active);
            return if comes {
                self.demand.ceiling_bps()
            } else {
                Some(0)
            };
        }
        let takes = self
            .sources
            .iter()
            .map(|s| s.spec.counters.bitrate_bps.get());
        Some(takes.sum::<u64>() * 3 / 2 + SOUND_BPS)
    }
}
