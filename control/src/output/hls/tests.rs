//! Playlists as the drafts have them, whatever comes in.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::media::mux::{Description, Sample, TrackHead};
use crate::media::recording::{Fragment, Head};
use crate::output::Sound;
use crate::output::remux::Remux;
use fanmill_engine::packet::codec::Codec;

/// A VP8 keyframe's header: the start code and the size.
fn vp8(width: u16, height: u16) -> Vec<u8> {
    let mut frame = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a];
    frame.extend(width.to_le_bytes());
    frame.extend(height.to_le_bytes());
    frame.extend([0; 100]);
    frame
}

/// A stream that gives pictures of 90 kHz, one a fragment.
struct Stage {
    remux: Remux,
    packager: Packager,
    shelf: Arc<Shelf>,
    at: i64,
}

const NUMBER: u64 = 1_000;

impl Stage {
    fn new() -> Self {
        let shelf = Arc::<Shelf>::default();
        let mut remux = Remux::default();
        let description = Description::read(Codec::Vp8, &vp8(640, 360)).expect("it is whole");
        let tracks = vec![TrackHead {
            description,
            timescale: std::num::NonZeroU32::new(90_000).expect("it is not 0"),
            duration: 0,
        }];
        let head = Head { tracks, base_us: 0 };
        remux.begin(head).expect("the track is of a usual size");
        Self {
            remux,
            packager: Packager::new(Arc::clone(&shelf), NUMBER, Sound::Source),
            shelf,
            at: 0,
        }
    }

    fn picture(&mut self, keyframe: Option<(u16, u16)>, ticks: u32) {
        self.pictures(keyframe, &[ticks]);
    }

    /// Pictures in one fragment, the first one a keyframe if it has a size.
    fn pictures(&mut self, keyframe: Option<(u16, u16)>, ticks: &[u32]) {
        let start_us = self.at * 100 / 9;
        let mut samples = Vec::new();
        for (place, ticks) in ticks.iter().enumerate() {
            let keyframe = keyframe.filter(|_| place == 0);
            samples.push(Sample {
                dts: self.at,
                composition_offset: 0,
                duration: *ticks,
                keyframe: keyframe.is_some(),
                data: keyframe.map_or_else(|| vec![1; 50], |(width, height)| vp8(width, height)),
            });
            self.at += i64::from(*ticks);
        }
        let fragment = Fragment {
            start_us,
            end_us: self.at * 100 / 9,
            keyframe: keyframe.is_some(),
            bytes: samples.iter().map(|sample| sample.data.len()).sum(),
            runs: vec![(0, samples)],
        };
        let now_us = self.at * 100 / 9;
        let piece = self.remux.add(fragment, now_us).expect("it is small");
        let (Some(piece), Some(begin)) = (piece, self.remux.head()) else {
            return;
        };
        let wall_us = 1_700_000_000_000_000;
        let added = self.packager.add(begin, &piece, wall_us);
        added.expect("it is small");
    }

    async fn media(&self) -> String {
        let text = self.shelf.media(None, &Semaphore::new(8)).await;
        String::from_utf8(text.expect("there is something").to_vec()).expect("it is text")
    }

    async fn file(&self, file: File) -> Result<Vec<u8>, HlsError> {
        let (folder, places) = (NUMBER.to_string(), Semaphore::new(8));
        let content = self.shelf.file(&folder, file, &places).await?;
        Ok(content.concat())
    }
}

fn value<'a>(text: &'a str, tag: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(tag));
    line.unwrap_or_else(|| panic!("no {tag} in\n{text}"))
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    Some(rest.split(',').next()?.trim_matches('"'))
}

/// What 8216bis asks of every playlist.
fn check(text: &str) {
    let target: f64 = value(text, "#EXT-X-TARGETDURATION:")
        .parse()
        .expect("it is a number");
    let part_target = attribute(value(text, "#EXT-X-PART-INF:"), "PART-TARGET");
    let part_target: f64 = part_target
        .expect("it is there")
        .parse()
        .expect("it is a number");
    let control = value(text, "#EXT-X-SERVER-CONTROL:");
    let hold_back = attribute(control, "PART-HOLD-BACK").expect("it is there");
    assert!(hold_back.parse::<f64>().expect("it is a number") >= 3.0 * part_target - 1e-9);
    assert!(control.contains("CAN-BLOCK-RELOAD=YES"));
    let mut names = HashSet::new();
    let (mut parts_s, mut parts, mut has_map) = (0.0, 0, false);
    for line in text.lines() {
        has_map |= line.starts_with("#EXT-X-MAP:");
        if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
            let duration = attribute(part, "DURATION").expect("it is there");
            let duration: f64 = duration.parse().expect("it is a number");
            assert!(duration <= part_target, "{line} of {part_target}");
            assert!(names.insert(attribute(part, "URI").expect("it is there").to_owned()));
            parts_s += duration;
            parts += 1;
        } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
            let duration: f64 = duration
                .trim_end_matches(',')
                .parse()
                .expect("it is a number");
            assert!(duration.round() <= target, "{line}");
            if parts > 0 {
                assert!(
                    (duration - parts_s).abs() < 1e-3,
                    "{duration} s of {parts_s} s"
                );
            }
            (parts_s, parts) = (0.0, 0);
        } else if !line.starts_with('#') {
            assert!(names.insert(line.to_owned()), "{line} twice");
            assert!(has_map, "{line} before its map");
        }
    }
}

