//! Fuzz target: whatever the bytes, reading them as an MPEG transport stream ends, does not panic and
//! holds little. Runs for a moment as a test, and under `cargo bolero test` for as long as one likes.

use fanmill_control::media::depacketize::{
    LatmConfig, LatmDepacketizer, Mpeg4Depacketizer, Mpeg4Layout,
};
use fanmill_control::media::ts::{Demuxer, PACKET_BYTES, TsEvent};

#[test]
fn no_bytes_break_the_demultiplexer() {
    bolero::check!().for_each(|input: &[u8]| {
        demux(input);
        // The same bytes as the payloads of packets: random ones hardly ever begin like one.
        let mut packets = Vec::new();
        for (index, payload) in input.chunks(PACKET_BYTES - 4).enumerate() {
            packets.extend_from_slice(&[0x47, 0x40, 0, 0x10 | (index & 15) as u8]);
            packets.extend_from_slice(payload);
            packets.resize((index + 1) * PACKET_BYTES, 0xff);
        }
        demux(&packets);
    });
}

fn demux(bytes: &[u8]) {
    let mut demuxer = Demuxer::new();
    let mut events = Vec::new();
    for datagram in bytes.chunks(7 * PACKET_BYTES) {
        demuxer.push(datagram, &mut events);
    }
    demuxer.gap();
    demuxer.flush(&mut events);
    let sizes = events.iter().map(|event| match event {
        TsEvent::Unit(unit) => unit.data.len(),
        _ => 0,
    });
    // Each byte is given once, but for parameter sets that are repeated before keyframes.
    assert!(sizes.sum::<usize>() <= bytes.len() * bytes.len() + bytes.len());
}

#[test]
fn no_bytes_break_the_depacketizers_of_aac() {
    bolero::check!().for_each(|input: &[u8]| {
        let (&first, rest) = input.split_first().unwrap_or((&0, &[]));
        let layout = Mpeg4Layout {
            size_bits: u32::from(first & 0x1f),
            index_bits: 3,
            index_delta_bits: 3,
            frame_ticks: 1024,
        };
        let mut mpeg4 = Mpeg4Depacketizer::new(layout);
        let mut latm = LatmDepacketizer::in_band();
        let given = |bytes: &[u8]| assert!(!bytes.is_empty());
        for (index, payload) in rest.chunks(50).enumerate() {
            let timestamp = index as u32 / 3;
            let _ = mpeg4.push(payload, timestamp, |_, frame| given(frame));
            let marker = index % 3 == 2;
            let _ = latm.push(payload, (timestamp, marker), |_, frame| given(frame));
            if let Some(config) = LatmConfig::parse(payload) {
                assert!(config.audio.rate_hz > 0);
                let mut configured = LatmDepacketizer::configured(config);
                let _ = configured.element(rest, |_, frame| given(frame));
            }
        }
    });
}
