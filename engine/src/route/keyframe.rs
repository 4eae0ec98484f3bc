//! When to ask a publisher for a keyframe: however many viewers ask, once per interval.

use crate::limits::{KEYFRAME_REQUEST_INTERVAL_US, KEYFRAME_WISH_INTERVAL_US};

/// How often to ask for what somebody wanted once: who still wants it says so again.
const TRIES: u8 = 10;

/// After so many requests in vain a publisher counts as one that does not answer.
const IN_VAIN: u32 = 3;

/// Coalesces requests for one rendition.
#[derive(Debug, Default)]
pub(crate) struct KeyframeRequests {
    tries_left: u8,
    asked_us: Option<u64>,
    /// Requests since the last keyframe that followed one soon.
    in_vain: u32,
}

impl KeyframeRequests {
    /// Somebody needs a keyframe.
    pub(crate) fn want(&mut self) {
        self.tries_left = TRIES;
    }

    /// Somebody else, who asks again if need be, needs a keyframe.
    pub(crate) fn want_once(&mut self) {
        self.tries_left = self.tries_left.max(1);
    }

    /// Somebody would be better off with a keyframe but can do without: it is asked for once, and
    /// not again soon.
    pub(crate) fn wish(&mut self, now_us: u64) {
        let recently = |asked_us| now_us < asked_us + KEYFRAME_WISH_INTERVAL_US;
        if !self.asked_us.is_some_and(recently) {
            self.tries_left = self.tries_left.max(1);
        }
    }

    /// A keyframe has started.
    pub(crate) fn came(&mut self, now_us: u64) {
        self.tries_left = 0;
        let soon = |asked_us| now_us < asked_us + 2 * KEYFRAME_REQUEST_INTERVAL_US;
        if self.asked_us.is_some_and(soon) {
            self.in_vain = 0;
        }
    }

    /// Nobody is left who waits.
    pub(crate) fn unwanted(&mut self) {
        self.tries_left = 0;
    }

    /// Whether the publisher has not answered lately.
    pub(crate) fn unanswered(&self) -> bool {
        self.in_vain >= IN_VAIN
    }

    /// Whether to ask now. Says yes at most once per interval while one is wanted, so that a lost
    /// request is repeated.
    pub(crate) fn due(&mut self, now_us: u64) -> bool {
        let quiet = self
            .asked_us
            .is_some_and(|at| now_us < at + KEYFRAME_REQUEST_INTERVAL_US);
        if self.tries_left == 0 || quiet {
            return false;
        }
        self.tries_left -= 1;
        self.asked_us = Some(now_us);
        self.in_vain = self.in_vain.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_make_one_request_which_is_repeated_until_a_keyframe_comes() {
        let mut requests = KeyframeRequests::default();
        assert!(!requests.due(0));
        for _ in 0..500 {
            requests.want();
        }
        assert!(requests.due(0));
        assert!(!requests.due(KEYFRAME_REQUEST_INTERVAL_US - 1));
        assert!(requests.due(KEYFRAME_REQUEST_INTERVAL_US));
        requests.came(KEYFRAME_REQUEST_INTERVAL_US + 1);
        assert!(!requests.due(10 * KEYFRAME_REQUEST_INTERVAL_US));
    }

    #[test]
    fn a_wish_that_is_not_renewed_dies_down() {
        let mut requests = KeyframeRequests::default();
        requests.want();
        let asked = (0..100).filter(|turn| requests.due(turn * KEYFRAME_REQUEST_INTERVAL_US));
        assert_eq!(asked.count(), usize::from(TRIES));
    }

    #[test]
    fn a_wish_right_after_a_keyframe_waits_for_the_interval() {
        let mut requests = KeyframeRequests::default();
        requests.want();
        assert!(requests.due(1_000));
        requests.came(1_500);
        requests.want();
        assert!(!requests.due(2_000));
        assert!(requests.due(1_000 + KEYFRAME_REQUEST_INTERVAL_US));
    }

    #[test]
    fn a_wish_is_asked_for_once_in_a_while() {
        let mut requests = KeyframeRequests::default();
        let asked = (0..1000).filter(|turn| {
            requests.wish(turn * 1000);
            requests.due(turn * 1000)
        });
        assert_eq!(asked.count(), 1);
        requests.wish(KEYFRAME_WISH_INTERVAL_US);
        assert!(requests.due(KEYFRAME_WISH_INTERVAL_US));
    }

    #[test]
    fn who_does_not_answer_is_known_until_an_answer_comes() {
        let mut requests = KeyframeRequests::default();
        requests.want();
        for turn in 0..3 {
            assert!(!requests.unanswered());
            assert!(requests.due(turn * KEYFRAME_REQUEST_INTERVAL_US));
        }
        assert!(requests.unanswered());
        requests.came(10 * KEYFRAME_REQUEST_INTERVAL_US);
        assert!(requests.unanswered(), "that one came by itself");
        requests.want();
        assert!(requests.due(20 * KEYFRAME_REQUEST_INTERVAL_US));
        requests.came(20 * KEYFRAME_REQUEST_INTERVAL_US + 100_000);
        assert!(!requests.unanswered());
    }
}
