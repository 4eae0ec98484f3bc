//! Shows a publisher to many viewers at once, or the members of a room to each other.
//!
//! Viewers who negotiated alike make one group, and a group goes to the shards in few commands: ten
//! thousand viewers change over in some tens of milliseconds, within which others have their turn at
//! the tables of the data plane. Called by whoever keeps streams by name, with no other call for the same
//! viewers at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use fanmill_engine::command::PayloadMap;
use fanmill_engine::ids::OutgoingTrackId;

use crate::model::incoming::{IncomingStream, IncomingTrack};
use crate::model::outgoing::{AttachError, Attached, OutgoingStream, OutgoingTrack, Shown};
use crate::sdp::MediaKind;

/// Tracks that change over at once: while they do, no other encoding is chosen for any of them.
const TRACKS_AT_ONCE: usize = 1024;

/// Answers of [`OutgoingTrack::payload_map`] that are remembered: most viewers are of few kinds.
const MAPS_REMEMBERED: usize = 8;

/// What some viewers could not be shown.
#[derive(Debug, Default)]
pub struct Unshown {
    /// Tracks of viewers that show nothing instead.
    pub tracks: usize,
    /// Why the first of them does.
    pub reason: Option<AttachError>,
}

impl Unshown {
    fn add(&mut self, tracks: usize, reason: AttachError) {
        self.tracks += tracks;
        self.reason.get_or_insert(reason);
    }
}

/// Tracks that are to show the same thing by the same payload types.
struct Group<'a> {
    source: &'a Arc<IncomingTrack>,
    tracks: Vec<&'a OutgoingTrack>,
}

/// The payload types of viewers' tracks, worked out once for each kind of viewer in sight.
#[derive(Default)]
struct Maps<'a>(Vec<(&'a OutgoingTrack, &'a Arc<IncomingTrack>, PayloadMap)>);

impl<'a> Maps<'a> {
    fn of(&mut self, track: &'a OutgoingTrack, source: &'a Arc<IncomingTrack>) -> &PayloadMap {
        let known = self
            .0
            .iter()
            .position(|(other, of, _)| Arc::ptr_eq(of, source) && other.codecs() == track.codecs());
        let place = known.unwrap_or_else(|| {
            if self.0.len() == MAPS_REMEMBERED {
                self.0.remove(0);
            }
            let map = track.payload_map(source.codecs());
            self.0.push((track, source, map));
            self.0.len() - 1
        });
        &self.0[place].2
    }
}

/// Shows a stream to viewers as [`OutgoingStream::attach_to`] does for one. A track that cannot show
/// it shows nothing: what it showed before would not fit the others.
pub(crate) fn attach_all<'a>(
    viewers: impl IntoIterator<Item = &'a OutgoingStream>,
    incoming: &'a IncomingStream,
) -> Unshown {
    let viewers = viewers.into_iter();
    attach_pairs(viewers.flat_map(|viewer| viewer.pairs(incoming)))
}

/// Shows on each of these tracks, none of which is there twice, what stands with it, or nothing.
pub(crate) fn attach_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a OutgoingTrack, Option<&'a Arc<IncomingTrack>>)>,
) -> Unshown {
    let mut unshown = Unshown::default();
    let mut maps = Maps::default();
    let mut groups: HashMap<(Option<Shown>, PayloadMap), Group<'a>> = HashMap::new();
    for (track, source) in pairs {
        let Some(source) = source else {
            detach(track, &mut unshown);
            continue;
        };
        let map = maps.of(track, source);
        if map.iter().all(Option::is_none) {
            detach(track, &mut unshown);
            unshown.add(1, AttachError::no_common_codec(source));
            continue;
        }
        let shown = track.choose(source, None);
        let group = groups.entry((shown, map.clone()));
        let group = group.or_insert_with(|| Group {
            source,
            tracks: Vec::new(),
        });
        group.tracks.push(track);
    }
    // Sound first: its pauses are noticed most, and it takes less.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| group.source.kind() == MediaKind::Video);
    for ((shown, payloads), group) in groups {
        for tracks in group.tracks.chunks(TRACKS_AT_ONCE) {
            if let Err(error) = attach(tracks, group.source, shown, &payloads) {
                unshown.add(tracks.len(), error);
            }
        }
    }
    unshown
}

fn attach(
    tracks: &[&OutgoingTrack],
    source: &Arc<IncomingTrack>,
    shown: Option<Shown>,
    payloads: &PayloadMap,
) -> Result<(), AttachError> {
    let Some(first) = tracks.first() else {
        return Ok(());
    };
    // Held to the end, or what is chosen meanwhile would be undone.
    let mut attached: Vec<_> = tracks.iter().map(|track| track.attached()).collect();
    let ids: Vec<OutgoingTrackId> = tracks.iter().map(|track| track.id()).collect();
    let engine = first.engine();
    match shown {
        Some(Shown { encoding, layers }) => {
            let rendition = engine.layers_of(encoding, layers)?;
            engine.attach_all(&ids, rendition, payloads)?;
        }
        None => ids.iter().try_for_each(|id| engine.detach(*id))?,
    }
    for attached in &mut attached {
        **attached = Some(Attached {
            track: Arc::clone(source),
            shown,
        });
    }
    Ok(())
}

fn detach(track: &OutgoingTrack, unshown: &mut Unshown) {
    if let Err(error) = track.detach() {
        unshown.add(1, error.into());
    }
}
