//! MP4 files made for tests, box by box.

use super::demux::{Mp4, Source};

/// A box of this name.
pub(crate) fn mp4_box(name: &[u8; 4], content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut made = ((content.len() + 8) as u32).to_be_bytes().to_vec();
    made.extend_from_slice(name);
    made.extend(content);
    made
}

fn numbers(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

/// What a made file is like: VP8 of 25 frames a second, and Opus of 20 ms unless it is silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) frames: u32,
    pub(crate) keyframe_every: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) is_silent: bool,
}

/// Milliseconds of a frame.
pub(crate) const FRAME_MS: u32 = 40;

const PACKET_BYTES: u32 = 40;

struct TrackShape {
    id: u32,
    handler: &'static [u8; 4],
    entry: Vec<u8>,
    count: u32,
    sample_ms: u32,
    sample_bytes: u32,
    at: u64,
    keyframe_every: Option<u32>,
}

fn track(shape: &TrackShape) -> Vec<u8> {
    let duration = shape.count * shape.sample_ms;
    let mut tkhd = numbers(&[7, 0, 0, shape.id, 0, duration]);
    tkhd.resize(84, 0);
    let stsz = numbers(&[0, shape.sample_bytes, shape.count]);
    let stts = numbers(&[0, 1, shape.count, shape.sample_ms]);
    let stsc = numbers(&[0, 1, 1, shape.count, 1]);
    let mut co64 = numbers(&[0, 1]);
    co64.extend(shape.at.to_be_bytes());
    let stss = shape.keyframe_every.map(|every| {
        let keyframes: Vec<u32> = (0..shape.count).step_by(every as usize).collect();
        let mut stss = numbers(&[0, keyframes.len() as u32]);
        stss.extend(keyframes.iter().flat_map(|index| (index + 1).to_be_bytes()));
        mp4_box(b"stss", &[&stss])
    });
    let stbl = mp4_box(
        b"stbl",
        &[
            &mp4_box(b"stsd", &[&numbers(&[0, 1]), &shape.entry]),
            &mp4_box(b"stsz", &[&stsz]),
            &mp4_box(b"stts", &[&stts]),
            &mp4_box(b"stsc", &[&stsc]),
            &mp4_box(b"co64", &[&co64]),
            &stss.unwrap_or_default(),
        ],
    );
    let mdia = mp4_box(
        b"mdia",
        &[
            &mp4_box(b"mdhd", &[&numbers(&[0, 0, 0, 1000, duration, 0])]),
            &mp4_box(b"hdlr", &[&numbers(&[0, 0]), shape.handler, &[0; 13]]),
            &mp4_box(b"minf", &[&stbl]),
        ],
    );
    mp4_box(b"trak", &[&mp4_box(b"tkhd", &[&tkhd]), &mdia])
}

/// The file without its media, which begins where it ends.
pub(crate) fn head(shape: &Shape) -> Vec<u8> {
    let first = head_at(shape, 0);
    head_at(shape, first.len() as u64)
}

/// Bytes of the media.
pub(crate) fn media_bytes(shape: &Shape) -> u64 {
    let sound = if shape.is_silent {
        0
    } else {
        u64::from(packets(shape) * PACKET_BYTES)
    };
    u64::from(shape.frames) * u64::from(shape.frame_bytes) + sound
}

fn packets(shape: &Shape) -> u32 {
    shape.frames * FRAME_MS / 20
}

fn head_at(shape: &Shape, media_at: u64) -> Vec<u8> {
    let mut entry = vec![0; 78];
    entry[24..28].copy_from_slice(&[0, 64, 0, 48]);
    let video_bytes = u64::from(shape.frames) * u64::from(shape.frame_bytes);
    let mut tracks = track(&TrackShape {
        id: 1,
        handler: b"vide",
        entry: mp4_box(b"vp08", &[&entry]),
        count: shape.frames,
        sample_ms: FRAME_MS,
        sample_bytes: shape.frame_bytes,
        at: media_at,
        keyframe_every: Some(shape.keyframe_every),
    });
    if !shape.is_silent {
        let dops = mp4_box(b"dOps", &[&[0, 2, 1, 56, 0, 0, 187, 128, 0, 0, 0]]);
        tracks.extend(track(&TrackShape {
            id: 2,
            handler: b"soun",
            entry: mp4_box(b"Opus", &[&[0; 28], &dops]),
            count: packets(shape),
            sample_ms: 20,
            sample_bytes: PACKET_BYTES,
            at: media_at + video_bytes,
            keyframe_every: None,
        }));
    }
    let mvhd = mp4_box(
        b"mvhd",
        &[&numbers(&[0, 0, 0, 1000, shape.frames * FRAME_MS])],
    );
    let moov = mp4_box(b"moov", &[&mvhd, &tracks]);
    // A size of 64 bits, for files of any length.
    let mdat_bytes = media_bytes(shape) + 16;
    let mut mdat = numbers(&[1]);
    mdat.extend_from_slice(b"mdat");
    mdat.extend(mdat_bytes.to_be_bytes());
    [mp4_box(b"ftyp", &[b"isom", &[0; 4]]), moov, mdat].concat()
}

/// A whole file in memory. Each frame begins with its number.
pub(crate) fn file(shape: &Shape) -> Vec<u8> {
    let mut made = head(shape);
    for frame in 0..shape.frames {
        let at = made.len();
        made.extend(frame.to_be_bytes());
        made.resize(at + shape.frame_bytes as usize, 0xaa);
    }
    if !shape.is_silent {
        made.resize(made.len() + (packets(shape) * PACKET_BYTES) as usize, 0x55);
    }
    made
}

/// A file in memory, opened.
pub(crate) fn mp4(shape: &Shape) -> Mp4 {
    let bytes = file(shape);
    let len = bytes.len() as u64;
    Mp4::open(Source::new(bytes, len)).expect("the made file is good")
}