#[tokio::test]
async fn a_segment_begins_with_a_keyframe_and_is_its_parts() {
    let mut stage = Stage::new();
    for picture in 0..300 {
        let keyframe = (picture % 60 == 0).then_some((640, 360));
        stage.picture(keyframe, 3000);
    }
    let text = stage.media().await;
    check(&text);
    let segments: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with("0.m4s") || line.ends_with("1.m4s"))
        .collect();
    assert!(!segments.is_empty());
    // The second and third segments: two seconds each, from a keyframe.
    let lasts: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("#EXTINF"))
        .collect();
    assert!(lasts.len() >= 4, "{text}");
    assert!(
        lasts[2..].iter().all(|lasts| *lasts == "#EXTINF:2.00000,"),
        "{text}"
    );
    let number = NUMBER + lasts.len() as u64 - 1;
    let segment = stage
        .file(File::Segment(number))
        .await
        .expect("it is listed");
    let before = format!("{}.m4s", number - 1);
    let own = text.split(&before).nth(1).expect("it is listed");
    let own = own
        .split(&format!("{number}.m4s"))
        .next()
        .expect("it is listed");
    let mut joined = Vec::new();
    for (place, part) in own
        .lines()
        .filter(|line| line.starts_with("#EXT-X-PART:"))
        .enumerate()
    {
        let uri = attribute(part, "URI").expect("it is there");
        let file = File::parse(uri.rsplit('/').next().expect("it has a name"));
        joined.extend(
            stage
                .file(file.expect("it is ours"))
                .await
                .expect("it is there"),
        );
        assert_eq!(part.contains("INDEPENDENT=YES"), place == 0, "{part}");
    }
    assert_eq!(joined, segment);
}

#[tokio::test]
async fn another_picture_size_is_a_discontinuity_with_a_map_of_its_own() {
    let mut stage = Stage::new();
    for picture in 0..120 {
        let size = if picture < 60 { (640, 360) } else { (320, 180) };
        stage.picture((picture % 60 == 0).then_some(size), 3000);
    }
    let text = stage.media().await;
    check(&text);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert_eq!(text.matches("#EXT-X-MAP").count(), 2, "{text}");
    let [first, second] = [0, 1].map(|number| stage.file(File::Init(number)));
    assert_ne!(
        first.await.expect("it is listed"),
        second.await.expect("it is listed")
    );
}

#[tokio::test]
async fn the_part_that_is_hinted_at_is_given_when_it_is_there() {
    let mut stage = Stage::new();
    for picture in 0..60 {
        stage.picture((picture % 30 == 0).then_some((640, 360)), 3000);
    }
    let text = stage.media().await;
    let hint = value(&text, "#EXT-X-PRELOAD-HINT:");
    let name = attribute(hint, "URI").and_then(|uri| uri.rsplit('/').next());
    let file = File::parse(name.expect("it has a name")).expect("it is ours");
    let File::Part(number) = file else {
        panic!("{hint}");
    };
    let shelf = Arc::clone(&stage.shelf);
    let places = Semaphore::new(1);
    let folder = NUMBER.to_string();
    let waits = shelf.file(&folder, file, &places);
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    // As many wait as may.
    let asked = Some(Asked {
        segment: NUMBER + 2,
        part: None,
    });
    let refused = shelf.media(asked, &places).await;
    assert_eq!(refused, Err(HlsError::TooManyWaiting));
    for _ in 0..30 {
        stage.picture(None, 3000);
    }
    assert!(waits.await.is_ok());
    let beyond = stage.file(File::Part(number + 100)).await;
    assert_eq!(beyond, Err(HlsError::Missing));
}

