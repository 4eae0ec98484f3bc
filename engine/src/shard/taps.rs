//! The shard's part in its taps: hand them the bursts, wake them when the turn's viewers are served,
//! take their wishes for keyframes, let go of those whose consumer has gone.

use crate::counters::DropReason;
use crate::ids::RenditionId;
use crate::limits::POOL_SLOTS_TAPPED;
use crate::shard::core::Core;
use crate::tap::TapFeed;

impl Core {
    /// Begins to hand a rendition's packets to a tap, from the burst at hand on or from the frame
    /// cache.
    pub(super) fn add_tap(&mut self, id: RenditionId, mut feed: TapFeed) -> Option<()> {
        let place = self.renditions.place(&id)?;
        let rendition = self.renditions.get_mut(place)?;
        if let Some(clock) = rendition.clock {
            feed.tell_clock(clock);
        }
        if feed.begins_with_cache() {
            let cached = rendition.cached();
            let scarce = self.links.pool.tapped() + cached.len() > POOL_SLOTS_TAPPED;
            let lost = feed.give_cached(&cached, scarce);
            self.drops.add(DropReason::TapFull, lost);
        }
        rendition.taps.push(feed);
        self.note_tapped(place);
        Some(())
    }

    /// Hands the burst of a rendition to its taps.
    pub(super) fn feed_taps(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let (mut taps, mut lost) = (std::mem::take(&mut rendition.taps), 0);
        for tap in &mut taps {
            let scarce = self.links.pool.tapped() > POOL_SLOTS_TAPPED;
            lost += tap.give(rendition.burst(), scarce);
        }
        rendition.taps = taps;
        self.drops.add(DropReason::TapFull, lost);
        self.note_tapped(place);
    }

    /// Notes that taps of a rendition are to be woken.
    pub(super) fn note_tapped(&mut self, place: u32) {
        if let Some(rendition) = self.renditions.get_mut(place)
            && !rendition.taps.is_empty()
            && !std::mem::replace(&mut rendition.tapped, true)
        {
            self.tapped.push(place);
        }
    }

    /// Wakes the taps that were given something: once a turn, when the viewers have been served.
    pub(super) fn wake_taps(&mut self) {
        for position in 0..self.tapped.len() {
            if let Some(rendition) = self.renditions.get_mut(self.tapped[position]) {
                rendition.tapped = false;
                rendition.taps.iter_mut().for_each(TapFeed::wake);
            }
        }
        self.tapped.clear();
    }

    /// Takes the wishes of a rendition's taps to its source, and ends those without a consumer.
    pub(super) fn tend_taps(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        rendition.taps.retain(|tap| !tap.is_abandoned());
        let taps = rendition.taps.iter();
        // Each of them is asked: a wish is taken by asking.
        let wanted = taps.fold(false, |any, tap| tap.takes_keyframe_wish() | any);
        let id = rendition.spec.id;
        if wanted
            && rendition.spec.video
            && let Some(source) = self.source_mut(&id)
        {
            source.keyframes.want();
        }
    }
}
