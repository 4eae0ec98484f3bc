//! How long viewers hold a stream's picture before they show it: bounds that the operator sets, by
//! the stream's name, in place of the publisher's.
//!
//! Rules come from the configuration, and one stream's bounds from the admin socket; the first rule
//! whose pattern fits a name counts. The engine tells viewers, by a header extension.

use std::fmt;
use std::str::FromStr;

use fanmill_engine::packet::extension::PlayoutDelay;
use serde::{Serialize, Serializer};

use crate::config::pattern;

/// The longest delay the extension can tell, in milliseconds.
const MAX_MS: u16 = 40_950;

/// Least and most delay before playing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayBounds(PlayoutDelay);

impl DelayBounds {
    /// As the engine takes them.
    pub fn to_engine(self) -> PlayoutDelay {
        self.0
    }
}

/// A delay, or a rule, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no playout delay: write the least and the most in milliseconds, 0-0 to \
     {MAX_MS}-{MAX_MS}, as in 100-400"
)]
pub struct NoDelay(String);

impl FromStr for DelayBounds {
    type Err = NoDelay;

    fn from_str(text: &str) -> Result<Self, NoDelay> {
        let parse = || {
            let (min, max) = text.split_once('-')?;
            let (min_ms, max_ms) = (min.parse().ok()?, max.parse().ok()?);
            let fits = min_ms <= max_ms && max_ms <= MAX_MS;
            fits.then_some(Self(PlayoutDelay { min_ms, max_ms }))
        };
        parse().ok_or_else(|| NoDelay(text.to_owned()))
    }
}

impl fmt::Display for DelayBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.min_ms, self.0.max_ms)
    }
}

impl Serialize for DelayBounds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bounds for all streams whose name fits a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayoutRule {
    /// A name, in which `*` stands for any characters or none, and `?` for one.
    pattern: String,
    bounds: DelayBounds,
}

impl FromStr for PlayoutRule {
    type Err = NoDelay;

    /// `PATTERN=MIN-MAX`, or `MIN-MAX` for every stream.
    fn from_str(text: &str) -> Result<Self, NoDelay> {
        let (pattern, bounds) = text.split_once('=').unwrap_or(("*", text));
        if pattern.is_empty() {
            return Err(NoDelay(text.to_owned()));
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            bounds: bounds
                .parse()
                .map_err(|NoDelay(_)| NoDelay(text.to_owned()))?,
        })
    }
}

/// The bounds of the first rule that fits a stream.
pub(super) fn by_rule(rules: &[PlayoutRule], stream: &str) -> Option<DelayBounds> {
    let rule = rules
        .iter()
        .find(|rule| pattern::fits(&rule.pattern, stream));
    rule.map(|rule| rule.bounds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn rule(text: &str) -> PlayoutRule {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = ["stage-1=0-0", "stage-*=100-200", "400-800"].map(rule);
        let of = |name| by_rule(&rules, name).unwrap().to_string();
        assert_eq!(of("stage-1"), "0-0");
        assert_eq!(of("stage-12"), "100-200");
        assert_eq!(of("other"), "400-800");
        assert_eq!(by_rule(&rules[..2], "other"), None);
    }

    #[test]
    fn what_is_no_delay_is_refused() {
        for bad in [
            "", "5", "-", "5-", "9-5", "0-40951", "a-b", "=1-2", "x=", "x=1",
        ] {
            let error = bad.parse::<PlayoutRule>().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("`{bad}` is no")),
                "{error}"
            );
        }
        assert_eq!(
            "0-40950".parse::<DelayBounds>().unwrap().to_string(),
            "0-40950"
        );
    }
}
