//! Answers to Binding requests, written into the caller's buffer.

use super::integrity::fingerprint;
use super::{
    ATTRIBUTE_HEADER_LEN, FINGERPRINT_LEN, HEADER_LEN, INTEGRITY_LEN, IntegrityKey, MAGIC_COOKIE,
    StunError, TransactionId, UnknownAttributes, attribute,
};
use std::net::{IpAddr, SocketAddr};

const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// MESSAGE-INTEGRITY and FINGERPRINT, which end every answer.
const TAIL_LEN: usize = 2 * ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN + FINGERPRINT_LEN;

/// The longest success response, that to an IPv6 peer, in bytes.
pub const MAX_BINDING_SUCCESS_LEN: usize = HEADER_LEN + ATTRIBUTE_HEADER_LEN + 20 + TAIL_LEN;

/// The longest error response, in bytes.
pub const MAX_BINDING_ERROR_LEN: usize = HEADER_LEN
    + 2 * ATTRIBUTE_HEADER_LEN
    + (4 + UNKNOWN_ATTRIBUTE.len()).next_multiple_of(4)
    + 2 * UnknownAttributes::MAX
    + TAIL_LEN;

const UNKNOWN_ATTRIBUTE: &[u8] = b"Unknown Attribute";
const ROLE_CONFLICT: &[u8] = b"Role Conflict";
const _: () = assert!(UNKNOWN_ATTRIBUTE.len() >= ROLE_CONFLICT.len());
const _: () = assert!(UnknownAttributes::MAX.is_multiple_of(2));

/// Why an authenticated Binding request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingError<'a> {
    /// 420: it has attributes that must be understood and are not (RFC 8489 6.3.1).
    UnknownAttribute(&'a UnknownAttributes),
    /// 487: its sender claims the controlled role, which an ICE-lite agent has (RFC 8445 7.3.1.1).
    RoleConflict,
}

/// Writes the success response to a Binding request and returns its length.
///
/// `mapped` is the address the request came from; an IPv4 address mapped into IPv6, as dual-stack
/// sockets report it, is written as the IPv4 address it is. `key` is the one that verified the
/// request (RFC 8489 9.1.4).
///
/// # Errors
/// [`StunError::BufferTooSmall`]; [`MAX_BINDING_SUCCESS_LEN`] bytes are always enough.
pub fn write_binding_success(
    out: &mut [u8],
    transaction_id: &TransactionId,
    mapped: SocketAddr,
    key: &IntegrityKey,
) -> Result<usize, StunError> {
    let mut writer = Writer::new(
        out,
        MAX_BINDING_SUCCESS_LEN,
        BINDING_SUCCESS,
        transaction_id,
    )?;
    // RFC 8489 14.2: the port is XORed with the magic cookie's first half, the address with the
    // cookie followed by the transaction ID.
    let mut value = [0; 20];
    value[2..4].copy_from_slice(&mapped.port().to_be_bytes());
    let value = match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 0x01;
            value[4..8].copy_from_slice(&ip.octets());
            &mut value[..8]
        }
        IpAddr::V6(ip) => {
            value[1] = 0x02;
            value[4..20].copy_from_slice(&ip.octets());
            &mut value[..]
        }
    };
    xor(&mut value[2..4], MAGIC_COOKIE.iter());
    xor(&mut value[4..], MAGIC_COOKIE.iter().chain(transaction_id));
    writer.attribute(attribute::XOR_MAPPED_ADDRESS, value);
    Ok(writer.finish(key))
}

/// Writes the error response to a Binding request and returns its length.
///
/// `key` is the one that verified the request; requests that do not verify get no answer.
///
/// # Errors
/// [`StunError::BufferTooSmall`]; [`MAX_BINDING_ERROR_LEN`] bytes are always enough.
pub fn write_binding_error(
    out: &mut [u8],
    transaction_id: &TransactionId,
    error: BindingError<'_>,
    key: &IntegrityKey,
) -> Result<usize, StunError> {
    let mut writer = Writer::new(out, MAX_BINDING_ERROR_LEN, BINDING_ERROR, transaction_id)?;
    let (class, number, reason) = match error {
        BindingError::UnknownAttribute(_) => (4, 20, UNKNOWN_ATTRIBUTE),
        BindingError::RoleConflict => (4, 87, ROLE_CONFLICT),
    };
    // RFC 8489 14.8
    let mut value = [0; 4 + UNKNOWN_ATTRIBUTE.len()];
    value[2..4].copy_from_slice(&[class, number]);
    value[4..4 + reason.len()].copy_from_slice(reason);
    writer.attribute(attribute::ERROR_CODE, &value[..4 + reason.len()]);
    if let BindingError::UnknownAttribute(unknown) = error {
        let mut kinds = [0; 2 * UnknownAttributes::MAX];
        for (slot, kind) in kinds.chunks_exact_mut(2).zip(unknown.as_slice()) {
            slot.copy_from_slice(&kind.to_be_bytes());
        }
        writer.attribute(
            attribute::UNKNOWN_ATTRIBUTES,
            &kinds[..2 * unknown.as_slice().len()],
        );
    }
    Ok(writer.finish(key))
}

fn xor<'a>(bytes: &mut [u8], with: impl Iterator<Item = &'a u8>) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// A message under construction, in a buffer that was checked to hold all of it.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(
        out: &'a mut [u8],
        needed: usize,
        kind: u16,
        transaction_id: &TransactionId,
    ) -> Result<Self, StunError> {
        if out.len() < needed {
            return Err(StunError::BufferTooSmall {
                len: out.len(),
                needed,
            });
        }
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[4..8].copy_from_slice(&MAGIC_COOKIE);
        out[8..HEADER_LEN].copy_from_slice(transaction_id);
        Ok(Self {
            out,
            len: HEADER_LEN,
        })
    }

    /// Appends an attribute and its padding.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let (head, rest) = self.out[self.len..].split_at_mut(ATTRIBUTE_HEADER_LEN);
        head[..2].copy_from_slice(&kind.to_be_bytes());
        head[2..].copy_from_slice(&(value.len() as u16).to_be_bytes());
        let padded = value.len().next_multiple_of(4);
        rest[..value.len()].copy_from_slice(value);
        rest[value.len()..padded].fill(0);
        self.len += ATTRIBUTE_HEADER_LEN + padded;
    }

    /// Appends MESSAGE-INTEGRITY and FINGERPRINT and returns the message's length.
    fn finish(mut self, key: &IntegrityKey) -> usize {
        let integrity = key.sign(&self.out[..self.len]);
        self.attribute(attribute::MESSAGE_INTEGRITY, &integrity);
        // The fingerprint covers a length field that counts the fingerprint.
        let len = self.len + ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN;
        self.out[2..4].copy_from_slice(&((len - HEADER_LEN) as u16).to_be_bytes());
        let fingerprint = fingerprint(&self.out[..self.len]);
        self.attribute(attribute::FINGERPRINT, &fingerprint);
        self.len
    }
}
