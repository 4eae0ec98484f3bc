//! Fuzz target: whatever a client sends over RTMP, and whatever is in its messages, is understood or
//! refused, and nothing panics. Runs for a moment as a test, and under `cargo bolero test` for as long
//! as one likes.

use bytes::Bytes;
use fanmill_control::media::configuration;
use fanmill_control::rtmp::session::{Event, ServerSession};
use fanmill_control::rtmp::{amf0, flv};

/// The bytes of a client up to `connect`, in one chunk.
fn opening() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * 1536, 0);
    let command = amf0::encode(&[
        amf0::Value::text("connect"),
        amf0::Value::Number(1.0),
        amf0::Value::object([("app", amf0::Value::text("live"))]),
    ]);
    bytes.extend([3, 0, 0, 0, 0, 0, command.len() as u8, 20, 0, 0, 0, 0]);
    bytes.extend(command);
    bytes
}

fn converse(bytes: &[u8]) {
    let mut session = ServerSession::new();
    for part in bytes.chunks(1000) {
        session.link().receive(part);
        loop {
            match session.next_event() {
                Ok(Some(Event::Publish(wish))) => session.published(&wish),
                Ok(Some(Event::Play(wish))) => session.refuse(wish.stream_id, "code", "no"),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        session.link().take_output();
    }
}

#[test]
fn no_bytes_are_worse_than_a_refusal() {
    let opening = opening();
    bolero::check!().for_each(|input: &[u8]| {
        converse(input);
        // Random bytes hardly ever are a handshake.
        converse(&[&opening[..], input].concat());
        // Nor a command in a chunk.
        let header = [0x44, 0, 0, 0, 0, 0, input.len().min(120) as u8, 20];
        let chunk = [
            &[3, 0, 0, 0, 0, 0, 0, 20, 1, 0, 0, 0][..],
            &header,
            &input[..input.len().min(120)],
        ];
        converse(&[&opening[..], &chunk.concat()].concat());
        let bytes = Bytes::copy_from_slice(input);
        let _ = (
            amf0::decode(input),
            flv::video(bytes.clone()),
            flv::audio(bytes),
        );
        let _ = (configuration::h264(input), configuration::h265(input));
        let _ = (configuration::av1(input), configuration::vp9(input));
    });
}
