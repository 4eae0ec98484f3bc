use fanmill_engine::packet::layer::Layers;
use fanmill_engine::{Engine, Forwarding};

use super::*;
use crate::model::incoming::IncomingStream;
use crate::model::media_server::Names;
use crate::model::produced::ProducedTrack;

const NO_BOUND: u8 = Layers::UNBOUNDED;

/// A track of three spatial and three temporal layers, of 320x180 to 1280x720 at 30 frames, in an
/// engine without shards. Each takes 100, 400 and 1600 kbit/s, half of it for a quarter of the frames.
fn track() -> std::sync::Arc<IncomingTrack> {
    let networks: Vec<fanmill_engine::io::sim::SimIo> = Vec::new();
    let (engine, ..) = Engine::assemble(networks, Forwarding::default());
    let codec = ProducedTrack::vp9(98, 0).codec().clone();
    let stream = IncomingStream::produced([codec], &Names::default(), &engine);
    let track = std::sync::Arc::clone(&stream.tracks()[0]);
    let encoding = &track.encodings()[0];
    encoding.set_active(true);
    let counters = encoding.counters();
    counters.width.set(1280);
    counters.height.set(720);
    counters.bitrate_bps.set(2_100_000);
    counters.mean_bitrate_bps.set(2_100_000);
    for (spatial, bitrate_bps) in [100_000u64, 400_000, 1_600_000].into_iter().enumerate() {
        counters.layers.width[spatial].set(320 << spatial);
        counters.layers.height[spatial].set(180 << spatial);
        let shares = [(50, 7_500), (25, 7_500), (25, 15_000)];
        for (temporal, (percent, per_1000_s)) in shares.into_iter().enumerate() {
            let layers = &counters.layers;
            layers.bitrate_bps[spatial][temporal].set(bitrate_bps * percent / 100);
            layers.frames_per_1000_s[spatial][temporal].set(per_1000_s);
        }
    }
    track
}

fn chosen(track: &IncomingTrack, selection: Selection) -> Option<(u8, u8)> {
    let transponder = Transponder::default();
    transponder.select(selection);
    let chosen = transponder.choose(track, Viewing::default())?;
    Some((chosen.layers.spatial, chosen.layers.temporal))
}

#[test]
fn layers_are_listed_with_what_they_need() {
    let track = track();
    let layers = track.encodings()[0].layers();
    assert_eq!(layers.len(), 9);
    let [lowest, .., highest] = &layers[..] else {
        panic!("{layers:?}");
    };
    assert_eq!((lowest.bitrate_bps, lowest.width), (50_000, 320));
    assert_eq!((highest.bitrate_bps, highest.height), (2_100_000, 720));
    assert!((lowest.frames_per_second - 7.5).abs() < 0.01);
    assert!((highest.frames_per_second - 30.0).abs() < 0.01);
    // Layers that need no others are only themselves.
    track.encodings()[0]
        .counters()
        .layers
        .independent
        .set(0b110);
    let layers = track.encodings()[0].layers();
    assert_eq!(
        layers.last().map(|layer| layer.bitrate_bps),
        Some(1_600_000)
    );
}

#[test]
fn layers_are_chosen_by_hand_and_by_bounds() {
    let track = track();
    assert_eq!(
        chosen(&track, Selection::default()),
        Some((NO_BOUND, NO_BOUND))
    );
    let by_hand = |spatial, temporal| chosen(&track, Selection::layers(spatial, temporal));
    assert_eq!(by_hand(Some(1), Some(0)), Some((1, 0)));
    assert_eq!(by_hand(Some(0), None), Some((0, NO_BOUND)));
    assert_eq!(by_hand(None, Some(1)), Some((NO_BOUND, 1)));
    assert_eq!(by_hand(Some(2), Some(7)), Some((NO_BOUND, NO_BOUND)));
    let within = |bounds| chosen(&track, Selection::within(bounds));
    let spatial = Bounds {
        max_spatial_layer: Some(1),
        ..Bounds::default()
    };
    assert_eq!(within(spatial), Some((1, NO_BOUND)));
    let both = Bounds {
        max_temporal_layer: Some(1),
        ..spatial
    };
    assert_eq!(within(both), Some((1, 1)));
    let height = Bounds {
        max_height: Some(400),
        ..Bounds::default()
    };
    assert_eq!(within(height), Some((1, NO_BOUND)));
    let nothing = Bounds {
        max_height: Some(1),
        ..Bounds::default()
    };
    assert_eq!(within(nothing), Some((0, 0)), "the least there is");
    let bounded_by_hand = Selection {
        within: both,
        ..Selection::layers(Some(2), None)
    };
    assert_eq!(chosen(&track, bounded_by_hand), Some((1, 1)));
}

