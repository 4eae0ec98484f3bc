//! RTSP messages on a TCP connection: requests, answers and interleaved packets (RFC 2326 10.12) out
//! of a stream of bytes, within bounds.
//!
//! Both sides of a connection use it, the server's and that of a pull. It knows no socket: the caller
//! puts what it read into [`Framer::buffer`] and takes messages until there is none. `rtsp-types`
//! reads a message once it is complete, so that bytes which come one by one are not parsed again and
//! again.

use bytes::{Buf, Bytes, BytesMut};
use rtsp_types::headers::{CSEQ, HeaderName, SERVER};
use rtsp_types::{
    Message as Parsed, ParseError, Request, Response, ResponseBuilder, StatusCode, Version,
};

use super::limits::{MAX_BODY_BYTES, MAX_HEAD_BYTES};

/// What `Server` and `User-Agent` say.
pub const PRODUCT: &str = concat!("Fanmill/", env!("CARGO_PKG_VERSION"));

/// The mark of an interleaved packet.
const DOLLAR: u8 = b'$';

/// The mark, the channel and the length.
const INTERLEAVED_HEADER_BYTES: usize = 4;

/// What came on a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A request.
    Request(Request<Vec<u8>>),
    /// An answer.
    Response(Response<Vec<u8>>),
    /// An RTP or RTCP packet of a channel.
    Packet(u8, Bytes),
}

/// Why a connection cannot be read any further. All are fatal to it: where the next message begins
/// is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not RTSP.
    #[error("what came is no RTSP message; speak RTSP 1.0 on this port")]
    Malformed,
    /// The head does not end.
    #[error(
        "the head of an RTSP message is longer than {MAX_HEAD_BYTES} bytes; send a shorter one"
    )]
    HeadTooLong,
    /// The body is too long.
    #[error(
        "the body of an RTSP message is longer than {MAX_BODY_BYTES} bytes; send a shorter one"
    )]
    BodyTooLong,
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// No head ends before this place.
    scanned: usize,
    /// Bytes that the message at hand has, once its head is there.
    needed: Option<usize>,
}

impl Framer {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where what is read goes, at the end.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a message has begun that is not complete.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next message, if it is complete.
    ///
    /// # Errors
    /// [`MessageError`]: close the connection.
    pub fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        if self.scanned == 0 {
            // RFC 2326 4.1: empty lines before a message are ignored.
            let empty = self.buffer.iter().take_while(|b| b"\r\n".contains(b));
            let empty = empty.count();
            self.buffer.advance(empty);
        }
        match self.buffer.first() {
            None => Ok(None),
            Some(&DOLLAR) => Ok(self.next_packet()),
            Some(_) => self.next_text(),
        }
    }

    fn next_packet(&mut self) -> Option<Message> {
        let &[_, channel, high, low] = self.buffer.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if self.buffer.len() < INTERLEAVED_HEADER_BYTES + len {
            return None;
        }
        self.buffer.advance(INTERLEAVED_HEADER_BYTES);
        let packet = self.buffer.split_to(len).freeze();
        Some(Message::Packet(channel, packet))
    }

    fn next_text(&mut self) -> Result<Option<Message>, MessageError> {
        if self.needed.is_none() && !self.finds_head()? {
            return Ok(None);
        }
        if self.needed.is_some_and(|needed| self.buffer.len() < needed) {
            return Ok(None);
        }
        let (message, consumed) = match Parsed::<Vec<u8>>::parse(&self.buffer[..]) {
            Ok(parsed) => parsed,
            Err(ParseError::Incomplete(Some(missing))) if self.needed.is_none() => {
                if missing.get() > MAX_BODY_BYTES {
                    return Err(MessageError::BodyTooLong);
                }
                self.needed = Some(self.buffer.len() + missing.get());
                return Ok(None);
            }
            // The head is complete, and so is what it announced.
            Err(_) => return Err(MessageError::Malformed),
        };
        self.buffer.advance(consumed);
        self.scanned = 0;
        self.needed = None;
        match message {
            Parsed::Request(request) => Ok(Some(Message::Request(request))),
            Parsed::Response(response) => Ok(Some(Message::Response(response))),
            Parsed::Data(_) => Err(MessageError::Malformed),
        }
    }

    /// Whether the head of the message is complete.
    fn finds_head(&mut self) -> Result<bool, MessageError> {
        const END: &[u8] = b"\r\n\r\n";
        let from = self.scanned.saturating_sub(END.len() - 1);
        let ends = self.buffer[from..].windows(END.len());
        let found = ends.into_iter().position(|window| window == END);
        let head = from + found.map_or(self.buffer.len() - from, |at| at + END.len());
        if head > MAX_HEAD_BYTES {
            return Err(MessageError::HeadTooLong);
        }
        self.scanned = head;
        Ok(found.is_some())
    }
}

