//! Where clients put a token: `Authorization` (RFC 6750 2.1 `Bearer`; RFC 7617 `Basic`, the password
//! being the token, for players that take a user and a password in an address), or `token=` in the
//! query of an address (as RFC 6750 2.3, for those that can do nothing else).

use std::fmt::Write;

use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use base64::{Engine, alphabet};

/// Some clients leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The token in an `Authorization` field.
#[must_use]
pub fn of_authorization(field: &str) -> Option<String> {
    let (scheme, rest) = field.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = LENIENT.decode(rest).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (_, password) = text.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// The token in the query of an address, without its question mark.
#[must_use]
pub fn of_query(query: &str) -> Option<String> {
    let mut parameters = query.split('&');
    let given = parameters.find_map(|parameter| parameter.strip_prefix("token="))?;
    (!given.is_empty()).then(|| percent_decoded(given))
}

/// `token=` for the query of an address.
#[must_use]
pub fn to_query(token: &str) -> String {
    let mut query = "token=".to_owned();
    for byte in token.bytes() {
        // RFC 3986 2.3: what needs no escape.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            write!(query, "%{byte:02X}").expect("a String takes whatever is written");
        }
    }
    query
}

/// What `%XX` stands for in a part of an address.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        let decoded = match (first, after.get(..2)) {
            (b'%', Some(digits)) => hex(digits),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_found_where_clients_put_them() {
        for (field, expected) in [
            ("Bearer abc.def~", Some("abc.def~")),
            ("bearer  abc", Some("abc")),
            ("Basic eDpzZWNyZXQ=", Some("secret")),
            ("basic eDpzZWNyZXQ", Some("secret")),
            ("Basic Onk6eg==", Some("y:z")),
            ("Basic eA==", None),
            ("Basic eDo=", None),
            ("Basic !", None),
            ("Digest username=\"x\"", None),
            ("Bearer", None),
            ("Bearer  ", None),
            ("", None),
        ] {
            assert_eq!(of_authorization(field).as_deref(), expected, "{field}");
        }
        for (query, expected) in [
            ("token=abc", Some("abc")),
            ("role=backup&token=a%2Bb%3D", Some("a+b=")),
            ("token=a+b/c==", Some("a+b/c==")),
            ("xtoken=abc", None),
            ("token=", None),
            ("token", None),
            ("", None),
        ] {
            assert_eq!(of_query(query).as_deref(), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_read(text in "\\PC{0,80}") {
            let _ = of_authorization(&text);
            let _ = of_authorization(&format!("Basic {text}"));
        }

        #[test]
        fn what_is_put_into_a_query_is_found_there(token in "\\PC{1,40}") {
            prop_assert_eq!(of_query(&to_query(&token)), Some(token));
        }

        #[test]
        fn any_password_is_found(user in "[a-z]{0,5}", password in "\\PC{1,20}") {
            let field = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            prop_assert_eq!(of_authorization(&field), Some(password));
        }
    }
}
