//! Viewers who change to another version of the track they see: they go on with the one they have until
//! the other begins, so that the picture neither stops nor jumps back to what is cached.
//!
//! Another *encoding* begins with a keyframe, which is asked for. Other *layers* of the same encoding
//! begin with the next frame that allows it ([`LayerMark::lets_cross`]): down at once, up in time where
//! the publisher says so, up in space with a keyframe. Both renditions have that frame then, or one of
//! them has the frame and the other nothing of its picture; the viewer leaves the one before it and
//! joins the other with it, its numbers running on and its timestamps as they are. On one shard bursts
//! of both come in whatever order: a viewer *crosses* with the first burst that has the frame, if
//! neither rendition has sent anything beyond it. What either has sent is known by the packets' places
//! at the source (`origin`), which are the same in both.
//!
//! One whose link is overfull leaves an encoding at once.
//!
//! [`LayerMark::lets_cross`]: crate::packet::layer::LayerMark::lets_cross

use crate::command::PayloadMap;
use crate::ids::{OutgoingTrackId, RenditionId};
use crate::limits::{CHANGE_PATIENCE_US, CROSSING_PATIENCE_US, CROSSING_WHOLE_PACKETS};
use crate::pool::PacketInfo;
use crate::route::rendition::Rendition;
use crate::route::viewer::Stage;
use crate::shard::core::Core;
use crate::shard::outgoing::Attachment;

/// A track that is to show the rendition whose list this is in.
pub(crate) struct Change {
    track: OutgoingTrackId,
    payloads: PayloadMap,
    since_us: u64,
    /// The two are layers of one encoding.
    crosses: bool,
}

impl Core {
    /// Shows a rendition on a track: at once, or when it begins if that is better.
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
        let shown = match outgoing.attachment {
            Attachment::Attached { rendition, place } => Some((rendition, place)),
            Attachment::Detached(_) => None,
        };
        let shows_it = shown.is_some_and(|(rendition, _)| rendition == to);
        if was_changing && shows_it {
            // It was to change, and shall not.
            return Some(());
        }
        let waits = shown.filter(|_| !shows_it).and_then(|(from, place)| {
            let crosses = self.may_wait(from, place, to)?;
            Some((from, crosses))
        });
        let Some((from, crosses)) = waits else {
            return self.attach(id, rendition, payloads);
        };
        self.outgoing.get_mut(track)?.changing_to = Some(to);
        let from = self.renditions.get_mut(from)?;
        let had = from.spec.origin().layers;
        if crosses && !from.leaving.contains(&track) {
            from.leaving.push(track);
        }
        let rendition = self.renditions.get_mut(to)?;
        rendition.changing.retain(|change| change.track != id);
        rendition.changing.push(Change {
            track: id,
            payloads: payloads.clone(),
            since_us: self.now_us,
            crosses,
        });
        if !crosses || rendition.spec.origin().layers.spatial > had.spatial {
            rendition.keyframes.want();
        }
        Some(())
    }

    /// Whether a viewer has something to show until the rendition begins that it is to change to, and
    /// if so, whether that is of the same encoding.
    fn may_wait(&self, from: u32, place: usize, to: u32) -> Option<bool> {
        let (from, to) = (self.renditions.get(from)?, self.renditions.get(to)?);
        let viewer = from.viewers.get(place)?;
        let track = from.spec.alternative_of?;
        if to.spec.alternative_of != Some(track) || viewer.stage != Stage::Live {
            return None;
        }
        let crosses = from.spec.origin().rendition == to.spec.origin().rendition;
        (crosses || !self.estimates.is_overused(viewer.peer)).then_some(crosses)
    }

    /// Lets those change who wait for a rendition and can begin with the burst at hand, before it is
    /// sent.
    pub(super) fn change_over(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let mut burst = rendition.burst().iter();
        let begins = burst.any(|packet| packet.info.keyframe_start);
        for change in std::mem::take(&mut rendition.changing) {
            match change.crosses {
                true => match self.crossing(&change, place) {
                    Some(origin) => self.cross(&change, place, origin),
                    None => self.keep(change, place),
                },
                false if begins => self.change(&change, place),
                false => self.keep(change, place),
            }
        }
    }

    /// Lets those leave a rendition, before its burst is sent, who are to change to other layers with
    /// a frame that the burst begins with.
    pub(super) fn let_leave(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        for track in std::mem::take(&mut rendition.leaving) {
            let Some(to) = self.leaves_for(track, place) else {
                continue;
            };
            let origin = self.renditions.get(place).and_then(|from| {
                let to = self.renditions.get(to)?;
                crossing_point(from, to, from).filter(|_| to.sent_origin > 0)
            });
            let change = origin.and_then(|_| {
                let id = self.outgoing.get(track)?.spec.id;
                let changing = &mut self.renditions.get_mut(to)?.changing;
                let at = changing.iter().position(|change| change.track == id)?;
                Some(changing.remove(at))
            });
            match (origin, change) {
                (Some(origin), Some(change)) => self.cross(&change, to, origin),
                _ => {
                    if let Some(rendition) = self.renditions.get_mut(place) {
                        rendition.leaving.push(track);
                    }
                }
            }
        }
    }

    /// The rendition that a track is to change to, if it shows this one.
    fn leaves_for(&self, track: u32, place: u32) -> Option<u32> {
        let outgoing = self.outgoing.get(track)?;
        let Attachment::Attached { rendition, .. } = outgoing.attachment else {
            return None;
        };
        outgoing.changing_to.filter(|_| rendition == place)
    }

    /// Where a track that waits for a rendition can cross over to it, in the burst at hand.
    fn crossing(&self, change: &Change, place: u32) -> Option<u64> {
        let outgoing = self.outgoing.get(self.outgoing.place(&change.track)?)?;
        let Attachment::Attached { rendition, .. } = outgoing.attachment else {
            return None;
        };
        let (from, to) = (self.renditions.get(rendition)?, self.renditions.get(place)?);
        crossing_point(from, to, to)
    }

    /// A change has to wait, unless the track was told otherwise since.
    fn keep(&mut self, change: Change, place: u32) {
        let track = self.outgoing.place(&change.track);
        let outgoing = track.and_then(|track| self.outgoing.get(track));
        let Some(outgoing) = outgoing.filter(|one| one.changing_to == Some(place)) else {
            return;
        };
        if matches!(outgoing.attachment, Attachment::Detached(_)) {
            // What it showed has gone: there is nothing to wait with.
            self.change(&change, place);
        } else if let Some(rendition) = self.renditions.get_mut(place) {
            rendition.changing.push(change);
        }
    }

    /// Shows the rendition, as if nothing had been shown before.
    fn change(&mut self, change: &Change, place: u32) {
        let id = self.renditions.get(place).map(|one| one.spec.id);
        let track = self.outgoing.place(&change.track);
        let outgoing = track.and_then(|track| self.outgoing.get_mut(track));
        let (Some(id), Some(outgoing)) = (id, outgoing) else {
            return;
        };
        // It may have been told otherwise since.
        if outgoing.changing_to.take_if(|to| *to == place).is_some() {
            let _ = self.attach(change.track, id, &change.payloads);
        }
    }

    /// Shows the rendition from the packet with this place at the source on.
    fn cross(&mut self, change: &Change, place: u32, origin: u64) {
        self.change(change, place);
        let track = self.outgoing.place(&change.track);
        let outgoing = track.and_then(|track| self.outgoing.get(track));
        if let Some(Attachment::Attached {
            rendition,
            place: at,
        }) = outgoing.map(|one| &one.attachment)
            && *rendition == place
            && let Some(rendition) = self.renditions.get_mut(place)
        {
            rendition.let_cross(*at, origin);
        }
    }

    /// Lets those change who have waited for long, and asks for a keyframe for those who have nearly.
    pub(super) fn end_waits(&mut self, place: u32) {
        let now_us = self.now_us;
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let waited_us = |change: &Change| now_us.saturating_sub(change.since_us);
        let mut longest_us = rendition.changing.iter().map(waited_us);
        if longest_us.clone().any(|us| us >= CROSSING_PATIENCE_US) {
            rendition.keyframes.want();
        }
        if longest_us.any(|us| us >= CHANGE_PATIENCE_US) {
            self.change_all(place, |change| waited_us(change) >= CHANGE_PATIENCE_US);
        }
    }

    fn change_all(&mut self, place: u32, which: impl Fn(&Change) -> bool) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let changing = std::mem::take(&mut rendition.changing);
        let (now, later) = changing.into_iter().partition(which);
        rendition.changing = later;
        let now: Vec<Change> = now;
        now.iter().for_each(|change| self.change(change, place));
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

