//! Finishes a recording as progressive MP4 that begins with its index ("fast start").
//!
//! Runs on the finishing thread after the file was closed. The fragmented file stays until the new one
//! is whole and on the disk; it must never be the worse for a finish that fails.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::Path;

use shiguredo_mp4::boxes::{
    Brand, Co64Box, CttsBox, CttsEntry, EdtsBox, ElstBox, ElstEntry, FtypBox, MoofBox, MoovBox,
    StblBox, StscBox, StscEntry, StssBox, StszBox, SttsBox, TrakBox,
};
use shiguredo_mp4::{Either, Encode, FixedPointNumber};

use super::scan::{Scan, invalid};

/// A sample as the tables hold it.
struct Entry {
    dts: u64,
    duration: u32,
    size: u32,
    offset: i32,
    keyframe: bool,
}

/// What one track's tables are made of.
#[derive(Default)]
struct Table {
    samples: Vec<Entry>,
    /// Samples of each chunk, and where it begins among all media bytes.
    chunks: Vec<(u32, u64)>,
}

/// Replaces the fragmented file at `path` by a progressive one.
///
/// # Errors
/// What the system says; the fragmented file is untouched then.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.finishing"));
    let written = write(&file, &beside).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write(file: &File, beside: &Path) -> io::Result<()> {
    let no_head = || io::Error::new(io::ErrorKind::InvalidData, "the file has no whole head");
    let mut scan = Scan::open(file)?.ok_or_else(no_head)?;
    let mut tables: Vec<Table> = scan
        .moov
        .trak_boxes
        .iter()
        .map(|_| Table::default())
        .collect();
    let mut pieces = Vec::new();
    let mut media_len = 0;
    while let Some(fragment) = scan.next()? {
        collect(
            &scan.moov,
            &fragment.moof,
            fragment.moof_at,
            &fragment.data,
            media_len,
            &mut tables,
        );
        media_len += fragment.data.end - fragment.data.start;
        pieces.push(fragment.data);
    }
    let ftyp = FtypBox {
        major_brand: Brand::ISOM,
        minor_version: 512,
        compatible_brands: vec![Brand::ISOM, Brand::ISO2, Brand::MP41],
    };
    let mut head = ftyp.encode_to_vec().map_err(invalid)?;
    // Offsets have a fixed width: the length is known before they are.
    let moov_len = index(&scan.moov, &tables, 0)?.len();
    let media_at = (head.len() + moov_len) as u64 + 16;
    head.extend(index(&scan.moov, &tables, media_at)?);
    // ISO 14496-12 4.2: a size of 1 says that 64 bits of it follow the type.
    head.extend(1u32.to_be_bytes());
    head.extend(b"mdat");
    head.extend((media_len + 16).to_be_bytes());
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(beside)?;
    out.write_all(&head)?;
    let mut input = file;
    for piece in pieces {
        input.seek(SeekFrom::Start(piece.start))?;
        let len = piece.end - piece.start;
        if io::copy(&mut io::Read::take(input, len), &mut out)? != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    out.sync_data()
}

/// Adds a fragment's samples to the tables.
fn collect(
    moov: &MoovBox,
    moof: &MoofBox,
    moof_at: u64,
    data: &std::ops::Range<u64>,
    media_before: u64,
    tables: &mut [Table],
) {
    for traf in &moof.traf_boxes {
        let track = moov
            .trak_boxes
            .iter()
            .position(|trak| trak.tkhd_box.track_id == traf.tfhd_box.track_id);
        let Some(table) = track.and_then(|track| tables.get_mut(track)) else {
            continue;
        };
        let mut dts = traf
            .tfdt_box
            .as_ref()
            .map_or(0, |tfdt| tfdt.base_media_decode_time);
        for trun in &traf.trun_boxes {
            let at = moof_at.saturating_add_signed(trun.data_offset.unwrap_or(0).into());
            let within = at.saturating_sub(data.start);
            let count = u32::try_from(trun.samples.len()).unwrap_or(u32::MAX);
            table.chunks.push((count, media_before + within));
            for sample in &trun.samples {
                let duration = sample.duration.unwrap_or(0);
                let is_sync =
                    |flags: shiguredo_mp4::SampleFlags| !flags.sample_is_non_sync_sample();
                table.samples.push(Entry {
                    dts,
                    duration,
                    size: sample.size.unwrap_or(0),
                    offset: sample.composition_time_offset.unwrap_or(0),
                    keyframe: sample.flags.is_none_or(is_sync),
                });
                dts += u64::from(duration);
            }
        }
    }
}

/// The `moov` of a progressive file whose media begin at `media_at`.
fn index(fragmented: &MoovBox, tables: &[Table], media_at: u64) -> io::Result<Vec<u8>> {
    let mut moov = fragmented.clone();
    moov.mvex_box = None;
    let movie_scale = moov.mvhd_box.timescale;
    let mut movie_duration = 0;
    let mut traks = Vec::new();
    for (mut trak, table) in moov.trak_boxes.into_iter().zip(tables) {
        let Some((first, last)) = table.samples.first().zip(table.samples.last()) else {
            // A track that never had a sample.
            continue;
        };
        let scale = trak.mdia_box.mdhd_box.timescale;
        let media_duration = last.dts + u64::from(last.duration) - first.dts;
        // Pictures that are decoded early are shown late: the last one may end after that.
        let shown_until = table.samples.iter().map(|sample| {
            (sample.dts + u64::from(sample.duration)).saturating_add_signed(sample.offset.into())
        });
        let shown = shown_until.max().unwrap_or(0).saturating_sub(first.dts);
        let starts = rescale(first.dts, scale, movie_scale);
        // Rounded up: an edit that ends early cuts off a sample.
        let plays = rescale(shown.max(media_duration), scale, movie_scale) + 1;
        let end = starts + plays;
        trak.mdia_box.mdhd_box.duration = media_duration;
        trak.tkhd_box.duration = end;
        trak.edts_box = edits(starts, plays);
        let stsd = trak.mdia_box.minf_box.stbl_box.stsd_box.clone();
        let is_video = trak.tkhd_box.volume.integer == 0;
        trak.mdia_box.minf_box.stbl_box = StblBox {
            stsd_box: stsd,
            ..sample_tables(&trak, table, media_at, is_video)
        };
        movie_duration = movie_duration.max(end);
        traks.push(trak);
    }
    moov.trak_boxes = traks;
    moov.mvhd_box.duration = movie_duration;
    moov.encode_to_vec().map_err(invalid)
}

/// ISO 14496-12 8.6.6: a track that begins later than the movie begins with nothing.
fn edits(starts: u64, plays: u64) -> Option<EdtsBox> {
    let rate = FixedPointNumber::new(1, 0);
    let edit = |edit_duration, media_time| ElstEntry {
        edit_duration,
        media_time,
        media_rate: rate,
    };
    (starts > 0).then(|| EdtsBox {
        elst_box: Some(ElstBox {
            entries: vec![edit(starts, -1), edit(plays, 0)],
        }),
        unknown_boxes: Vec::new(),
    })
}

fn sample_tables(trak: &TrakBox, table: &Table, media_at: u64, is_video: bool) -> StblBox {
    let samples = &table.samples;
    let following = samples
        .iter()
        .skip(1)
        .map(|next| Some(next.dts))
        .chain([None]);
    // Where samples are missing the one before lasts until the next: the gap stays a gap.
    let deltas = samples
        .iter()
        .zip(following)
        .map(|(sample, next)| match next {
            Some(next) => u32::try_from(next.saturating_sub(sample.dts)).unwrap_or(u32::MAX),
            None => sample.duration,
        });
    let reordered = samples.iter().any(|sample| sample.offset != 0);
    let keyframes = samples
        .iter()
        .zip(1..)
        .filter(|(sample, _)| sample.keyframe);
    let keyframes: Vec<NonZeroU32> = keyframes.filter_map(|(_, n)| NonZeroU32::new(n)).collect();
    StblBox {
        stsd_box: trak.mdia_box.minf_box.stbl_box.stsd_box.clone(),
        stts_box: SttsBox::from_sample_deltas(deltas),
        ctts_box: reordered.then(|| CttsBox {
            version: 1,
            entries: samples
                .iter()
                .map(|sample| CttsEntry {
                    sample_count: 1,
                    sample_offset: sample.offset.into(),
                })
                .collect(),
        }),
        cslg_box: None,
        stsc_box: chunk_sizes(&table.chunks),
        stsz_box: StszBox::Variable {
            entry_sizes: samples.iter().map(|sample| sample.size).collect(),
        },
        stco_or_co64_box: Either::B(Co64Box {
            chunk_offsets: table.chunks.iter().map(|(_, at)| media_at + at).collect(),
        }),
        // Absent, every sample is a sync sample.
        stss_box: is_video.then_some(StssBox {
            sample_numbers: keyframes,
        }),
        sdtp_box: None,
        unknown_boxes: Vec::new(),
    }
}

/// ISO 14496-12 8.7.4: an entry where the number of samples in a chunk changes.
fn chunk_sizes(chunks: &[(u32, u64)]) -> StscBox {
    let mut entries: Vec<StscEntry> = Vec::new();
    for (&(count, _), number) in chunks.iter().zip(1..) {
        let same = entries
            .last()
            .is_some_and(|entry| entry.sample_per_chunk == count);
        if let (false, Some(first_chunk)) = (same, NonZeroU32::new(number)) {
            entries.push(StscEntry {
                first_chunk,
                sample_per_chunk: count,
                sample_description_index: NonZeroU32::MIN,
            });
        }
    }
    StscBox { entries }
}

fn rescale(ticks: u64, from: NonZeroU32, to: NonZeroU32) -> u64 {
    let ticks = u128::from(ticks) * u128::from(to.get()) / u128::from(from.get());
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Where a fragment ends, in the movie's ticks.
pub(super) fn movie_end(moov: &MoovBox, moof: &MoofBox) -> u64 {
    let ends = moof.traf_boxes.iter().filter_map(|traf| {
        let id = traf.tfhd_box.track_id;
        let trak = moov
            .trak_boxes
            .iter()
            .find(|trak| trak.tkhd_box.track_id == id)?;
        let start = traf.tfdt_box.as_ref()?.base_media_decode_time;
        let samples = traf.trun_boxes.iter().flat_map(|trun| &trun.samples);
        let lasts: u64 = samples
            .map(|sample| u64::from(sample.duration.unwrap_or(0)))
            .sum();
        let scale = trak.mdia_box.mdhd_box.timescale;
        Some(rescale(start + lasts, scale, moov.mvhd_box.timescale))
    });
    ends.max().unwrap_or(0)
}