#[tokio::test]
async fn a_playlist_is_held_until_it_has_what_is_asked_for() {
    let mut stage = Stage::new();
    for picture in 0..60 {
        stage.picture((picture % 30 == 0).then_some((640, 360)), 3000);
    }
    let text = stage.media().await;
    let complete = text.matches("#EXTINF").count() as u64;
    let open = NUMBER + complete;
    let shelf = Arc::clone(&stage.shelf);
    let places = Semaphore::new(8);
    let ask = |segment, part| shelf.media(Some(Asked { segment, part }), &places);
    // What is there is answered at once.
    assert!(ask(open - 1, None).await.is_ok());
    assert!(ask(open, Some(0)).await.is_ok());
    assert_eq!(ask(open + 2, None).await, Err(HlsError::TooFar));
    let waits = ask(open, Some(90));
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    // The segment ends with fewer parts: then the next one has begun.
    for picture in 0..90 {
        stage.picture((picture % 60 == 30).then_some((640, 360)), 3000);
    }
    assert!(waits.await.is_ok());
    stage.packager.end();
    let text = stage.media().await;
    assert!(
        text.ends_with("#EXT-X-ENDLIST\n") && !text.contains("PRELOAD-HINT"),
        "{text}"
    );
}

#[test]
fn each_file_has_one_name() {
    for (name, file) in [
        ("init0.mp4", Some(File::Init(0))),
        ("17.m4s", Some(File::Segment(17))),
        ("part3.m4s", Some(File::Part(3))),
        ("part03.m4s", None),
        ("+3.m4s", None),
        ("part.m4s", None),
        ("init1.m4s", None),
        ("99999999999999999999.m4s", None),
        ("..", None),
    ] {
        assert_eq!(File::parse(name), file, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Pictures of 20 a second and more, however many a fragment holds: every part has its length but
    /// the last one of a segment (8216bis 4.4.4.9).
    #[test]
    fn parts_have_their_length_whatever_fragments_hold(
        fragments in proptest::collection::vec((1..5usize, 1_500..4_500u32), 100..200),
    ) {
        let mut stage = Stage::new();
        let (mut pictures, mut keyframe_at) = (0, 0);
        for (count, ticks) in fragments {
            let begins = pictures >= keyframe_at;
            if begins {
                keyframe_at += 50;
            }
            pictures += count;
            stage.pictures(begins.then_some((640, 360)), &vec![ticks; count]);
            let Some(text) = stage.shelf.now().filter(|text| text.contains("#EXTINF")) else {
                continue;
            };
            check(&text);
            let mut before: Option<f64> = None;
            for line in text.lines() {
                let part = line.strip_prefix("#EXT-X-PART:");
                let duration = part.and_then(|part| attribute(part, "DURATION")?.parse().ok());
                if duration.is_some() {
                    prop_assert!(before.is_none_or(|before| before >= 0.2975), "{}", text);
                }
                before = duration;
            }
        }
    }

    /// Pictures of any rate up to some a part, keyframes and sizes as they come.
    #[test]
    fn playlists_are_sound_whatever_comes(
        pictures in proptest::collection::vec((0..40u8, 900..9_000u32, 0..20u8), 50..600),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()
            .expect("the system has a thread");
        let mut stage = Stage::new();
        stage.picture(Some((640, 360)), 3000);
        let mut latest = 0;
        for (kind, ticks, size) in pictures {
            let size = if size == 0 { (320, 180) } else { (640, 360) };
            stage.picture((kind == 0).then_some(size), ticks);
            let stock = stage.shelf.now();
            if let Some(text) = stock.filter(|text| text.contains("#EXTINF")) {
                check(&text);
                let first: u64 = value(&text, "#EXT-X-MEDIA-SEQUENCE:").parse().expect("a number");
                let before: u64 = value(&text, "#EXT-X-DISCONTINUITY-SEQUENCE:").parse().expect("a number");
                let inside = text.matches("#EXT-X-DISCONTINUITY\n").count() as u64;
                prop_assert!(first + before + inside >= latest, "numbers run forward");
                latest = first + before;
                let lists = text.matches("#EXTINF").count();
                prop_assert!(lists <= LISTED_SEGMENTS);
            }
        }
        // Whatever the last playlist names is there.
        let text = stage.shelf.now().expect("there were pictures");
        for line in text.lines().filter(|line| line.contains(".m4s") || line.contains(".mp4")) {
            if line.contains("PRELOAD") {
                continue;
            }
            let uri = attribute(line, "URI").unwrap_or(line);
            let file = File::parse(uri.rsplit('/').next().unwrap_or_default()).expect("ours");
            prop_assert!(runtime.block_on(stage.file(file)).is_ok(), "{}", line);
        }
    }
}
