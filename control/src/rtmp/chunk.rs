//! The chunk stream (RTMP specification 5.3): messages cut into chunks that interleave, and headers
//! that leave out what is as before. Bytes in, messages out, and back; no sockets.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};

/// Largest message: a keyframe of 4K takes a quarter.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// All messages of a connection that are incomplete, together.
pub const MAX_PARTIAL_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// Chunk streams of a connection; encoders use six.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// Before the peer says otherwise (5.4.1).
const DEFAULT_CHUNK_BYTES: usize = 128;

/// A header of 3 bytes cannot hold a later time.
const EXTENDED: u32 = 0xff_ffff;

/// Message types (RTMP specification 5.4, 6, 7.1).
pub mod kind {
    /// Chunks are so long from now on.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// The rest of a message does not come.
    pub const ABORT: u8 = 2;
    /// So many bytes came.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// Stream begin, ping.
    pub const USER_CONTROL: u8 = 4;
    /// Acknowledge after so many bytes.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    /// Send no more than so many bytes unacknowledged.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Sound.
    pub const AUDIO: u8 = 8;
    /// Pictures.
    pub const VIDEO: u8 = 9;
    /// Metadata in AMF3, which is AMF0 after a byte.
    pub const DATA_AMF3: u8 = 15;
    /// A command likewise.
    pub const COMMAND_AMF3: u8 = 17;
    /// Metadata.
    pub const DATA: u8 = 18;
    /// A command.
    pub const COMMAND: u8 = 20;
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, see [`kind`].
    pub kind: u8,
    /// The message stream it belongs to.
    pub stream_id: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Its content.
    pub payload: Bytes,
}

/// What no honest peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// A message is too long.
    #[error("a message of {0} bytes; the most is {MAX_MESSAGE_BYTES}")]
    MessageTooLong(usize),
    /// Too much of incomplete messages.
    #[error("incomplete messages hold over {MAX_PARTIAL_BYTES} bytes")]
    TooMuchPartial,
    /// Too many chunk streams.
    #[error("over {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    /// A header refers to one that was never sent.
    #[error("a chunk header refers to one before it that is not there")]
    NothingBefore,
    /// A chunk size of 0, or with the highest bit set.
    #[error("{0} is no chunk size")]
    ChunkSize(u32),
}

#[derive(Debug, Default)]
struct Incoming {
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    stream_id: u32,
    /// The last header had the extended timestamp, this one.
    extended: Option<u32>,
    partial: BytesMut,
    /// A message is incomplete, though perhaps of no bytes yet.
    is_open: bool,
}

/// Makes messages of chunks.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_bytes: usize,
    streams: HashMap<u32, Incoming>,
    partial_bytes: usize,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self {
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            streams: HashMap::new(),
            partial_bytes: 0,
        }
    }
}

/// A parsed header: chunk stream, format, fields, and how long it is.
struct Header {
    id: u32,
    format: u8,
    /// Timestamp, length, type, stream id, as far as the format has them.
    fields: [u8; 11],
    extended: Option<u32>,
    bytes: usize,
}

