//! Fragmented MP4 (ISO 14496-12): the head of a file, and fragments that are whole by themselves.
//!
//! The recorder asks for bytes and gives them to the disk, outputs to their readers. Nothing here keeps state: a fragment says
//! its own times (`tfdt`), so one that is left out, or the gap of a loss, moves nothing that follows.

mod codecs;
mod entry;

use std::num::NonZeroU32;
use std::time::Duration;

use shiguredo_mp4::boxes::{
    Brand, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MehdBox, MfhdBox, MinfBox, MoofBox,
    MoovBox, MvexBox, MvhdBox, SmhdBox, StblBox, StcoBox, StscBox, StsdBox, StszBox, SttsBox,
    TfdtBox, TfhdBox, TkhdBox, TrafBox, TrakBox, TrexBox, TrunBox, TrunSample, VmhdBox,
};
use shiguredo_mp4::{
    BoxHeader, Either, Encode, FixedPointNumber, Mp4FileTime, SampleFlags, Utf8String,
};

pub use entry::Description;

/// Ticks per second of a movie's own durations.
pub const MOVIE_TIMESCALE: u32 = 1000;

/// A unit with its place in time, in ticks of its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it is decoded, on the server's timeline.
    pub dts: i64,
    /// Presentation after decoding; negative for pictures that are shown before others decoded
    /// earlier.
    pub composition_offset: i32,
    /// Until the next one.
    pub duration: u32,
    /// Whether decoding can begin here.
    pub keyframe: bool,
    /// The unit's bytes.
    pub data: Vec<u8>,
}

/// A track as the head of a file tells of it.
#[derive(Debug, Clone)]
pub struct TrackHead {
    /// Codec and sizes.
    pub description: Description,
    /// Ticks per second of its samples.
    pub timescale: NonZeroU32,
    /// The duration of all samples, once it is known.
    pub duration: u64,
}

/// The samples of one track in a fragment.
#[derive(Debug)]
pub struct TrackRun<'a> {
    /// Its place in the file's head, from 0.
    pub track: usize,
    /// Where the file's time 0 lies, in the samples' ticks.
    pub base: i64,
    /// The samples, at least one.
    pub samples: &'a [Sample],
}

/// A box could not be written: a value does not fit its field.
#[derive(Debug, thiserror::Error)]
#[error("cannot write it as MP4: {0}")]
pub struct MuxError(String);

impl From<shiguredo_mp4::Error> for MuxError {
    fn from(error: shiguredo_mp4::Error) -> Self {
        Self(error.to_string())
    }
}

/// `ftyp` and `moov`. The same tracks give the same length, whatever the durations: they can be
/// filled in later.
///
/// # Errors
/// [`MuxError`].
pub fn head(tracks: &[TrackHead], created: Duration) -> Result<Vec<u8>, MuxError> {
    let ftyp = FtypBox {
        major_brand: Brand::ISO5,
        minor_version: 0,
        compatible_brands: vec![Brand::ISOM, Brand::ISO5, Brand::ISO6, Brand::MP41],
    };
    let created = Mp4FileTime::from_unix_time(created);
    let movie_duration = tracks.iter().map(movie_ticks).max().unwrap_or(0);
    let traks = tracks.iter().zip(1..).map(|(track, id)| {
        let stbl = empty_tables(track);
        trak(track, id, created, 0, stbl)
    });
    let trex = (1..).take(tracks.len()).map(|track_id| TrexBox {
        track_id,
        default_sample_description_index: 1,
        default_sample_duration: 0,
        default_sample_size: 0,
        default_sample_flags: SampleFlags::empty(),
    });
    let moov = MoovBox {
        mvhd_box: mvhd(created, 0, tracks.len()),
        trak_boxes: traks.collect::<Result<_, _>>()?,
        mvex_box: Some(MvexBox {
            // Players that want to know the length look here. The box writes 32 or 64 bits by
            // what it holds: 32 hold 49 days.
            mehd_box: Some(MehdBox {
                fragment_duration: movie_duration.min(u64::from(u32::MAX)),
            }),
            trex_boxes: trex.collect(),
            unknown_boxes: Vec::new(),
        }),
        unknown_boxes: Vec::new(),
    };
    let mut bytes = ftyp.encode_to_vec()?;
    bytes.extend(moov.encode_to_vec()?);
    Ok(bytes)
}

