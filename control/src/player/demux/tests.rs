#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::testing::{self, Shape};
use super::*;

const SHAPE: Shape = Shape {
    frames: 50,
    keyframe_every: 10,
    frame_bytes: 30,
    is_silent: false,
};

/// Counts what is read, and keeps an eye on how much at once.
struct Watched {
    bytes: Vec<u8>,
    read: Arc<AtomicU64>,
}

impl ReadAt for Watched {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        assert!(
            buffer.len() <= self.bytes.len().max(4096),
            "{} bytes at once",
            buffer.len()
        );
        let count = self.bytes.read_at(buffer, at)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Opens and reads a file through; gives how many samples came, and checks that the effort was in
/// proportion to the file.
fn read_through(bytes: Vec<u8>) -> Result<usize, DemuxError> {
    let len = bytes.len() as u64;
    let read = Arc::new(AtomicU64::new(0));
    let watched = Watched {
        bytes,
        read: Arc::clone(&read),
    };
    let done = samples_of(Source::new(watched, len));
    let effort = read.load(Ordering::Relaxed);
    assert!(effort <= 400 * (len + 4096), "{effort} bytes read of {len}");
    done
}

fn samples_of(source: Source) -> Result<usize, DemuxError> {
    let mp4 = Mp4::open(source)?;
    let mut reader = mp4.reader()?;
    let mut buffer = Vec::new();
    let mut count = 0;
    while let Some(sample) = reader.next_sample()? {
        reader.read(&sample, &mut buffer)?;
        count += 1;
    }
    reader.seek(mp4.duration_us().unwrap_or(0) / 2)?;
    reader.next_sample()?;
    Ok(count)
}

#[test]
fn samples_come_in_the_order_of_their_times() {
    let mp4 = testing::mp4(&SHAPE);
    assert_eq!(mp4.duration_us(), Some(2_000_000));
    let mut reader = mp4.reader().unwrap();
    let (mut last_us, mut counts) = (0, [0, 0]);
    while let Some(sample) = reader.next_sample().unwrap() {
        assert!(sample.pts_us >= last_us);
        last_us = sample.pts_us;
        counts[sample.track] += 1;
    }
    assert_eq!(counts, [50, 100]);
}

#[test]
fn a_seek_goes_to_the_keyframe_before() {
    let mp4 = testing::mp4(&SHAPE);
    let mut reader = mp4.reader().unwrap();
    for (sought_us, keyframe_us) in [
        (0, 0),
        (399_999, 0),
        (400_000, 400_000),
        (1_999_000, 1_600_000),
    ] {
        reader.seek(sought_us).unwrap();
        let mut first = [None, None];
        while let Some(sample) = reader.next_sample().unwrap() {
            first[sample.track].get_or_insert(sample);
        }
        let (video, audio) = (first[0].unwrap(), first[1].unwrap());
        assert_eq!((video.pts_us, video.is_keyframe), (keyframe_us, true));
        assert!(audio.pts_us <= sought_us && sought_us < audio.pts_us + 20_000);
    }
}

#[test]
fn a_cut_file_is_refused() {
    let whole = testing::file(&SHAPE);
    for len in 0..whole.len() {
        assert!(read_through(whole[..len].to_vec()).is_err(), "cut at {len}");
    }
    assert_eq!(read_through(whole).unwrap(), 150);
}

#[test]
fn something_else_is_no_mp4() {
    for bytes in [
        &b""[..],
        b"RIFF....",
        b"\x1aE\xdf\xa3 a WebM file perhaps",
        &[0; 1000],
    ] {
        let refused = read_through(bytes.to_vec());
        assert!(matches!(refused, Err(DemuxError::NotMp4)), "{refused:?}");
    }
}

/// Changes the 32-bit number `field` (from the content's beginning) of a box.
fn changed(name: &[u8; 4], field: usize, value: u32) -> Vec<u8> {
    let mut bytes = testing::file(&SHAPE);
    let at = bytes.windows(4).position(|window| window == name).unwrap() + 4 + 4 * field;
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    bytes
}

#[test]
fn lies_are_refused_with_what_is_wrong() {
    let cases: [(&[u8; 4], usize, u32, &str); 8] = [
        (b"stsz", 2, u32::MAX, "number of samples"),
        (b"stsz", 1, u32::MAX, "cut"),
        (b"stts", 1, u32::MAX, "more entries"),
        (b"stts", 3, u32::MAX, "duration"),
        (b"stsc", 3, 1, "fewer chunks"),
        (b"co64", 2, u32::MAX, "cut"),
        (b"mdhd", 3, 0, "clock stands still"),
        (b"stsc", 4, 2, "format changes"),
    ];
    for (name, field, value, expected) in cases {
        let error = read_through(changed(name, field, value))
            .unwrap_err()
            .to_string();
        let name = name.escape_ascii();
        assert!(error.contains(expected), "{name} {field}: {error}");
    }
}

#[test]
fn boxes_within_themselves_end() {
    // A box whose size leads back to its own beginning is as long as its header at least.
    let mut bytes = testing::file(&SHAPE);
    let at = bytes
        .windows(4)
        .position(|window| window == b"trak")
        .unwrap()
        - 4;
    for size in [0_u32, 1, 2, 7, u32::MAX] {
        bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
        let _ = read_through(bytes.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_damage_is_worse_than_a_refusal(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        numbers in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(u32::MAX), Just(0), Just(1), Just(0x7fff_ffff), Just(0x8000_0000), any::<u32>(),
        ]), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = testing::file(&SHAPE);
        let head = testing::head(&SHAPE).len();
        for (index, value) in changes {
            let at = index.index(head);
            bytes[at] = value;
        }
        for (index, value) in numbers {
            let at = index.index(head / 4 - 1) * 4;
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read_through(bytes);
    }
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_file_of_ten_gigabytes_takes_no_more_memory_than_a_small_one() {
    let shape = Shape {
        frames: 1_000_000,
        keyframe_every: 50,
        frame_bytes: 10_500,
        is_silent: false,
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&testing::head(&shape)).unwrap();
    let len = testing::head(&shape).len() as u64 + testing::media_bytes(&shape);
    // Holes: it takes no room on the disk.
    file.set_len(len).unwrap();
    assert!(len > 10_000_000_000);
    let before = resident();
    let mp4 = Mp4::open(Source::new(File::try_clone(&file).unwrap(), len)).unwrap();
    assert_eq!(mp4.duration_us(), Some(40_000_000_000));
    let mut reader = mp4.reader().unwrap();
    let mut buffer = Vec::new();
    for sought_us in [0, 39_990_000_000, 20_000_000_000] {
        reader.seek(sought_us).unwrap();
        for _ in 0..1000 {
            let Some(sample) = reader.next_sample().unwrap() else {
                break;
            };
            reader.read(&sample, &mut buffer).unwrap();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}