#[test]
fn a_target_is_kept_to_in_the_order_that_is_asked_for() {
    let track = track();
    let target = |bitrate_bps, traversal, strict| {
        let target = Target {
            traversal,
            strict,
            ..Target::new(bitrate_bps)
        };
        chosen(&track, Selection::target(target))
    };
    let all = |bitrate_bps| {
        [
            Traversal::Default,
            Traversal::SpatialTemporal,
            Traversal::ZigZagSpatialTemporal,
            Traversal::TemporalSpatial,
            Traversal::ZigZagTemporalSpatial,
        ]
        .map(|traversal| target(bitrate_bps, traversal, true))
    };
    let (small, middle) = (Some((0, NO_BOUND)), Some((1, NO_BOUND)));
    let large = Some((NO_BOUND, NO_BOUND));
    assert_eq!(all(2_100_000), [large; 5]);
    // 2/0 takes 1050, 2/1 1575, 1/2 500 and 1/1 375 kbit/s.
    let (stutters, less) = (Some((NO_BOUND, 0)), Some((NO_BOUND, 1)));
    assert_eq!(all(1_600_000), [less, less, less, middle, middle]);
    assert_eq!(all(1_100_000), [stutters, stutters, middle, middle, middle]);
    assert_eq!(
        all(400_000),
        [Some((1, 1)), Some((1, 1)), Some((1, 1)), small, small]
    );
    assert_eq!(all(20_000), [None; 5], "nothing fits");
    assert_eq!(target(20_000, Traversal::Default, false), Some((0, 0)));
}

#[test]
fn by_bandwidth_pictures_shrink_before_they_stutter() {
    let track = track();
    let transponder = Transponder::default();
    let encoding = track.encodings()[0].rendition();
    let mut shown = None;
    for (estimate_bps, expected) in [
        (0, (NO_BOUND, NO_BOUND)),
        (2_000_000, (1, NO_BOUND)),
        (300_000, (0, NO_BOUND)),
        (160_000, (0, 1)),
        (125_000, (0, 0)),
        (10_000, (0, 0)),
    ] {
        let viewing = Viewing {
            shown,
            estimate_bps,
        };
        let chosen = transponder
            .choose(&track, viewing)
            .expect("there is something");
        let layers = (chosen.layers.spatial, chosen.layers.temporal);
        assert_eq!(layers, expected, "at {estimate_bps}");
        shown = Some((encoding, chosen.layers));
    }
}

#[test]
fn keyframes_alone_are_of_the_layers_that_are_chosen() {
    let track = track();
    let transponder = Transponder::default();
    let choose = |selection: Selection| {
        transponder.select(Selection {
            keyframes_only: true,
            ..selection
        });
        let chosen = transponder.choose(&track, Viewing::default());
        chosen.map(|chosen| chosen.layers)
    };
    assert_eq!(choose(Selection::default()), Some(Layers::ALL.keyframes()));
    let lowest = choose(Selection::layers(Some(0), Some(0))).expect("something");
    assert_eq!((lowest.spatial, lowest.keyframes_only), (0, true));
    assert_eq!(lowest, lowest.keyframes());
}
