//! The controlling ICE agent (RFC 8445), sans-IO: checks one pair at a time, nominates it, keeps
//! consent (RFC 7675), and answers the checks of a full agent at the other end.
//!
//! [`super::join`] drives it until the pair is nominated, a media thread from then on. It never
//! sees a socket or a clock. STUN is that of the `stun` crate; requests from the peer are read and
//! answered by the engine's.

use std::collections::VecDeque;
use std::net::SocketAddr;

use fanmill_engine::stun::{
    IntegrityKey, MAX_BINDING_SUCCESS_LEN, Message as EngineMessage, parse, write_binding_success,
};
use stun::agent::TransactionId;
use stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use stun::textattrs::TextAttribute;

/// Pause before the first repetition of a check; doubled for each further one.
const FIRST_RETRY_US: u64 = 50_000;
const MAX_RETRY_US: u64 = 800_000;
/// RFC 7675 5.1: consent is asked for every five seconds, varied by a fifth either way.
const CONSENT_US: u64 = 5_000_000;
/// RFC 7675 5.1: consent expires after 30 seconds.
const CONSENT_EXPIRY_US: u64 = 30_000_000;
/// Requests whose answer is still welcome.
const MAX_OUTSTANDING: usize = 8;
/// A peer-reflexive candidate of a host interface (RFC 8445 5.1.2).
const PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

/// A username fragment and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The `ice-ufrag`.
    pub ufrag: String,
    /// The `ice-pwd`.
    pub pwd: String,
}

impl Credentials {
    /// Fresh ones, from random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 32]) -> Self {
        // RFC 8445 5.3: ice-chars, at least 24 bits of randomness in the fragment and 128 in the
        // password.
        const ICE_CHARS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text: String = random
            .iter()
            .map(|byte| char::from(ICE_CHARS[usize::from(byte % 64)]))
            .collect();
        let (ufrag, pwd) = text.split_at(8);
        Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        }
    }
}

/// Where the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No answer to a check yet.
    Checking,
    /// The pair is valid; the nomination is on its way.
    Nominating,
    /// The nomination was answered.
    Nominated,
}

/// The agent of one client and one pair.
pub struct IceAgent {
    username: String,
    integrity: MessageIntegrity,
    local_key: IntegrityKey,
    tie_breaker: u64,
    phase: Phase,
    outstanding: VecDeque<[u8; 12]>,
    next_request_us: u64,
    retry_us: u64,
    consent_us: Option<u64>,
    random: u64,
}

impl IceAgent {
    /// An agent that has sent nothing. `seed` makes its transaction ids and its tie-breaker.
    #[must_use]
    pub fn new(local: &Credentials, remote: &Credentials, seed: u64) -> Self {
        let mut agent = Self {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            integrity: MessageIntegrity::new_short_term_integrity(remote.pwd.clone()),
            local_key: IntegrityKey::new(&local.pwd),
            tie_breaker: 0,
            phase: Phase::Checking,
            outstanding: VecDeque::with_capacity(MAX_OUTSTANDING),
            next_request_us: 0,
            retry_us: FIRST_RETRY_US,
            consent_us: None,
            random: seed | 1,
        };
        agent.tie_breaker = agent.next_random();
        agent
    }

    /// Begins anew, with another candidate.
    pub fn restart_checks(&mut self) {
        self.phase = Phase::Checking;
        self.next_request_us = 0;
        self.retry_us = FIRST_RETRY_US;
    }

