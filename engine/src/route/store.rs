//! The packets of one rendition that may still be sent again, or to those who come later: one store
//! for all its viewers.
//!
//! Of video, all that came since the latest keyframe began is kept as the frame cache, within
//! bounds: whoever joins is served from it, and the publisher is asked nothing. Older packets are
//! kept for retransmission only.

use crate::limits::MAX_CACHE_PACKETS;
use crate::pool::Packet;

/// The latest packets of a rendition by index.
pub(crate) struct PacketStore {
    slots: Box<[Option<Packet>]>,
    mask: u64,
    highest: Option<u64>,
    /// No packet below this index is kept.
    lowest: u64,
    /// Whether what came since the latest keyframe is kept.
    caches: bool,
    cache: Option<CacheStart>,
}

/// Where the frame cache begins: a packet that a decoder can begin with.
#[derive(Debug, Clone, Copy)]
struct CacheStart {
    index: u64,
    timestamp: u32,
    arrival_us: u64,
}

impl PacketStore {
    /// A store of `size` packets, a power of two; with `caches`, of as many as came since the latest
    /// keyframe, up to [`MAX_CACHE_PACKETS`].
    pub(crate) fn new(size: usize, caches: bool) -> Self {
        assert!(size.is_power_of_two(), "stores are indexed by mask");
        Self {
            slots: (0..size).map(|_| None).collect(),
            mask: size as u64 - 1,
            highest: None,
            lowest: u64::MAX,
            caches,
            cache: None,
        }
    }

    /// Keeps a packet, in place of the one `size` before it. A packet older than what holds its
    /// place is not kept.
    pub(crate) fn insert(&mut self, packet: Packet) {
        let index = packet.info.index;
        self.note_keyframe(&packet);
        self.make_room(index);
        let place = &mut self.slots[(index & self.mask) as usize];
        if place.as_ref().is_none_or(|kept| kept.info.index < index) {
            *place = Some(packet);
        }
        self.highest = Some(self.highest.map_or(index, |highest| highest.max(index)));
        self.lowest = self.lowest.min(index);
    }

    /// The cache begins with the first packet of the latest keyframe, whichever of them came first.
    fn note_keyframe(&mut self, packet: &Packet) {
        let info = &packet.info;
        if !self.caches || !info.keyframe_start {
            return;
        }
        let starts = self.cache.is_none_or(|start| {
            let same = start.timestamp == info.timestamp;
            (same && info.index < start.index) || (!same && info.index > start.index)
        });
        if starts {
            self.cache = Some(CacheStart {
                index: info.index,
                timestamp: info.timestamp,
                arrival_us: info.arrival_us,
            });
        }
    }

    /// Grows until a packet with this index displaces nothing of the cache; beyond the bound the
    /// cache is given up.
    fn make_room(&mut self, index: u64) {
        let Some(start) = self.cache else { return };
        let needed = index.saturating_sub(start.index).saturating_add(1);
        if needed <= self.slots.len() as u64 {
            return;
        }
        if needed > MAX_CACHE_PACKETS as u64 {
            self.cache = None;
            return;
        }
        let size = (needed as usize).next_power_of_two();
        let slots = std::mem::replace(&mut self.slots, (0..size).map(|_| None).collect());
        self.mask = size as u64 - 1;
        for packet in slots.into_iter().flatten() {
            let place = (packet.info.index & self.mask) as usize;
            self.slots[place] = Some(packet);
        }
    }

    /// Lets go of the packets that came before this time, as far as none that came since lies
    /// below them; and of the cache when it began before that one.
    pub(crate) fn expire(&mut self, before_us: u64, cache_before_us: u64) {
        let Some(highest) = self.highest else { return };
        if self
            .cache
            .is_some_and(|start| start.arrival_us < cache_before_us)
        {
            self.cache = None;
        }
        let cached = self.cache.map_or(u64::MAX, |start| start.index);
        self.lowest = self.lowest.max(highest.saturating_sub(self.mask));
        while self.lowest <= highest && self.lowest < cached {
            let place = &mut self.slots[(self.lowest & self.mask) as usize];
            let fresh = |kept: &Packet| kept.info.arrival_us >= before_us;
            if place.as_ref().is_some_and(fresh) {
                return;
            }
            *place = None;
            self.lowest += 1;
        }
    }

