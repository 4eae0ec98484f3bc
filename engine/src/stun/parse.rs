//! Reading a STUN message without copying it.
//!
//! Whatever [`parse`] returns borrows the datagram; nothing in it is authentic before
//! [`BindingRequest::verify`] says so.

use super::integrity::fingerprint;
use super::{
    ATTRIBUTE_HEADER_LEN, FINGERPRINT_LEN, HEADER_LEN, INTEGRITY_LEN, IntegrityKey, StunError,
    TransactionId, attribute, is_stun,
};

const BINDING: u16 = 0x001;
const MAX_UNKNOWN: usize = 8;

/// The class of a STUN message (RFC 8489 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Asks for a response.
    Request,
    /// Asks for none.
    Indication,
    /// Answers a request.
    SuccessResponse,
    /// Refuses a request.
    ErrorResponse,
}

/// A well-formed STUN message whose FINGERPRINT, if it has one, is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A connectivity or consent check to verify and answer.
    BindingRequest(BindingRequest<'a>),
    /// A keepalive, to be ignored (RFC 8445 11).
    BindingIndication,
    /// What an ICE-lite agent has no use for: responses, and other methods.
    Other {
        /// The message's class.
        class: Class,
        /// The message's method (RFC 7983 leaves those up to 0xff).
        method: u16,
    },
}

/// The role a peer claims, with its tie-breaker (RFC 8445 7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceRole {
    /// From ICE-CONTROLLING.
    Controlling(u64),
    /// From ICE-CONTROLLED.
    Controlled(u64),
}

/// A Binding request (RFC 8445 7.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRequest<'a> {
    /// To be repeated in the response.
    pub transaction_id: TransactionId,
    /// The receiver's username fragment: names the transport whose key verifies the request.
    pub local_ufrag: &'a [u8],
    /// The sender's username fragment.
    pub remote_ufrag: &'a [u8],
    /// The sender nominates the pair this request was sent on.
    pub use_candidate: bool,
    /// Priority of the peer-reflexive candidate that the request may reveal.
    pub priority: Option<u32>,
    /// The role the sender believes to have.
    pub role: Option<IceRole>,
    /// Attributes the receiver had to understand and did not; if there are any, the answer is 420.
    pub unknown_attributes: UnknownAttributes,
    /// The message up to MESSAGE-INTEGRITY.
    covered: &'a [u8],
    integrity: &'a [u8],
}

impl BindingRequest<'_> {
    /// Whether MESSAGE-INTEGRITY was made with `key`, the local password.
    ///
    /// Until this is true, use nothing of the request but [`local_ufrag`](Self::local_ufrag).
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        key.matches(self.covered, self.integrity)
    }
}

/// Types of attributes that were not understood but should have been: the first few of them, in
/// the order they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnknownAttributes {
    kinds: [u16; MAX_UNKNOWN],
    len: usize,
}

impl UnknownAttributes {
    /// The most types that are kept.
    pub const MAX: usize = MAX_UNKNOWN;

    /// The attribute types.
    pub fn as_slice(&self) -> &[u16] {
        &self.kinds[..self.len]
    }

    /// Whether all that had to be understood was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, kind: u16) {
        if let Some(slot) = self.kinds.get_mut(self.len) {
            *slot = kind;
            self.len += 1;
        }
    }
}

/// Parses one datagram that holds one STUN message.
///
/// # Errors
/// Every [`StunError`] but [`StunError::BufferTooSmall`].
pub fn parse(payload: &[u8]) -> Result<Message<'_>, StunError> {
    if !is_stun(payload) {
        return Err(StunError::NotStun);
    }
    let attributes = Attributes::scan(payload)?;
    let (class, method) = class_and_method([payload[0], payload[1]]);
    Ok(match (class, method) {
        (Class::Request, BINDING) => Message::BindingRequest(attributes.into_request(payload)?),
        (Class::Indication, BINDING) => Message::BindingIndication,
        _ => Message::Other { class, method },
    })
}

// RFC 8489 5, figure 3: the class bits lie at 4 and 8, among those of the method.
fn class_and_method(kind: [u8; 2]) -> (Class, u16) {
    let kind = u16::from_be_bytes(kind);
    let class = match (kind & 0x100 != 0, kind & 0x10 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::SuccessResponse,
        (true, true) => Class::ErrorResponse,
    };
    (
        class,
        kind & 0xf | (kind & 0xe0) >> 1 | (kind & 0x3e00) >> 2,
    )
}

