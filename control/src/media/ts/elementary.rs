//! What a program's streams hold: PES packets into units.

use super::pes::Pes;
use super::{CLOCK_HZ, Times, TsEvent, TsFormat, TsTrack, TsUnit};
use crate::media::aac::{AacConfig, AdtsFrame};
use crate::media::depacketize::{LatmDepacketizer, NalPictures};

/// Sound that does not make up a frame is at most this much: ADTS and LOAS have 13 bits of length.
const MAX_PENDING_BYTES: usize = 1 << 13;

/// What a picture is taken to last where nothing tells: that of 30 a second.
const PICTURE_TICKS: i64 = 3_000;

/// Ticks of a packet of Opus that does not say.
const OPUS_TICKS: i64 = 1_800;

#[derive(Debug)]
pub(super) struct Elementary {
    pid: u16,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Video(Video),
    Adts(Framed),
    Loas(Framed, LatmDepacketizer),
    Opus(Option<i64>),
}

#[derive(Debug)]
struct Video {
    pictures: NalPictures,
    awaiting_keyframe: bool,
    last_dts: Option<i64>,
}

/// Frames of sound that know their own length, across PES packets.
#[derive(Debug, Default)]
struct Framed {
    pending: Vec<u8>,
    /// When the frame that begins next is heard, if its PES packet does not say.
    next: Option<i64>,
    config: Vec<u8>,
}

impl Elementary {
    pub(super) fn new(head: TsTrack) -> Self {
        let video = |is_h265| {
            Content::Video(Video {
                pictures: NalPictures::new(is_h265),
                awaiting_keyframe: true,
                last_dts: None,
            })
        };
        let content = match head.format {
            TsFormat::H264 => video(false),
            TsFormat::H265 => video(true),
            TsFormat::Adts => Content::Adts(Framed::default()),
            TsFormat::Loas => Content::Loas(Framed::default(), LatmDepacketizer::in_band()),
            TsFormat::Opus { .. } => Content::Opus(None),
        };
        Self {
            pid: head.pid,
            content,
        }
    }

    /// Something is missing here.
    pub(super) fn gap(&mut self) {
        match &mut self.content {
            Content::Video(video) => video.awaiting_keyframe = true,
            Content::Adts(framed) | Content::Loas(framed, _) => framed.pending.clear(),
            Content::Opus(_) => {}
        }
    }

    pub(super) fn is_awaiting_keyframe(&self) -> bool {
        matches!(&self.content, Content::Video(video) if video.awaiting_keyframe)
    }

    pub(super) fn push(&mut self, pes: &Pes, times: &mut Times, events: &mut Vec<TsEvent>) {
        let dts = pes.dts.map(|dts| times.extend(dts));
        let pts = pes.pts.map(|pts| times.extend(pts));
        let pid = self.pid;
        match &mut self.content {
            Content::Video(video) => {
                let unit = video.push(pid, pes.payload(), pts, dts);
                events.extend(unit.map(TsEvent::Unit));
            }
            Content::Adts(framed) => adts(framed, pid, pes.payload(), pts, events),
            Content::Loas(framed, latm) => loas(framed, latm, pid, pes.payload(), pts, events),
            Content::Opus(next) => opus(next, pid, pes.payload(), pts, events),
        }
    }
}

impl Video {
    fn push(
        &mut self,
        pid: u16,
        stream: &[u8],
        pts: Option<i64>,
        dts: Option<i64>,
    ) -> Option<TsUnit> {
        let follows = self.last_dts.map(|last| last + PICTURE_TICKS);
        let pts = pts.or(follows)?;
        let dts = dts.unwrap_or(pts);
        self.last_dts = Some(dts);
        let Ok(coded) = self.pictures.picture(annex_b(stream)) else {
            self.awaiting_keyframe = true;
            return None;
        };
        let coded = coded?;
        if self.awaiting_keyframe && !coded.keyframe {
            return None;
        }
        self.awaiting_keyframe = false;
        Some(TsUnit {
            pid,
            pts,
            dts,
            keyframe: coded.keyframe,
            data: coded.data,
        })
    }
}

/// The NAL units of a byte stream (H.264 and H.265 annex B).
pub(super) fn annex_b(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(stream).map(|at| &stream[at + 3..]);
    std::iter::from_fn(move || {
        let from = rest?;
        let end = start_code(from);
        rest = end.map(|at| &from[at + 3..]);
        let nal = &from[..end.unwrap_or(from.len())];
        // Zeros belong to the start code that follows; a NAL unit ends with a bit that is set.
        let length = nal
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        Some(&nal[..length])
    })
    .filter(|nal| !nal.is_empty())
}

fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|three| three == [0, 0, 1])
}

impl Framed {
    /// Joins what is pending with a PES packet's payload and takes frames off it as long as `length`
    /// knows one's length; gives each with the time it is heard at. `length` may ask for a byte to be
    /// left out by 0.
    fn frames(
        &mut self,
        payload: &[u8],
        pts: Option<i64>,
        length: impl Fn(&[u8]) -> Option<usize>,
        mut frame: impl FnMut(&[u8], i64) -> i64,
    ) {
        let mut bytes = std::mem::take(&mut self.pending);
        let boundary = bytes.len();
        bytes.extend_from_slice(payload);
        let (mut at, mut told) = (0, pts);
        while let Some(length) = length(&bytes[at..]) {
            if length == 0 {
                at += 1;
                continue;
            }
            let Some(one) = bytes.get(at..at + length) else {
                break;
            };
            // The time of a PES packet is that of the first frame that begins in it.
            let time = match at >= boundary {
                true => told.take().or(self.next),
                false => self.next,
            };
            if let Some(time) = time {
                self.next = Some(time + frame(one, time));
            }
            at += length;
        }
        let left = &bytes[at..];
        if let Some(told) = told
            && at >= boundary
        {
            self.next = Some(told);
        }
        if left.len() <= MAX_PENDING_BYTES {
            self.pending = left.to_vec();
        }
    }
}

