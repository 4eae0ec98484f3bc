//! Choosing which encoding of a simulcast stream a viewer is sent, and which layers of it.
//!
//! A choice belongs to the viewer's tracks, and holds whatever stream they are shown.

use std::sync::Arc;

use super::{Broadcast, BroadcastError, Session};
use crate::model::{IncomingTrack, OutgoingTrack, Selection};
use crate::sdp::MediaKind;

impl Session {
    /// Its outgoing video tracks, or the one of a media section (by its place in the offer).
    fn video_tracks(&self, section: Option<usize>) -> impl Iterator<Item = &Arc<OutgoingTrack>> {
        let sections = &self.transport.negotiated().media;
        let mid = section.map(|section| {
            let media = sections.iter().find(|media| media.index == section);
            media.and_then(|media| media.mid.as_deref())
        });
        let tracks = self.transport.outgoing().tracks().iter();
        let chosen = move |track: &&Arc<OutgoingTrack>| {
            let named = mid.is_none_or(|mid| mid == Some(track.mid()));
            track.kind() == MediaKind::Video && named
        };
        tracks.filter(chosen)
    }
}

impl Broadcast {
    /// Chooses which encoding and layers a viewer is sent on its video tracks, or on that of one media
    /// section (by its place in the offer). It changes at that encoding's next keyframe, or, among
    /// layers of one encoding, as soon as it can. It may wait for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError::NoVideo`]; [`BroadcastError::UnknownEncoding`] if the stream that is shown
    /// has none of that name: nothing is changed then.
    pub fn select(
        &self,
        viewer: &Session,
        section: Option<usize>,
        selection: &Selection,
    ) -> Result<(), BroadcastError> {
        self.tables().check_present(viewer)?;
        let tracks: Vec<_> = viewer.video_tracks(section).collect();
        if tracks.is_empty() {
            return Err(BroadcastError::NoVideo);
        }
        for track in &tracks {
            if let (Some(name), Some(shown)) = (&selection.encoding, track.attached_to()) {
                check_name(name, &shown)?;
            }
        }
        for track in tracks {
            track.transponder().select(selection.clone());
            track.reselect()?;
        }
        Ok(())
    }
}

fn check_name(name: &str, track: &IncomingTrack) -> Result<(), BroadcastError> {
    let names: Vec<_> = track.encodings().iter().map(|one| one.name()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(BroadcastError::UnknownEncoding(
        name.to_owned(),
        names.join(", "),
    ))
}
