//! The shard's part in its producers: take what they sent into their renditions, pass the viewers'
//! wishes for keyframes on to them, report their silence and their end.

use crate::command::{EncodingSpec, IncomingCodec, RenditionSpec};
use crate::counters::DropReason;
use crate::event::Event;
use crate::ids::ProducerId;
use crate::io::Tx;
use crate::limits::{PRODUCED_PER_TURN, SWEEP_ROUNDS};
use crate::pool::PacketMut;
use crate::producer::{Message, ProducerFeed, is_video};
use crate::route::clock::SenderClock;
use crate::route::rendition::Rendition;
use crate::route::source::{Activity, Received, Source};
use crate::route::stamp::Stamps;
use crate::shard::core::{Core, SourcePlace};

/// A producer in its shard's table.
pub(crate) struct ProducerEntry {
    feed: ProducerFeed,
    /// By track.
    pub(crate) sources: Vec<Source>,
}

/// A packet on its way in.
struct Arriving {
    track: usize,
    codec: u8,
    ssrc: u32,
    sequence_number: u16,
    slot: PacketMut,
}

impl Core {
    /// Becomes the home of a producer's renditions.
    pub(super) fn add_producer(&mut self, feed: ProducerFeed) -> Option<()> {
        let (id, home) = (feed.spec.id, self.links.id);
        let mut sources = Vec::with_capacity(feed.spec.tracks.len());
        for track in &feed.spec.tracks {
            let rendition = RenditionSpec {
                id: track.rendition,
                home,
                video: is_video(&track.codecs),
                alternative_of: None,
                layers_of: None,
                codecs: track.codecs.clone(),
                served: track.served.clone(),
            };
            let rendition = Rendition::new(rendition, &self.forwarding);
            let place = self.renditions.insert(track.rendition, rendition);
            let encoding = EncodingSpec {
                rendition: track.rendition,
                rid: None,
                ssrc: None,
                rtx_ssrc: None,
                counters: track.counters.clone(),
                served: track.served.clone(),
            };
            let stamps = Stamps::new(is_video(&track.codecs));
            let clock_rate = track
                .codecs
                .first()
                .map_or(90_000, |codec| codec.clock_rate);
            sources.push(Source::new(encoding, place, clock_rate, stamps));
        }
        let renditions: Vec<_> = feed
            .spec
            .tracks
            .iter()
            .map(|track| track.rendition)
            .collect();
        let producer = self.producers.insert(id, ProducerEntry { feed, sources });
        for (track, rendition) in renditions.into_iter().enumerate() {
            let place = SourcePlace::Producer { producer, track };
            self.sources.insert(rendition, place);
        }
        Some(())
    }

    /// Ends a producer's renditions, after what it had sent.
    pub(super) fn remove_producer<T: Tx>(&mut self, id: ProducerId, tx: &mut T) -> Option<()> {
        let place = self.producers.place(&id)?;
        let waiting = self.producers.get(place)?.feed.ring.slots();
        for _ in 0..waiting.div_ceil(PRODUCED_PER_TURN) {
            self.take_from_producer(place, tx);
        }
        let (_, entry) = self.producers.remove(&id)?;
        for source in &entry.sources {
            let served = self.renditions.get(source.rendition);
            if served.is_some_and(Rendition::has_burst) {
                self.export_burst(source.rendition, tx.now_us());
                self.send_burst(source.rendition, tx);
            }
        }
        for source in &entry.sources {
            self.remove_rendition(source.spec.rendition);
            self.sources.remove(&source.spec.rendition);
        }
        Some(())
    }

    /// Takes what producers sent.
    pub(super) fn take_produced<T: Tx>(&mut self, tx: &mut T) {
        if !self.links.produced.take() {
            return;
        }
        for place in 0..self.producers.end() {
            self.take_from_producer(place, tx);
        }
    }