    /// Whether a check was answered: media and DTLS may flow.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.phase != Phase::Checking
    }

    /// Whether the peer has stopped consenting.
    #[must_use]
    pub fn has_expired(&self, now_us: u64) -> bool {
        self.consent_us
            .is_some_and(|at| now_us > at + CONSENT_EXPIRY_US)
    }

    /// When [`poll`](Self::poll) has something to send next.
    #[must_use]
    pub fn deadline_us(&self) -> u64 {
        self.next_request_us
    }

    /// A request to send, if one is due.
    pub fn poll(&mut self, now_us: u64) -> Option<Vec<u8>> {
        if now_us < self.next_request_us {
            return None;
        }
        match self.phase {
            Phase::Checking | Phase::Nominating => {
                self.next_request_us = now_us + self.retry_us;
                self.retry_us = (2 * self.retry_us).min(MAX_RETRY_US);
            }
            Phase::Nominated => {
                let spread = self.next_random() % (2 * CONSENT_US / 5);
                self.next_request_us = now_us + CONSENT_US * 4 / 5 + spread;
            }
        }
        let id = self.next_id();
        self.outstanding.truncate(MAX_OUTSTANDING - 1);
        self.outstanding.push_front(id);
        self.request(id)
    }

    /// Handles a STUN message that came from `source` and returns what to answer.
    pub fn handle(&mut self, now_us: u64, source: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        match parse(bytes) {
            Ok(EngineMessage::BindingRequest(request)) if request.verify(&self.local_key) => {
                let mut answer = vec![0; MAX_BINDING_SUCCESS_LEN];
                let id = &request.transaction_id;
                let len = write_binding_success(&mut answer, id, source, &self.local_key).ok()?;
                answer.truncate(len);
                Some(answer)
            }
            Ok(EngineMessage::Other { .. }) => {
                self.handle_response(now_us, bytes);
                None
            }
            _ => None,
        }
    }

    fn handle_response(&mut self, now_us: u64, bytes: &[u8]) {
        let mut message = Message::new();
        if message.unmarshal_binary(bytes).is_err() || message.typ != BINDING_SUCCESS {
            return;
        }
        let id = message.transaction_id.0;
        let Some(place) = self.outstanding.iter().position(|known| *known == id) else {
            return;
        };
        if self.integrity.check(&mut message).is_err() {
            return;
        }
        self.outstanding.remove(place);
        self.consent_us = Some(now_us);
        match self.phase {
            Phase::Checking => {
                // RFC 8445 8.1.1: nominate once a valid pair is found.
                self.phase = Phase::Nominating;
                self.outstanding.clear();
                self.next_request_us = now_us;
                self.retry_us = FIRST_RETRY_US;
            }
            Phase::Nominating => {
                self.phase = Phase::Nominated;
                self.next_request_us = now_us + CONSENT_US;
            }
            Phase::Nominated => {}
        }
    }

    /// A Binding request (RFC 8445 7.2.2).
    fn request(&self, id: [u8; 12]) -> Option<Vec<u8>> {
        let raw = |typ: AttrType, value: &[u8]| -> Box<dyn Setter> {
            Box::new(RawAttribute {
                typ,
                length: 0,
                value: value.to_vec(),
            })
        };
        let mut setters: Vec<Box<dyn Setter>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId(id)),
            Box::new(TextAttribute::new(ATTR_USERNAME, self.username.clone())),
            raw(ATTR_PRIORITY, &PRIORITY.to_be_bytes()),
            raw(ATTR_ICE_CONTROLLING, &self.tie_breaker.to_be_bytes()),
        ];
        if self.phase == Phase::Nominating {
            setters.push(raw(ATTR_USE_CANDIDATE, &[]));
        }
        setters.push(Box::new(self.integrity.clone()));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).ok()?;
        Some(message.raw)
    }

    fn next_id(&mut self) -> [u8; 12] {
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.next_random().to_be_bytes());
        id[8..].copy_from_slice(&self.next_random().to_be_bytes()[..4]);
        id
    }

    /// xorshift64*: spreads requests and makes ids; the password is what authenticates.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use fanmill_engine::stun::{BindingRequest, IceRole};
    use proptest::prelude::*;

    fn credentials(name: &str) -> Credentials {
        Credentials {
            ufrag: format!("{name}frag"),
            pwd: format!("{name}0123456789abcdefghijkl"),
        }
    }

    fn agent() -> IceAgent {
        IceAgent::new(&credentials("client"), &credentials("server"), 7)
    }

    fn source() -> SocketAddr {
        ([127, 0, 0, 1], 5000).into()
    }

    fn answer(request: &[u8]) -> Vec<u8> {
        let request = read(request);
        let mut out = vec![0; MAX_BINDING_SUCCESS_LEN];
        let key = IntegrityKey::new(&credentials("server").pwd);
        let id = &request.transaction_id;
        let len = write_binding_success(&mut out, id, source(), &key).unwrap();
        out.truncate(len);
        out
    }

    fn read(bytes: &[u8]) -> BindingRequest<'_> {
        match parse(bytes) {
            Ok(EngineMessage::BindingRequest(request)) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    // RFC 8445 7.2.2, 8.1.1: a check, then a nomination, then consent.
    #[test]
    fn a_pair_is_checked_then_nominated_then_kept() {
        let mut agent = agent();
        let check = agent.poll(0).unwrap();
        let request = read(&check);
        assert_eq!(request.local_ufrag, b"serverfrag");
        assert_eq!(request.remote_ufrag, b"clientfrag");
        assert!(request.verify(&IntegrityKey::new(&credentials("server").pwd)));
        assert!(matches!(request.role, Some(IceRole::Controlling(_))));
        assert!(!request.use_candidate);
        assert!(!agent.is_valid());

        assert_eq!(agent.handle(10, source(), &answer(&check)), None);
        assert!(agent.is_valid());
        let nomination = agent.poll(10).unwrap();
        assert!(read(&nomination).use_candidate);
        agent.handle(20, source(), &answer(&nomination));
        assert_eq!(agent.poll(20), None, "consent is only due later");
        assert!(!read(&agent.poll(20 + CONSENT_US).unwrap()).use_candidate);
    }

    #[test]
    fn an_unanswered_check_is_repeated() {
        let mut agent = agent();
        let first = agent.poll(0).unwrap();
        assert_eq!(agent.poll(FIRST_RETRY_US - 1), None);
        let second = agent.poll(FIRST_RETRY_US).unwrap();
        assert_ne!(first, second, "a new transaction");
        agent.handle(60_000, source(), &answer(&first));
        assert!(agent.is_valid(), "the late answer counts");
    }

    #[test]
    fn a_forged_or_unasked_answer_changes_nothing() {
        let mut agent = agent();
        let check = agent.poll(0).unwrap();
        let mut forged = answer(&check);
        let at = forged.len() - 20;
        forged[at] ^= 1;
        agent.handle(1, source(), &forged);
        let other = IceAgent::new(&credentials("client"), &credentials("server"), 99)
            .poll(0)
            .unwrap();
        agent.handle(1, source(), &answer(&other));
        assert!(!agent.is_valid());
    }

    // RFC 7675 5.1.
    #[test]
    fn consent_expires_thirty_seconds_after_the_last_answer() {
        let mut agent = agent();
        let check = agent.poll(0).unwrap();
        agent.handle(0, source(), &answer(&check));
        assert!(!agent.has_expired(CONSENT_EXPIRY_US));
        assert!(agent.has_expired(CONSENT_EXPIRY_US + 1));
    }

    #[test]
    fn a_full_agents_check_is_answered_with_our_key() {
        let (client, server) = (credentials("client"), credentials("server"));
        let mut peer = IceAgent::new(&server, &client, 3);
        let check = peer.poll(0).unwrap();
        let reply = agent().handle(0, source(), &check).unwrap();
        peer.handle(1, source(), &reply);
        assert!(peer.is_valid());
    }

    #[test]
    fn credentials_are_as_long_as_the_standard_asks() {
        let made = Credentials::from_random(std::array::from_fn(|i| (i * 11) as u8));
        assert_eq!((made.ufrag.len(), made.pwd.len()), (8, 24));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut agent = agent();
            agent.poll(0);
            agent.handle(1, source(), &bytes);
            prop_assert!(!agent.is_valid());
        }
    }
}
