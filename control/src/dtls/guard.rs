//! The gate between the network and the DTLS backend.
//!
//! Every inbound datagram passes [`Guard::inspect`] on the reactor's thread before the backend
//! sees a byte of it. During the handshake the guard rebuilds what it lets through: handshake
//! messages whole, checked, in order and once each, in records numbered by itself; a
//! ChangeCipherSpec only of its one legal form; protected records only of the lengths a Finished
//! can have. After the handshake nothing passes but protected alerts, which are not the backend's
//! any more: [`Association`](super::Association) opens them, and those that came earlier with
//! them. Everything else is dropped and counted.
//!
//! Unprotected alerts are dropped even during the handshake: anyone who can spoof the peer's
//! address could end the handshake with one, while dropping a true one costs only the wait for
//! the deadline. Their description is logged and reported with the timeout.
//!
//! It also keeps the last flight for a peer that lost it: the backend forgets it. And it notes how
//! many protected records the backend has sent, so that no number is used twice.
//!
//! Holds no keys, never blocks, never sees a socket or a clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Role;
use super::client_hello::ClientHello;
use super::counters::{Counters, DropReason};
use super::error::AlertDescription;
use super::message;
use super::reassembly::{Fragment, Push, Reassembly};
use super::record::{self, Record, Records};
use super::wire::Reader;

/// The least time between two repeats of a flight on a peer's demand.
pub(super) const REPEAT_INTERVAL: Duration = Duration::from_millis(40);

/// AES-GCM: explicit nonce, at least one byte, tag. The backend computes with less than that.
const MIN_CIPHERTEXT_LEN: usize = 8 + 1 + 16;
/// A Finished takes 48 bytes, an alert 26.
const MAX_CIPHERTEXT_LEN: usize = 128;
/// ChangeCipherSpecs and protected records passed per handshake. None can be checked without keys;
/// a peer that repeats its flight every 100 ms until the deadline sends 300.
const MAX_UNCHECKED: usize = 400;
/// Protected records kept while the ChangeCipherSpec before them is still on its way, and as many
/// alerts kept until there are keys to open them with.
const MAX_HELD: usize = 4;

/// What one handshake may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) datagrams: usize,
    pub(super) bytes: usize,
}

/// What to do about a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inspection {
    /// Records for the backend; may be empty.
    pub(super) deliver: Vec<u8>,
    /// Whether `deliver` holds handshake messages, which are delivered once only.
    pub(super) has_message: bool,
    /// Protected alerts to open, once the handshake is done.
    pub(super) alerts: Vec<u8>,
    /// The first ClientHello, when this datagram completed it. It is in `deliver` too.
    pub(super) client_hello: Option<ClientHello>,
    /// A datagram to send to the peer again.
    pub(super) repeat: Option<Arc<[u8]>>,
    /// The budget of the handshake is spent.
    pub(super) flooded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Established,
    Ended,
}

/// The gate of one association.
#[derive(Debug)]
pub(super) struct Guard {
    role: Role,
    phase: Phase,
    budget: Budget,
    counters: Arc<Counters>,
    reassembly: Reassembly,
    /// The record sequence number of the next rebuilt record.
    next_record: u64,
    unchecked: usize,
    change_cipher_spec_passed: bool,
    held: Vec<Vec<u8>>,
    held_alerts: Vec<Vec<u8>>,
    /// Number of the next protected record of this side.
    next_protected: u64,
    last_flight: Option<Arc<[u8]>>,
    repeated_at: Option<Instant>,
    plaintext_alert: Option<AlertDescription>,
}

impl Guard {
    pub(super) fn new(role: Role, budget: Budget, counters: Arc<Counters>) -> Self {
        Self {
            role,
            phase: Phase::Handshaking,
            budget,
            counters,
            reassembly: Reassembly::default(),
            next_record: 0,
            unchecked: 0,
            change_cipher_spec_passed: false,
            held: Vec::new(),
            held_alerts: Vec::new(),
            next_protected: 0,
            last_flight: None,
            repeated_at: None,
            plaintext_alert: None,
        }
    }

    /// The backend has both Finished messages. Returns the protected alerts that came before.
    pub(super) fn establish(&mut self) -> Vec<u8> {
        self.phase = Phase::Established;
        self.reassembly = Reassembly::default();
        self.held = Vec::new();
        std::mem::take(&mut self.held_alerts).concat()
    }

