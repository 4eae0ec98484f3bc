//! Answers to challenges: Digest (RFC 7616, with MD5 as RFC 2069 and RFC 2617 have it, or SHA-256) and
//! Basic (RFC 7617).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::super::random;

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A log is no place for passwords.
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How requests are signed, from a server's challenge on.
#[derive(Debug, Clone)]
pub struct Signer {
    credentials: Credentials,
    scheme: Scheme,
    count: u32,
}

#[derive(Debug, Clone)]
enum Scheme {
    Basic,
    Digest {
        realm: String,
        nonce: String,
        opaque: Option<String>,
        sha256: bool,
        qop: bool,
    },
}

impl Signer {
    /// The best that a `WWW-Authenticate` field offers; `None` if it offers nothing known.
    #[must_use]
    pub fn new(challenges: &str, credentials: &Credentials) -> Option<Self> {
        let offered = challenges_of(challenges);
        let digest = offered.iter().find_map(Challenge::digest);
        let basic = || {
            let mut names = offered.iter().map(|challenge| &challenge.scheme);
            names.any(|name| name == "basic").then_some(Scheme::Basic)
        };
        Some(Self {
            credentials: credentials.clone(),
            scheme: digest.or_else(basic)?,
            count: 0,
        })
    }

    /// The `Authorization` field of a request.
    pub fn sign(&mut self, method: &str, url: &str) -> String {
        self.count += 1;
        self.sign_with(method, url, &format!("{:016x}", random()))
    }

    fn sign_with(&self, method: &str, url: &str, cnonce: &str) -> String {
        let Credentials { user, password } = &self.credentials;
        let Scheme::Digest {
            realm,
            nonce,
            opaque,
            sha256,
            qop,
        } = &self.scheme
        else {
            return format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        };
        let hash = |text: String| match sha256 {
            true => hex(digest(&SHA256, text.as_bytes()).as_ref()),
            false => hex(&Md5::digest(text.as_bytes())),
        };
        let who = hash(format!("{user}:{realm}:{password}"));
        let what = hash(format!("{method}:{url}"));
        let count = format!("{:08x}", self.count);
        let response = match qop {
            true => hash(format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}")),
            false => hash(format!("{who}:{nonce}:{what}")),
        };
        let mut field = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{url}\", \
             response=\"{response}\""
        );
        if *sha256 {
            field.push_str(", algorithm=SHA-256");
        }
        if *qop {
            field.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = opaque {
            field.push_str(&format!(", opaque=\"{opaque}\""));
        }
        field
    }
}

/// One challenge of a field: scheme and parameter names in lower case.
#[derive(Debug, Default)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn digest(&self) -> Option<Scheme> {
        let sha256 = match self
            .get("algorithm")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("md5") => false,
            Some("sha-256") => true,
            Some(_) => return None,
        };
        if self.scheme != "digest" {
            return None;
        }
        let qop = self.get("qop");
        let has_auth = |qop: &str| qop.split(',').any(|one| one.trim() == "auth");
        Some(Scheme::Digest {
            realm: self.get("realm")?.to_owned(),
            nonce: self.get("nonce")?.to_owned(),
            opaque: self.get("opaque").map(str::to_owned),
            sha256,
            qop: qop.is_some_and(has_auth),
        })
    }
}

/// The challenges of a field, or of several that were joined by commas (RFC 9110 11.6.1).
fn challenges_of(field: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    for item in split_at_commas(field) {
        let (before, value) = item.split_once('=').unwrap_or((item, ""));
        let mut words = before.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        // A word before the name, or a word alone, begins another challenge.
        let (scheme, name) = match second {
            Some(name) => (Some(first), name),
            None if !item.contains('=') => (Some(first), ""),
            None => (None, first),
        };
        if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
            all.push(Challenge {
                scheme: scheme.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
        }
        if let Some(challenge) = all.last_mut().filter(|_| !name.is_empty()) {
            let value = value.trim().trim_matches('"').to_owned();
            challenge
                .parameters
                .push((name.to_ascii_lowercase(), value));
        }
    }
    all
}

/// Splits at commas that are not inside of quotes.
fn split_at_commas(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    fn mufasa() -> Credentials {
        Credentials {
            user: "Mufasa".to_owned(),
            password: "Circle of Life".to_owned(),
        }
    }

    /// RFC 7616 3.9.1.
    #[test]
    fn the_rfcs_examples_are_signed_alike() {
        let rest = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                    nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                    opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let offered = format!("Basic realm=\"x, y\", Digest {rest}, algorithm={algorithm}");
            let mut signer = Signer::new(&offered, &mufasa()).unwrap();
            signer.count = 1;
            let field = signer.sign_with("GET", "/dir/index.html", cnonce);
            assert!(
                field.contains(&format!("response=\"{response}\"")),
                "{field}"
            );
            assert!(field.contains("qop=auth, nc=00000001"), "{field}");
        }
    }

    #[test]
    fn cameras_of_old_are_answered_without_qop_and_others_by_basic() {
        let old = "Digest realm=\"camera\", nonce=\"abc\"";
        let field = Signer::new(old, &mufasa())
            .unwrap()
            .sign("DESCRIBE", "rtsp://h/s");
        assert!(
            !field.contains("qop") && field.contains("uri=\"rtsp://h/s\""),
            "{field}"
        );
        let mut basic = Signer::new("Basic realm=\"camera\"", &mufasa()).unwrap();
        assert_eq!(
            basic.sign("DESCRIBE", "x"),
            "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"
        );
        assert!(Signer::new("Negotiate", &mufasa()).is_none());
    }

    proptest! {
        #[test]
        fn any_challenge_is_answered_or_not(
            text in "((Digest|Basic|realm|nonce|qop|algorithm|MD5|=|\"|,| |\\PC){0,3}){0,10}",
        ) {
            if let Some(mut signer) = Signer::new(&text, &mufasa()) {
                signer.sign("PLAY", "rtsp://h/s");
            }
        }
    }
}
