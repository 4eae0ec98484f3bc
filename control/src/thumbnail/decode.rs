//! From a keyframe to its picture: VP8 by the decoder of WebP, whose lossy pictures are VP8
//! keyframes, and H.264.
//!
//! The size is read, and bounded, before a decoder sees anything. Takes some ten milliseconds.

use std::io::Cursor;

use fanmill_engine::packet::codec::{Codec, resolution};
use image_webp::WebPDecoder;

use super::ThumbnailError;
use super::picture::Picture;
use crate::media::depacketize::{Unit, nals};

/// Pixels decoded at most: 4096 by 2304, upright or not.
const MAX_PIXELS: u64 = 4096 * 2304;

/// ITU-T H.264 7.4.1: a sequence parameter set.
const NAL_SPS: u8 = 7;

/// Whether there are thumbnails of a codec.
pub(super) fn is_decoded(codec: Codec) -> bool {
    matches!(codec, Codec::Vp8 | Codec::H264)
}

/// Decodes a keyframe.
///
/// # Errors
/// [`ThumbnailError::Codec`], [`ThumbnailError::TooLarge`], [`ThumbnailError::Damaged`].
pub(super) fn decode(keyframe: &Unit) -> Result<Picture, ThumbnailError> {
    match keyframe.codec {
        Codec::Vp8 => vp8(&keyframe.data),
        Codec::H264 => h264(&keyframe.data),
        other => Err(ThumbnailError::Codec(other)),
    }
}

fn check_size(width: u32, height: u32) -> Result<(), ThumbnailError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(ThumbnailError::TooLarge(width, height));
    }
    if pixels == 0 {
        return Err(damaged("it has no size"));
    }
    Ok(())
}

fn damaged(why: impl ToString) -> ThumbnailError {
    ThumbnailError::Damaged(why.to_string())
}

fn vp8(frame: &[u8]) -> Result<Picture, ThumbnailError> {
    // RFC 6386 9.1: three bytes of frame tag, three of start code, then 14 bits for each side.
    let side = |at: usize| {
        let bytes = frame.get(at..)?.first_chunk::<2>()?;
        Some(u32::from(u16::from_le_bytes(*bytes) & 0x3fff))
    };
    let size = side(6).zip(side(8));
    let (width, height) = size.ok_or_else(|| damaged("it is cut"))?;
    check_size(width, height)?;
    let mut decoder = WebPDecoder::new(Cursor::new(webp(frame))).map_err(damaged)?;
    let bytes = decoder.output_buffer_size().unwrap_or(0);
    let mut pixels = vec![0; bytes];
    decoder.read_image(&mut pixels).map_err(damaged)?;
    Picture::rgb(width as usize, height as usize, pixels).ok_or_else(|| damaged("its sizes differ"))
}

/// RFC 9649 2.5: a file with one lossy picture.
fn webp(frame: &[u8]) -> Vec<u8> {
    let padding = frame.len() % 2;
    // Bounded by the largest unit.
    let chunk_bytes = (frame.len() as u32).to_le_bytes();
    let file_bytes = (4 + 8 + frame.len() as u32 + padding as u32).to_le_bytes();
    let mut file = Vec::with_capacity(frame.len() + 21);
    for part in [b"RIFF", &file_bytes, b"WEBP", b"VP8 ", &chunk_bytes] {
        file.extend_from_slice(part);
    }
    file.extend_from_slice(frame);
    file.resize(file.len() + padding, 0);
    file
}

fn h264(units: &[u8]) -> Result<Picture, ThumbnailError> {
    // Annex B: a start code before each unit.
    let mut stream = Vec::with_capacity(units.len() + 64);
    let mut size = None;
    for nal in nals(units) {
        if nal.first().is_some_and(|header| header & 0x1f == NAL_SPS) {
            // A payload of one unit is the unit (RFC 6184 5.6).
            let said = resolution(Codec::H264, nal).ok_or_else(|| damaged("it says no size"))?;
            check_size(said.width, said.height)?;
            size = Some(said);
        }
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(nal);
    }
    if size.is_none() {
        return Err(damaged("it comes without parameter sets"));
    }
    let mut decoder = rusty_h264_decoder::Decoder::new();
    let frame = decoder
        .decode(&stream)
        .map_err(|error| damaged(format!("{error:?}")))?;
    let frame = frame.ok_or_else(|| damaged("it is not whole"))?;
    let planes = [frame.y, frame.u, frame.v];
    Picture::yuv420(frame.width, frame.height, planes).ok_or_else(|| damaged("its sizes differ"))
}
