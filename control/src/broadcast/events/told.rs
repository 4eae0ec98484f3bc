//! What is so of a stream now, and what of it a reader told last: the difference is the next event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StreamEvent;
use crate::broadcast::{EncodingInfo, Publisher, Stream, info};
use crate::model::LayerInfo;
use crate::rooms::{MembersView, RoomView, SlotsView};
use crate::sdp::MediaKind;

/// What is told of a stream.
pub(in crate::broadcast) struct Facts {
    pub(super) live: bool,
    pub(super) paused: bool,
    viewers: usize,
    /// Empty if there is nothing to choose.
    layers: Arc<[EncodingInfo]>,
}

impl Facts {
    pub(super) fn of(stream: &Stream) -> Self {
        let incoming = stream.publishers.on_air();
        let incoming = incoming.map(Publisher::incoming);
        let video = incoming.and_then(|incoming| incoming.track(MediaKind::Video, 0));
        let layers = video.map(|track| info::encodings(track));
        let choice = |all: &Vec<EncodingInfo>| all.iter().any(|one| !one.layers.is_empty());
        let layers = layers.filter(|all| all.len() > 1 || choice(all));
        Self {
            live: stream.publishers.on_air().is_some(),
            paused: stream.publishers.on_air().is_some_and(Publisher::is_paused),
            viewers: stream.viewers.len(),
            layers: layers.unwrap_or_default().into(),
        }
    }

    /// Takes what is new; says whether anything is. Bitrates always are, so they are no news.
    pub(super) fn update(&mut self, now: Self, count_now: bool) -> bool {
        let shape_of = |layer: &LayerInfo| {
            let size = (layer.width, layer.height);
            (layer.spatial_layer, layer.temporal_layer, size)
        };
        let shape = |layers: &[EncodingInfo]| -> Vec<_> {
            let each = layers.iter();
            each.map(|layer| {
                let to_be_had = layer.active || layer.paused;
                let layers = layer.layers.iter().map(shape_of).collect::<Vec<_>>();
                let size = (layer.width, layer.height);
                (layer.rid.clone(), to_be_had, size, layers)
            })
            .collect()
        };
        let mut news = std::mem::replace(&mut self.live, now.live) != now.live;
        news |= std::mem::replace(&mut self.paused, now.paused) != now.paused;
        if shape(&self.layers) != shape(&now.layers) {
            self.layers = now.layers;
            news = true;
        }
        if count_now && self.viewers != now.viewers {
            self.viewers = now.viewers;
            news = true;
        }
        news
    }
}

/// What a reader told last.
#[derive(Default)]
pub(super) struct Told {
    live: Option<bool>,
    /// Not, if nothing was said.
    paused: bool,
    viewers: Option<usize>,
    layers: Option<Arc<[EncodingInfo]>>,
}

impl Told {
    /// The next thing to tell, if there is any.
    pub(super) fn next(&mut self, facts: &Facts, was_active: &AtomicBool) -> Option<StreamEvent> {
        if let Some(event) = self.live(facts.live, was_active) {
            return Some(event);
        }
        if std::mem::replace(&mut self.paused, facts.paused) != facts.paused {
            return Some(StreamEvent::Paused(facts.paused));
        }
        let layers = self.layers.as_ref();
        if layers.is_none_or(|told| !Arc::ptr_eq(told, &facts.layers)) {
            self.layers = Some(Arc::clone(&facts.layers));
            if !facts.layers.is_empty() {
                return Some(StreamEvent::Layers(Arc::clone(&facts.layers)));
            }
        }
        if self.viewers != Some(facts.viewers) {
            self.viewers = Some(facts.viewers);
            return Some(StreamEvent::ViewerCount(facts.viewers));
        }
        None
    }

    /// That nobody publishes is news only to those who were told that somebody did. Whether the
    /// reader before could tell that it is over nobody knows, so the next one does again.
    pub(super) fn live(&mut self, live: bool, was_active: &AtomicBool) -> Option<StreamEvent> {
        if self.live.replace(live) == Some(live) {
            return None;
        }
        if live {
            was_active.store(true, Ordering::Relaxed);
            return Some(StreamEvent::Active);
        }
        let was_active = was_active.load(Ordering::Relaxed);
        was_active.then_some(StreamEvent::Inactive)
    }
}

/// What a reader told last of a room.
#[derive(Default)]
pub(super) struct ToldRoom {
    members: Option<Arc<MembersView>>,
    slots: Option<Arc<SlotsView>>,
    speaker: Option<Arc<str>>,
}

