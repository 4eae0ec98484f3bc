//! Layers of a scalable stream: names for some of them, and what one packet says of its own.
//!
//! The home of a rendition reads it off each packet once (`route::layers`) and keeps it beside the packet,
//! so that no other shard has to look into payloads.

/// Spatial and temporal layers that are told apart; those above count as the highest.
pub const MAX_LAYERS: usize = 4;

/// The lowest layers of an encoding, up to one spatial and one temporal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Layers {
    /// The highest spatial layer; [`Layers::UNBOUNDED`]: as many as there are.
    pub spatial: u8,
    /// The highest temporal layer, likewise.
    pub temporal: u8,
    /// Of these the keyframes alone.
    pub keyframes_only: bool,
}

impl Layers {
    /// Stands for as many layers as there are.
    pub const UNBOUNDED: u8 = u8::MAX;

    /// All of them.
    pub const ALL: Self = Self {
        spatial: Self::UNBOUNDED,
        temporal: Self::UNBOUNDED,
        keyframes_only: false,
    };

    /// The keyframes of some spatial layers; they are of the lowest temporal layer whatever is asked for.
    #[must_use]
    pub fn keyframes(self) -> Self {
        Self {
            temporal: Self::UNBOUNDED,
            keyframes_only: true,
            ..self
        }
    }

    /// Whether all layers are among them.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Whether a frame of this layer is among them, of an encoding whose spatial layers are predicted
    /// from lower ones unless [`LayerMark::independent`] says otherwise.
    #[must_use]
    pub(crate) fn hold(self, mark: &LayerMark) -> bool {
        let spatial = match mark.is_independent(self.spatial) {
            true => mark.spatial == self.spatial,
            false => mark.spatial <= self.spatial,
        };
        spatial && mark.temporal <= self.temporal
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::ALL
    }
}

/// What one packet says of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerMark {
    /// Its layer is known: it says it, and could be read.
    pub known: bool,
    /// It says it, but cannot be read yet.
    pub unread: bool,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// It begins a frame, of one spatial layer.
    pub starts_frame: bool,
    /// It ends a frame, of one spatial layer.
    pub ends_frame: bool,
    /// Its frame is predicted from no other.
    pub intra: bool,
    /// It brought what others need to be read by.
    pub teaches: bool,
    /// Whoever has had all up to this temporal layer can go on here with higher ones;
    /// [`LayerMark::NO_RISE`]: nobody can.
    pub rise_from: u8,
    /// Spatial layers, a bit for each, that are not predicted from lower ones: simulcast in one
    /// stream (the modes `S2T1` to `S3T3` of W3C webrtc-svc).
    pub independent: u8,
}

impl LayerMark {
    /// Nobody can rise here.
    pub const NO_RISE: u8 = u8::MAX;

    /// Of a packet that says nothing of layers.
    pub const NONE: Self = Self {
        known: false,
        unread: false,
        spatial: 0,
        temporal: 0,
        starts_frame: false,
        ends_frame: false,
        intra: false,
        teaches: false,
        rise_from: Self::NO_RISE,
        independent: 0,
    };

    /// Whether this spatial layer is not predicted from lower ones.
    #[must_use]
    pub(crate) fn is_independent(&self, spatial: u8) -> bool {
        spatial < 8 && self.independent & 1 << spatial != 0
    }

    /// Whether a viewer who has had all packets of some layers of an encoding before this one can go
    /// on with it, which begins a frame, in other layers of the same.
    #[must_use]
    pub(crate) fn lets_cross(&self, from: Layers, to: Layers) -> bool {
        let had = from.spatial == Layers::UNBOUNDED
            || from.spatial == to.spatial
            || from.spatial > to.spatial && !self.is_independent(to.spatial);
        let rises = to.temporal <= from.temporal || self.rise_from <= from.temporal;
        self.known && self.starts_frame && had && rises && to.hold(self)
    }
}

impl Default for LayerMark {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(spatial: u8, temporal: u8) -> Layers {
        Layers {
            spatial,
            temporal,
            keyframes_only: false,
        }
    }

    fn frame(spatial: u8, temporal: u8) -> LayerMark {
        LayerMark {
            known: true,
            spatial,
            temporal,
            starts_frame: true,
            ..LayerMark::NONE
        }
    }

    #[test]
    fn layers_hold_what_they_are_predicted_from_and_no_more() {
        let held = |layers: Layers, independent| {
            let all = (0..3).flat_map(|s| (0..3).map(move |t| (s, t)));
            let held = all.filter(|(s, t)| {
                layers.hold(&LayerMark {
                    independent,
                    ..frame(*s, *t)
                })
            });
            held.collect::<Vec<_>>()
        };
        assert_eq!(held(layers(1, 0), 0), [(0, 0), (1, 0)]);
        assert_eq!(held(layers(0, 1), 0), [(0, 0), (0, 1)]);
        assert_eq!(held(layers(1, 1), 0b10), [(1, 0), (1, 1)]);
        assert_eq!(held(Layers::ALL, 0b110).len(), 9);
    }

    #[test]
    fn down_goes_with_any_frame_and_up_only_where_the_frame_lets() {
        let all = Layers::ALL;
        let plain = frame(0, 0);
        assert!(plain.lets_cross(all, layers(0, 0)));
        assert!(plain.lets_cross(layers(1, 2), layers(0, 1)));
        assert!(!plain.lets_cross(layers(0, 2), layers(1, 2)), "needs a key");
        assert!(!plain.lets_cross(layers(0, 0), layers(0, 2)));
        let rising = LayerMark {
            rise_from: 0,
            ..plain
        };
        assert!(rising.lets_cross(layers(0, 0), layers(0, 2)));
        assert!(rising.lets_cross(layers(2, 0), layers(0, 2)));
        assert!(!rising.lets_cross(layers(0, 0), all));
        let later = LayerMark {
            rise_from: 1,
            ..frame(0, 1)
        };
        assert!(!later.lets_cross(layers(0, 0), layers(0, 2)));
        assert!(later.lets_cross(layers(0, 1), layers(0, 2)));
        let middle = LayerMark {
            starts_frame: false,
            ..plain
        };
        assert!(!middle.lets_cross(all, layers(0, 0)));
    }

    #[test]
    fn independent_layers_are_another_stream_unless_all_was_had() {
        let independent = LayerMark {
            independent: 0b110,
            ..frame(1, 0)
        };
        assert!(independent.lets_cross(Layers::ALL, layers(1, 2)));
        assert!(!independent.lets_cross(layers(2, 2), layers(1, 2)));
        assert!(independent.lets_cross(layers(1, 2), layers(1, 0)));
    }
}
