//! One token: what it is for, since when, and what was begun with it. Its secret is not kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::info::TokenInfo;
use super::{NewToken, Right};
use crate::config::pattern;

/// Shortest token of the configuration: what is shorter is found by trying.
pub const MIN_TOKEN_BYTES: usize = 8;

/// Shortest key: as long as what is made with it (RFC 7518 3.2).
pub(super) const MIN_KEY_BYTES: usize = 32;

/// Longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 512;

/// Of a token that is made.
const RANDOM_BYTES: usize = 32;

/// How much of a token its list shows at most, and then only a quarter of it.
const PREFIX_CHARS: usize = 6;

/// What a token is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// To publish its streams.
    pub publish: bool,
    /// To watch its streams; of all streams, also recordings.
    pub watch: bool,
    /// To do everything.
    pub operate: bool,
}

/// Where a token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Flags, file, environment.
    Configuration,
    /// The admin socket.
    Admin,
}

/// What is kept of a secret.
pub(super) type Digest = [u8; 32];

/// Makes digests that are of this process alone: how long it takes to look one up tells nothing to
/// those who do not know the salt.
pub(super) struct Salt(hmac::Key);

impl Default for Salt {
    fn default() -> Self {
        let mut salt = [0; 32];
        rand::fill(&mut salt).expect("the system has random numbers");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &salt))
    }
}

impl Salt {
    pub(super) fn digest(&self, token: &str) -> Digest {
        // None is longer; to hash more would cost what the client sends.
        let bytes = token.as_bytes();
        let looked_at = &bytes[..bytes.len().min(MAX_TOKEN_BYTES + 1)];
        let tag = hmac::sign(&self.0, looked_at);
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        digest
    }
}

/// A token that nobody guesses, of characters that need no escapes anywhere.
pub(super) fn random_token() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).expect("the system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Ends what was begun.
type End = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Begun {
    next: u64,
    ends: HashMap<u64, End>,
    is_revoked: bool,
}

/// See the module.
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) origin: Origin,
    prefix: String,
    about: NewToken,
    made: SystemTime,
    used: AtomicU64,
    begun: Mutex<Begun>,
}

impl Token {
    pub(super) fn new(id: u64, about: NewToken, secret: &str, origin: Origin) -> Self {
        let shown = (secret.len() / 4).min(PREFIX_CHARS);
        Self {
            id,
            origin,
            prefix: secret.chars().take(shown).collect(),
            about,
            made: SystemTime::now(),
            used: AtomicU64::new(0),
            begun: Mutex::default(),
        }
    }

    pub(super) fn allows(&self, right: Right, stream: Option<&str>) -> bool {
        let Rights {
            publish,
            watch,
            operate,
        } = self.about.rights;
        let has = match right {
            Right::Publish => publish,
            Right::Watch => watch,
            Right::Operate => false,
        };
        let is_of = match stream {
            Some(stream) => pattern::fits(&self.about.streams, stream),
            None => self.about.streams == "*",
        };
        operate || (has && is_of)
    }

    pub(super) fn has_expired(&self, now: SystemTime) -> bool {
        self.about.expires.is_some_and(|at| at <= now)
    }

    pub(super) fn note_use(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was begun, which `end` ends; at once, if the token was revoked meanwhile.
    pub(super) fn begin(&self, end: End) -> u64 {
        let mut begun = self.begun();
        begun.next += 1;
        let name = begun.next;
        if begun.is_revoked {
            drop(begun);
            end();
        } else {
            begun.ends.insert(name, end);
        }
        name
    }

    pub(super) fn forget(&self, name: u64) {
        let end = self.begun().ends.remove(&name);
        // Whatever it holds is dropped without the lock.
        drop(end);
    }

    /// Ends all that was begun; how many that were.
    pub(super) fn revoke(&self) -> usize {
        let mut begun = self.begun();
        begun.is_revoked = true;
        let ends = std::mem::take(&mut begun.ends);
        drop(begun);
        let count = ends.len();
        ends.into_values().for_each(|end| end());
        count
    }

    pub(super) fn info(&self) -> TokenInfo {
        let NewToken {
            streams,
            rights,
            expires,
            label,
        } = &self.about;
        TokenInfo {
            id: self.id,
            prefix: self.prefix.clone(),
            streams: streams.clone(),
            rights: *rights,
            origin: self.origin,
            label: label.clone(),
            expires_at: expires.map(|at| since_epoch(at).as_secs()),
            expired: self.has_expired(SystemTime::now()),
            age_s: self.made.elapsed().unwrap_or_default().as_secs(),
            used: self.used.load(Ordering::Relaxed),
            sessions: self.begun().ends.len(),
        }
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}
