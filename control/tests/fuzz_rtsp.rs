//! Fuzz target: whatever the bytes, and however they are cut on the way, reading them as RTSP ends,
//! and does not panic. Runs for a moment as a test, and under `cargo bolero test` for as long as one
//! likes.

use fanmill_control::rtsp::message::{Framer, Message};
use fanmill_control::rtsp::transport::{Granted, Wanted};

#[test]
fn no_bytes_are_worse_than_a_refusal() {
    bolero::check!().for_each(|input: &[u8]| {
        let piece = input.first().map_or(1, |first| usize::from(*first) + 1);
        read(input, piece);
        // Random bytes hardly ever begin with a request.
        let request = [
            b"SETUP rtsp://h/s RTSP/1.0\r\nTransport: ",
            input,
            b"\r\n\r\n",
        ];
        read(&request.concat(), piece);
        let text = String::from_utf8_lossy(input);
        let _ = (Wanted::parse(&text), Granted::parse(&text));
    });
}

fn read(bytes: &[u8], piece: usize) {
    let mut framer = Framer::new();
    for part in bytes.chunks(piece) {
        framer.buffer().extend_from_slice(part);
        loop {
            match framer.next_message() {
                Ok(Some(Message::Request(request))) => {
                    let _ = request.request_uri();
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
