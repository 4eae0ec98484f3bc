//! Puts handshake messages back together from their fragments (RFC 6347 4.2.3).
//!
//! The guard feeds it the fragments of unprotected handshake records and takes whole messages in
//! `message_seq` order. Memory is bounded by what really arrived and by the constants below; a
//! length field alone never allocates.

use std::collections::BTreeMap;

use super::counters::DropReason;
use super::wire::Reader;

/// The longest handshake message accepted, in bytes without its header.
///
/// With its headers it must fit the backend's read buffer of 8192 bytes. Real ones: ClientHello
/// with an ML-KEM share 1.5 KB, RSA-4096 certificate 1.5 KB.
pub(super) const MAX_MESSAGE_LEN: usize = 8000;
/// Highest `message_seq` ever used by a peer: a handshake has at most seven messages a side.
pub(super) const MAX_MESSAGE_SEQ: u16 = 15;
/// Messages kept ahead of the next one: the longest flight has five.
const WINDOW: u16 = 6;
/// Fragments kept of one message: GStreamer cuts at 256 bytes.
const MAX_FRAGMENTS: usize = 64;
/// Bytes kept of all incomplete messages.
const MAX_STORED_BYTES: usize = 16 * 1024;

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) message_type: u8,
    pub(super) message_seq: u16,
    /// Length of the whole message.
    pub(super) length: usize,
    pub(super) offset: usize,
    pub(super) data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads the next fragment of a handshake record's body.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DropReason> {
        let mut header = || {
            let (message_type, length, message_seq) = (reader.u8()?, reader.u24()?, reader.u16()?);
            let (offset, data) = (reader.u24()?, reader.vec24()?);
            Some(Self {
                message_type,
                message_seq,
                length,
                offset,
                data,
            })
        };
        let fragment = header().ok_or(DropReason::MalformedFragment)?;
        if fragment.length > MAX_MESSAGE_LEN
            || fragment.offset + fragment.data.len() > fragment.length
        {
            return Err(DropReason::MalformedFragment);
        }
        if fragment.data.is_empty() && fragment.length != 0 {
            return Err(DropReason::EmptyFragment);
        }
        Ok(fragment)
    }
}

/// A whole handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) message_type: u8,
    pub(super) message_seq: u16,
    pub(super) body: Vec<u8>,
}

/// What became of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// Kept.
    Stored,
    /// Kept, after earlier fragments that describe another message were given up.
    Replaced,
    /// Of a message that was taken before: the peer repeats its flight.
    Repeated,
    /// Not kept.
    Refused(DropReason),
}

#[derive(Debug)]
struct Partial {
    message_type: u8,
    length: usize,
    /// By offset. May overlap.
    fragments: BTreeMap<usize, Box<[u8]>>,
}

/// The incomplete messages of one handshake.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    next_seq: u16,
    partial: BTreeMap<u16, Partial>,
    stored_bytes: usize,
}

impl Reassembly {
    /// The `message_seq` of the message [`complete`](Self::complete) would yield next.
    pub(super) fn next_seq(&self) -> u16 {
        self.next_seq
    }

    /// Takes in one fragment.
    pub(super) fn push(&mut self, fragment: Fragment<'_>) -> Push {
        if fragment.message_seq < self.next_seq {
            return Push::Repeated;
        }
        let last = MAX_MESSAGE_SEQ.min(self.next_seq + WINDOW);
        if fragment.message_seq > last {
            return Push::Refused(DropReason::OutOfWindow);
        }
        let replaced = self
            .partial
            .get(&fragment.message_seq)
            .is_some_and(|partial| {
                (partial.message_type, partial.length) != (fragment.message_type, fragment.length)
            });
        if replaced {
            // One of the two was forged, and which is unknown. Starting over lets the true peer
            // win with its next repeat; keeping the first would let one forged datagram block it.
            self.forget(fragment.message_seq);
        }
        match self.store(fragment) {
            Push::Stored if replaced => Push::Replaced,
            other => other,
        }
    }

    fn store(&mut self, fragment: Fragment<'_>) -> Push {
        let room = MAX_STORED_BYTES - self.stored_bytes;
        let partial = self
            .partial
            .entry(fragment.message_seq)
            .or_insert_with(|| Partial {
                message_type: fragment.message_type,
                length: fragment.length,
                fragments: BTreeMap::new(),
            });
        let known = partial
            .fragments
            .get(&fragment.offset)
            .map(|data| data.len());
        if known.is_some_and(|len| len >= fragment.data.len()) {
            return Push::Refused(DropReason::Duplicate);
        }
        if fragment.data.len() > room || partial.fragments.len() >= MAX_FRAGMENTS {
            return Push::Refused(DropReason::OutOfWindow);
        }
        self.stored_bytes += fragment.data.len() - known.unwrap_or(0);
        partial
            .fragments
            .insert(fragment.offset, fragment.data.into());
        Push::Stored
    }

    /// Removes and returns the next message in order, if all of it is there. The order advances
    /// only with [`advance`](Self::advance), so that a refused message can be sent again.
    pub(super) fn complete(&mut self) -> Option<Message> {
        let partial = self.partial.get(&self.next_seq)?;
        let mut body = Vec::new();
        for (&offset, data) in &partial.fragments {
            let overlap = body.len().checked_sub(offset)?;
            if let Some(fresh) = data.get(overlap..) {
                body.extend_from_slice(fresh);
            }
        }
        if body.len() != partial.length {
            return None;
        }
        let message_type = partial.message_type;
        self.forget(self.next_seq);
        Some(Message {
            message_type,
            message_seq: self.next_seq,
            body,
        })
    }

    /// Moves on to the next `message_seq`.
    pub(super) fn advance(&mut self) {
        self.next_seq += 1;
    }

    fn forget(&mut self, message_seq: u16) {
        if let Some(partial) = self.partial.remove(&message_seq) {
            self.stored_bytes -= partial
                .fragments
                .values()
                .map(|data| data.len())
                .sum::<usize>();
        }
    }
}

#[cfg(test)]
mod tests;
