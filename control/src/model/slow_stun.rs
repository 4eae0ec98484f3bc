//! Answers to STUN requests that are not the ordinary connectivity check: wrong credentials, role
//! conflicts, attributes we do not know. Built by the `stun` crate, off the packet path.

use stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USERNAME, AttrType};
use stun::error_code::{
    CODE_BAD_REQUEST, CODE_ROLE_CONFLICT, CODE_UNAUTHORIZED, CODE_UNKNOWN_ATTRIBUTE, ErrorCode,
    ErrorCodeAttribute,
};
use stun::fingerprint::FINGERPRINT;
use stun::message::{
    BINDING_REQUEST, CLASS_ERROR_RESPONSE, METHOD_BINDING, Message, MessageType, Setter,
};
use stun::uattrs::UnknownAttributes;

/// Attributes above this are optional to understand (RFC 8489 14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// What a connectivity check may contain (RFC 8445 16.1, RFC 8489 14).
const KNOWN: [u16; 8] = [
    0x0001, 0x0006, 0x0008, 0x0014, 0x0015, 0x0020, 0x0024, 0x0025,
];

/// The error response to a request the fast path passed on; `None` if it deserves none.
pub(crate) fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(bytes).ok()?;
    if request.typ != BINDING_REQUEST {
        return None;
    }
    let unknown: Vec<AttrType> = request
        .attributes
        .0
        .iter()
        .map(|attribute| attribute.typ)
        .filter(|typ| typ.value() < COMPREHENSION_OPTIONAL && !KNOWN.contains(&typ.value()))
        .collect();
    let code = error_code(&request, !unknown.is_empty());
    let reason = match code {
        CODE_UNKNOWN_ATTRIBUTE => "Unknown Attribute",
        CODE_ROLE_CONFLICT => "Role Conflict",
        CODE_BAD_REQUEST => "Bad Request",
        _ => "Unauthenticated",
    };
    let typ = MessageType {
        method: METHOD_BINDING,
        class: CLASS_ERROR_RESPONSE,
    };
    let error = ErrorCodeAttribute {
        code,
        reason: reason.as_bytes().to_vec(),
    };
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(typ),
        Box::new(request.transaction_id),
        Box::new(error),
    ];
    if code == CODE_UNKNOWN_ATTRIBUTE {
        setters.push(Box::new(UnknownAttributes(unknown)));
    }
    setters.push(Box::new(FINGERPRINT));
    let mut response = Message::new();
    response.build(&setters).ok()?;
    Some(response.raw)
}

// The fast path already refused what it knew to be right, so a request with credentials and
// nothing else the matter has wrong ones.
fn error_code(request: &Message, unknown: bool) -> ErrorCode {
    // RFC 8489 9.1.3: credentials first.
    if !request.contains(ATTR_USERNAME) || !request.contains(ATTR_MESSAGE_INTEGRITY) {
        CODE_BAD_REQUEST
    } else if unknown {
        CODE_UNKNOWN_ATTRIBUTE
    } else if request.contains(ATTR_ICE_CONTROLLED) {
        // RFC 8445 7.3.1.1: the lite side is controlled and stays so.
        CODE_ROLE_CONFLICT
    } else {
        CODE_UNAUTHORIZED
    }
}

#[cfg(test)]
mod tests {
    use stun::attributes::ATTR_ERROR_CODE;
    use stun::integrity::MessageIntegrity;
    use stun::message::Getter;
    use stun::textattrs::Username;

    use super::*;

    fn code_of(response: &[u8]) -> u16 {
        let mut message = Message::new();
        message
            .unmarshal_binary(response)
            .expect("our response is STUN");
        assert!(message.contains(ATTR_ERROR_CODE));
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).expect("it has an error code");
        error.code.0
    }

    fn request(extra: Vec<Box<dyn Setter>>) -> Vec<u8> {
        let mut setters: Vec<Box<dyn Setter>> = vec![Box::new(BINDING_REQUEST)];
        setters.extend(extra);
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).expect("a request");
        message.raw
    }

    fn credentials() -> Vec<Box<dyn Setter>> {
        let username = Username::new(ATTR_USERNAME, "us:them".to_owned());
        let integrity = MessageIntegrity::new_short_term_integrity("wrong".to_owned());
        vec![Box::new(username), Box::new(integrity)]
    }

    #[test]
    fn a_request_without_credentials_is_bad() {
        let response = answer(&request(vec![])).expect("an answer");
        assert_eq!(code_of(&response), 400);
    }

    #[test]
    fn a_request_with_wrong_credentials_is_unauthenticated() {
        let response = answer(&request(credentials())).expect("an answer");
        assert_eq!(code_of(&response), 401);
    }

    #[test]
    fn garbage_and_responses_are_not_answered() {
        assert!(answer(&[0; 40]).is_none());
        let response = answer(&request(vec![])).expect("an answer");
        assert!(answer(&response).is_none());
    }
}
