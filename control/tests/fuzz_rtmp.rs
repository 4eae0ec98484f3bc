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

/// A command on a message stream, in chunks of the length that connections begin with.
fn command(stream_id: u8, values: &[amf0::Value]) -> Vec<u8> {
    let command = amf0::encode(values);
    let len = (command.len() as u32).to_be_bytes();
    let mut bytes = vec![3, 0, 0, 0, len[1], len[2], len[3], 20, stream_id, 0, 0, 0];
    for (place, chunk) in command.chunks(128).enumerate() {
        if place > 0 {
            bytes.push(0xc3);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}

/// A wish to play or publish what is called so, behind `connect` and `createStream`.
fn wish(what: &str, name: &str) -> Vec<u8> {
    let (text, number) = (amf0::Value::text, amf0::Value::Number);
    let create = [text("createStream"), number(2.0), amf0::Value::Null];
    let wish = [text(what), number(3.0), amf0::Value::Null, text(name)];
    [opening(), command(0, &create), command(1, &wish)].concat()
}

fn converse(bytes: &[u8]) {
    let mut session = ServerSession::new();
    for part in bytes.chunks(1000) {
        session.link().receive(part);
        loop {
            match session.next_event() {
                Ok(Some(Event::Publish(wish))) => session.published(&wish),
                Ok(Some(Event::Play(wish))) if wish.query.is_empty() => {
                    session.played(&wish);
                    session.describe(wish.stream_id, wish.name.len() % 2 == 0);
                }
                Ok(Some(Event::Play(wish))) => session.refuse(wish.stream_id, "code", "no"),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        session.link().take_output();
    }
}

/// What is wished for is what was asked for, whatever it is called.
#[test]
fn a_name_comes_through_as_it_is() {
    bolero::check!().with_type::<String>().for_each(|name| {
        let (stream, query) = name.split_once('?').unwrap_or((name, ""));
        let bytes = wish("play", name);
        let mut session = ServerSession::new();
        session.link().receive(&bytes);
        match session.next_event() {
            Ok(Some(Event::Play(wish))) => {
                assert_eq!((&wish.name[..], &wish.query[..]), (stream, query));
            }
            other => panic!("{other:?}"),
        }
    });
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
        let name = String::from_utf8_lossy(input);
        for what in ["play", "publish"] {
            converse(&wish(what, &name));
        }
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