/// The first packet of a burst with which viewers of one rendition can go on in another of the same
/// encoding, by its place at the source: neither has sent it yet, and the first has sent all before it.
fn crossing_point(from: &Rendition, to: &Rendition, burst: &Rendition) -> Option<u64> {
    let (from_of, to_of) = (from.spec.origin(), to.spec.origin());
    if from_of.rendition != to_of.rendition {
        return None;
    }
    let (had, gets) = (from_of.layers, to_of.layers);
    let sent = from.sent_origin.max(to.sent_origin);
    let lets = |info: &&PacketInfo| {
        let begins = info.keyframe_start && info.layer.known && gets.hold(&info.layer);
        info.origin > sent && (begins || info.layer.lets_cross(had, gets))
    };
    let infos = burst.burst().iter().map(|packet| &packet.info);
    let first = infos.filter(lets).map(|info| info.origin).min()?;
    if from.lacks_lately() {
        // What is still to come would be lost to who has left.
        return None;
    }
    let mut waiting = from.burst().iter().map(|packet| packet.info.origin);
    waiting.all(|origin| origin >= first).then_some(first)
}

impl Rendition {
    /// Whether packets are missing among the latest, which may be on their way.
    fn lacks_lately(&self) -> bool {
        let end = self.store.highest().map_or(0, |highest| highest + 1);
        let mut latest = end.saturating_sub(CROSSING_WHOLE_PACKETS)..end;
        latest.any(|index| self.store.lacks(index))
    }

    /// Whether any of those who are to change to it may do so with the burst at hand.
    pub(super) fn lets_change(&self) -> bool {
        let begins = |change: &Change| {
            let mut burst = self.burst().iter();
            change.crosses || burst.any(|packet| packet.info.keyframe_start)
        };
        self.changing.iter().any(begins)
    }
}
