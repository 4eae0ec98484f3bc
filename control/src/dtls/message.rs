//! Structural checks of handshake messages (RFC 5246 7.4, RFC 6347 4.2, RFC 8422 5).
//!
//! The backend indexes into some messages and allocates for others before it has checked their
//! lengths. The guard passes a message on only if it is of a type the peer's role sends and its
//! inner lengths add up exactly. What the values mean is the backend's business.

use super::Role;
use super::client_hello::ClientHello;
use super::counters::DropReason;
use super::wire::{Reader, u16_list};

pub(super) const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// The longest signature: RSA-8192.
const MAX_SIGNATURE_LEN: usize = 1024;
const NAMED_CURVE: u8 = 3;

/// Checks a message that reached us in `role`. Returns the ClientHello when it is one.
pub(super) fn check(
    role: Role,
    message_type: u8,
    body: &[u8],
) -> Result<Option<ClientHello>, DropReason> {
    let well_formed = match (role, message_type) {
        (Role::Server, CLIENT_HELLO) => {
            return ClientHello::parse(body)
                .map(Some)
                .ok_or(DropReason::MalformedMessage);
        }
        (_, CERTIFICATE) => certificate(body),
        (Role::Server, CLIENT_KEY_EXCHANGE) => client_key_exchange(body),
        (Role::Server, CERTIFICATE_VERIFY) => certificate_verify(body),
        (Role::Client, HELLO_VERIFY_REQUEST) => hello_verify_request(body),
        (Role::Client, SERVER_HELLO) => server_hello(body),
        (Role::Client, SERVER_KEY_EXCHANGE) => server_key_exchange(body),
        (Role::Client, CERTIFICATE_REQUEST) => certificate_request(body),
        (Role::Client, SERVER_HELLO_DONE) => body.is_empty().then_some(()),
        _ => return Err(DropReason::UnexpectedMessage),
    };
    well_formed
        .map(|()| None)
        .ok_or(DropReason::MalformedMessage)
}

fn end(reader: Reader<'_>) -> Option<()> {
    reader.is_empty().then_some(())
}

fn hello_verify_request(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    let _version = reader.u16()?;
    let _cookie = reader.vec8()?;
    end(reader)
}

fn server_hello(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    let _version_and_random = reader.take(2 + 32)?;
    let _session_id = reader.vec8().filter(|id| id.len() <= 32)?;
    let _cipher_suite_and_compression = reader.take(3)?;
    let mut extensions = Reader::new(reader.vec16()?);
    while !extensions.is_empty() {
        let _kind = extensions.u16()?;
        let _data = extensions.vec16()?;
    }
    end(reader)
}

fn certificate(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    let mut list = Reader::new(reader.vec24()?);
    while !list.is_empty() {
        list.vec24().filter(|certificate| !certificate.is_empty())?;
    }
    end(reader)
}

fn server_key_exchange(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    reader
        .u8()
        .filter(|&curve_type| curve_type == NAMED_CURVE)?;
    let _named_curve = reader.u16()?;
    reader.vec8().filter(|point| !point.is_empty())?;
    signature(&mut reader)?;
    end(reader)
}

fn certificate_request(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    let _certificate_types = reader.vec8()?;
    let _signature_algorithms = u16_list(reader.vec16()?)?;
    let _certificate_authorities = reader.vec16()?;
    end(reader)
}

fn client_key_exchange(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    reader.vec8().filter(|point| !point.is_empty())?;
    end(reader)
}

fn certificate_verify(body: &[u8]) -> Option<()> {
    let mut reader = Reader::new(body);
    signature(&mut reader)?;
    end(reader)
}

fn signature(reader: &mut Reader<'_>) -> Option<()> {
    let _algorithm = reader.u16()?;
    let signature = reader.vec16()?;
    (1..=MAX_SIGNATURE_LEN)
        .contains(&signature.len())
        .then_some(())
}
