//! When to ask a publisher for a keyframe: however many viewers ask, once per interval.

use crate::limits::KEYFRAME_REQUEST_INTERVAL_US;

/// How often to ask for what somebody wanted once: who still wants it says so again.
const TRIES: u8 = 10;

/// Coalesces requests for one rendition.
#[derive(Debug, Default)]
pub(crate) struct KeyframeRequests {
    tries_left: u8,
    asked_us: Option<u64>,
}

impl KeyframeRequests {
    /// Somebody needs a keyframe.
    pub(crate) fn want(&mut self) {
        self.tries_left = TRIES;
    }

    /// A keyframe has started, or nobody is left: who waited waits no more.
    pub(crate) fn satisfied(&mut self) {
        self.tries_left = 0;
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
        requests.satisfied();
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
        requests.satisfied();
        requests.want();
        assert!(!requests.due(2_000));
        assert!(requests.due(1_000 + KEYFRAME_REQUEST_INTERVAL_US));
    }
}