    fn take_from_producer<T: Tx>(&mut self, place: u32, tx: &mut T) {
        for _ in 0..PRODUCED_PER_TURN {
            let entry = self.producers.get_mut(place);
            let message = entry.and_then(|entry| entry.feed.ring.pop().ok());
            match message {
                None => return,
                Some(Message::Clock { track, ntp, rtp }) => {
                    self.producer_clock(place, usize::from(track), ntp, rtp);
                }
                Some(Message::Packet {
                    track,
                    codec,
                    ssrc,
                    sequence_number,
                    slot,
                }) => {
                    let arriving = Arriving {
                        track: usize::from(track),
                        codec,
                        ssrc,
                        sequence_number,
                        slot,
                    };
                    if let Err(reason) = self.produced(place, arriving, tx) {
                        self.count(reason);
                    }
                }
            }
        }
        // There may be more, after the others' turn.
        self.links.produced.announce();
    }

    fn produced<T: Tx>(
        &mut self,
        place: u32,
        arriving: Arriving,
        tx: &mut T,
    ) -> Result<(), DropReason> {
        let now_us = self.now_us;
        let Arriving {
            track, mut slot, ..
        } = arriving;
        let entry = self.producers.get_mut(place);
        let entry = entry.ok_or(DropReason::UnknownSsrc)?;
        let codecs = &entry.feed.spec.tracks.get(track);
        let codec = codecs.and_then(|track| track.codecs.get(usize::from(arriving.codec)));
        let codec: IncomingCodec = *codec.ok_or(DropReason::UnknownPayloadType)?;
        let source = entry.sources.get_mut(track);
        let source = source.ok_or(DropReason::UnknownSsrc)?;
        source.rebind(arriving.ssrc, arriving.sequence_number);
        let received = Received {
            sequence_number: arriving.sequence_number,
            codec: arriving.codec,
            restored: false,
            received_us: now_us,
        };
        let activity = source.admit(&mut slot, &codec, received)?;
        let (rendition, rendition_place) = (source.spec.rendition, source.rendition);
        self.unpublished = true;
        self.tally.packets_routed += 1;
        if matches!(activity, Some(Activity::Active(_)))
            && !self.tell(Event::RenditionActive(rendition, codec.codec))
            && let Some(source) = self.source_mut(&rendition)
        {
            source.tell_activity_again();
        }
        self.route_layered(rendition_place, slot.share(), now_us, tx);
        Ok(())
    }

    fn producer_clock(&mut self, place: u32, track: usize, ntp: u64, rtp: u32) {
        let clock = SenderClock {
            ntp,
            rtp,
            at_us: self.now_us,
        };
        let source = self.producers.get(place).and_then(|p| p.sources.get(track));
        if let Some(rendition) = source.map(|source| source.rendition) {
            self.note_clock(rendition, clock);
        }
    }

    /// What is done by the clock: wishes for keyframes each tick, and once a second for each
    /// producer its counts and its silence. Also looks at what was sent without a flush.
    pub(super) fn tend_producers<T: Tx>(&mut self, tx: &mut T) {
        let now_us = self.now_us;
        for place in 0..self.producers.end() {
            let Some(entry) = self.producers.get_mut(place) else {
                continue;
            };
            if !entry.feed.ring.is_empty() {
                self.links.produced.announce();
            }
            for (track, source) in entry.sources.iter_mut().enumerate() {
                if source.keyframes.due(now_us) {
                    source.count_keyframe_request();
                    entry.feed.want_keyframe(track);
                }
            }
            if u64::from(place) % SWEEP_ROUNDS == self.round % SWEEP_ROUNDS {
                self.sweep_producer(place, tx);
            }
        }
    }

    fn sweep_producer<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let Some(entry) = self.producers.get_mut(place) else {
            return;
        };
        if entry.feed.is_abandoned() {
            let id = entry.feed.spec.id;
            self.remove_producer(id, tx);
            return;
        }
        for track in 0..entry.sources.len() {
            let Some(entry) = self.producers.get_mut(place) else {
                return;
            };
            let source = &mut entry.sources[track];
            source.publish(now_us);
            let rendition = source.spec.rendition;
            if let Some(served) = self.renditions.get(source.rendition) {
                let cached = served.store.cached_packets();
                source.spec.counters.cached_packets.set(cached);
            }
            if source.check_silence(now_us).is_some()
                && !self.tell(Event::RenditionInactive(rendition))
                && let Some(source) = self.source_mut(&rendition)
            {
                source.tell_silence_again();
            }
        }
    }
}
