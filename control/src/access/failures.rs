//! Refusals: each is counted, and the log has a line now and then, however many there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Asked, Refused};

/// Between two lines in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Failures {
    missing: AtomicU64,
    unknown: AtomicU64,
    expired: AtomicU64,
    forbidden: AtomicU64,
    logged: Mutex<Logged>,
}

#[derive(Default)]
struct Logged {
    last: Option<Instant>,
    since: u64,
}

impl Failures {
    pub(super) fn note(&self, asked: &Asked<'_>, why: Refused) {
        let counter = match why {
            Refused::Missing(_) => &self.missing,
            Refused::Unknown => &self.unknown,
            Refused::Expired => &self.expired,
            Refused::Forbidden(_) => &self.forbidden,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // Many clients show none until they are asked to.
        if !matches!(why, Refused::Missing(_)) {
            self.log(asked, why);
        }
    }

    fn log(&self, asked: &Asked<'_>, why: Refused) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.last.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            logged.since += 1;
            return;
        }
        logged.last = Some(Instant::now());
        let others = std::mem::take(&mut logged.since);
        drop(logged);
        let (door, right) = (asked.door, asked.right.verb());
        let stream = asked.stream.map(|name| name.chars().take(128).collect());
        let stream: String = stream.unwrap_or_default();
        let remote = asked.remote.map(|ip| ip.to_string()).unwrap_or_default();
        tracing::warn!(door, right, stream, remote, others, reason = %why, "a token was refused");
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        [
            ("missing", &self.missing),
            ("unknown", &self.unknown),
            ("expired", &self.expired),
            ("forbidden", &self.forbidden),
        ]
        .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
        .into()
    }
}
