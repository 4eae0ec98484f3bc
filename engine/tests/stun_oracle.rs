//! Reads what the `stun` crate writes, and has it read what is written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::stun::{
    BindingError, BindingRequest, Class, IceRole, IntegrityKey, MAX_BINDING_ERROR_LEN,
    MAX_BINDING_SUCCESS_LEN, Message, parse, write_binding_error, write_binding_success,
};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use stun::agent::TransactionId;
use stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
    AttrType, RawAttribute,
};
use stun::error_code::ErrorCodeAttribute;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message as Oracle, Setter,
};
use stun::textattrs::Username;
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;

/// What goes into a request.
#[derive(Debug, Clone)]
struct Check {
    transaction_id: [u8; 12],
    local_ufrag: String,
    remote_ufrag: String,
    password: String,
    priority: Option<u32>,
    use_candidate: bool,
    role: Option<IceRole>,
    unknown: Vec<u16>,
    fingerprint: bool,
}

fn any_check() -> impl Strategy<Value = Check> {
    // RFC 8445 15.4: 4 to 256 and 22 to 256 ice-chars.
    let ufrag = "[A-Za-z0-9+/]{4,256}";
    let role = prop::option::of((any::<bool>(), any::<u64>()).prop_map(|(lead, tie)| {
        if lead {
            IceRole::Controlling(tie)
        } else {
            IceRole::Controlled(tie)
        }
    }));
    (
        (any::<[u8; 12]>(), ufrag, ufrag, "[A-Za-z0-9+/]{22,256}"),
        any::<Option<u32>>(),
        any::<(bool, bool)>(),
        role,
        prop::collection::vec(0x4000u16..0x8000, 0..4),
    )
        .prop_map(
            |(strings, priority, (use_candidate, fingerprint), role, unknown)| {
                let (transaction_id, local_ufrag, remote_ufrag, password) = strings;
                Check {
                    transaction_id,
                    local_ufrag,
                    remote_ufrag,
                    password,
                    priority,
                    use_candidate,
                    role,
                    unknown,
                    fingerprint,
                }
            },
        )
}

fn integrity(password: &str) -> MessageIntegrity {
    MessageIntegrity::new_short_term_integrity(password.to_owned())
}

/// The request as the oracle writes it.
fn oracle_request(check: &Check) -> Vec<u8> {
    let raw = |typ: AttrType, value: &[u8]| -> Box<dyn Setter> {
        Box::new(RawAttribute {
            typ,
            length: 0,
            value: value.to_vec(),
        })
    };
    let username = format!("{}:{}", check.local_ufrag, check.remote_ufrag);
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId(check.transaction_id)),
        Box::new(Username::new(ATTR_USERNAME, username)),
    ];
    setters.extend(check.unknown.iter().map(|&kind| raw(AttrType(kind), b"?")));
    if let Some(priority) = check.priority {
        setters.push(raw(ATTR_PRIORITY, &priority.to_be_bytes()));
    }
    if check.use_candidate {
        setters.push(raw(ATTR_USE_CANDIDATE, &[]));
    }
    match check.role {
        Some(IceRole::Controlling(tie)) => {
            setters.push(raw(ATTR_ICE_CONTROLLING, &tie.to_be_bytes()));
        }
        Some(IceRole::Controlled(tie)) => {
            setters.push(raw(ATTR_ICE_CONTROLLED, &tie.to_be_bytes()));
        }
        None => {}
    }
    setters.push(Box::new(integrity(&check.password)));
    if check.fingerprint {
        setters.push(Box::new(FINGERPRINT));
    }
    let mut message = Oracle::new();
    message.build(&setters).unwrap();
    message.raw
}

fn request(message: &[u8]) -> BindingRequest<'_> {
    match parse(message) {
        Ok(Message::BindingRequest(request)) => request,
        other => panic!("not a Binding request: {other:?}"),
    }
}