impl ToldRoom {
    /// The next thing to tell, if there is any: who is there, before who of them is shown where.
    pub(super) fn next(&mut self, room: &RoomView) -> Option<StreamEvent> {
        let members = self.members.as_ref();
        if members.is_none_or(|told| !Arc::ptr_eq(told, &room.members)) {
            self.members = Some(Arc::clone(&room.members));
            return Some(StreamEvent::Room(Arc::clone(&room.members)));
        }
        let slots = self.slots.as_ref();
        if slots.is_none_or(|told| !Arc::ptr_eq(told, &room.slots)) {
            self.slots = Some(Arc::clone(&room.slots));
            return Some(StreamEvent::Slots(Arc::clone(&room.slots)));
        }
        // That nobody has spoken yet is no news.
        if self.speaker != room.speaker {
            self.speaker = room.speaker.clone();
            return Some(StreamEvent::Speaker(room.speaker.clone()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(live: bool, viewers: usize, layers: &[(&str, bool)]) -> Facts {
        let layers = layers.iter().map(|(rid, active)| EncodingInfo {
            name: String::new(),
            rid: Some((*rid).to_owned()),
            active: *active,
            paused: false,
            bitrate_bps: 0,
            full_bitrate_bps: 0,
            width: 320,
            height: 180,
            layers: Vec::new(),
        });
        Facts {
            live,
            paused: false,
            viewers,
            layers: layers.collect(),
        }
    }

    /// All that is told of these facts, in short.
    fn told(told: &mut Told, facts: &Facts, active: &AtomicBool) -> String {
        let mut all = Vec::new();
        while let Some(event) = told.next(facts, active) {
            all.push(match event {
                StreamEvent::Active => "active".to_owned(),
                StreamEvent::Inactive => "inactive".to_owned(),
                StreamEvent::Paused(paused) => format!("paused {paused}"),
                StreamEvent::Layers(layers) => format!("{} layers", layers.len()),
                StreamEvent::ViewerCount(count) => format!("{count} viewers"),
                other => panic!("{other:?} is of rooms"),
            });
        }
        all.join(", ")
    }

    #[test]
    fn that_nobody_publishes_is_told_only_after_somebody_did() {
        let active = AtomicBool::new(false);
        let mut first = Told::default();
        assert_eq!(
            told(&mut first, &facts(false, 1, &[]), &active),
            "1 viewers"
        );
        let live = facts(true, 1, &[]);
        assert_eq!(told(&mut first, &live, &active), "active");
        assert_eq!(told(&mut first, &live, &active), "");
        // Whoever reads next is told what became of it while nobody read.
        let mut second = Told::default();
        let gone = facts(false, 2, &[]);
        assert_eq!(told(&mut second, &gone, &active), "inactive, 2 viewers");
        assert_eq!(told(&mut second, &gone, &active), "");
    }

    #[test]
    fn a_pause_is_told_when_it_begins_and_ends_and_to_whoever_reads_amid_it() {
        let active = AtomicBool::new(false);
        let mut first = Told::default();
        let mut now = facts(true, 1, &[]);
        assert_eq!(told(&mut first, &now, &active), "active, 1 viewers");
        let pause = |paused| Facts {
            paused,
            ..facts(true, 1, &[])
        };
        assert!(now.update(pause(true), true));
        assert_eq!(told(&mut first, &now, &active), "paused true");
        let mut second = Told::default();
        assert_eq!(
            told(&mut second, &now, &active),
            "active, paused true, 1 viewers"
        );
        assert!(now.update(pause(false), true));
        assert_eq!(told(&mut first, &now, &active), "paused false");
    }

    #[test]
    fn layers_are_news_when_one_comes_or_goes_but_not_with_every_bitrate() {
        let mut now = facts(true, 1, &[("q", true), ("f", false)]);
        let mut same = facts(true, 1, &[("q", true), ("f", false)]);
        Arc::get_mut(&mut same.layers).expect("it is the only one")[0].bitrate_bps = 150_000;
        assert!(!now.update(same, true));
        assert!(now.update(facts(true, 1, &[("q", true), ("f", true)]), true));
        let active = AtomicBool::new(false);
        let mut reader = Told::default();
        assert_eq!(
            told(&mut reader, &now, &active),
            "active, 2 layers, 1 viewers"
        );
        assert!(now.update(facts(false, 1, &[]), true));
        assert_eq!(told(&mut reader, &now, &active), "inactive");
    }

    #[test]
    fn viewers_are_counted_when_it_is_time() {
        let mut now = facts(true, 1, &[]);
        assert!(!now.update(facts(true, 5, &[]), false));
        assert!(now.update(facts(true, 5, &[]), true));
        assert_eq!(now.viewers, 5);
    }
}