/// `moof` and `mdat`.
///
/// # Errors
/// [`MuxError`].
pub fn fragment(sequence_number: u32, runs: &[TrackRun<'_>]) -> Result<Vec<u8>, MuxError> {
    let payload: usize = runs.iter().map(|run| payload_len(run.samples)).sum();
    // The offsets have a fixed width: the length is known before they are.
    let moof_len = moof(sequence_number, runs, 0)?.encode_to_vec()?.len();
    let data_at = moof_len + BoxHeader::MIN_SIZE;
    let mut bytes = moof(sequence_number, runs, data_at)?.encode_to_vec()?;
    let mdat_len = u32::try_from(BoxHeader::MIN_SIZE + payload)
        .map_err(|_| MuxError("a fragment has more than 4 GiB".to_owned()))?;
    bytes.reserve_exact(BoxHeader::MIN_SIZE + payload);
    bytes.extend(mdat_len.to_be_bytes());
    bytes.extend(b"mdat");
    for sample in runs.iter().flat_map(|run| run.samples) {
        bytes.extend_from_slice(&sample.data);
    }
    Ok(bytes)
}

fn payload_len(samples: &[Sample]) -> usize {
    samples.iter().map(|sample| sample.data.len()).sum()
}

fn moof(
    sequence_number: u32,
    runs: &[TrackRun<'_>],
    mut data_at: usize,
) -> Result<MoofBox, MuxError> {
    let mut trafs = Vec::with_capacity(runs.len());
    for run in runs {
        trafs.push(traf(run, data_at)?);
        data_at += payload_len(run.samples);
    }
    Ok(MoofBox {
        mfhd_box: MfhdBox { sequence_number },
        traf_boxes: trafs,
        unknown_boxes: Vec::new(),
    })
}

fn traf(run: &TrackRun<'_>, data_at: usize) -> Result<TrafBox, MuxError> {
    let too_long = |_| MuxError("a fragment has more than 2 GiB".to_owned());
    let reordered = run
        .samples
        .iter()
        .any(|sample| sample.composition_offset != 0);
    let samples = run.samples.iter().map(|sample| {
        Ok(TrunSample {
            duration: Some(sample.duration),
            size: Some(u32::try_from(sample.data.len()).map_err(too_long)?),
            flags: Some(sample_flags(sample.keyframe)),
            composition_time_offset: reordered.then_some(sample.composition_offset),
        })
    });
    let first = run.samples.first().map_or(0, |sample| sample.dts);
    Ok(TrafBox {
        tfhd_box: TfhdBox {
            track_id: track_id(run.track),
            base_data_offset: None,
            sample_description_index: None,
            default_sample_duration: None,
            default_sample_size: None,
            default_sample_flags: None,
            duration_is_empty: false,
            default_base_is_moof: true,
        },
        tfdt_box: Some(TfdtBox {
            version: 1,
            base_media_decode_time: u64::try_from(first - run.base).unwrap_or(0),
        }),
        trun_boxes: vec![TrunBox {
            data_offset: Some(i32::try_from(data_at).map_err(too_long)?),
            first_sample_flags: None,
            samples: samples.collect::<Result<_, MuxError>>()?,
        }],
        unknown_boxes: Vec::new(),
    })
}

fn track_id(track: usize) -> u32 {
    u32::try_from(track + 1).unwrap_or(u32::MAX)
}

/// ISO 14496-12 8.8.3.1: whether it depends on others, and is no sync sample.
fn sample_flags(keyframe: bool) -> SampleFlags {
    let depends = if keyframe { 2 } else { 1 };
    SampleFlags::from_fields(0, depends, 0, 0, 0, !keyframe, 0)
}

/// A track's duration in movie ticks.
fn movie_ticks(track: &TrackHead) -> u64 {
    let ticks = u128::from(track.duration) * u128::from(MOVIE_TIMESCALE);
    u64::try_from(ticks / u128::from(track.timescale.get())).unwrap_or(u64::MAX)
}

fn mvhd(created: Mp4FileTime, duration: u64, tracks: usize) -> MvhdBox {
    MvhdBox {
        creation_time: created,
        modification_time: created,
        timescale: NonZeroU32::new(MOVIE_TIMESCALE).unwrap_or(NonZeroU32::MIN),
        duration,
        rate: MvhdBox::DEFAULT_RATE,
        volume: MvhdBox::DEFAULT_VOLUME,
        matrix: MvhdBox::DEFAULT_MATRIX,
        next_track_id: track_id(tracks),
    }
}

/// A track with these tables. `media_duration` is what they hold: nothing in a fragmented file.
fn trak(
    track: &TrackHead,
    id: u32,
    created: Mp4FileTime,
    media_duration: u64,
    stbl: StblBox,
) -> Result<TrakBox, MuxError> {
    let size = track.description.size;
    let side = |pixels: u32| {
        let side = i16::try_from(pixels).map_err(|_| MuxError("a picture too large".to_owned()));
        side.map(|side| FixedPointNumber::new(side, 0))
    };
    let (width, height) = match size {
        Some(size) => (side(size.width)?, side(size.height)?),
        None => Default::default(),
    };
    let (handler, media_header, volume) = match size {
        Some(_) => (
            HdlrBox::HANDLER_TYPE_VIDE,
            Either::B(VmhdBox::default()),
            TkhdBox::DEFAULT_VIDEO_VOLUME,
        ),
        None => (
            HdlrBox::HANDLER_TYPE_SOUN,
            Either::A(SmhdBox::default()),
            TkhdBox::DEFAULT_AUDIO_VOLUME,
        ),
    };
    let duration = if media_duration == 0 {
        0
    } else {
        movie_ticks(track)
    };
    Ok(TrakBox {
        tkhd_box: TkhdBox {
            flag_track_enabled: true,
            flag_track_in_movie: true,
            flag_track_in_preview: false,
            flag_track_size_is_aspect_ratio: false,
            creation_time: created,
            modification_time: created,
            track_id: id,
            duration,
            layer: TkhdBox::DEFAULT_LAYER,
            alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
            volume,
            matrix: TkhdBox::DEFAULT_MATRIX,
            width,
            height,
        },
        edts_box: None,
        mdia_box: MdiaBox {
            mdhd_box: MdhdBox {
                creation_time: created,
                modification_time: created,
                timescale: track.timescale,
                duration: media_duration,
                language: MdhdBox::LANGUAGE_UNDEFINED,
            },
            hdlr_box: HdlrBox {
                handler_type: handler,
                name: Utf8String::EMPTY.into_null_terminated_bytes(),
            },
            minf_box: MinfBox {
                smhd_or_vmhd_box: Some(media_header),
                dinf_box: DinfBox::LOCAL_FILE,
                stbl_box: stbl,
                unknown_boxes: Vec::new(),
            },
            unknown_boxes: Vec::new(),
        },
        unknown_boxes: Vec::new(),
    })
}

fn empty_tables(track: &TrackHead) -> StblBox {
    StblBox {
        stsd_box: StsdBox {
            entries: vec![track.description.entry.clone()],
        },
        stts_box: SttsBox::from_sample_deltas([]),
        ctts_box: None,
        cslg_box: None,
        stsc_box: StscBox {
            entries: Vec::new(),
        },
        stsz_box: StszBox::Variable {
            entry_sizes: Vec::new(),
        },
        stco_or_co64_box: Either::A(StcoBox {
            chunk_offsets: Vec::new(),
        }),
        stss_box: None,
        sdtp_box: None,
        unknown_boxes: Vec::new(),
    }
}
