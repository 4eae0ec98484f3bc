#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const PUBLISH: Rights = Rights {
    publish: true,
    watch: false,
    operate: false,
};
const WATCH: Rights = Rights {
    publish: false,
    watch: true,
    operate: false,
};
const OPERATE: Rights = Rights {
    publish: false,
    watch: false,
    operate: true,
};

fn configured(rules: &[(&str, Rights)]) -> Access {
    let access = Access::new();
    for (rule, rights) in rules {
        let rule = TokenRule::from((*rule).to_owned());
        rule.read().unwrap();
        access.configure(&rule, *rights).unwrap();
    }
    access
}

fn new(streams: &str, rights: Rights) -> NewToken {
    NewToken {
        streams: streams.to_owned(),
        rights,
        expires: None,
        label: None,
    }
}

fn ask(
    access: &Access,
    right: Right,
    stream: impl Into<Option<&'static str>>,
    token: impl Into<Option<&'static str>>,
) -> Result<(), Refused> {
    let asked = Asked {
        right,
        stream: stream.into(),
        token: token.into(),
        door: "whip",
        remote: None,
    };
    access.check(&asked).map(drop)
}

#[test]
fn without_a_token_everybody_may_do_everything() {
    let access = Access::new();
    for right in [Right::Publish, Right::Watch, Right::Operate] {
        ask(&access, right, "cam", None).unwrap();
        ask(&access, right, None, "whatever").unwrap();
    }
    assert!(!access.is_enforced());
    assert!(access.may_see("cam", None, "http"));
}