impl ChunkReader {
    /// Takes the next complete message off the front of `input`; `None`: more bytes are needed.
    /// Changes of the chunk size and aborted messages are seen to here, and given out too.
    ///
    /// # Errors
    /// [`ChunkError`]: nothing after it can be understood.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            let Some(header) = self.header(input)? else {
                return Ok(None);
            };
            let of = self.streams.get(&header.id);
            let continues = of.is_some_and(|of| of.is_open);
            let (length, had) = match of {
                Some(of) if continues && header.format == 3 => (of.length, of.partial.len()),
                Some(of) if header.format >= 2 => (of.length, 0),
                _ => (length_of(&header.fields), 0),
            };
            if length > MAX_MESSAGE_BYTES {
                return Err(ChunkError::MessageTooLong(length));
            }
            let bytes = (length - had).min(self.chunk_bytes);
            if input.len() < header.bytes + bytes {
                return Ok(None);
            }
            input.advance(header.bytes);
            if let Some(message) = self.take(&header, &mut input.split_to(bytes))? {
                self.obey(&message)?;
                return Ok(Some(message));
            }
        }
    }

    /// Reads a header without taking it.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, ChunkError> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let (id, mut at) = match (first & 0x3f, input.get(1), input.get(2)) {
            (0, Some(&low), _) => (64 + u32::from(low), 2),
            (1, Some(&low), Some(&high)) => (64 + u32::from(low) + 256 * u32::from(high), 3),
            (0 | 1, _, _) => return Ok(None),
            (id, _, _) => (u32::from(id), 1),
        };
        let format = first >> 6;
        let len = [11, 7, 3, 0][usize::from(format)];
        let mut fields = [0; 11];
        let Some(given) = input.get(at..at + len) else {
            return Ok(None);
        };
        fields[..len].copy_from_slice(given);
        at += len;
        let before = self.streams.get(&id);
        if before.is_none() {
            if format != 0 {
                return Err(ChunkError::NothingBefore);
            }
            if self.streams.len() >= MAX_CHUNK_STREAMS {
                return Err(ChunkError::TooManyStreams);
            }
        }
        let next = input.get(at..at + 4).map(|bytes| {
            let mut four = [0; 4];
            four.copy_from_slice(bytes);
            u32::from_be_bytes(four)
        });
        let extended = match (format, before.and_then(|before| before.extended)) {
            // Not all writers repeat it (5.3.1.3).
            (3, Some(before)) => match next {
                None => return Ok(None),
                Some(next) => (next == before).then_some(before),
            },
            (3, None) => None,
            _ if u24(&fields) == EXTENDED => match next {
                None => return Ok(None),
                extended => extended,
            },
            _ => None,
        };
        Ok(Some(Header {
            id,
            format,
            fields,
            extended,
            bytes: at + 4 * usize::from(extended.is_some()),
        }))
    }

    /// Takes a chunk.
    fn take(
        &mut self,
        header: &Header,
        content: &mut BytesMut,
    ) -> Result<Option<Message>, ChunkError> {
        let of = self.streams.entry(header.id).or_default();
        let begins = header.format != 3 || !of.is_open;
        if begins {
            // A new header where more of a message should come: that one is given up.
            self.partial_bytes -= of.partial.len();
            of.partial.clear();
            of.begin(header);
        }
        self.partial_bytes += content.len();
        if self.partial_bytes > MAX_PARTIAL_BYTES {
            return Err(ChunkError::TooMuchPartial);
        }
        if of.partial.is_empty() {
            // No copy of what comes in one chunk.
            of.partial = content.split();
        } else {
            of.partial.extend_from_slice(content);
        }
        if of.partial.len() < of.length {
            return Ok(None);
        }
        of.is_open = false;
        self.partial_bytes -= of.partial.len();
        Ok(Some(Message {
            kind: of.kind,
            stream_id: of.stream_id,
            timestamp: of.timestamp,
            payload: std::mem::take(&mut of.partial).freeze(),
        }))
    }

    /// Does what concerns the chunks themselves.
    fn obey(&mut self, message: &Message) -> Result<(), ChunkError> {
        let Some(number) = number(&message.payload) else {
            return Ok(());
        };
        match message.kind {
            kind::SET_CHUNK_SIZE if number == 0 || number >> 31 != 0 => {
                return Err(ChunkError::ChunkSize(number));
            }
            kind::SET_CHUNK_SIZE => self.chunk_bytes = number as usize,
            kind::ABORT => {
                if let Some(of) = self.streams.get_mut(&number) {
                    self.partial_bytes -= of.partial.len();
                    of.partial.clear();
                    of.is_open = false;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Incoming {
    fn begin(&mut self, header: &Header) {
        let fields = &header.fields;
        let time = header.extended.unwrap_or_else(|| u24(fields));
        match header.format {
            0 => {
                self.timestamp = time;
                self.delta = 0;
                let id: [u8; 4] = fields[7..].try_into().unwrap_or_default();
                self.stream_id = u32::from_le_bytes(id);
            }
            1 | 2 => {
                self.delta = time;
                self.timestamp = self.timestamp.wrapping_add(time);
            }
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        if header.format < 2 {
            self.length = length_of(fields);
            self.kind = fields[6];
        }
        if header.format < 3 {
            self.extended = header.extended;
        }
        self.is_open = true;
    }
}

fn u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

fn length_of(fields: &[u8; 11]) -> usize {
    u24(&fields[3..]) as usize
}

/// The number that a message of four bytes is.
#[must_use]
pub fn number(payload: &[u8]) -> Option<u32> {
    let four = payload.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// Cuts messages into chunks. Each begins with a full header: what that costs is nothing beside a
/// picture, and every reader understands it.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_bytes: usize,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self {
            chunk_bytes: DEFAULT_CHUNK_BYTES,
        }
    }
}

impl ChunkWriter {
    /// Adds a message to `to`, on a chunk stream of 2 to 63.
    pub fn write(&mut self, chunk_stream: u8, message: &Message, to: &mut BytesMut) {
        let length = message.payload.len().min(EXTENDED as usize);
        let is_extended = message.timestamp >= EXTENDED;
        let time = if is_extended {
            EXTENDED
        } else {
            message.timestamp
        };
        to.reserve(length + length / self.chunk_bytes * 5 + 16);
        to.extend_from_slice(&[chunk_stream & 0x3f]);
        to.extend_from_slice(&time.to_be_bytes()[1..]);
        to.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        to.extend_from_slice(&[message.kind]);
        to.extend_from_slice(&message.stream_id.to_le_bytes());
        let mut chunks = message.payload[..length].chunks(self.chunk_bytes);
        let extended = message.timestamp.to_be_bytes();
        if is_extended {
            to.extend_from_slice(&extended);
        }
        to.extend_from_slice(chunks.next().unwrap_or_default());
        for chunk in chunks {
            to.extend_from_slice(&[0xc0 | chunk_stream & 0x3f]);
            if is_extended {
                to.extend_from_slice(&extended);
            }
            to.extend_from_slice(chunk);
        }
        if message.kind == kind::SET_CHUNK_SIZE
            && let Some(size) = number(&message.payload)
        {
            self.chunk_bytes = (size as usize).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = (u8, Message)> {
        let payload = proptest::collection::vec(any::<u8>(), 0..2000);
        let time = prop_oneof![any::<u32>(), 0xff_fff0_u32..0x100_0010];
        (2..64_u8, 8..10_u8, any::<u32>(), time, payload).prop_map(
            |(chunk_stream, kind, stream_id, timestamp, payload)| {
                let payload = payload.into();
                let message = Message {
                    kind,
                    stream_id,
                    timestamp,
                    payload,
                };
                (chunk_stream, message)
            },
        )
    }

    fn read_all(reader: &mut ChunkReader, input: &mut BytesMut) -> Vec<Message> {
        std::iter::from_fn(|| reader.next(input).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            messages in proptest::collection::vec(message(), 1..8),
            size in 1..5000_u32,
            cut in 1..700_usize,
        ) {
            let mut writer = ChunkWriter::default();
            let mut bytes = BytesMut::new();
            let set = Message {
                kind: kind::SET_CHUNK_SIZE,
                stream_id: 0,
                timestamp: 0,
                payload: size.to_be_bytes().to_vec().into(),
            };
            writer.write(2, &set, &mut bytes);
            for (chunk_stream, message) in &messages {
                writer.write(*chunk_stream, message, &mut bytes);
            }
            let (mut reader, mut input) = (ChunkReader::default(), BytesMut::new());
            let mut read = Vec::new();
            for part in bytes.chunks(cut) {
                input.extend_from_slice(part);
                read.extend(read_all(&mut reader, &mut input));
            }
            let sent: Vec<Message> = messages.into_iter().map(|(_, message)| message).collect();
            prop_assert_eq!(&read[1..], &sent[..]);
            prop_assert_eq!(reader.partial_bytes, 0);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut input = BytesMut::from(&bytes[..]);
            let mut reader = ChunkReader::default();
            while let Ok(Some(_)) = reader.next(&mut input) {}
            prop_assert!(reader.partial_bytes <= MAX_PARTIAL_BYTES);
        }
    }

    #[test]
    fn headers_leave_out_what_is_as_before() {
        let mut input = BytesMut::new();
        // Format 0: time 1000, 2 bytes, audio, stream 1.
        input.extend_from_slice(&[4, 0, 3, 0xe8, 0, 0, 2, 8, 1, 0, 0, 0, 0xa, 0xb]);
        // Format 1: 20 later, 1 byte, video.
        input.extend_from_slice(&[0x44, 0, 0, 20, 0, 0, 1, 9, 0xc]);
        // Format 2: 30 later. Format 3: the same again.
        input.extend_from_slice(&[0x84, 0, 0, 30, 0xd, 0xc4, 0xe]);
        let read = read_all(&mut ChunkReader::default(), &mut input);
        let seen: Vec<_> = read
            .iter()
            .map(|message| {
                (
                    message.kind,
                    message.timestamp,
                    message.stream_id,
                    &message.payload[..],
                )
            })
            .collect();
        let expected: [(u8, u32, u32, &[u8]); 4] = [
            (8, 1000, 1, &[0xa, 0xb]),
            (9, 1020, 1, &[0xc]),
            (9, 1050, 1, &[0xd]),
            (9, 1080, 1, &[0xe]),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_a_peer_can_hold_has_bounds() {
        let mut reader = ChunkReader::default();
        let mut input = BytesMut::from(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0, 0][..]);
        let error = reader.next(&mut input).unwrap_err();
        assert!(matches!(error, ChunkError::MessageTooLong(_)));

        // The beginnings of long messages on many chunk streams.
        let mut reader = ChunkReader::default();
        let mut input = BytesMut::from(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0x10, 0, 0][..]);
        for id in 3..63 {
            input.extend_from_slice(&[id, 0, 0, 0, 0x70, 0, 0, 9, 1, 0, 0, 0]);
            input.extend_from_slice(&vec![0; 0x10_0000]);
        }
        let error = loop {
            match reader.next(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("all were taken"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, ChunkError::TooMuchPartial);

        let mut reader = ChunkReader::default();
        let mut input = BytesMut::new();
        for id in 0..70 {
            input.extend_from_slice(&[0, id, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0]);
        }
        let error = loop {
            match reader.next(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("all were taken"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, ChunkError::TooManyStreams);
        let mut input = BytesMut::from(&[0x43, 0, 0, 0, 0, 0, 1, 9][..]);
        let error = ChunkReader::default().next(&mut input).unwrap_err();
        assert_eq!(error, ChunkError::NothingBefore);
    }
}
