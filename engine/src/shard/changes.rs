//! Viewers who change to another encoding of the track they see: they go on with the one they have
//! until the other begins with a keyframe, which is asked for. So the picture neither stops nor jumps
//! back to what is cached. One whose link is overfull leaves at once.

use crate::command::PayloadMap;
use crate::ids::{OutgoingTrackId, RenditionId};
use crate::limits::CHANGE_PATIENCE_US;
use crate::route::rendition::Rendition;
use crate::route::viewer::Stage;
use crate::shard::core::Core;
use crate::shard::outgoing::Attachment;

/// A track that is to show the rendition whose list this is in.
pub(crate) struct Change {
    track: OutgoingTrackId,
    payloads: PayloadMap,
    since_us: u64,
}

impl Core {
    /// Shows a rendition on a track: at once, or with its next keyframe if that is better.
    pub(super) fn attach_or_change(
        &mut self,
        id: OutgoingTrackId,
        rendition: RenditionId,
        payloads: &PayloadMap,
    ) -> Option<()> {
        let track = self.outgoing.place(&id)?;
        let to = self.renditions.place(&rendition)?;
        let outgoing = self.outgoing.get_mut(track)?;
        let was_changing = outgoing.changing_to.take().is_some();
        let shows_it = matches!(
            outgoing.attachment,
            Attachment::Attached { rendition, .. } if rendition == to
        );
        if was_changing && shows_it {
            // It was to change, and shall not.
            return Some(());
        }
        if shows_it || !self.may_wait(track, to) {
            return self.attach(id, rendition, payloads);
        }
        self.outgoing.get_mut(track)?.changing_to = Some(to);
        let rendition = self.renditions.get_mut(to)?;
        rendition.changing.retain(|change| change.track != id);
        rendition.changing.push(Change {
            track: id,
            payloads: payloads.clone(),
            since_us: self.now_us,
        });
        rendition.keyframes.want();
        Some(())
    }

    /// Whether a track has something to show until the rendition begins that it is to change to.
    fn may_wait(&self, track: u32, to: u32) -> bool {
        let Some(Attachment::Attached { rendition, place }) =
            self.outgoing.get(track).map(|track| &track.attachment)
        else {
            return false;
        };
        let (Some(from), Some(to)) = (self.renditions.get(*rendition), self.renditions.get(to))
        else {
            return false;
        };
        let viewer = &from.viewers[*place];
        from.spec.alternative_of.is_some()
            && from.spec.alternative_of == to.spec.alternative_of
            && viewer.stage == Stage::Live
            && !self.estimates.is_overused(viewer.peer)
    }

    /// Lets those change who wait for a rendition, before its burst is sent or because none that
    /// begins it comes.
    pub(super) fn change_over(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let id = rendition.spec.id;
        for change in std::mem::take(&mut rendition.changing) {
            let track = self.outgoing.place(&change.track);
            let Some(outgoing) = track.and_then(|track| self.outgoing.get_mut(track)) else {
                continue;
            };
            // It may have been told otherwise since.
            if outgoing.changing_to.take_if(|to| *to == place).is_some() {
                let _ = self.attach(change.track, id, &change.payloads);
            }
        }
    }

    /// Lets those change who have waited for long.
    pub(super) fn end_waits(&mut self, place: u32) {
        let now_us = self.now_us;
        let is_over = self.renditions.get(place).is_some_and(|rendition| {
            let first = rendition.changing.first();
            first.is_some_and(|change| now_us >= change.since_us + CHANGE_PATIENCE_US)
        });
        if is_over {
            self.change_over(place);
        }
    }

    /// A rendition is gone: nobody changes to it any more.
    pub(super) fn forget_changes(&mut self, place: u32, changes: Vec<Change>) {
        for change in changes {
            let track = self.outgoing.place(&change.track);
            if let Some(outgoing) = track.and_then(|track| self.outgoing.get_mut(track)) {
                outgoing.changing_to.take_if(|to| *to == place);
            }
        }
    }
}

impl Rendition {
    /// Whether those who are to change to it can do so with the burst at hand.
    pub(super) fn lets_change(&self) -> bool {
        !self.changing.is_empty() && self.burst().iter().any(|packet| packet.info.keyframe_start)
    }
}
