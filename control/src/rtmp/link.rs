//! One end of a connection without its socket: handshake, chunks, and what both ends do by
//! themselves (acknowledge, answer pings). Bytes in, messages out, and back.

use bytes::{Bytes, BytesMut};

use super::amf0::{self, Value};
use super::chunk::{ChunkError, ChunkReader, ChunkWriter, Message, kind, number};
use super::handshake::{Handshake, NoRtmp};

/// Bytes after which we want to hear that they came, and after which we say so if the peer does not
/// say otherwise.
const WINDOW_BYTES: u32 = 2_500_000;

/// Length of the chunks we send.
const CHUNK_BYTES: u32 = 4096;

/// Chunk streams for messages of a kind.
mod chunk_stream {
    pub(super) const CONTROL: u8 = 2;
    pub(super) const COMMAND: u8 = 3;
    pub(super) const AUDIO: u8 = 4;
    pub(super) const DATA: u8 = 5;
    pub(super) const VIDEO: u8 = 6;
}

/// User control events (7.1.7).
pub(super) const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer speaks something else.
    #[error(transparent)]
    NoRtmp(#[from] NoRtmp),
    /// Its chunks are not within bounds.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    handshake: Option<Handshake>,
    reader: ChunkReader,
    writer: ChunkWriter,
    input: BytesMut,
    output: BytesMut,
    received: u64,
    acknowledged: u64,
    window: u32,
}

impl Link {
    fn new(handshake: Handshake) -> Self {
        Self {
            handshake: Some(handshake),
            reader: ChunkReader::default(),
            writer: ChunkWriter::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }

    /// The end that was connected to.
    #[must_use]
    pub fn server() -> Self {
        Self::new(Handshake::server())
    }

    /// The end that connected.
    #[must_use]
    pub fn client() -> Self {
        let (handshake, opening) = Handshake::client();
        let mut link = Self::new(handshake);
        link.output.extend_from_slice(&opening);
        link
    }

    /// Takes bytes that came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.input.extend_from_slice(bytes);
    }

    /// Bytes that came so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the handshake is over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.handshake.is_none()
    }

    /// The next message that is not seen to here; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is of no more use.
    pub fn next_message(&mut self) -> Result<Option<Message>, LinkError> {
        if let Some(handshake) = &mut self.handshake {
            if !handshake.advance(&mut self.input, &mut self.output)? {
                return Ok(None);
            }
            self.handshake = None;
            self.control(kind::SET_CHUNK_SIZE, &CHUNK_BYTES.to_be_bytes());
        }
        while let Some(message) = self.reader.next(&mut self.input)? {
            if !self.sees_to(&message) {
                return Ok(Some(message));
            }
        }
        if self.received - self.acknowledged >= u64::from(self.window) {
            self.acknowledged = self.received;
            // Modulo 2^32, as everybody does.
            let bytes = (self.received as u32).to_be_bytes();
            self.control(kind::ACKNOWLEDGEMENT, &bytes);
        }
        Ok(None)
    }

    fn sees_to(&mut self, message: &Message) -> bool {
        match message.kind {
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                if let Some(window) = number(&message.payload) {
                    // A peer that wants to hear of each byte would have us do nothing else.
                    self.window = window.max(1 << 14);
                }
            }
            kind::USER_CONTROL => {
                if let [high, low, content @ ..] = &message.payload[..]
                    && u16::from_be_bytes([*high, *low]) == PING_REQUEST
                {
                    let content = content.first_chunk::<4>().copied().unwrap_or_default();
                    self.user_control(PING_RESPONSE, u32::from_be_bytes(content));
                }
            }
            kind::SET_CHUNK_SIZE
            | kind::ABORT
            | kind::ACKNOWLEDGEMENT
            | kind::SET_PEER_BANDWIDTH => {}
            _ => return false,
        }
        true
    }

    /// What is to be written to the socket.
    pub fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// Asks for acknowledgements, as a server does when a client has connected.
    pub(super) fn ask_for_acknowledgements(&mut self) {
        let window = WINDOW_BYTES.to_be_bytes();
        self.control(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &window);
        let mut limit = window.to_vec();
        // Dynamic.
        limit.push(2);
        self.control(kind::SET_PEER_BANDWIDTH, &limit);
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        let message = Message {
            kind,
            stream_id: 0,
            timestamp: 0,
            payload: Bytes::copy_from_slice(payload),
        };
        self.writer
            .write(chunk_stream::CONTROL, &message, &mut self.output);
    }

    pub(super) fn user_control(&mut self, event: u16, number: u32) {
        let payload = [&event.to_be_bytes()[..], &number.to_be_bytes()].concat();
        self.control(kind::USER_CONTROL, &payload);
    }

    /// Sends a command on a message stream.
    pub fn command(&mut self, stream_id: u32, values: &[Value]) {
        let message = Message {
            kind: kind::COMMAND,
            stream_id,
            timestamp: 0,
            payload: amf0::encode(values).into(),
        };
        self.writer
            .write(chunk_stream::COMMAND, &message, &mut self.output);
    }

    /// Sends metadata.
    pub fn data(&mut self, stream_id: u32, values: &[Value]) {
        let message = Message {
            kind: kind::DATA,
            stream_id,
            timestamp: 0,
            payload: amf0::encode(values).into(),
        };
        self.writer
            .write(chunk_stream::DATA, &message, &mut self.output);
    }

    /// Sends a tag of pictures or sound.
    pub fn media(&mut self, message: &Message) {
        let chunk_stream = match message.kind {
            kind::AUDIO => chunk_stream::AUDIO,
            _ => chunk_stream::VIDEO,
        };
        self.writer.write(chunk_stream, message, &mut self.output);
    }
}
