//! Who may publish, watch and operate: one rule for every door.
//!
//! A door that is asked for something asks [`Access::check`] with the token it was shown
//! ([`credentials`]) and holds the [`Grant`] as long as what it granted lasts. As long as there is no
//! token, everybody may do everything. From the first one on, whoever publishes or operates needs one;
//! so does whoever watches a stream that a token for watching is for. That stays so when tokens expire
//! or are revoked: a door that was closed never opens by itself.
//!
//! Tokens are made here, or signed by another program. Those of the first kind are kept as salted SHA-256
//! alone, nothing here writes one to a log or a list, and how long a check takes tells nothing of them.
//! It never waits.

mod closed;
pub mod credentials;
mod failures;
mod grant;
mod info;
mod rule;
mod signed;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use serde::Serialize;

pub use grant::{Grant, Held};
pub use info::{AccessInfo, TokenInfo};
pub use rule::{NoRule, TokenRule};
pub use token::{MAX_TOKEN_BYTES, MIN_TOKEN_BYTES, Origin, Rights};

use closed::Closed;
use failures::Failures;
use token::{Digest, Salt, Token, random_token};

/// Tokens at once. Those who need more sign them ([`Access::configure_key`]).
pub const MAX_TOKENS: usize = 10_000;

/// Keys that tokens are signed with: each is tried for a token that is not known.
const MAX_KEYS: usize = 32;

/// Longest pattern of streams.
const MAX_PATTERN_BYTES: usize = 128;

/// Longest label.
const MAX_LABEL_BYTES: usize = 128;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Publish a stream.
    Publish,
    /// Watch a stream, or a recording.
    Watch,
    /// Change what the server does, such as what it records.
    Operate,
}

impl Right {
    /// In a sentence.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Watch => "watch",
            Self::Operate => "operate",
        }
    }
}

/// What a door asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What somebody wants to do.
    pub right: Right,
    /// With which stream; `None`: with the server as a whole, as with its recordings.
    pub stream: Option<&'a str>,
    /// The token that was shown.
    pub token: Option<&'a str>,
    /// Which door asks: `whip`, `whep`, `http`, `rtmp`, `rtsp`.
    pub door: &'static str,
    /// Who wants to.
    pub remote: Option<IpAddr>,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No token was shown.
    #[error("a token is needed to {} here: ?token=... in the address, or Authorization: Bearer", .0.verb())]
    Missing(Right),
    /// There is no such token.
    #[error("the token is not known here: it is wrong, or was revoked; ask for another")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired; ask for another")]
    Expired,
    /// It is for something else.
    #[error("the token is not one to {} this; use one that is, or another stream's name", .0.verb())]
    Forbidden(Right),
}

/// Why a token is not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// It would be good for nothing.
    #[error("say what it is for: publish, watch or operate")]
    NoRight,
    /// It is for no streams that there can be.
    #[error(
        "a pattern has 1 to {MAX_PATTERN_BYTES} of the characters A-Z a-z 0-9 . _ ~ - * ?; * is any \
         number of characters and ? one"
    )]
    Pattern,
    /// Who operates has the whole server.
    #[error("operate is a right to the whole server: leave streams out, or make it *")]
    OperateSome,
    /// It would have expired.
    #[error("give one time in the future, as ttl_s or as expires_at (Unix time in seconds)")]
    Expiry,
    /// Too long.
    #[error("a label has at most {MAX_LABEL_BYTES} bytes")]
    Label,
    /// There are as many as may be.
    #[error("there are {MAX_TOKENS} tokens or {MAX_KEYS} keys, which is the limit: take some away")]
    TooMany,
    /// No such token.
    #[error("there is no token {0}; access.list lists them")]
    NoToken(u64),
    /// It is the configuration's.
    #[error("token {0} is from the configuration: take it out there and restart the server")]
    Configured(u64),
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The names of the streams it is for.
    pub streams: String,
    /// What it is for.
    pub rights: Rights,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// What the operator calls it.
    pub label: Option<String>,
}