/// Tells of another configuration than before; `None` if it is none.
fn configured(
    known: &mut Vec<u8>,
    pid: u16,
    config: &[u8],
    events: &mut Vec<TsEvent>,
) -> Option<AacConfig> {
    let audio = AacConfig::parse(config)?;
    if known != config {
        config.clone_into(known);
        events.push(TsEvent::AacConfig(pid, config.to_vec()));
    }
    Some(audio)
}

fn sound(pid: u16, time: i64, data: &[u8]) -> TsEvent {
    TsEvent::Unit(TsUnit {
        pid,
        pts: time,
        dts: time,
        keyframe: true,
        data: data.to_vec(),
    })
}

fn adts(
    framed: &mut Framed,
    pid: u16,
    payload: &[u8],
    pts: Option<i64>,
    events: &mut Vec<TsEvent>,
) {
    let length = |bytes: &[u8]| {
        // All of a header, or it is not known yet.
        bytes.first_chunk::<7>()?;
        Some(AdtsFrame::parse(bytes).map_or(0, |frame| frame.frame_bytes))
    };
    let mut known = std::mem::take(&mut framed.config);
    framed.frames(payload, pts, length, |frame, time| {
        let Some(header) = AdtsFrame::parse(frame) else {
            return 0;
        };
        match configured(&mut known, pid, &header.config, events) {
            Some(audio) => {
                events.push(sound(pid, time, &frame[header.header_bytes..]));
                i64::from(audio.frame_ticks(CLOCK_HZ))
            }
            None => 0,
        }
    });
    framed.config = known;
}

fn loas(
    framed: &mut Framed,
    latm: &mut LatmDepacketizer,
    pid: u16,
    payload: &[u8],
    pts: Option<i64>,
    events: &mut Vec<TsEvent>,
) {
    // AudioSyncStream (ISO/IEC 14496-3 1.7.2): eleven bits of sync, thirteen of length.
    let length = |bytes: &[u8]| {
        let &[first, second, third] = bytes.first_chunk()?;
        let is_sync = first == 0x56 && second & 0xe0 == 0xe0;
        let length = usize::from(second & 0x1f) << 8 | usize::from(third);
        Some(if is_sync { 3 + length } else { 0 })
    };
    let mut known = std::mem::take(&mut framed.config);
    framed.frames(payload, pts, length, |frame, time| {
        let mut frames = Vec::new();
        // One that is damaged is left out; the next ones tell their own length.
        let read = latm.element(&frame[3..], |_, bytes| frames.push(bytes.to_vec()));
        let (Ok(()), Some(config)) = (read, latm.config()) else {
            return 0;
        };
        let Some(audio) = configured(&mut known, pid, &config.config, events) else {
            return 0;
        };
        let ticks = i64::from(audio.frame_ticks(CLOCK_HZ));
        let mut at = time;
        for bytes in frames {
            events.push(sound(pid, at, &bytes));
            at += ticks;
        }
        at - time
    });
    framed.config = known;
}

/// Packets of Opus, each after a control header (ETSI TS 103 491 annex, as ffmpeg writes it).
fn opus(
    next: &mut Option<i64>,
    pid: u16,
    payload: &[u8],
    pts: Option<i64>,
    events: &mut Vec<TsEvent>,
) {
    let Some(mut time) = pts.or(*next) else {
        return;
    };
    let mut rest = payload;
    while let Some((packet, after)) = opus_packet(rest) {
        if !packet.is_empty() {
            events.push(sound(pid, time, packet));
            time += opus_ticks(packet);
        }
        rest = after;
    }
    *next = Some(time);
}

fn opus_packet(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, second], mut rest) = bytes.split_first_chunk()?;
    (first == 0x7f && second & 0xe0 == 0xe0).then_some(())?;
    let mut length = 0;
    loop {
        let (&more, after) = rest.split_first()?;
        length += usize::from(more);
        rest = after;
        if more != 255 {
            break;
        }
    }
    let trims = usize::from(second >> 4 & 1) + usize::from(second >> 3 & 1);
    rest = rest.get(2 * trims..)?;
    if second & 4 != 0 {
        let (&extension, after) = rest.split_first()?;
        rest = after.get(usize::from(extension)..)?;
    }
    rest.split_at_checked(length)
}

/// How long a packet lasts (RFC 6716 3.1), in ticks.
fn opus_ticks(packet: &[u8]) -> i64 {
    let Some(&toc) = packet.first() else {
        return OPUS_TICKS;
    };
    let config = toc >> 3;
    // Quarters of a millisecond of one frame.
    let frame = match config {
        0..=11 => [40, 80, 160, 240][usize::from(config & 3)],
        12..=15 => [40, 80][usize::from(config & 1)],
        _ => [10, 20, 40, 80][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| i64::from(count & 0x3f)),
    };
    frames * frame * i64::from(CLOCK_HZ) / 4000
}