    /// The association is over.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.reassembly = Reassembly::default();
        self.held = Vec::new();
        self.held_alerts = Vec::new();
        self.last_flight = None;
    }

    /// Number of the next protected record of this side.
    pub(super) fn next_protected(&self) -> u64 {
        self.next_protected
    }

    /// The last unprotected alert of the handshake.
    pub(super) fn plaintext_alert(&self) -> Option<AlertDescription> {
        self.plaintext_alert
    }

    /// Looks at a datagram the backend is about to send.
    ///
    /// A server's HelloVerifyRequest and its last flight are the two the backend does not repeat
    /// by its timer (RFC 6347 4.2.4); each is one datagram. A client repeats every flight.
    pub(super) fn note_outgoing(&mut self, datagram: &[u8]) {
        if self.phase != Phase::Handshaking {
            return;
        }
        let records = || Records::new(datagram).map_while(Result::ok);
        for record in records().filter(|record| record.epoch == 1) {
            self.next_protected = self.next_protected.max(record.sequence + 1);
        }
        if self.role == Role::Client {
            return;
        }
        let mut flight_to_keep = false;
        for record in records() {
            match (record.content_type, record.body.first()) {
                (record::CHANGE_CIPHER_SPEC, _) => flight_to_keep = true,
                (record::HANDSHAKE, Some(&message::HELLO_VERIFY_REQUEST)) if record.epoch == 0 => {
                    flight_to_keep = true;
                }
                (record::ALERT, _) => return,
                _ => {}
            }
        }
        self.last_flight = flight_to_keep.then(|| datagram.into());
    }

    /// Decides about one inbound datagram.
    pub(super) fn inspect(&mut self, datagram: &[u8], now: Instant) -> Inspection {
        let mut inspection = Inspection::default();
        let peer_repeats = match self.phase {
            Phase::Ended => {
                self.drop(DropReason::Ended);
                false
            }
            Phase::Established => self.inspect_established(datagram, &mut inspection),
            Phase::Handshaking => {
                if self.spend(datagram.len()) {
                    self.inspect_handshaking(datagram, &mut inspection)
                } else {
                    self.drop(DropReason::Budget);
                    inspection.flooded = true;
                    false
                }
            }
        };
        if peer_repeats {
            inspection.repeat = self.repeat(now);
        }
        inspection
    }

    fn drop(&self, reason: DropReason) {
        self.counters.count_drop(reason);
    }

    fn spend(&mut self, bytes: usize) -> bool {
        let left = self
            .budget
            .datagrams
            .checked_sub(1)
            .zip(self.budget.bytes.checked_sub(bytes));
        let Some((datagrams, bytes)) = left else {
            return false;
        };
        self.budget = Budget { datagrams, bytes };
        true
    }

    fn spend_unchecked(&mut self) -> bool {
        self.unchecked += 1;
        self.unchecked <= MAX_UNCHECKED
    }

    fn repeat(&mut self, now: Instant) -> Option<Arc<[u8]>> {
        let flight = self.last_flight.clone()?;
        if self
            .repeated_at
            .is_some_and(|at| now.saturating_duration_since(at) < REPEAT_INTERVAL)
        {
            return None;
        }
        self.repeated_at = Some(now);
        self.counters.count_repeated_flight();
        Some(flight)
    }

    /// Returns whether the peer repeats its last flight.
    // RFC 6347 4.2.4: a server that has finished answers a repeated flight with its own last one.
    fn inspect_established(&self, datagram: &[u8], inspection: &mut Inspection) -> bool {
        let mut peer_repeats = false;
        for record in Records::new(datagram) {
            let reason = match record {
                Err(reason) => reason,
                Ok(Record {
                    epoch: 0,
                    content_type,
                    ..
                }) => {
                    peer_repeats |= content_type == record::HANDSHAKE;
                    DropReason::PlaintextAfterHandshake
                }
                Ok(Record {
                    epoch: 1,
                    content_type: record::ALERT,
                    body,
                    bytes,
                    ..
                }) => {
                    if is_ciphertext_len(body.len()) {
                        inspection.alerts.extend_from_slice(bytes);
                        continue;
                    }
                    DropReason::CiphertextLength
                }
                Ok(Record {
                    epoch: 1,
                    content_type: record::HANDSHAKE,
                    ..
                }) => {
                    peer_repeats = true;
                    DropReason::HandshakeAfterHandshake
                }
                Ok(Record {
                    epoch: 1,
                    content_type: record::APPLICATION_DATA,
                    ..
                }) => DropReason::ApplicationData,
                Ok(Record { epoch: 1, .. }) => DropReason::ChangeCipherSpec,
                Ok(_) => DropReason::FutureEpoch,
            };
            self.drop(reason);
        }
        peer_repeats
    }

    /// Returns whether the client repeats its first ClientHello: the HelloVerifyRequest was lost.
    fn inspect_handshaking(&mut self, datagram: &[u8], inspection: &mut Inspection) -> bool {
        let mut peer_repeats = false;
        for record in Records::new(datagram) {
            match record {
                Err(reason) => self.drop(reason),
                Ok(record) if record.epoch == 0 => {
                    peer_repeats |= self.pass_plaintext(&record, inspection);
                }
                Ok(record) if record.epoch == 1 => self.pass_ciphertext(&record, inspection),
                Ok(_) => self.drop(DropReason::FutureEpoch),
            }
        }
        peer_repeats
    }

    fn pass_plaintext(&mut self, record: &Record<'_>, inspection: &mut Inspection) -> bool {
        match record.content_type {
            record::HANDSHAKE => return self.pass_fragments(record.body, inspection),
            record::CHANGE_CIPHER_SPEC => self.pass_change_cipher_spec(record.body, inspection),
            record::ALERT => self.note_plaintext_alert(record.body),
            _ => self.drop(DropReason::PlaintextData),
        }
        false
    }

    fn note_plaintext_alert(&mut self, body: &[u8]) {
        self.drop(DropReason::PlaintextAlert);
        if let &[level, description] = body {
            let description = AlertDescription(description);
            if self.plaintext_alert.replace(description) != Some(description) {
                tracing::debug!(level, %description, "unprotected alert ignored");
            }
        }
    }

    // RFC 5246 7.1: a single byte of value 1.
    fn pass_change_cipher_spec(&mut self, body: &[u8], inspection: &mut Inspection) {
        if body != [1] {
            self.drop(DropReason::ChangeCipherSpec);
            return;
        }
        if !self.spend_unchecked() {
            self.drop(DropReason::Budget);
            return;
        }
        let sequence = self.take_record_number();
        record::write_header(
            &mut inspection.deliver,
            record::CHANGE_CIPHER_SPEC,
            sequence,
            1,
        );
        inspection.deliver.push(1);
        self.change_cipher_spec_passed = true;
        for held in self.held.drain(..) {
            inspection.deliver.extend_from_slice(&held);
        }
    }

    fn pass_ciphertext(&mut self, record: &Record<'_>, inspection: &mut Inspection) {
        let reason = match record.content_type {
            // The backend takes a ChangeCipherSpec of any epoch without decrypting it.
            record::CHANGE_CIPHER_SPEC => DropReason::ChangeCipherSpec,
            record::APPLICATION_DATA => DropReason::ApplicationData,
            _ if !is_ciphertext_len(record.body.len()) => DropReason::CiphertextLength,
            _ if !self.spend_unchecked() => DropReason::Budget,
            // The peer has its keys and ours are not there yet, or it has overtaken them.
            record::ALERT if self.held_alerts.len() < MAX_HELD => {
                self.held_alerts.push(record.bytes.to_vec());
                return;
            }
            record::ALERT => DropReason::OutOfWindow,
            _ if self.change_cipher_spec_passed => {
                inspection.deliver.extend_from_slice(record.bytes);
                return;
            }
            _ if self.held.len() < MAX_HELD => {
                self.held.push(record.bytes.to_vec());
                return;
            }
            _ => DropReason::OutOfWindow,
        };
        self.drop(reason);
    }

    fn pass_fragments(&mut self, body: &[u8], inspection: &mut Inspection) -> bool {
        let mut first_repeated = false;
        let mut reader = Reader::new(body);
        while !reader.is_empty() {
            match Fragment::read(&mut reader) {
                Ok(fragment) => {
                    let first = fragment.message_seq == 0;
                    match self.reassembly.push(fragment) {
                        Push::Stored => {}
                        Push::Replaced => self.drop(DropReason::ConflictingFragment),
                        Push::Refused(reason) => self.drop(reason),
                        Push::Repeated => {
                            self.drop(DropReason::Duplicate);
                            first_repeated |= first && self.reassembly.next_seq() == 1;
                        }
                    }
                    self.pass_messages(inspection);
                }
                Err(DropReason::EmptyFragment) => self.drop(DropReason::EmptyFragment),
                Err(reason) => {
                    self.drop(reason);
                    break;
                }
            }
        }
        first_repeated
    }

    fn pass_messages(&mut self, inspection: &mut Inspection) {
        while let Some(message) = self.reassembly.complete() {
            let checked = match message::check(self.role, message.message_type, &message.body) {
                // RFC 6347 4.2.1: one without a cookie, then one with.
                Ok(Some(_)) if message.message_seq > 1 => Err(DropReason::UnexpectedMessage),
                Ok(None) if self.role == Role::Server && message.message_seq == 0 => {
                    Err(DropReason::UnexpectedMessage)
                }
                checked => checked,
            };
            match checked {
                Err(reason) => {
                    self.drop(reason);
                    return;
                }
                Ok(hello) if message.message_seq == 0 => inspection.client_hello = hello,
                Ok(_) => {}
            }
            let sequence = self.take_record_number();
            record::write_handshake(
                &mut inspection.deliver,
                sequence,
                message.message_type,
                message.message_seq,
                &message.body,
            );
            inspection.has_message = true;
            self.reassembly.advance();
        }
    }

    fn take_record_number(&mut self) -> u64 {
        let number = self.next_record;
        self.next_record += 1;
        number
    }
}

fn is_ciphertext_len(length: usize) -> bool {
    (MIN_CIPHERTEXT_LEN..=MAX_CIPHERTEXT_LEN).contains(&length)
}

#[cfg(test)]
mod tests;