    /// The first packet of the frame cache, if there is one.
    pub(crate) fn cache_start(&self) -> Option<&Packet> {
        self.get(self.cache?.index)
    }

    /// How many packets the frame cache spans.
    pub(crate) fn cached_packets(&self) -> u64 {
        let cached = |start: CacheStart| Some(self.highest? + 1 - start.index);
        self.cache.and_then(cached).unwrap_or(0)
    }

    /// Keeps no more than what may be sent again, until the next keyframe.
    pub(crate) fn drop_cache(&mut self) {
        self.cache = None;
    }

    /// The packet with this index, if it is still kept.
    pub(crate) fn get(&self, index: u64) -> Option<&Packet> {
        self.slots[(index & self.mask) as usize]
            .as_ref()
            .filter(|p| p.info.index == index)
    }

    /// Whether the packet with this index never came, or came too late to be kept, while others of
    /// its time are kept.
    pub(crate) fn lacks(&self, index: u64) -> bool {
        let highest = self.highest.unwrap_or(0);
        let oldest = self.lowest.max(highest.saturating_sub(self.mask));
        (oldest..highest).contains(&index) && self.get(index).is_none()
    }

    /// The highest index ever kept.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The kept packets from `index` on, in order.
    pub(crate) fn from(&self, index: u64) -> impl Iterator<Item = &Packet> {
        let highest = self.highest.unwrap_or(0);
        let first = index.max(highest.saturating_sub(self.mask));
        (first..=highest).filter_map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PacketPool;

    fn packet(pool: &PacketPool, index: u64) -> Packet {
        let mut slot = pool.take().expect("room");
        slot.info.index = index;
        slot.share()
    }

    fn indices(store: &PacketStore, from: u64) -> Vec<u64> {
        store.from(from).map(|p| p.info.index).collect()
    }

    #[test]
    fn the_latest_packets_are_found_and_older_ones_are_not() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8, false);
        for index in 100..120 {
            store.insert(packet(&pool, index));
        }
        assert!(store.get(111).is_none());
        assert_eq!(store.get(112).map(|p| p.info.index), Some(112));
        assert_eq!(store.get(119).map(|p| p.info.index), Some(119));
        assert_eq!(pool.in_use(), 8, "replaced packets are given back");
    }

    fn packet_at(pool: &PacketPool, index: u64, arrival_us: u64) -> Packet {
        let mut slot = pool.take().expect("room");
        slot.info.index = index;
        slot.info.arrival_us = arrival_us;
        slot.share()
    }

    #[test]
    fn packets_are_let_go_of_by_age_however_they_are_numbered() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8, false);
        for index in [10, 11, 13] {
            store.insert(packet_at(&pool, index, index));
        }
        store.expire(11, 0);
        assert_eq!(indices(&store, 0), [11, 13]);
        // 12 was late, and is younger than 13.
        store.expire(12, 0);
        store.insert(packet_at(&pool, 12, 20));
        store.expire(14, 0);
        assert_eq!(indices(&store, 0), [12, 13], "13 lies behind a younger one");
        // The numbers begin anew far above.
        store.insert(packet_at(&pool, 200_000, 30));
        store.expire(21, 0);
        assert_eq!(indices(&store, 0), [200_000]);
        assert_eq!(pool.in_use(), 1);
        store.expire(31, 0);
        assert_eq!(pool.in_use(), 0);
        store.insert(packet_at(&pool, 200_001, 40));
        store.expire(40, 0);
        assert_eq!(indices(&store, 0), [200_001]);
    }

    #[test]
    fn a_very_late_packet_does_not_replace_a_newer_one() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8, false);
        store.insert(packet(&pool, 20));
        store.insert(packet(&pool, 12));
        assert!(store.get(12).is_none());
        assert!(store.get(20).is_some());
    }

    #[test]
    fn what_followed_an_index_is_listed_in_order_however_it_arrived() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8, false);
        for index in [10, 12, 14, 13] {
            store.insert(packet(&pool, index));
        }
        assert_eq!(indices(&store, 11), [12, 13, 14]);
        assert_eq!(indices(&store, 15), []);
        assert_eq!(indices(&store, 0), [10, 12, 13, 14]);
    }

    #[test]
    fn what_never_came_is_told_from_what_was_let_go_of() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8, false);
        for index in [10, 11, 13, 15] {
            store.insert(packet_at(&pool, index, index));
        }
        store.expire(11, 0);
        let lacking = |store: &PacketStore| -> Vec<u64> {
            (0..30).filter(|index| store.lacks(*index)).collect()
        };
        assert_eq!(lacking(&store), [12, 14]);
        store.insert(packet_at(&pool, 12, 16));
        assert_eq!(lacking(&store), [14]);
        store.insert(packet_at(&pool, 22, 22));
        assert_eq!(lacking(&store), [16, 17, 18, 19, 20, 21]);
    }

    fn keyframe(pool: &PacketPool, index: u64, timestamp: u32) -> Packet {
        let mut slot = pool.take().expect("room");
        slot.info.index = index;
        slot.info.arrival_us = index;
        slot.info.timestamp = timestamp;
        slot.info.keyframe_start = true;
        slot.share()
    }

    fn cache_start(store: &PacketStore) -> Option<u64> {
        store.cache_start().map(|packet| packet.info.index)
    }

    #[test]
    fn all_since_the_latest_keyframe_is_kept_however_old_and_many() {
        let pool = PacketPool::new(1024, 0);
        let mut store = PacketStore::new(8, true);
        store.insert(packet_at(&pool, 9, 9));
        store.insert(keyframe(&pool, 11, 3000));
        store.insert(keyframe(&pool, 10, 3000));
        for index in 12..500 {
            store.insert(packet_at(&pool, index, index));
        }
        store.expire(490, 0);
        assert_eq!(cache_start(&store), Some(10));
        assert_eq!(store.cached_packets(), 490);
        assert_eq!(indices(&store, 0).len(), 490, "and nothing from before");
        store.insert(keyframe(&pool, 500, 9000));
        store.expire(495, 0);
        assert_eq!(cache_start(&store), Some(500));
        assert_eq!(indices(&store, 0), [495, 496, 497, 498, 499, 500]);
        assert_eq!(pool.in_use(), 6);
    }

    #[test]
    fn a_cache_that_is_too_large_or_too_old_is_given_up() {
        let pool = PacketPool::new(2 * MAX_CACHE_PACKETS, 0);
        let mut store = PacketStore::new(8, true);
        let last = MAX_CACHE_PACKETS as u64 - 1;
        store.insert(keyframe(&pool, 0, 0));
        store.insert(packet_at(&pool, last, last));
        assert_eq!(cache_start(&store), Some(0));
        store.insert(packet_at(&pool, last + 1, last + 1));
        assert_eq!(cache_start(&store), None);

        let first = last + 2;
        store.insert(keyframe(&pool, first, 90));
        store.insert(packet_at(&pool, first + 1, first + 1));
        store.expire(0, first);
        assert_eq!(cache_start(&store), Some(first));
        store.expire(first + 1, first + 1);
        assert_eq!(cache_start(&store), None);
        assert_eq!(indices(&store, 0), [first + 1]);
    }

    #[test]
    fn numbers_that_leap_ahead_take_no_memory() {
        let pool = PacketPool::new(8, 0);
        let mut store = PacketStore::new(8, true);
        store.insert(keyframe(&pool, 5, 0));
        store.insert(packet(&pool, u64::MAX - 1));
        assert_eq!(cache_start(&store), None);
        assert_eq!(store.slots.len(), 8);
    }
}
