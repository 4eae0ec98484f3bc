//! The shard's part in serving those who join: time for them between the bursts of the others, and
//! memory for the frame caches they are served from.

use crate::io::Tx;
use crate::limits::{CATCH_UP_INTERVAL_US, CATCH_UP_SLICE_US, POOL_SLOTS_WITH_CACHES};
use crate::route::newcomers::Slice;
use crate::route::rendition::Rendition;
use crate::route::sweep::Sent;
use crate::shard::core::Core;
use crate::shard::links::Message;

impl Core {
    /// Sends those who catch up what is due, unless the shard is behind with the others. The bursts
    /// that are due must have been sent: of what is left, all is in order.
    pub(crate) fn catch_up<T: Tx>(&mut self, tx: &mut T) {
        let now_us = tx.now_us();
        if self.newcomers.is_empty() || now_us < self.catch_up_due_us {
            return;
        }
        self.catch_up_due_us = now_us + CATCH_UP_INTERVAL_US;
        if self.overload.is_behind(now_us) {
            return;
        }
        let rates = self.newcomers.iter().filter_map(|place| {
            let rendition = self.renditions.get(*place);
            rendition.map(Rendition::catch_up_rate)
        });
        let mut sent = Sent::default();
        let mut slice = Slice {
            now_us,
            until_us: now_us + CATCH_UP_SLICE_US,
            packets_per_second: rates.sum(),
            admits: !self.overload.is_shedding(),
            joined: 0,
            peers: &mut self.peers,
            estimates: &mut self.estimates,
            transit: &mut self.transit,
            tx,
            sent: &mut sent,
        };
        for place in &self.newcomers {
            if let Some(rendition) = self.renditions.get_mut(*place) {
                rendition.catch_up(&mut slice);
                if rendition.spec.alternative_of.is_some() {
                    let now_us = slice.tx.now_us();
                    slice.estimates.note_slice(rendition, slice.peers, now_us);
                }
            }
        }
        // The next slice begins with another rendition.
        self.newcomers.rotate_left(1);
        self.tally.joins_from_cache += slice.joined;
        let renditions = &self.renditions;
        self.newcomers.retain(|place| {
            let rendition = renditions.get(*place);
            rendition.is_some_and(Rendition::has_newcomers)
        });
        self.note_sent(sent);
    }

    /// When those who catch up are to be looked at again; `None` when there are none.
    pub(crate) fn next_catch_up_us(&self) -> Option<u64> {
        (!self.newcomers.is_empty()).then_some(self.catch_up_due_us)
    }

    /// Gives up the longest frame cache while they take too much of the pool.
    pub(crate) fn bound_caches(&mut self) {
        if self.links.pool.in_use() <= POOL_SLOTS_WITH_CACHES {
            return;
        }
        let places = self
            .sources
            .keys()
            .filter_map(|id| self.renditions.place(id));
        let longest = places.max_by_key(|place| {
            let rendition = self.renditions.get(*place);
            rendition.map(|rendition| rendition.store.cached_packets())
        });
        let Some(rendition) = longest.and_then(|place| self.renditions.get_mut(place)) else {
            return;
        };
        if rendition.store.cached_packets() == 0 {
            return;
        }
        rendition.store.drop_cache();
        self.tally.caches_dropped += 1;
        for shard in &rendition.exports {
            let message = Message::DropCache(rendition.spec.id);
            // It is told again if that is not enough.
            let _ = self.links.tell_shard(*shard, message);
        }
    }
}
