//! STUN Binding for ICE-lite (RFC 8489, RFC 8445 2.5): reading connectivity checks and answering
//! them.
//!
//! The shard calls [`is_stun`] to demultiplex, [`parse`] to learn whose check it is,
//! [`BindingRequest::verify`] with that transport's [`IntegrityKey`], and one of the `write`
//! functions to answer. Nothing here keeps state, touches a socket or allocates.
//!
//! This module must never act on an attribute outside what MESSAGE-INTEGRITY covers, nor trust any
//! length it reads.

mod integrity;
mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use integrity::IntegrityKey;
pub use parse::{BindingRequest, Class, IceRole, Message, UnknownAttributes, parse};
pub use write::{
    BindingError, MAX_BINDING_ERROR_LEN, MAX_BINDING_SUCCESS_LEN, write_binding_error,
    write_binding_success,
};

/// Length of the header every STUN message starts with, in bytes (RFC 8489 5).
pub const HEADER_LEN: usize = 20;

/// Identifies a request and its response (RFC 8489 5).
pub type TransactionId = [u8; 12];

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// An HMAC-SHA1 (RFC 8489 14.5).
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;

/// Attribute types (RFC 8489 18.3, RFC 8445 20.1).
mod attribute {
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;
    /// Types from here on may be ignored by those who do not know them (RFC 8489 14).
    pub const COMPREHENSION_OPTIONAL: u16 = 0x8000;
}

/// Why a datagram was not a STUN message to act on, or an answer was not written.
///
/// None is fatal: drop the datagram and count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StunError {
    /// [`is_stun`] is false.
    #[error("not a STUN message; hand the datagram to another protocol or drop it")]
    NotStun,
    /// An attribute runs past the end of the message.
    #[error("STUN attribute {kind:#06x} runs past the end of the message; drop it")]
    TruncatedAttribute {
        /// The attribute's type.
        kind: u16,
    },
    /// An attribute does not have the length its type fixes.
    #[error("STUN attribute {kind:#06x} is {len} bytes long, which its type forbids; drop it")]
    BadAttributeLength {
        /// The attribute's type.
        kind: u16,
        /// Its length, in bytes.
        len: usize,
    },
    /// FINGERPRINT does not match the message.
    #[error("STUN fingerprint does not match; drop the message")]
    FingerprintMismatch,
    /// Something follows FINGERPRINT.
    #[error("STUN fingerprint is not the last attribute; drop the message")]
    FingerprintNotLast,
    /// A Binding request has no USERNAME that MESSAGE-INTEGRITY covers.
    #[error("STUN Binding request has no USERNAME; drop it")]
    MissingUsername,
    /// USERNAME is not two fragments with a colon between them.
    #[error("STUN USERNAME is not \"ufrag:ufrag\"; drop the request")]
    MalformedUsername,
    /// A Binding request has no MESSAGE-INTEGRITY.
    #[error("STUN Binding request has no MESSAGE-INTEGRITY; drop it")]
    MissingIntegrity,
    /// The answer does not fit the buffer.
    #[error("output buffer is {len} bytes, {needed} are needed; pass a larger buffer")]
    BufferTooSmall {
        /// Length of the output buffer, in bytes.
        len: usize,
        /// Length that would have been enough, in bytes.
        needed: usize,
    },
}

/// Whether a datagram is a STUN message, judged by its header alone.
// RFC 7983 7: the first byte is 0..=3. RFC 8489 5: magic cookie, and a length that is a multiple
// of 4; a datagram holds exactly one message.
pub fn is_stun(payload: &[u8]) -> bool {
    let Some((header, attributes)) = payload.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    header[0] <= 3
        && header[4..8] == MAGIC_COOKIE
        && attributes.len().is_multiple_of(4)
        && usize::from(u16::from_be_bytes([header[2], header[3]])) == attributes.len()
}
