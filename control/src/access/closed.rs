//! The streams that nobody watches without a token. It only grows: nothing opens by itself.
//!
//! Who watches a room sees all its members, so a room is closed if any that it may have is.

use std::collections::HashSet;

use crate::config::pattern;
use crate::rooms::RoomStream;

/// Names and patterns: each pattern is tried for each stream that is asked for.
const MAX_NAMES: usize = 10_000;
const MAX_PATTERNS: usize = 256;

#[derive(Default)]
pub(super) struct Closed {
    names: HashSet<String>,
    patterns: Vec<String>,
}

impl Closed {
    /// Closes streams; `false` if there are as many as may be.
    pub(super) fn add(&mut self, pattern: &str) -> bool {
        if self.has_all() || self.patterns.iter().any(|known| known == pattern) {
            return true;
        }
        if pattern.contains(['*', '?']) {
            let fits = self.patterns.len() < MAX_PATTERNS || pattern == "*";
            if fits {
                self.patterns.push(pattern.to_owned());
            }
            return fits;
        }
        if self.has(pattern) {
            return true;
        }
        let fits = self.names.len() < MAX_NAMES;
        if fits {
            self.names.insert(pattern.to_owned());
            if let Some(RoomStream::Member { room, .. }) = RoomStream::parse(pattern) {
                self.names.insert(format!("{room}~"));
            }
        }
        fits
    }

    pub(super) fn has(&self, stream: &str) -> bool {
        let closes = match RoomStream::parse(stream) {
            Some(RoomStream::Room(_)) => pattern::may_begin,
            _ => pattern::fits,
        };
        let mut patterns = self.patterns.iter();
        self.names.contains(stream) || patterns.any(|pattern| closes(pattern, stream))
    }

    pub(super) fn has_all(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern == "*")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }

    pub(super) fn list(&self) -> Vec<String> {
        let mut list: Vec<_> = self.names.iter().chain(&self.patterns).cloned().collect();
        list.sort();
        list
    }
}
