//! The record layer as far as it can be read without keys (RFC 6347 4.1).
//!
//! The guard walks every datagram with this and writes what it lets through with it. Must never
//! hand out a record whose body is not there.

use super::client_hello::DTLS_1_2;
use super::counters::DropReason;
use super::wire::Reader;

/// Bytes of a record header.
pub(super) const RECORD_HEADER_LEN: usize = 13;
/// Bytes of a handshake header.
pub(super) const HANDSHAKE_HEADER_LEN: usize = 12;

const DTLS_1_0: u16 = 0xfeff;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// One record, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
    /// 48 bits.
    pub(super) sequence: u64,
    pub(super) body: &'a [u8],
    /// Header and body.
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram. After an error there are no more: where the next record would start
/// is only known from a good header.
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn read(&self) -> Result<Record<'a>, DropReason> {
        let mut reader = Reader::new(self.rest);
        let content_type = reader.u8().ok_or(DropReason::TruncatedRecord)?;
        if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&content_type) {
            return Err(DropReason::UnknownContentType);
        }
        let version = reader.u16().ok_or(DropReason::TruncatedRecord)?;
        if version != DTLS_1_0 && version != DTLS_1_2 {
            return Err(DropReason::RecordVersion);
        }
        let mut fields = || {
            let epoch = reader.u16()?;
            let sequence = reader.u48()?;
            let body = reader.vec16().filter(|body| !body.is_empty())?;
            Some((epoch, sequence, body))
        };
        let (epoch, sequence, body) = fields().ok_or(DropReason::TruncatedRecord)?;
        let bytes = &self.rest[..RECORD_HEADER_LEN + body.len()];
        Ok(Record {
            content_type,
            epoch,
            sequence,
            body,
            bytes,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.read();
        self.rest = record
            .as_ref()
            .map_or(&[], |record| &self.rest[record.bytes.len()..]);
        Some(record)
    }
}

/// Appends a record header for `length` bytes of body. `number` is the epoch (16 bits) above the
/// sequence number (48 bits).
pub(super) fn write_header(out: &mut Vec<u8>, content_type: u8, number: u64, length: u16) {
    out.push(content_type);
    out.extend_from_slice(&DTLS_1_2.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
}

/// Appends an epoch-0 record holding one whole handshake message.
pub(super) fn write_handshake(
    out: &mut Vec<u8>,
    sequence: u64,
    message_type: u8,
    message_seq: u16,
    body: &[u8],
) {
    let length = u16::try_from(HANDSHAKE_HEADER_LEN + body.len())
        .expect("messages are bounded by MAX_MESSAGE_LEN");
    write_header(out, HANDSHAKE, sequence, length);
    let body_len = &u32::try_from(body.len())
        .expect("bounded above")
        .to_be_bytes()[1..];
    out.push(message_type);
    out.extend_from_slice(body_len);
    out.extend_from_slice(&message_seq.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0]);
    out.extend_from_slice(body_len);
    out.extend_from_slice(body);
}

/// A datagram holding one unprotected fatal alert.
pub(super) fn fatal_alert(description: u8) -> Vec<u8> {
    const FATAL: u8 = 2;
    let mut out = Vec::with_capacity(RECORD_HEADER_LEN + 2);
    write_header(&mut out, ALERT, 0, 2);
    out.extend_from_slice(&[FATAL, description]);
    out
}
