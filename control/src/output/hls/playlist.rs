//! The text of HLS playlists (RFC 8216 and draft-pantos-hls-rfc8216bis): what there is, in words.

use std::fmt::Write;

use time::OffsetDateTime;

use super::{PART_TARGET_US, TARGET_DURATION_S};

/// Part durations after which players may play what is there: three, as 8216bis recommends.
const HOLD_BACK_PARTS: i64 = 3;

/// A partial segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its place among all parts, whatever segments they are of.
    pub number: u64,
    /// How long it lasts.
    pub duration_us: i64,
    /// A player may begin with it.
    pub independent: bool,
}

/// A segment, as a playlist tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub number: u64,
    /// How long it lasts.
    pub duration_us: i64,
    /// Its parts; none if they are not listed any more.
    pub parts: Vec<Part>,
    /// Which initialization section it needs.
    pub init: u64,
    /// It does not go on where the last one ended: another picture size or codec.
    pub discontinuity: bool,
    /// When its first picture came in, in microseconds of Unix time.
    pub wall_us: i64,
}

/// A stream's playlist.
#[derive(Debug, Clone, Default)]
pub struct MediaPlaylist {
    /// Where the files are, relative to the playlist.
    pub folder: String,
    /// Complete segments, oldest first.
    pub segments: Vec<Segment>,
    /// The segment that is being made, as far as it is.
    pub open: Option<Segment>,
    /// The part that comes next.
    pub next_part: u64,
    /// How many discontinuities lie before the first segment.
    pub discontinuities: u64,
    /// Nothing follows.
    pub ended: bool,
}

/// What a player is told before it chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// RFC 6381.
    pub codecs: String,
    /// Width and height; none without pictures.
    pub size: Option<(u32, u32)>,
    /// Pictures a second.
    pub frame_rate: Option<f64>,
    /// The most that a segment took.
    pub peak_bps: u64,
    /// What all of them took.
    pub average_bps: u64,
}

/// The name of an initialization section.
pub fn init_name(number: u64) -> String {
    format!("init{number}.mp4")
}

/// The name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number}.m4s")
}

/// The name of a part.
pub fn part_name(number: u64) -> String {
    format!("part{number}.m4s")
}

impl MediaPlaylist {
    /// Its text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        self.write(&mut text)
            .expect("a String takes whatever is written");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let all = || self.segments.iter().chain(&self.open);
        let part_target = seconds(PART_TARGET_US);
        text.push_str("#EXTM3U\n#EXT-X-VERSION:9\n");
        writeln!(text, "#EXT-X-TARGETDURATION:{TARGET_DURATION_S}")?;
        writeln!(
            text,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={}",
            seconds(HOLD_BACK_PARTS * PART_TARGET_US)
        )?;
        writeln!(text, "#EXT-X-PART-INF:PART-TARGET={part_target}")?;
        let first = all().next().map_or(0, |segment| segment.number);
        writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{first}")?;
        let before = self.discontinuities;
        writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{before}")?;
        let mut init = None;
        for segment in all() {
            let is_open = self.open.as_ref().is_some_and(|open| open == segment);
            if segment.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if init != Some(segment.init) {
                init = Some(segment.init);
                let name = init_name(segment.init);
                writeln!(text, "#EXT-X-MAP:URI=\"{}/{name}\"", self.folder)?;
            }
            if !(is_open && segment.parts.is_empty()) {
                write_time(text, segment.wall_us)?;
            }
            for part in &segment.parts {
                self.write_part(text, part)?;
            }
            if !is_open {
                let duration_us = segment.duration_us.min(LONGEST_US);
                writeln!(text, "#EXTINF:{},", seconds(duration_us))?;
                writeln!(text, "{}/{}", self.folder, segment_name(segment.number))?;
            }
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        } else {
            let name = part_name(self.next_part);
            let folder = &self.folder;
            writeln!(
                text,
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{folder}/{name}\""
            )?;
        }
        Ok(())
    }

    fn write_part(&self, text: &mut String, part: &Part) -> std::fmt::Result {
        let independent = if part.independent {
            ",INDEPENDENT=YES"
        } else {
            ""
        };
        writeln!(
            text,
            "#EXT-X-PART:DURATION={},URI=\"{}/{}\"{independent}",
            seconds(part.duration_us),
            self.folder,
            part_name(part.number)
        )
    }
}

/// What rounds to the target duration and not beyond (RFC 8216 4.3.3.1).
const LONGEST_US: i64 = TARGET_DURATION_S * 1_000_000 + 499_999;

impl Variant {
    /// The text of a multivariant playlist with this stream alone.
    pub fn text(&self, media_playlist: &str) -> String {
        let mut attributes = vec![
            format!("BANDWIDTH={}", self.peak_bps),
            format!("AVERAGE-BANDWIDTH={}", self.average_bps),
            format!("CODECS=\"{}\"", self.codecs),
        ];
        if let Some((width, height)) = self.size {
            attributes.push(format!("RESOLUTION={width}x{height}"));
        }
        if let Some(rate) = self.frame_rate {
            attributes.push(format!("FRAME-RATE={rate:.3}"));
        }
        format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-STREAM-INF:{}\n{media_playlist}\n",
            attributes.join(",")
        )
    }
}

/// Microseconds as decimal seconds.
fn seconds(us: i64) -> String {
    let us = us.max(0);
    format!("{}.{:05}", us / 1_000_000, us % 1_000_000 / 10)
}

fn write_time(text: &mut String, wall_us: i64) -> std::fmt::Result {
    let nanoseconds = i128::from(wall_us) * 1000;
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds) else {
        return Ok(());
    };
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    let milliseconds = at.millisecond();
    writeln!(
        text,
        "#EXT-X-PROGRAM-DATE-TIME:{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"
    )
}