type Decide = dyn Fn(&Asked<'_>) -> Result<(), Refused> + Send + Sync;

/// See the module; clones are the same.
#[derive(Clone, Default)]
pub struct Access(Arc<Shared>);

#[derive(Default)]
struct Shared {
    salt: Salt,
    /// Whether anything is asked for a token.
    enforced: AtomicBool,
    table: RwLock<Table>,
    granted: AtomicU64,
    failures: Failures,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    /// The same token may be there twice, for other streams.
    tokens: HashMap<Digest, Vec<Arc<Token>>>,
    count: usize,
    /// The streams that nobody watches without a token.
    closed: Closed,
    /// What other programs sign tokens with.
    keys: Vec<signed::Key>,
    /// Decides instead.
    decide: Option<Arc<Decide>>,
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a program decide, instead of the tokens here. It is called on threads that serve others, and
    /// must not wait.
    pub fn decide_by(
        &self,
        decide: impl Fn(&Asked<'_>) -> Result<(), Refused> + Send + Sync + 'static,
    ) {
        self.write().decide = Some(Arc::new(decide));
        self.0.enforced.store(true, Ordering::Release);
    }

    /// Whether anything needs a token.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.0.enforced.load(Ordering::Acquire)
    }

    /// Whether somebody may. What is refused is counted, and logged now and then.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, asked: &Asked<'_>) -> Result<Grant, Refused> {
        if !self.is_enforced() {
            return Ok(Grant::free());
        }
        let decided = self.decide(asked);
        match &decided {
            Ok(grant) if grant.is_free() => {}
            Ok(_) => {
                self.0.granted.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => self.0.failures.note(asked, *why),
        }
        decided
    }

    /// Whether this stream may be shown in a list to somebody with this token.
    #[must_use]
    pub fn may_see(&self, stream: &str, token: Option<&str>, door: &'static str) -> bool {
        let may = |right| {
            let asked = Asked {
                right,
                stream: Some(stream),
                token,
                door,
                remote: None,
            };
            self.decide(&asked).is_ok()
        };
        !self.is_enforced() || may(Right::Watch) || may(Right::Publish)
    }

    /// Whether somebody may see any list of streams: where all need a token, one that is known.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check_list(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let table = self.read();
        if !table.closed.has_all() || table.decide.is_some() {
            return Ok(());
        }
        let known = match asked.token {
            None => Err(Refused::Missing(asked.right)),
            Some(token) => match table.valid(self.0.salt.digest(token)) {
                Err(Refused::Unknown) => signed::check(&table.keys, token),
                valid => valid.map(drop),
            },
        };
        drop(table);
        known.inspect_err(|why| self.0.failures.note(asked, *why))
    }

    fn decide(&self, asked: &Asked<'_>) -> Result<Grant, Refused> {
        let table = self.read();
        if let Some(decide) = table.decide.clone() {
            // It may ask us something.
            drop(table);
            return decide(asked).map(|()| Grant::decided());
        }
        if !table.needs_token(asked) {
            return Ok(Grant::free());
        }
        let shown = asked.token.ok_or(Refused::Missing(asked.right))?;
        let valid = match table.valid(self.0.salt.digest(shown)) {
            Err(Refused::Unknown) => {
                signed::decide(&table.keys, shown, asked)?;
                return Ok(Grant::decided());
            }
            valid => valid?,
        };
        let mut fitting = valid.filter(|token| token.allows(asked.right, asked.stream));
        let token = fitting.next().ok_or(Refused::Forbidden(asked.right))?;
        Ok(Grant::of(token))
    }

    /// Takes a token of the configuration.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn configure(&self, rule: &TokenRule, rights: Rights) -> Result<(), AccessError> {
        let Ok((pattern, token)) = rule.read() else {
            return Ok(());
        };
        let new = NewToken {
            streams: pattern.to_owned(),
            rights,
            expires: None,
            label: None,
        };
        self.enter(new, token, Origin::Configuration).map(drop)
    }

    /// Takes a key of the configuration, with which another program signs tokens.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn configure_key(&self, rule: &TokenRule, rights: Rights) -> Result<(), AccessError> {
        let Ok((pattern, secret)) = rule.read_key() else {
            return Ok(());
        };
        let mut table = self.write();
        let is_full = table.keys.len() >= MAX_KEYS;
        if is_full || (rights.watch && !table.closed.add(pattern)) {
            return Err(AccessError::TooMany);
        }
        let key = signed::Key::new(pattern, rights, secret.as_bytes());
        table.keys.push(key);
        drop(table);
        self.0.enforced.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes a token: its secret, which is nowhere else, and what is known of it.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn create(&self, new: NewToken) -> Result<(String, TokenInfo), AccessError> {
        check(&new)?;
        let secret = random_token();
        let token = self.enter(new, &secret, Origin::Admin)?;
        Ok((secret, token.info()))
    }

    fn enter(
        &self,
        new: NewToken,
        secret: &str,
        origin: Origin,
    ) -> Result<Arc<Token>, AccessError> {
        let mut table = self.write();
        if table.count >= MAX_TOKENS {
            table.forget_expired();
        }
        if table.count >= MAX_TOKENS {
            return Err(AccessError::TooMany);
        }
        if new.rights.watch && !table.closed.add(&new.streams) {
            return Err(AccessError::TooMany);
        }
        table.next_id += 1;
        table.count += 1;
        let token = Arc::new(Token::new(table.next_id, new, secret, origin));
        let digest = self.0.salt.digest(secret);
        let same = table.tokens.entry(digest).or_default();
        same.push(Arc::clone(&token));
        drop(table);
        self.0.enforced.store(true, Ordering::Release);
        Ok(token)
    }

    /// Takes a token back, and ends what was begun with it: how many sessions that were. It may wait for
    /// the data plane.
    ///
    /// # Errors
    /// [`AccessError::NoToken`], [`AccessError::Configured`].
    pub fn revoke(&self, id: u64) -> Result<usize, AccessError> {
        let mut table = self.write();
        let mut all = table.tokens.iter();
        let found = all.find_map(|(digest, same)| {
            let token = same.iter().find(|token| token.id == id)?;
            Some((*digest, Arc::clone(token)))
        });
        let (digest, token) = found.ok_or(AccessError::NoToken(id))?;
        if token.origin == Origin::Configuration {
            return Err(AccessError::Configured(id));
        }
        table.remove(&digest, id);
        drop(table);
        Ok(token.revoke())
    }

    /// All tokens, without their secrets, in the order they were made.
    #[must_use]
    pub fn list(&self) -> Vec<TokenInfo> {
        let table = self.read();
        let mut list: Vec<_> = table.tokens.values().flatten().map(|t| t.info()).collect();
        list.sort_by_key(|token| token.id);
        list
    }

    /// What is asked for, and what was refused.
    #[must_use]
    pub fn info(&self) -> AccessInfo {
        let table = self.read();
        AccessInfo {
            publishing_needs_token: self.is_enforced(),
            watching_needs_token: table.closed.list(),
            decided_elsewhere: table.decide.is_some(),
            tokens: table.count,
            granted: self.0.granted.load(Ordering::Relaxed),
            refused: self.0.failures.counts(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn needs_token(&self, asked: &Asked<'_>) -> bool {
        match (asked.right, asked.stream) {
            (Right::Watch, Some(stream)) => self.closed.has(stream),
            // Recordings are of any stream.
            (Right::Watch, None) => !self.closed.is_empty(),
            (Right::Publish | Right::Operate, _) => self.next_id > 0 || !self.keys.is_empty(),
        }
    }

    /// Those of a digest that have not expired.
    fn valid(&self, digest: Digest) -> Result<impl Iterator<Item = &Arc<Token>>, Refused> {
        let same = self.tokens.get(&digest).ok_or(Refused::Unknown)?;
        let now = SystemTime::now();
        let valid = move |token: &&Arc<Token>| !token.has_expired(now);
        if !same.iter().any(|token| valid(&token)) {
            return Err(Refused::Expired);
        }
        Ok(same.iter().filter(valid))
    }

    fn remove(&mut self, digest: &Digest, id: u64) {
        let Some(same) = self.tokens.get_mut(digest) else {
            return;
        };
        let before = same.len();
        same.retain(|token| token.id != id);
        self.count -= before - same.len();
        if same.is_empty() {
            self.tokens.remove(digest);
        }
    }

    fn forget_expired(&mut self) {
        let now = SystemTime::now();
        for same in self.tokens.values_mut() {
            same.retain(|token| !token.has_expired(now));
        }
        self.tokens.retain(|_, same| !same.is_empty());
        self.count = self.tokens.values().map(Vec::len).sum();
    }
}

fn check(new: &NewToken) -> Result<(), AccessError> {
    if !(new.rights.publish || new.rights.watch || new.rights.operate) {
        return Err(AccessError::NoRight);
    }
    if !is_pattern(&new.streams) {
        return Err(AccessError::Pattern);
    }
    if new.rights.operate && new.streams != "*" {
        return Err(AccessError::OperateSome);
    }
    if new.expires.is_some_and(|at| at <= SystemTime::now()) {
        return Err(AccessError::Expiry);
    }
    let label = new.label.as_deref().unwrap_or_default();
    (label.len() <= MAX_LABEL_BYTES)
        .then_some(())
        .ok_or(AccessError::Label)
}

/// Whether streams could have names that fit.
fn is_pattern(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-*?".contains(&byte);
    (1..=MAX_PATTERN_BYTES).contains(&text.len()) && text.bytes().all(may)
}
