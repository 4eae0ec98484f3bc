//! Tokens that another program signs: JWT (RFC 7519) by HS256 (RFC 7518 3.2). What they let do stands in
//! them, so that there may be any number of them, and none is kept here; they end by themselves.
//!
//! A key says what its tokens may let do at most; that a token is good is decided by its signature before
//! anything else of it is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::token::Rights;
use super::{Asked, Refused, Right};
use crate::config::pattern;

/// Longer ones are not looked at.
const MAX_BYTES: usize = 4096;

/// The first part (RFC 7515 4).
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// What a reader has to understand: nothing of it is understood here.
    crit: Option<serde::de::IgnoredAny>,
}

/// What a token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// The streams it is for, as a pattern; `sub` where that is left out.
    stream: Option<String>,
    sub: Option<String>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    watch: bool,
    /// Seconds of Unix time. A token without an end could never be taken back.
    exp: f64,
    nbf: Option<f64>,
}

/// What tokens are signed with.
pub(super) struct Key {
    streams: String,
    rights: Rights,
    key: hmac::Key,
}

impl Key {
    pub(super) fn new(streams: &str, rights: Rights, secret: &[u8]) -> Self {
        Self {
            streams: streams.to_owned(),
            rights,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// What a token says that was signed with this.
    fn read(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        let header: Header = part(header)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return None;
        }
        part(claims)
    }

    fn lets(&self, claims: &Claims, right: Right, stream: Option<&str>) -> bool {
        let has = match right {
            Right::Publish => self.rights.publish && claims.publish,
            Right::Watch => self.rights.watch && claims.watch,
            Right::Operate => false,
        };
        let claimed = claims.stream.as_ref().or(claims.sub.as_ref());
        let claimed = claimed.map_or("", String::as_str);
        let is_of = match stream {
            Some(stream) => pattern::fits(&self.streams, stream) && pattern::fits(claimed, stream),
            None => self.streams == "*" && claimed == "*",
        };
        has && is_of
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// The keys that signed a token, and what it says, if its time is now.
fn signed<'a>(
    keys: &'a [Key],
    token: &str,
) -> Result<impl Iterator<Item = (&'a Key, Claims)> + use<'a>, Refused> {
    if token.len() > MAX_BYTES {
        return Err(Refused::Unknown);
    }
    let read = keys.iter().filter_map(|key| Some((key, key.read(token)?)));
    let read: Vec<_> = read.collect();
    // The same token, whichever key signed it.
    let (_, claims) = read.first().ok_or(Refused::Unknown)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now.as_ref().map_or(0.0, Duration::as_secs_f64);
    let is_now = claims.exp > now_s && claims.nbf.is_none_or(|from| from <= now_s);
    is_now.then_some(read.into_iter()).ok_or(Refused::Expired)
}

/// Whether a signed token is good for anything now.
pub(super) fn check(keys: &[Key], token: &str) -> Result<(), Refused> {
    signed(keys, token).map(drop)
}

/// Whether a signed token lets do what is asked.
pub(super) fn decide(keys: &[Key], token: &str, asked: &Asked<'_>) -> Result<(), Refused> {
    let mut signed = signed(keys, token)?;
    let lets = signed.any(|(key, claims)| key.lets(&claims, asked.right, asked.stream));
    lets.then_some(()).ok_or(Refused::Forbidden(asked.right))
}