/// Has the oracle parse an answer and check its integrity and fingerprint.
fn oracle_reads(answer: &[u8], password: &str) -> Oracle {
    let mut message = Oracle::new();
    message.unmarshal_binary(answer).unwrap();
    FINGERPRINT.check(&message).unwrap();
    integrity(password).check(&mut message).unwrap();
    assert!(integrity("another password").check(&mut message).is_err());
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_oracles_requests_are_understood_and_verified(check in any_check()) {
        let message = oracle_request(&check);
        let request = request(&message);
        prop_assert_eq!(request.transaction_id, check.transaction_id);
        prop_assert_eq!(request.local_ufrag, check.local_ufrag.as_bytes());
        prop_assert_eq!(request.remote_ufrag, check.remote_ufrag.as_bytes());
        prop_assert_eq!(request.priority, check.priority);
        prop_assert_eq!(request.use_candidate, check.use_candidate);
        prop_assert_eq!(request.role, check.role);
        prop_assert_eq!(request.unknown_attributes.as_slice(), &check.unknown[..]);
        prop_assert!(request.verify(&IntegrityKey::new(&check.password)));
        let another = format!("{}x", &check.password[1..]);
        prop_assert!(!request.verify(&IntegrityKey::new(&another)));
    }

    #[test]
    fn a_damaged_request_is_refused(
        check in any_check(),
        at: prop::sample::Index,
        change in 1u8..,
    ) {
        let mut message = oracle_request(&check);
        // MESSAGE-INTEGRITY covers padding too.
        let at = at.index(message.len());
        message[at] ^= change;
        if let Ok(Message::BindingRequest(request)) = parse(&message) {
            // By another type FINGERPRINT is one more attribute behind MESSAGE-INTEGRITY.
            let kind_at = message.len() - 8;
            let in_kind = check.fingerprint && (kind_at..kind_at + 2).contains(&at);
            prop_assert_eq!(request.verify(&IntegrityKey::new(&check.password)), in_kind);
        }
    }

    #[test]
    fn the_oracle_understands_success_responses(
        transaction_id: [u8; 12],
        ip: IpAddr,
        port: u16,
        password in "[A-Za-z0-9+/]{22,256}",
    ) {
        let mapped = SocketAddr::new(ip, port);
        let mut out = [0xee; MAX_BINDING_SUCCESS_LEN];
        let key = IntegrityKey::new(&password);
        let len = write_binding_success(&mut out, &transaction_id, mapped, &key).unwrap();
        let message = oracle_reads(&out[..len], &password);
        prop_assert_eq!(message.typ, BINDING_SUCCESS);
        prop_assert_eq!(message.transaction_id.0, transaction_id);
        let mut address = XorMappedAddress::default();
        address.get_from(&message).unwrap();
        prop_assert_eq!((address.ip, address.port), (ip.to_canonical(), port));
        let other = Message::Other { class: Class::SuccessResponse, method: 1 };
        prop_assert_eq!(parse(&out[..len]), Ok(other));

        let mut same = Oracle::new();
        same.build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(transaction_id)),
            Box::new(XorMappedAddress { ip: ip.to_canonical(), port }),
            Box::new(integrity(&password)),
            Box::new(FINGERPRINT),
        ]).unwrap();
        prop_assert_eq!(&out[..len], &same.raw[..]);
    }

    #[test]
    fn the_oracle_understands_error_responses(check in any_check()) {
        let message = oracle_request(&check);
        let request = request(&message);
        let key = IntegrityKey::new(&check.password);
        let unknown = BindingError::UnknownAttribute(&request.unknown_attributes);
        for (error, code) in [(unknown, 420), (BindingError::RoleConflict, 487)] {
            let mut out = [0xee; MAX_BINDING_ERROR_LEN];
            let len =
                write_binding_error(&mut out, &check.transaction_id, error, &key).unwrap();
            let message = oracle_reads(&out[..len], &check.password);
            prop_assert_eq!(message.typ, BINDING_ERROR);
            prop_assert_eq!(message.transaction_id.0, check.transaction_id);
            let mut error = ErrorCodeAttribute::default();
            error.get_from(&message).unwrap();
            prop_assert_eq!(error.code.0, code);
            if code == 420 {
                let mut unknown = UnknownAttributes(Vec::new());
                unknown.get_from(&message).unwrap();
                let kinds: Vec<u16> = unknown.0.iter().map(|kind| kind.0).collect();
                prop_assert_eq!(kinds, check.unknown.clone());
            }
        }
    }
}