#[test]
fn a_token_for_publishing_closes_publishing_and_operating_alone() {
    use Right::{Operate, Publish, Watch};

    let access = configured(&[("cam*:secret-1", PUBLISH)]);
    ask(&access, Publish, "cam1", "secret-1").unwrap();
    assert_eq!(
        ask(&access, Publish, "cam1", None),
        Err(Refused::Missing(Publish))
    );
    assert_eq!(
        ask(&access, Publish, "cam1", "secret-2"),
        Err(Refused::Unknown)
    );
    let forbidden = Err(Refused::Forbidden(Publish));
    assert_eq!(ask(&access, Publish, "stage", "secret-1"), forbidden);
    assert_eq!(
        ask(&access, Operate, None, "secret-1"),
        Err(Refused::Forbidden(Operate))
    );
    ask(&access, Watch, "cam1", None).unwrap();
    ask(&access, Watch, None, None).unwrap();
    let info = access.info();
    assert_eq!((info.granted, info.tokens), (1, 1));
    let refused: Vec<_> = info.refused.into_iter().collect();
    let expected = [
        ("expired", 0),
        ("forbidden", 2),
        ("missing", 1),
        ("unknown", 1),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn a_token_for_watching_closes_its_streams_and_all_recordings() {
    use Right::{Publish, Watch};

    let access = configured(&[("vip-*:secret-1", WATCH), ("door:secret-2", WATCH)]);
    ask(&access, Watch, "vip-1", "secret-1").unwrap();
    ask(&access, Watch, "door", "secret-2").unwrap();
    ask(&access, Watch, "open", None).unwrap();
    for (stream, token) in [("vip-1", "secret-2"), ("door", "secret-1")] {
        let asked = ask(&access, Watch, stream, token);
        assert_eq!(asked, Err(Refused::Forbidden(Watch)), "{stream}");
    }
    // A recording may be of any stream.
    assert_eq!(
        ask(&access, Watch, None, "secret-1"),
        Err(Refused::Forbidden(Watch))
    );
    assert_eq!(
        ask(&access, Publish, "open", None),
        Err(Refused::Missing(Publish))
    );
    assert!(access.may_see("open", None, "http"));
    assert!(!access.may_see("vip-1", None, "http"));
    assert!(access.may_see("vip-1", Some("secret-1"), "http"));
}

#[test]
fn a_room_is_closed_with_any_member_it_may_have() {
    for rule in ["hall~ann:one-token", "hall~a*:one-token", "*ann:one-token"] {
        let access = configured(&[(rule, WATCH)]);
        let missing = Err(Refused::Missing(Right::Watch));
        assert_eq!(ask(&access, Right::Watch, "hall~", None), missing, "{rule}");
        assert_eq!(ask(&access, Right::Watch, "hall~ann", None), missing);
        assert_eq!(ask(&access, Right::Watch, "hall~bob", None), Ok(()));
        // One for a member is not one for all of them.
        let shown = ask(&access, Right::Watch, "hall~", "one-token");
        assert_eq!(shown, Err(Refused::Forbidden(Right::Watch)));
    }
    let access = configured(&[("hall~*:one-token", WATCH)]);
    assert_eq!(ask(&access, Right::Watch, "hall~", "one-token"), Ok(()));
    assert_eq!(ask(&access, Right::Watch, "yard~", None), Ok(()));
}

#[test]
fn the_same_token_may_be_for_several_things() {
    let access = configured(&[
        ("a:secret-1", PUBLISH),
        ("b:secret-1", PUBLISH),
        ("secret-1", WATCH),
    ]);
    ask(&access, Right::Publish, "a", "secret-1").unwrap();
    ask(&access, Right::Publish, "b", "secret-1").unwrap();
    ask(&access, Right::Watch, None, "secret-1").unwrap();
    assert!(ask(&access, Right::Publish, "c", "secret-1").is_err());
    assert_eq!(access.list().len(), 3);
}

#[test]
fn who_operates_may_do_everything() {
    let access = configured(&[("secret-1", OPERATE), ("secret-2", WATCH)]);
    for right in [Right::Publish, Right::Watch, Right::Operate] {
        ask(&access, right, "cam", "secret-1").unwrap();
        ask(&access, right, None, "secret-1").unwrap();
    }
}

#[test]
fn a_list_of_streams_needs_a_known_token_where_all_do() {
    let list = |access: &Access, token| {
        access.check_list(&Asked {
            right: Right::Watch,
            stream: None,
            token,
            door: "http",
            remote: None,
        })
    };
    list(&configured(&[("secret-1", PUBLISH)]), None).unwrap();
    let access = configured(&[("secret-1", WATCH), ("cam:secret-2", PUBLISH)]);
    list(&access, Some("secret-2")).unwrap();
    assert_eq!(list(&access, None), Err(Refused::Missing(Right::Watch)));
    assert_eq!(list(&access, Some("wrong")), Err(Refused::Unknown));
}

#[test]
fn a_revoked_token_ends_what_it_began_and_opens_nothing() {
    let access = Access::new();
    let (secret, info) = access.create(new("vip", WATCH)).unwrap();
    assert_eq!(secret.len(), 43);
    assert!(secret.starts_with(&info.prefix) && info.prefix.len() <= 6);
    let asked = Asked {
        right: Right::Watch,
        stream: Some("vip"),
        token: Some(&secret),
        door: "whep",
        remote: None,
    };
    let ended = Arc::new(AtomicUsize::new(0));
    let begin = |grant: &Grant| {
        let ended = Arc::clone(&ended);
        grant.hold(move || {
            ended.fetch_add(1, Ordering::Relaxed);
        })
    };
    let grant = access.check(&asked).unwrap();
    let (lasting, over) = (begin(&grant), begin(&grant));
    drop(over);
    assert_eq!(access.list()[0].sessions, 1);
    assert_eq!(access.revoke(info.id), Ok(1));
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    // Begun at the same moment, by a grant from before.
    let late = begin(&grant);
    assert_eq!(ended.load(Ordering::Relaxed), 2);
    drop((lasting, late));

    assert_eq!(access.check(&asked).map(drop), Err(Refused::Unknown));
    let bare = Asked {
        token: None,
        ..asked
    };
    let missing = Err(Refused::Missing(Right::Watch));
    assert_eq!(access.check(&bare).map(drop), missing);
    assert_eq!(access.revoke(info.id), Err(AccessError::NoToken(info.id)));
    assert_eq!(access.list(), []);
}

#[test]
fn a_token_ends_with_its_time_and_opens_nothing() {
    let access = Access::new();
    let soon = SystemTime::now() + Duration::from_millis(30);
    let (secret, _) = access
        .create(NewToken {
            expires: Some(soon),
            ..new("*", WATCH)
        })
        .unwrap();
    let asked = Asked {
        right: Right::Watch,
        stream: Some("cam"),
        token: Some(&secret),
        door: "whep",
        remote: None,
    };
    while SystemTime::now() < soon {
        std::thread::yield_now();
    }
    assert_eq!(access.check(&asked).map(drop), Err(Refused::Expired));
    assert!(access.list()[0].expired);
    let bare = ask(&access, Right::Watch, "cam", None);
    assert_eq!(bare, Err(Refused::Missing(Right::Watch)));
}

#[test]
fn what_is_no_token_is_not_made() {
    let access = Access::new();
    let long = "x".repeat(200);
    for (token, expected) in [
        (new("*", Rights::default()), AccessError::NoRight),
        (new("a/b", WATCH), AccessError::Pattern),
        (new("", WATCH), AccessError::Pattern),
        (new(&long, WATCH), AccessError::Pattern),
        (new("cam*", OPERATE), AccessError::OperateSome),
        (
            NewToken {
                expires: Some(SystemTime::UNIX_EPOCH),
                ..new("*", WATCH)
            },
            AccessError::Expiry,
        ),
        (
            NewToken {
                label: Some(long.clone()),
                ..new("*", WATCH)
            },
            AccessError::Label,
        ),
    ] {
        assert_eq!(access.create(token).unwrap_err(), expected);
    }
    assert!(!access.is_enforced());
    let configured = configured(&[("secret-1", WATCH)]);
    let id = configured.list()[0].id;
    assert_eq!(configured.revoke(id), Err(AccessError::Configured(id)));
}

#[test]
fn there_are_only_so_many_tokens_and_expired_ones_make_room() {
    let access = Access::new();
    let soon = SystemTime::now() + Duration::from_millis(100);
    access
        .create(NewToken {
            expires: Some(soon),
            ..new("*", PUBLISH)
        })
        .unwrap();
    for _ in 1..MAX_TOKENS {
        access.create(new("*", PUBLISH)).unwrap();
    }
    while SystemTime::now() < soon {
        std::thread::yield_now();
    }
    access.create(new("*", PUBLISH)).unwrap();
    let more = access.create(new("*", PUBLISH)).unwrap_err();
    assert_eq!(more, AccessError::TooMany);
    assert_eq!(access.info().tokens, MAX_TOKENS);
}

/// What is signed with; nothing depends on what it is.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A token by HS256 (RFC 7515 3.1).
fn signed_by(key: &str, header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn with_keys(rules: &[(&str, Rights)]) -> Access {
    let access = Access::new();
    for (rule, rights) in rules {
        let rule = TokenRule::from((*rule).to_owned());
        rule.read_key().unwrap();
        access.configure_key(&rule, *rights).unwrap();
    }
    access
}

#[test]
fn a_signed_token_lets_do_what_it_says_and_its_key_allows() {
    use Right::{Operate, Publish, Watch};

    let access = with_keys(&[(KEY, PUBLISH), (&format!("vip-*:{KEY}"), WATCH)]);
    let ask = |right, stream: Option<&str>, token: &str| {
        let asked = Asked {
            right,
            stream,
            token: Some(token),
            door: "whip",
            remote: None,
        };
        access.check(&asked).map(drop)
    };
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let token = |claims: &str| signed_by(KEY, header, claims);
    let both = token(r#"{"stream":"*","publish":true,"watch":true,"exp":99999999999}"#);
    for (right, stream, expected) in [
        (Publish, Some("cam"), Ok(())),
        (Publish, None, Ok(())),
        (Watch, Some("vip-1"), Ok(())),
        // Nobody needs one for these.
        (Watch, Some("cam"), Ok(())),
        (Watch, None, Err(Refused::Forbidden(Watch))),
        (Operate, None, Err(Refused::Forbidden(Operate))),
    ] {
        assert_eq!(ask(right, stream, &both), expected, "{right:?} {stream:?}");
    }
    let one = token(r#"{"sub":"vip-1","watch":true,"exp":99999999999.5,"iss":"shop"}"#);
    assert_eq!(ask(Watch, Some("vip-1"), &one), Ok(()));
    let forbidden = Err(Refused::Forbidden(Watch));
    assert_eq!(ask(Watch, Some("vip-2"), &one), forbidden);
    let named = token(r#"{"sub":"Ada","stream":"vip-2","watch":true,"exp":99999999999}"#);
    assert_eq!(ask(Watch, Some("vip-2"), &named), Ok(()));
    assert_eq!(ask(Watch, Some("Ada"), &named), Ok(()), "it needs none");

    let late = token(r#"{"stream":"*","watch":true,"exp":1}"#);
    assert_eq!(ask(Watch, Some("vip-1"), &late), Err(Refused::Expired));
    let early = token(r#"{"stream":"*","watch":true,"exp":99999999999,"nbf":99999999998}"#);
    assert_eq!(ask(Watch, Some("vip-1"), &early), Err(Refused::Expired));
}

#[test]
fn what_is_not_signed_as_it_should_be_is_not_known() {
    let access = with_keys(&[(KEY, WATCH)]);
    let claims = r#"{"stream":"*","watch":true,"exp":99999999999}"#;
    let good = signed_by(KEY, r#"{"alg":"HS256"}"#, claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(r#"{"stream":"*","watch":true,"exp":99999999998}"#);
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let body = URL_SAFE_NO_PAD.encode(claims);
    for wrong in [
        signed_by(
            "another key of as many characters",
            r#"{"alg":"HS256"}"#,
            claims,
        ),
        signed_by(KEY, r#"{"alg":"none"}"#, claims),
        signed_by(KEY, r#"{"alg":"HS512"}"#, claims),
        signed_by(KEY, r#"{"alg":"HS256","crit":["exp"]}"#, claims),
        // Without an end.
        signed_by(KEY, r#"{"alg":"HS256"}"#, r#"{"stream":"*","watch":true}"#),
        signed_by(
            KEY,
            r#"{"alg":"HS256"}"#,
            &format!("{claims}{}", " ".repeat(5000)),
        ),
        format!("{header}.{other}.{signature}"),
        format!("{none}.{body}."),
        signed.to_owned(),
        format!("{good}="),
        "..".to_owned(),
        KEY.to_owned(),
    ] {
        let asked = Asked {
            right: Right::Watch,
            stream: Some("cam"),
            token: Some(&wrong),
            door: "whep",
            remote: None,
        };
        let refused = access.check(&asked).map(drop);
        assert_eq!(refused, Err(Refused::Unknown), "{wrong}");
        assert_eq!(access.check_list(&asked), Err(Refused::Unknown), "{wrong}");
        let right = Asked {
            token: Some(&good),
            ..asked
        };
        access.check(&right).map(drop).unwrap();
        access.check_list(&right).unwrap();
    }
}

/// RFC 7515 A.1: signed as others sign.
#[test]
fn the_token_of_the_rfc_is_known_and_long_over() {
    let key =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = URL_SAFE_NO_PAD.decode(key).unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
         dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let keys = [signed::Key::new("*", WATCH, &key)];
    assert_eq!(signed::check(&keys, token), Err(Refused::Expired));
}

#[test]
fn a_program_may_decide() {
    let access = Access::new();
    access.decide_by(|asked| match asked.token {
        Some("friend") => Ok(()),
        _ => Err(Refused::Unknown),
    });
    ask(&access, Right::Publish, "cam", "friend").unwrap();
    assert_eq!(
        ask(&access, Right::Watch, "cam", None),
        Err(Refused::Unknown)
    );
    assert!(access.info().decided_elsewhere);
}

#[test]
fn a_rule_is_a_token_and_perhaps_a_pattern_and_is_never_shown() {
    let rule = |text: &str| TokenRule::from(text.to_owned());
    assert_eq!(rule("secret-1").read(), Ok(("*", "secret-1")));
    assert_eq!(rule("cam*:se+/cr~t==").read(), Ok(("cam*", "se+/cr~t==")));
    for (text, expected) in [
        ("short", NoRule::Token),
        ("cam*:", NoRule::Token),
        ("has a blank in it", NoRule::Token),
        ("a:b:secret-1", NoRule::Token),
        (":secret-1", NoRule::Pattern),
        ("a/b:secret-1", NoRule::Pattern),
    ] {
        assert_eq!(rule(text).read(), Err(expected), "{text}");
        assert!(!expected.to_string().contains(text));
    }
    assert_eq!(format!("{:?}", rule("cam*:secret-1")), "cam*:...");
    let json = serde_json::to_string(&rule("secret-1")).unwrap();
    assert_eq!(json, "\"*:...\"");
}