/// Begins the answer to a request; `None` if the request has no `CSeq`, without which nobody knows
/// what it answers.
pub fn answer(request: &Request<Vec<u8>>, status: StatusCode) -> Option<ResponseBuilder> {
    let cseq = request.header(&CSEQ)?.as_str().to_owned();
    let builder = Response::builder(Version::V1_0, status);
    Some(builder.header(CSEQ, cseq).header(SERVER, PRODUCT))
}

/// A header field of a request.
pub fn field<'a>(request: &'a Request<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    request.header(name).map(|value| value.as_str().trim())
}

/// Appends an interleaved packet.
///
/// A packet longer than its length field can say is left out: nothing that this program sends is.
pub fn put_packet(out: &mut Vec<u8>, channel: u8, packet: &[u8]) {
    let Ok(len) = u16::try_from(packet.len()) else {
        return;
    };
    out.extend_from_slice(&[DOLLAR, channel]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(packet);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;
    use rtsp_types::Method;

    use super::*;

    /// What comes out of bytes that arrive in pieces of this length.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, MessageError> {
        let mut framer = Framer::new();
        let mut all = Vec::new();
        for part in bytes.chunks(piece.max(1)) {
            framer.buffer().extend_from_slice(part);
            while let Some(message) = framer.next_message()? {
                all.push(message);
            }
        }
        Ok(all)
    }

    #[test]
    fn requests_packets_and_bodies_are_told_apart() {
        let mut bytes =
            b"\r\nANNOUNCE rtsp://h/s RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nv=0\r\n"
                .to_vec();
        put_packet(&mut bytes, 3, b"RTSP\r\n\r\n");
        bytes.extend_from_slice(b"TEARDOWN rtsp://h/s RTSP/1.0\r\nCSeq: 3\r\n\r\n");
        let all = read(&bytes, bytes.len()).unwrap();
        let [
            Message::Request(announce),
            packet,
            Message::Request(teardown),
        ] = &all[..]
        else {
            panic!("{all:?}");
        };
        assert_eq!(announce.body(), b"v=0\r\n");
        assert_eq!(
            packet,
            &Message::Packet(3, Bytes::from_static(b"RTSP\r\n\r\n"))
        );
        assert_eq!(teardown.method(), Method::Teardown);
    }

    #[test]
    fn a_head_without_end_and_a_body_without_bound_are_refused() {
        let endless = vec![b'A'; MAX_HEAD_BYTES + 1];
        assert_eq!(read(&endless, 100), Err(MessageError::HeadTooLong));
        for len in ["65537", "4294967296", "18446744073709551615"] {
            let huge = format!("ANNOUNCE rtsp://h/s RTSP/1.0\r\nContent-Length: {len}\r\n\r\n");
            assert_eq!(read(huge.as_bytes(), 7), Err(MessageError::BodyTooLong));
        }
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\r\n\r\n",
            " \r\n\r\n",
        ] {
            assert_eq!(read(other.as_bytes(), 7), Err(MessageError::Malformed));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), piece in 1..50usize,
        ) {
            let _ = read(&bytes, piece);
        }

        #[test]
        fn any_text_is_read_or_refused(
            text in "((OPTIONS|SETUP|RTSP/1.0 200|\\$)[ -~]{0,40}(\r\n|\n| RTSP/1.0\r\n)\
                     ([A-Za-z-]{0,12}: ?[ -~]{0,20}\r\n){0,4}\r\n){0,4}",
            piece in 1..50usize,
        ) {
            let _ = read(text.as_bytes(), piece);
        }

        /// How bytes are cut on the way changes nothing.
        #[test]
        fn pieces_of_any_length_give_the_same_messages(
            packets in proptest::collection::vec(
                (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..6),
            body in "[a-z=\r\n]{0,60}",
            piece in 1..40usize,
        ) {
            let mut bytes = Vec::new();
            for (channel, packet) in &packets {
                put_packet(&mut bytes, *channel, packet);
                let head = "SET_PARAMETER rtsp://h/s RTSP/1.0\r\nCSeq: 1\r\n";
                let len = body.len();
                bytes.extend(format!("{head}Content-Length: {len}\r\n\r\n{body}").bytes());
            }
            let whole = read(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(whole.len(), 2 * packets.len());
            prop_assert_eq!(read(&bytes, piece).unwrap(), whole);
        }
    }
}
