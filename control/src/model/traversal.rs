//! The orders in which a [`Transponder`](super::Transponder) goes through what there is, from the best
//! down, to find the first that a target bitrate has room for.
//!
//! They weigh size against fluency: of three spatial and three temporal layers, `spatial-temporal`
//! keeps the picture as large as it can and lets it stutter first, `temporal-spatial` keeps it fluent
//! and lets it shrink first; the zig-zags give up one of each in turn.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::model::layers::Candidate;

/// An order, under the name Medooze gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traversal {
    /// By bitrate.
    #[default]
    Default,
    /// The largest pictures first, of those the most fluent.
    SpatialTemporal,
    /// By the sum of both, of equal ones the larger first.
    ZigZagSpatialTemporal,
    /// The most fluent first, of those the largest.
    TemporalSpatial,
    /// By the sum of both, of equal ones the more fluent first.
    ZigZagTemporalSpatial,
}

impl Traversal {
    /// Puts candidates in this order.
    pub(super) fn sort(self, candidates: &mut [Candidate<'_>]) {
        candidates.sort_by_key(|one| {
            let bitrate_bps = usize::try_from(one.layer.bitrate_bps).unwrap_or(usize::MAX);
            let temporal = usize::from(one.layer.temporal_layer);
            Reverse(self.rank(one.level, temporal, bitrate_bps))
        });
    }

    fn rank(self, spatial: usize, temporal: usize, bitrate_bps: usize) -> (usize, usize) {
        match self {
            Self::Default => (bitrate_bps, spatial),
            Self::SpatialTemporal => (spatial, temporal),
            Self::ZigZagSpatialTemporal => (spatial + temporal, spatial),
            Self::TemporalSpatial => (temporal, spatial),
            Self::ZigZagTemporalSpatial => (spatial + temporal, temporal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spatial and temporal layers in order, by rank alone.
    fn order(traversal: Traversal) -> Vec<(usize, usize)> {
        let all = (0..3).flat_map(|spatial| (0..3).map(move |temporal| (spatial, temporal)));
        let mut all: Vec<_> = all.collect();
        // Larger pictures take more than fluent ones.
        let bitrate = |spatial, temporal| 100 * (1 + 3 * spatial) * (2 + temporal);
        all.sort_by_key(|(s, t)| Reverse(traversal.rank(*s, *t, bitrate(*s, *t))));
        all
    }

    #[test]
    fn each_order_goes_down_in_its_way() {
        assert_eq!(
            order(Traversal::SpatialTemporal),
            [
                (2, 2),
                (2, 1),
                (2, 0),
                (1, 2),
                (1, 1),
                (1, 0),
                (0, 2),
                (0, 1),
                (0, 0)
            ]
        );
        assert_eq!(
            order(Traversal::TemporalSpatial),
            [
                (2, 2),
                (1, 2),
                (0, 2),
                (2, 1),
                (1, 1),
                (0, 1),
                (2, 0),
                (1, 0),
                (0, 0)
            ]
        );
        assert_eq!(
            order(Traversal::ZigZagSpatialTemporal),
            [
                (2, 2),
                (2, 1),
                (1, 2),
                (2, 0),
                (1, 1),
                (0, 2),
                (1, 0),
                (0, 1),
                (0, 0)
            ]
        );
        assert_eq!(
            order(Traversal::ZigZagTemporalSpatial),
            [
                (2, 2),
                (1, 2),
                (2, 1),
                (0, 2),
                (1, 1),
                (2, 0),
                (0, 1),
                (1, 0),
                (0, 0)
            ]
        );
        assert_eq!(
            order(Traversal::Default),
            [
                (2, 2),
                (2, 1),
                (1, 2),
                (2, 0),
                (1, 1),
                (1, 0),
                (0, 2),
                (0, 1),
                (0, 0)
            ]
        );
    }

    #[test]
    fn they_are_called_what_medooze_calls_them() {
        for (name, traversal) in [
            ("default", Traversal::Default),
            ("spatial-temporal", Traversal::SpatialTemporal),
            ("zig-zag-spatial-temporal", Traversal::ZigZagSpatialTemporal),
            ("temporal-spatial", Traversal::TemporalSpatial),
            ("zig-zag-temporal-spatial", Traversal::ZigZagTemporalSpatial),
        ] {
            let read: Traversal = serde_json::from_value(name.into()).expect("it is known");
            assert_eq!(read, traversal);
        }
    }
}
