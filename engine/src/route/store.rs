//! The packets of one rendition that may still be asked for: one store for all its viewers.

use crate::pool::Packet;

/// The latest packets of a rendition by index, as many as its size.
pub(crate) struct PacketStore {
    slots: Box<[Option<Packet>]>,
    mask: u64,
    highest: Option<u64>,
    /// No packet below this index is kept.
    lowest: u64,
}

impl PacketStore {
    /// A store of `size` packets, a power of two.
    pub(crate) fn new(size: usize) -> Self {
        assert!(size.is_power_of_two(), "stores are indexed by mask");
        Self {
            slots: (0..size).map(|_| None).collect(),
            mask: size as u64 - 1,
            highest: None,
            lowest: u64::MAX,
        }
    }

    /// Keeps a packet, in place of the one `size` before it. A packet older than what holds its
    /// place is not kept.
    pub(crate) fn insert(&mut self, packet: Packet) {
        let index = packet.info.index;
        let place = &mut self.slots[(index & self.mask) as usize];
        if place.as_ref().is_none_or(|kept| kept.info.index < index) {
            *place = Some(packet);
        }
        self.highest = Some(self.highest.map_or(index, |highest| highest.max(index)));
        self.lowest = self.lowest.min(index);
    }

    /// Lets go of the packets that came before this time, as far as none that came since lies
    /// below them.
    pub(crate) fn expire(&mut self, before_us: u64) {
        let Some(highest) = self.highest else { return };
        self.lowest = self.lowest.max(highest.saturating_sub(self.mask));
        while self.lowest <= highest {
            let place = &mut self.slots[(self.lowest & self.mask) as usize];
            let fresh = |kept: &Packet| kept.info.arrival_us >= before_us;
            if place.as_ref().is_some_and(fresh) {
                return;
            }
            *place = None;
            self.lowest += 1;
        }
    }

    /// The packet with this index, if it is still kept.
    pub(crate) fn get(&self, index: u64) -> Option<&Packet> {
        self.slots[(index & self.mask) as usize]
            .as_ref()
            .filter(|p| p.info.index == index)
    }

    /// The highest index ever kept.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The kept packets after `index`, in order.
    pub(crate) fn after(&self, index: u64) -> impl Iterator<Item = &Packet> {
        let highest = self.highest.unwrap_or(0);
        let first = (index + 1).max(highest.saturating_sub(self.mask));
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

    fn indices(store: &PacketStore, after: u64) -> Vec<u64> {
        store.after(after).map(|p| p.info.index).collect()
    }

    #[test]
    fn the_latest_packets_are_found_and_older_ones_are_not() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8);
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
        let mut store = PacketStore::new(8);
        for index in [10, 11, 13] {
            store.insert(packet_at(&pool, index, index));
        }
        store.expire(11);
        assert_eq!(indices(&store, 0), [11, 13]);
        // 12 was late, and is younger than 13.
        store.expire(12);
        store.insert(packet_at(&pool, 12, 20));
        store.expire(14);
        assert_eq!(indices(&store, 0), [12, 13], "13 lies behind a younger one");
        // The numbers begin anew far above.
        store.insert(packet_at(&pool, 200_000, 30));
        store.expire(21);
        assert_eq!(indices(&store, 0), [200_000]);
        assert_eq!(pool.in_use(), 1);
        store.expire(31);
        assert_eq!(pool.in_use(), 0);
        store.insert(packet_at(&pool, 200_001, 40));
        store.expire(40);
        assert_eq!(indices(&store, 0), [200_001]);
    }

    #[test]
    fn a_very_late_packet_does_not_replace_a_newer_one() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8);
        store.insert(packet(&pool, 20));
        store.insert(packet(&pool, 12));
        assert!(store.get(12).is_none());
        assert!(store.get(20).is_some());
    }

    #[test]
    fn what_followed_an_index_is_listed_in_order_however_it_arrived() {
        let pool = PacketPool::new(64, 0);
        let mut store = PacketStore::new(8);
        for index in [10, 12, 14, 13] {
            store.insert(packet(&pool, index));
        }
        assert_eq!(indices(&store, 10), [12, 13, 14]);
        assert_eq!(indices(&store, 14), []);
        assert_eq!(indices(&store, 0), [10, 12, 13, 14]);
    }
}
