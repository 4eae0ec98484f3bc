//! Tokens in the configuration: `[PATTERN:]TOKEN`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::is_pattern;
use super::token::{MAX_TOKEN_BYTES, MIN_KEY_BYTES, MIN_TOKEN_BYTES};

/// Why a text is no rule; it does not say the text, which would then be in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRule {
    /// The token.
    #[error(
        "a token has {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} of the characters A-Z a-z 0-9 - . _ ~ + / =; \
         `openssl rand -hex 24` makes a good one"
    )]
    Token,
    /// The key.
    #[error(
        "a key has at least {MIN_KEY_BYTES} characters, as RFC 7518 asks; `openssl rand -hex 32` makes one"
    )]
    Key,
    /// The streams' names.
    #[error("before the colon stands a pattern of streams' names, such as cam*")]
    Pattern,
}

/// A token or key as it is configured, for streams whose names fit a pattern or for all. Whatever shows it
/// shows the pattern alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct TokenRule(String);

impl TokenRule {
    /// The pattern and the token.
    ///
    /// # Errors
    /// [`NoRule`].
    pub fn read(&self) -> Result<(&str, &str), NoRule> {
        let (pattern, token) = self.0.split_once(':').unwrap_or(("*", &self.0));
        // RFC 6750 2.1; a colon is none of these characters.
        let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let lengths = MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES;
        if !lengths.contains(&token.len()) || !token.bytes().all(may) {
            return Err(NoRule::Token);
        }
        if !is_pattern(pattern) {
            return Err(NoRule::Pattern);
        }
        Ok((pattern, token))
    }
}

impl TokenRule {
    /// The pattern and the key, where it is a key that tokens are signed with.
    ///
    /// # Errors
    /// [`NoRule`].
    pub fn read_key(&self) -> Result<(&str, &str), NoRule> {
        let (pattern, key) = self.read()?;
        let is_long = key.len() >= MIN_KEY_BYTES;
        is_long.then_some((pattern, key)).ok_or(NoRule::Key)
    }
}

impl From<String> for TokenRule {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for TokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = self.read().map_or("?", |(pattern, _)| pattern);
        write!(f, "{pattern}:...")
    }
}

impl Serialize for TokenRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}