/// What the attributes of a message say. Of attributes that are repeated the first one counts
/// (RFC 8489 14).
#[derive(Default)]
struct Attributes<'a> {
    username: Option<&'a [u8]>,
    use_candidate: bool,
    priority: Option<u32>,
    role: Option<IceRole>,
    unknown: UnknownAttributes,
    /// Where MESSAGE-INTEGRITY starts, and its value.
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Attributes<'a> {
    fn scan(message: &'a [u8]) -> Result<Self, StunError> {
        let mut found = Self::default();
        let mut at = HEADER_LEN;
        while let Some((head, rest)) = message[at..].split_first_chunk::<ATTRIBUTE_HEADER_LEN>() {
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let padded = len.next_multiple_of(4);
            let (Some(value), true) = (rest.get(..len), padded <= rest.len()) else {
                return Err(StunError::TruncatedAttribute { kind });
            };
            let next = at + ATTRIBUTE_HEADER_LEN + padded;
            if kind == attribute::FINGERPRINT {
                check_fingerprint(message, at, next, value)?;
            } else if found.integrity.is_none() {
                // RFC 8489 14.5: what follows MESSAGE-INTEGRITY, except FINGERPRINT, is ignored.
                found.take(kind, value, at)?;
            }
            at = next;
        }
        Ok(found)
    }

    fn take(&mut self, kind: u16, value: &'a [u8], at: usize) -> Result<(), StunError> {
        match kind {
            attribute::USERNAME => {
                self.username.get_or_insert(value);
            }
            attribute::MESSAGE_INTEGRITY => {
                exactly::<INTEGRITY_LEN>(kind, value)?;
                self.integrity = Some((at, value));
            }
            attribute::PRIORITY => {
                let priority = u32::from_be_bytes(exactly(kind, value)?);
                self.priority.get_or_insert(priority);
            }
            attribute::USE_CANDIDATE => {
                exactly::<0>(kind, value)?;
                self.use_candidate = true;
            }
            attribute::ICE_CONTROLLING => {
                let tie_breaker = u64::from_be_bytes(exactly(kind, value)?);
                self.role.get_or_insert(IceRole::Controlling(tie_breaker));
            }
            attribute::ICE_CONTROLLED => {
                let tie_breaker = u64::from_be_bytes(exactly(kind, value)?);
                self.role.get_or_insert(IceRole::Controlled(tie_breaker));
            }
            // Known, but not expected in a Binding request with short-term credentials.
            attribute::MAPPED_ADDRESS
            | attribute::ERROR_CODE
            | attribute::UNKNOWN_ATTRIBUTES
            | attribute::REALM
            | attribute::NONCE
            | attribute::XOR_MAPPED_ADDRESS
            | attribute::COMPREHENSION_OPTIONAL.. => {}
            _ => self.unknown.push(kind),
        }
        Ok(())
    }

    fn into_request(self, message: &'a [u8]) -> Result<BindingRequest<'a>, StunError> {
        let username = self.username.ok_or(StunError::MissingUsername)?;
        // RFC 8445 7.2.2: the receiver's fragment, a colon, the sender's fragment.
        let colon = username.iter().position(|&byte| byte == b':');
        let (local_ufrag, remote_ufrag) = match colon.map(|at| username.split_at(at)) {
            Some((local @ [_, ..], [_, remote @ ..])) if !remote.is_empty() => (local, remote),
            _ => return Err(StunError::MalformedUsername),
        };
        let (at, integrity) = self.integrity.ok_or(StunError::MissingIntegrity)?;
        let transaction_id = *message[8..]
            .first_chunk()
            .expect("is_stun checked that the header is there");
        Ok(BindingRequest {
            transaction_id,
            local_ufrag,
            remote_ufrag,
            use_candidate: self.use_candidate,
            priority: self.priority,
            role: self.role,
            unknown_attributes: self.unknown,
            covered: &message[..at],
            integrity,
        })
    }
}

// RFC 8489 14.7: the last attribute, over everything before it.
fn check_fingerprint(
    message: &[u8],
    at: usize,
    next: usize,
    value: &[u8],
) -> Result<(), StunError> {
    let value: [u8; FINGERPRINT_LEN] = exactly(attribute::FINGERPRINT, value)?;
    if next != message.len() {
        return Err(StunError::FingerprintNotLast);
    }
    if fingerprint(&message[..at]) != value {
        return Err(StunError::FingerprintMismatch);
    }
    Ok(())
}

fn exactly<const N: usize>(kind: u16, value: &[u8]) -> Result<[u8; N], StunError> {
    value.try_into().map_err(|_| StunError::BadAttributeLength {
        kind,
        len: value.len(),
    })
}
