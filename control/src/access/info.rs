//! What is told of tokens and refusals.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Origin, Rights};

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// Its name, to revoke it by.
    pub id: u64,
    /// How it begins.
    pub prefix: String,
    /// The names of the streams it is for.
    pub streams: String,
    /// What it is for.
    #[serde(flatten)]
    pub rights: Rights,
    /// Where it comes from.
    pub origin: Origin,
    /// What the operator calls it.
    pub label: Option<String>,
    /// Unix time at which it ends, in seconds.
    pub expires_at: Option<u64>,
    /// Whether it has.
    pub expired: bool,
    /// Seconds since it is known.
    pub age_s: u64,
    /// How often it let somebody in.
    pub used: u64,
    /// What was begun with it and lasts.
    pub sessions: usize,
}

/// What `server.info` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessInfo {
    /// Whether publishing and operating need a token.
    pub publishing_needs_token: bool,
    /// The streams that nobody watches without one, as patterns.
    pub watching_needs_token: Vec<String>,
    /// Whether the program that embeds the server decides.
    pub decided_elsewhere: bool,
    /// Tokens there are.
    pub tokens: usize,
    /// How often one let somebody in.
    pub granted: u64,
    /// How often somebody was refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}
