//! What a stream costs that comes by RTMP: a second of it (30 pictures of H.264 at 2.5 Mbit/s, and sound)
//! out of chunks and tags, into RTP payloads, the sound as it is or from AAC into Opus. The time is
//! CPU time of one thread: 10 ms are a hundredth of a core for a stream.
//!
//! The sound is made by ffmpeg, which must be there: silence would cost nothing.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::process::Command;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use fanmill_control::media::audio::{AudioOptions, SoundFormat, Transcoder};
use fanmill_control::media::packetize::{Format, Packetizer, Payloads};
use fanmill_control::rtmp::chunk::{ChunkReader, ChunkWriter, Message, kind};
use fanmill_control::rtmp::flv::{self, AudioTag, VideoCodec, VideoTag};

const PICTURES: u32 = 30;
const PICTURE_BYTES: usize = 2_500_000 / 8 / PICTURES as usize;

/// AAC-LC, stereo.
const AAC_44_100: [u8; 2] = [0x12, 0x10];

/// A second of music-like sound: AAC packets without headers.
fn aac() -> Vec<Vec<u8>> {
    let source =
        "anoisesrc=color=pink:duration=1:sample_rate=44100[a];sine=440:duration=1[b];[a][b]amix";
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-filter_complex", source, "-ac", "2"])
        .args(["-c:a", "aac", "-b:a", "128k", "-f", "adts", "-"])
        .output()
        .expect("ffmpeg is installed");
    let mut rest = &output.stdout[..];
    let mut packets = Vec::new();
    // The header of each has its length (ISO/IEC 13818-7 6.2).
    while rest.len() > 7 {
        let len =
            usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        packets.push(rest[7..len].to_vec());
        rest = &rest[len..];
    }
    packets
}

/// A second of a stream in chunks.
fn second(sound: &[Vec<u8>], is_opus: bool) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut writer = ChunkWriter::default();
    let mut write = |chunk_stream, kind, timestamp, payload| {
        let message = Message {
            kind,
            stream_id: 1,
            timestamp,
            payload,
        };
        writer.write(chunk_stream, &message, &mut bytes);
    };
    let size = 4096_u32.to_be_bytes().to_vec().into();
    write(2, kind::SET_CHUNK_SIZE, 0, size);
    for picture in 0..PICTURES {
        let mut unit = ((PICTURE_BYTES - 4) as u32).to_be_bytes().to_vec();
        unit.resize(PICTURE_BYTES, 0x41);
        let tag = flv::write_video(VideoCodec::H264, picture == 0, &unit);
        write(6, kind::VIDEO, picture * 1000 / PICTURES, tag);
    }
    for (index, packet) in sound.iter().enumerate() {
        let tag = match is_opus {
            true => flv::write_opus(packet),
            false => [&[0xaf, 1], &packet[..]].concat().into(),
        };
        write(4, kind::AUDIO, index as u32 * 20, tag);
    }
    bytes
}

/// What is done for each stream.
struct Stream {
    video: Packetizer,
    audio: Packetizer,
    transcoder: Transcoder,
    payloads: Payloads,
    time_us: i64,
}

impl Stream {
    fn new() -> Self {
        let format = Format::H264 {
            length_bytes: 4,
            parameter_sets: Vec::new(),
        };
        let sound = SoundFormat::Aac {
            config: AAC_44_100.to_vec(),
        };
        Self {
            video: Packetizer::new(format, 0),
            audio: Packetizer::new(Format::Opus, 0),
            transcoder: Transcoder::new(&sound, AudioOptions::default()).expect("AAC-LC"),
            payloads: Payloads::default(),
            time_us: 0,
        }
    }

    fn take(&mut self, bytes: &BytesMut) -> usize {
        let (mut input, mut reader) = (bytes.clone(), ChunkReader::default());
        let mut made = 0;
        while let Some(message) = reader.next(&mut input).expect("chunks") {
            match message.kind {
                kind::VIDEO => {
                    let tag = flv::video(message.payload).expect("a tag");
                    if let VideoTag::Frame {
                        is_keyframe, data, ..
                    } = tag
                    {
                        let done = self.video.packetize(&data, is_keyframe, &mut self.payloads);
                        done.expect("a picture");
                        made += self.payloads.len();
                    }
                }
                kind::AUDIO => made += self.sound(flv::audio(message.payload).expect("a tag")),
                _ => {}
            }
        }
        made
    }

    fn sound(&mut self, tag: AudioTag) -> usize {
        let AudioTag::Frame(codec, data) = tag else {
            return 0;
        };
        if codec == flv::AudioCodec::Opus {
            let done = self.audio.packetize(&data, true, &mut self.payloads);
            done.expect("a packet");
            return self.payloads.len();
        }
        let mut made = 0;
        let packetizer = &mut self.audio;
        let payloads = &mut self.payloads;
        let done = self.transcoder.push(self.time_us, &data, |_, opus| {
            packetizer
                .packetize(opus, true, payloads)
                .expect("a packet");
            made += payloads.len();
        });
        done.expect("libopus works");
        self.time_us += 1024 * 1_000_000 / 44_100;
        made
    }
}

fn ingest(criterion: &mut Criterion) {
    let opus = vec![vec![0xfc; 240]; 50];
    let mut group = criterion.benchmark_group("a second of an RTMP stream");
    for (name, bytes) in [
        ("H.264 and Opus", second(&opus, true)),
        ("H.264 and AAC to Opus", second(&aac(), false)),
    ] {
        let mut stream = Stream::new();
        group.bench_function(name, |bencher| bencher.iter(|| stream.take(&bytes)));
    }
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
